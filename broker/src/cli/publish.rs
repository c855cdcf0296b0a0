//! `localhub pub`.

use std::future::ready;
use std::time::Duration;

use anyhow::anyhow;
use localhub_client::{
    Channel, ChannelName, Client, Error, Join, Payload, Put, Refusals, Refused, Topic,
};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::input::Input;
use super::shared::units::parse_time;
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
    /// Retain or clear only if the value has this version (see `localhub state`), 0 for none. Versions begin anew with
    /// the broker
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Have the channel forget the message after this time, such as 10s or 5m
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "clear")]
    ttl: Option<Duration>,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        let topic = args.topic.as_str();
        if args.if_version.is_some() || args.ttl.is_some() {
            put(&channel, args).await?;
        } else if args.clear {
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

/// Sets or deletes the value of a topic, under conditions.
async fn put(channel: &Channel, args: Args) -> anyhow::Result<()> {
    let topic = args.topic.as_str();
    if let (true, Some(version)) = (args.clear, args.if_version) {
        channel.delete(topic, version).await?;
        return Ok(());
    }
    let mut put = Put::new();
    if let Some(version) = args.if_version {
        put = put.expect_version(version);
    }
    if let Some(ttl) = args.ttl {
        put = put.ttl(ttl);
    }
    let limit = channel.client().limits().payload_bytes;
    let mut messages = args.input.messages(limit)?;
    while let Some(payload) = messages.next().await? {
        let version = channel.put(topic, payload, put).await?;
        // The next line follows this one.
        if args.if_version.is_some() {
            put = put.expect_version(version);
        }
    }
    Ok(())
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
