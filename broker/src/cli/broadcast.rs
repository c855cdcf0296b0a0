//! `localhub broadcast`.

use localhub_client::{ChannelName, Join};

use super::Globals;
use super::publish::send_all;
use super::shared::exit::Exit;
use super::shared::input::Input;
use super::shared::{block_on, link};

/// Send messages to every member of a channel
///
/// Succeeds once every message is in the outbox of each member. Other members do not see this
/// command join.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub broadcast kiosk 'closing in 5 minutes'\n  localhub broadcast kiosk --file notice.json"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
    #[command(flatten)]
    input: Input,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        send_all(&client, args.input, async |payload| {
            channel.broadcast(payload).await
        })
        .await?;
        link::close(client).await;
        Ok(Exit::Done)
    })
}
