//! `localhub pub`.

use std::future::ready;

use anyhow::anyhow;
use localhub_client::{ChannelName, Client, Error, Join, Payload, Refusals, Refused, Topic};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::input::Input;
use super::shared::{block_on, link};

/// Publish messages to a topic of a channel
///
/// Succeeds once every message is in the outbox of each member that is subscribed to it. Other
/// members do not see this command join.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub pub kiosk device/printer/state ready --retain\n  tail -f app.log | localhub pub logs app/kiosk"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
    /// The topic, such as device/printer/state
    topic: Topic,
    #[command(flatten)]
    input: Input,
    /// Have the channel keep the message for those who subscribe later
    #[arg(long)]
    retain: bool,
    /// Have the channel forget what it keeps for the topic
    #[arg(long, conflicts_with_all = ["payload", "file", "content", "retain"])]
    clear: bool,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        let topic = args.topic.as_str();
        if args.clear {
            let mut refusals = client.refusals();
            channel.clear(topic).await?;
            confirmed(&client, &mut refusals).await?;
        } else {
            let retain = args.retain;
            send_all(&client, args.input, async |payload| match retain {
                true => channel.retain(topic, payload).await,
                false => channel.publish(topic, payload).await,
            })
            .await?;
        }
        link::close(client).await;
        Ok(Exit::Done)
    })
}

/// Sends all messages of the input, and waits until the broker has carried them out.
pub(super) async fn send_all(
    client: &Client,
    input: Input,
    send: impl AsyncFn(Payload) -> Result<(), Error>,
) -> anyhow::Result<()> {
    let mut refusals = client.refusals();
    let mut messages = input.messages(client.limits().payload_bytes)?;
    loop {
        tokio::select! {
            message = messages.next() => match message? {
                Some(payload) => send(payload).await?,
                None => return confirmed(client, &mut refusals).await,
            },
            Some(refused) = refusals.next() => return Err(refusal(refused)),
        }
    }
}

/// Waits until everything that was sent is carried out, or one of it refused.
async fn confirmed(client: &Client, refusals: &mut Refusals) -> anyhow::Result<()> {
    client.flush().await?;
    // Refusals come before the answer to a flush.
    tokio::select! {
        biased;
        Some(refused) = refusals.next() => Err(refusal(refused)),
        () = ready(()) => Ok(()),
    }
}

fn refusal(refused: Refused) -> anyhow::Error {
    match refused.detail.is_empty() {
        true => anyhow!("refused: {}", refused.cause),
        false => anyhow!("refused: {}", refused.detail),
    }
}
