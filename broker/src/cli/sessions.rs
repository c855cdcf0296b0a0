//! `localhub sessions`.

use localhub_client::admin::SessionView;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::table::{Column, Table};
use super::shared::units::{age, bytes, short};
use super::shared::{block_on, link, list};

/// List the sessions that wait for their client to come back
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub sessions\n  localhub sessions --json | jq .expires_ms"
)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let sessions = link::sessions(&client).await?;
        link::close(client).await;
        list::show(globals.json, &sessions, "every client is connected", table)?;
        Ok(Exit::Done)
    })
}

fn table(sessions: &[SessionView]) -> Table {
    let mut table = Table::new([
        Column::text("NAME").cut_to(10),
        Column::number("ID"),
        Column::number("AWAY"),
        Column::text("BECAUSE"),
        Column::number("EXPIRES"),
        Column::number("WAITING"),
        Column::number("BYTES"),
        Column::number("WINDOW"),
        Column::number("LOST").spare(1),
    ]);
    for session in sessions {
        let client = &session.client;
        table.row([
            client.name.clone(),
            client.id.to_string(),
            age(client.away_ms.unwrap_or_default()),
            session.cause.clone(),
            age(session.expires_ms),
            short(client.queued_messages),
            bytes(client.queued_bytes),
            format!("{} %", used(session)),
            short(client.messages_lost),
        ]);
    }
    table
}

/// How much of the window is in use, in percent: of the messages or of the bytes, whichever is more.
fn used(session: &SessionView) -> u64 {
    let share = |held: u64, window: u64| held.saturating_mul(100).div_ceil(window.max(1));
    share(session.client.queued_messages, session.window_messages)
        .max(share(session.client.queued_bytes, session.window_bytes))
}

#[cfg(test)]
mod tests {
    use super::super::clients::tests::some_client;
    use super::*;

    #[test]
    fn a_table_shows_how_much_time_and_room_is_left() {
        let mut client = some_client();
        client.away_ms = Some(12_000);
        client.queued_messages = 500;
        client.queued_bytes = 90_000;
        let session = SessionView {
            client,
            cause: "connection_lost".into(),
            expires_ms: 108_000,
            window_messages: 1_000,
            window_bytes: 1_000_000,
        };
        let expected = "\
NAME      ID  AWAY  BECAUSE          EXPIRES  WAITING   BYTES  WINDOW  LOST
kiosk-ui   3   12s  connection_lost       1m      500  88 KiB    50 %     0";
        assert_eq!(table(&[session]).fitted(Some(80)).0.to_string(), expected);
    }
}
