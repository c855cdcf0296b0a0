//! `localhub closed`.

use localhub_client::admin::ClosedView;

use super::Globals;
use super::clients::{program, user};
use super::shared::exit::Exit;
use super::shared::table::{Column, Table};
use super::shared::units::{age, short};
use super::shared::{block_on, link, list};

/// List the connections and sessions that ended lately, and why
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub closed\n  localhub closed --last 500 --json | jq -r .reason"
)]
pub(crate) struct Args {
    /// How many, the newest first; the broker remembers 10,000 ends
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
    /// Those as well that said goodbye, as every command does
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let closed = link::closed(&client, args.last, |end| {
            args.all || end.reason != "goodbye"
        })
        .await?;
        link::close(client).await;
        let nothing = if args.all {
            "no connection has ended yet"
        } else {
            "no connection has ended but by a goodbye (--all has those)"
        };
        list::show(globals.json, &closed, nothing, table)?;
        Ok(Exit::Done)
    })
}

fn table(closed: &[ClosedView]) -> Table {
    let mut table = Table::new([
        Column::number("AGO"),
        Column::text("NAME").cut_to(10),
        Column::number("ID"),
        Column::number("PID").spare(2),
        Column::text("PROGRAM").cut_to(8).spare(1),
        Column::text("USER").spare(6),
        Column::number("AGE").spare(5),
        Column::number("IN").spare(3),
        Column::number("OUT").spare(4),
        Column::number("LOST"),
        Column::text("SESSION"),
        Column::text("REASON"),
    ]);
    for end in closed {
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.row([
            age(end.ago_ms),
            known(end.name.clone()),
            known(end.id.map(|id| id.to_string())),
            known(end.pid.map(|pid| pid.to_string())),
            program(end.executable.as_deref()),
            user(&end.user),
            age(end.age_ms),
            short(end.messages_in),
            short(end.messages_out),
            short(end.messages_lost),
            session(end).into(),
            reason(end),
        ]);
    }
    table
}

/// What became of the session.
fn session(end: &ClosedView) -> &'static str {
    match end {
        ClosedView { id: None, .. } => "-",
        ClosedView { parked: true, .. } => "waits",
        ClosedView { .. } => "over",
    }
}

fn reason(end: &ClosedView) -> String {
    match end.detail.as_str() {
        "" => end.reason.clone(),
        detail => format!("{} ({detail})", end.reason),
    }
}

#[cfg(test)]
mod tests {
    use localhub_client::ClientId;

    use super::*;

    #[test]
    fn a_table_shows_who_went_and_why() {
        let lost = ClosedView {
            number: 7,
            ago_ms: 4_000,
            reason: "lost".into(),
            detail: String::new(),
            parked: true,
            id: Some(ClientId(3)),
            name: Some("kiosk-ui".into()),
            pid: Some(4711),
            executable: Some("/opt/kiosk/ui".into()),
            user: "uid 1000".into(),
            age_ms: 60_000,
            messages_in: 12,
            messages_out: 340,
            messages_lost: 0,
            refused: 0,
        };
        let stranger = ClosedView {
            reason: "name_taken".into(),
            detail: "held by process 4711".into(),
            parked: false,
            id: None,
            name: None,
            ..lost.clone()
        };
        let expected = "\
AGO  NAME      ID   PID  PROGRAM  USER  AGE  IN  OUT  LOST  SESSION  REASON
 4s  kiosk-ui   3  4711  ui       1000   1m  12  340     0  waits    lost
 4s  -          -  4711  ui       1000   1m  12  340     0  -        name_taken (held by process 4711)";
        assert_eq!(
            table(&[lost, stranger]).fitted(None).0.to_string(),
            expected
        );
    }
}
