//! The jobs of a worker through the SDK, as an app would do them.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use localhub_client::admin::{self, HubView};
use localhub_client::{
    Channel, Client as Sdk, ContentType, Endpoint, Gap, Join, Message, Messages, Options, Payload,
};
use tokio::time;

use super::super::shared::clock::now_ns;
use super::pace::{sleep_until, stamp, stamp_of};
use super::tally::Tally;
use super::task::{Job, Task, Way};
use super::worker::Client;
use super::{PATIENCE, PING, PONG, TOPIC, WARM_UP};

/// Does the job of a client.
pub(super) async fn run(client: Client) -> anyhow::Result<Tally> {
    match client.task.job {
        Job::Answer => answer(client).await,
        Job::Connect => connect(client).await,
        Job::Idle => idle(client).await,
        Job::Ping => ping(client).await,
        Job::Pong => pong(client).await,
        Job::Publish => publish(client).await,
        Job::Request => request(client).await,
        #[cfg(unix)]
        Job::Resume => super::resume::run(client).await,
        #[cfg(not(unix))]
        Job::Resume => bail!("resume is for Unix sockets only"),
        Job::Subscribe => subscribe(client).await,
    }
}

async fn publish(mut client: Client) -> anyhow::Result<Tally> {
    let channel = join(&client.task).await?;
    ensure!(
        client.task.size_bytes as u64 <= channel.client().limits().payload_bytes,
        "the broker takes payloads of {} bytes at most",
        channel.client().limits().payload_bytes
    );
    let refused = count_refusals(channel.client());
    let mut bytes = vec![b'x'; client.task.size_bytes];
    let start_ns = client.go().await?;
    let end_ns = start_ns.saturating_add(client.task.length_ns);
    sleep_until(start_ns);

    let mut tally = Tally::default();
    match client.timetable(start_ns) {
        Some(mut table) => loop {
            let due_ns = table.due_ns();
            if due_ns >= end_ns {
                break;
            }
            sleep_until(due_ns);
            stamp(&mut bytes, due_ns);
            channel.publish(TOPIC, &bytes[..]).await?;
            tally.sent += 1;
            table.advance();
        },
        None => {
            let payload = Payload::from(&bytes[..]);
            while now_ns() < end_ns {
                for _ in 0..BETWEEN_LOOKS {
                    channel.publish(TOPIC, payload.clone()).await?;
                }
                tally.sent += BETWEEN_LOOKS;
            }
        }
    }
    channel.client().flush().await?;
    tally.ended_ns = now_ns();
    channel.client().clone().close().await?;
    // Refusals come before the flush is through; the stream ends with the client.
    tally.refused = refused.await?;
    Ok(tally)
}

async fn subscribe(mut client: Client) -> anyhow::Result<Tally> {
    let channel = join(&client.task).await?;
    let mut messages = channel.subscribe_live(TOPIC).await?;
    let stamped = client.task.rate.is_some();
    let mut tally = Tally::default();
    client.go().await?;

    let mut looks = time::interval(LOOK_EVERY);
    let mut quiet_since = now_ns();
    loop {
        if let Some(expected) = client.expected() {
            if tally.received + tally.lost >= expected {
                break;
            }
            if now_ns().saturating_sub(quiet_since.max(tally.ended_ns)) > PATIENCE.as_nanos() as u64
            {
                // The bench tells what is missing.
                break;
            }
        } else {
            quiet_since = now_ns();
        }
        tokio::select! {
            taken = take(&mut messages, &mut tally, stamped) => taken?,
            _ = looks.tick() => {}
        }
    }
    channel.client().clone().close().await?;
    Ok(tally)
}

/// Takes what has come, at least one message.
async fn take(messages: &mut Messages, tally: &mut Tally, stamped: bool) -> anyhow::Result<()> {
    let before = tally.received + tally.lost;
    poll_fn(|cx| {
        loop {
            match pin!(messages.next()).poll(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    tally.received += 1;
                    if stamped {
                        tally
                            .latencies
                            .record(now_ns().saturating_sub(stamp_of(message.payload())));
                    }
                }
                Poll::Ready(Some(Err(gap))) => tally.lost += lost(&gap)?,
                Poll::Ready(None) => return Poll::Ready(Err(ended())),
                Poll::Pending if tally.received + tally.lost > before => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await?;
    tally.ended_ns = now_ns();
    Ok(())
}

async fn ping(mut client: Client) -> anyhow::Result<Tally> {
    let channel = join(&client.task).await?;
    let mut pongs = channel.subscribe_live(PONG).await?;
    let payload = Payload::from(&vec![b'x'; client.task.size_bytes][..]);
    let start_ns = client.go().await?;
    sleep_until(start_ns);
    for _ in 0..WARM_UP {
        channel.publish(PING, payload.clone()).await?;
        next(&mut pongs).await?;
    }

    let mut tally = Tally::default();
    let end_ns = now_ns().saturating_add(client.task.length_ns);
    let mut sent_ns = now_ns();
    while sent_ns < end_ns {
        channel.publish(PING, payload.clone()).await?;
        tally.sent += 1;
        next(&mut pongs).await?;
        let came_ns = now_ns();
        tally.received += 1;
        tally.latencies.record(came_ns.saturating_sub(sent_ns));
        sent_ns = came_ns;
    }
    tally.ended_ns = sent_ns;
    channel.client().clone().close().await?;
    Ok(tally)
}

async fn pong(mut client: Client) -> anyhow::Result<Tally> {
    let channel = join(&client.task).await?;
    let mut pings = channel.subscribe_live(PING).await?;
    let payload = Payload::from(&vec![b'x'; client.task.size_bytes][..]);
    client.go().await?;
    loop {
        tokio::select! {
            ping = pings.next() => match ping {
                Some(Ok(_)) => channel.publish(PONG, payload.clone()).await?,
                Some(Err(gap)) => bail!("{gap}"),
                None => return Err(ended()),
            },
            finished = client.finish() => {
                finished?;
                channel.client().clone().close().await?;
                return Ok(Tally::default());
            }
        }
    }
}

async fn request(mut client: Client) -> anyhow::Result<Tally> {
    let sdk = connect_sdk(&client.task).await?;
    let mut trip = RoundTrip::new(&sdk, &client.task);
    let start_ns = client.go().await?;
    if client.task.way != Some(Way::Status) {
        for _ in 0..WARM_UP {
            trip.make().await?;
        }
    }
    let mut tally = Tally::default();
    let mut calls = client.calls(start_ns);
    while let Some(from_ns) = calls.next() {
        tally.sent += 1;
        trip.make().await?;
        tally.received += 1;
        tally.ended_ns = now_ns();
        tally
            .latencies
            .record(tally.ended_ns.saturating_sub(from_ns));
    }
    sdk.close().await?;
    Ok(tally)
}

/// What is made again and again, and timed.
struct RoundTrip {
    sdk: Sdk,
    way: Way,
    answerer: String,
    payload: Payload,
    directs: Messages,
}

impl RoundTrip {
    fn new(sdk: &Sdk, task: &Task) -> Self {
        Self {
            way: task.way.unwrap_or(Way::Status),
            answerer: answerer(task),
            payload: Payload::from(&vec![b'x'; task.size_bytes][..]),
            directs: sdk.directs(),
            sdk: sdk.clone(),
        }
    }

    async fn make(&mut self) -> anyhow::Result<()> {
        let payload = self.payload.clone();
        let request = || self.sdk.request(&*self.answerer, "echo").timeout(PATIENCE);
        match self.way {
            Way::Status => {
                let _: HubView = self.sdk.admin(admin::STATUS, &()).await?;
            }
            Way::Direct => {
                self.sdk.send(&*self.answerer, payload).await?;
                next(&mut self.directs).await?;
            }
            Way::Request => drop(request().payload(payload).send().await?),
            Way::Command => drop(request().payload(payload).command().send().await?),
        }
        Ok(())
    }
}

/// The name of the client that answers, and of what it serves.
fn answerer(task: &Task) -> String {
    task.channel.replace('/', "-")
}

async fn answer(mut client: Client) -> anyhow::Result<Tally> {
    let name = answerer(&client.task);
    let options = options(&client.task.endpoint)?.reconnect(false);
    let sdk = options.name(&name).connect().await?;
    let mut directs = sdk.directs();
    let mut service = sdk.serve(&name).await?;
    client.go().await?;
    loop {
        tokio::select! {
            Some(request) = service.next() => {
                let payload = request.payload().clone();
                request.reply(Payload::new(ContentType::BYTES, payload)).await?;
            }
            message = directs.next() => match message {
                Some(Ok(message)) => {
                    let payload = message.payload().clone();
                    let back = Payload::new(message.content(), payload);
                    sdk.send(message.sender().id, back).await?;
                }
                Some(Err(gap)) => bail!("{gap}"),
                None => return Err(ended()),
            },
            finished = client.finish() => {
                finished?;
                drop(service);
                sdk.close().await?;
                return Ok(Tally::default());
            }
        }
    }
}

async fn connect(mut client: Client) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let start_ns = client.go().await?;
    let mut calls = client.calls(start_ns);
    while let Some(from_ns) = calls.next() {
        tally.sent += 1;
        let sdk = connect_sdk(&client.task).await?;
        tally.received += 1;
        tally.latencies.record(now_ns().saturating_sub(from_ns));
        sdk.close().await?;
        tally.ended_ns = now_ns();
    }
    Ok(tally)
}

async fn idle(mut client: Client) -> anyhow::Result<Tally> {
    let mut held = Vec::new();
    // The first figure of the broker's memory is from before this.
    client.go().await?;
    for _ in 0..client.task.clients {
        let channel = join(&client.task).await?;
        let messages = channel.subscribe_live(TOPIC).await?;
        held.push((channel, messages));
    }
    let tally = Tally {
        sessions: held.len() as u64,
        ended_ns: now_ns(),
        ..Tally::default()
    };
    client.settled().await;
    client.finish().await?;
    Ok(tally)
}

/// Connects a client that comes for the bench only.
async fn connect_sdk(task: &Task) -> anyhow::Result<Sdk> {
    Ok(options(&task.endpoint)?.reconnect(false).connect().await?)
}

pub(super) fn options(endpoint: &str) -> anyhow::Result<Options> {
    Ok(Options::new()
        .endpoint(Endpoint::new(endpoint)?)
        // Many may connect at once, and a broker that is busy is what is measured.
        .connect_timeout(CONNECT_TIMEOUT))
}

/// Enters the channel of the run, unseen by those who look at presence.
async fn join(task: &Task) -> anyhow::Result<Channel> {
    let sdk = connect_sdk(task).await?;
    Ok(sdk.join_with(&task.channel, Join::new().hidden()).await?)
}

/// Counts what the broker refuses, until the client is closed.
fn count_refusals(sdk: &Sdk) -> impl Future<Output = anyhow::Result<u64>> + use<> {
    let mut refusals = sdk.refusals();
    let refused = Arc::new(AtomicU64::new(0));
    let counted = refused.clone();
    let counting = tokio::spawn(async move {
        while let Some(refusal) = refusals.next().await {
            counted.fetch_add(refusal.messages, Ordering::Relaxed);
        }
    });
    async move {
        counting.await?;
        Ok(refused.load(Ordering::Relaxed))
    }
}

/// The next message, which must come soon.
async fn next(messages: &mut Messages) -> anyhow::Result<Message> {
    let next = time::timeout(PATIENCE, messages.next()).await;
    match next.context("no answer came")? {
        Some(Ok(message)) => Ok(message),
        Some(Err(gap)) => bail!("{gap}"),
        None => Err(ended()),
    }
}

/// How many messages a gap stands for.
pub(super) fn lost(gap: &Gap) -> anyhow::Result<u64> {
    gap.lost
        .with_context(|| format!("nobody knows how many messages are lost: {gap}"))
}

pub(super) fn ended() -> anyhow::Error {
    anyhow::anyhow!("the connection to the broker has ended")
}

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a subscriber looks whether all is there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many messages are published before the clock is read again.
const BETWEEN_LOOKS: u64 = 64;
