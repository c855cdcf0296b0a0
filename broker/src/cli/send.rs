//! `localhub send`.

use localhub_client::admin;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::input::Input;
use super::shared::{block_on, link};

/// Send messages to one client
///
/// Succeeds once every message is in the client's outbox, whether or not it reads them.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub send kiosk-ui reload\n  localhub send 17 '{\"page\": 3}'"
)]
pub(crate) struct Args {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    client: String,
    #[command(flatten)]
    input: Input,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        // The id: should the name get to another client, that one is not meant.
        let receiver = link::client_named(&client, admin::CLIENT, &args.client)
            .await?
            .id;
        let mut messages = args.input.messages(client.limits().payload_bytes)?;
        while let Some(payload) = messages.next().await? {
            client.send(receiver, payload).await?;
        }
        link::close(client).await;
        Ok(Exit::Done)
    })
}
