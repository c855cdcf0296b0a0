//! `localhub clients`.

use std::path::Path;

use localhub_client::admin::ClientView;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::table::{Column, Table};
use super::shared::units::{age, bytes, short};
use super::shared::{block_on, link, list};

/// List the clients: who they are, their traffic, what waits for them
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub clients\n  localhub clients --json | jq -r .executable"
)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let (me, mut clients) = (client.id(), link::clients(&client).await?);
        link::close(client).await;
        // This command is gone when the answer is read.
        clients.retain(|client| client.id != me);
        list::show(globals.json, &clients, "no clients are connected", table)?;
        Ok(Exit::Done)
    })
}

/// The name of a program without its folder, whichever system it is from.
pub(super) fn program(executable: Option<&str>) -> String {
    let path = executable.unwrap_or("-");
    let name = Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(path);
    name.into()
}

/// The user without what is the same for all: the number, or the last part of a SID.
pub(super) fn user(user: &str) -> String {
    let number = user.strip_prefix("uid ").unwrap_or(user);
    match number
        .strip_prefix("S-")
        .and_then(|sid| sid.rsplit('-').next())
    {
        Some(last) => format!("…-{last}"),
        None => number.into(),
    }
}

fn table(clients: &[ClientView]) -> Table {
    let mut table = Table::new([
        Column::text("NAME").cut_to(10),
        Column::number("ID"),
        Column::number("PID").spare(3),
        Column::text("PROGRAM").cut_to(8).spare(2),
        Column::text("USER").spare(7),
        Column::number("SINCE").spare(5),
        Column::number("CHANNELS").spare(4),
        Column::number("IN"),
        Column::number("BYTES IN").spare(8),
        Column::number("OUT"),
        Column::number("BYTES OUT").spare(9),
        Column::number("QUEUE"),
        Column::text("STATE"),
    ]);
    for client in clients {
        table.row([
            client.name.clone(),
            client.id.to_string(),
            client.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
            program(client.executable.as_deref()),
            user(&client.user),
            age(client.age_ms),
            short(client.channels.len() as u64),
            short(client.messages_in),
            bytes(client.bytes_in),
            short(client.messages_out),
            bytes(client.bytes_out),
            bytes(client.queued_bytes),
            state(client),
        ]);
    }
    table
}

/// `online` or `away 12s`, and what was lost or refused, if anything.
fn state(client: &ClientView) -> String {
    let mut state = client.state.clone();
    if let Some(away_ms) = client.away_ms {
        state += &format!(" {}", age(away_ms));
    }
    if client.messages_lost > 0 {
        state += &format!(", {} lost", short(client.messages_lost));
    }
    if client.refused > 0 {
        state += &format!(", {} refused", short(client.refused));
    }
    state
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use localhub_client::ClientId;

    pub(in crate::cli) fn some_client() -> ClientView {
        ClientView {
            id: ClientId(3),
            name: "kiosk-ui".into(),
            state: "online".into(),
            pid: Some(4711),
            executable: Some("/opt/kiosk/flutter-kiosk".into()),
            user: "uid 1000".into(),
            age_ms: 7_500_000,
            away_ms: None,
            channels: vec!["kiosk".into(), "ops".into()],
            subscriptions: 3,
            messages_in: 1_204,
            bytes_in: 310_000,
            messages_out: 48_160,
            bytes_out: 9_000_000,
            queued_messages: 2,
            queued_bytes: 230,
            messages_lost: 0,
            messages_conflated: 0,
            gaps: 0,
            confirmed: 48_158,
            sent: 48_160,
            queued: 48_160,
            refused: 0,
            last_refusal: None,
            memberships: vec![],
        }
    }

    #[test]
    fn a_table_shows_who_and_how_much() {
        let gone = ClientView {
            id: ClientId(12),
            name: "sysmon".into(),
            state: "away".into(),
            pid: None,
            executable: None,
            user: "S-1-5-21-1-2-1001".into(),
            away_ms: Some(12_000),
            messages_lost: 20_000,
            refused: 1,
            ..some_client()
        };
        let expected = "\
NAME      ID   PID  PROGRAM        USER    SINCE  CHANNELS    IN  BYTES IN  OUT  BYTES OUT  QUEUE  STATE
kiosk-ui   3  4711  flutter-kiosk  1000       2h         2  1204   303 KiB  48k    8.6 MiB  230 B  online
sysmon    12     -  -              …-1001     2h         2  1204   303 KiB  48k    8.6 MiB  230 B  away 12s, 20k lost, 1 refused";
        assert_eq!(
            table(&[some_client(), gone]).fitted(None).0.to_string(),
            expected
        );
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        let table = table(&[some_client()]);
        let (fitted, left_out) = table.fitted(Some(80));
        let expected = "\
NAME      ID   PID  PROGRAM      USER  SINCE  CHANNELS    IN  OUT  QUEUE  STATE
kiosk-ui   3  4711  flutter-ki…  1000     2h         2  1204  48k  230 B  online";
        assert_eq!(fitted.to_string(), expected);
        assert_eq!(left_out, ["BYTES OUT", "BYTES IN"]);
    }
}
