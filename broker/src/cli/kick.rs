//! `localhub kick`.

use localhub_client::admin::{self, ClientView};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::{block_on, link, units};

/// End the session of a client
///
/// Its connection is closed and what waits for it is gone; members of its channels see it leave. A
/// client that was kicked may connect again.
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub kick kiosk-ui\n  localhub kick 17")]
pub(crate) struct Args {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    client: String,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let kicked = link::client_named(&client, admin::KICK, &args.client).await?;
        link::close(client).await;
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&kicked)?;
        } else {
            out.line(text(&kicked))?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

fn text(kicked: &ClientView) -> String {
    let pid = kicked
        .pid
        .map_or_else(String::new, |pid| format!(", pid {pid}"));
    let mut text = format!("kicked {} (id {}{pid})", kicked.name, kicked.id);
    if !kicked.channels.is_empty() {
        text += &format!(
            " out of {}",
            units::count(kicked.channels.len() as u64, "channel")
        );
    }
    if kicked.queued_messages > 0 {
        text += &format!(
            ", {} waited",
            units::count(kicked.queued_messages, "message")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::clients::tests::some_client;
    use super::*;

    #[test]
    fn it_says_what_it_did() {
        assert_eq!(
            text(&some_client()),
            "kicked kiosk-ui (id 3, pid 4711) out of 2 channels, 2 messages waited"
        );
        let lonely = ClientView {
            pid: None,
            channels: vec![],
            queued_messages: 0,
            ..some_client()
        };
        assert_eq!(text(&lonely), "kicked kiosk-ui (id 3)");
    }
}
