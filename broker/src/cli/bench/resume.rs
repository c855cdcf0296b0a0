//! Many sessions that lose their connections at once and come back, through the SDK.
//!
//! The SDK offers no way to cut its own connection, so here it goes through a relay in this process,
//! which costs a little and can cut all connections in one moment.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use localhub_client::{Join, Messages};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use super::super::shared::clock::now_ns;
use super::pace::sleep_until;
use super::sdk::{ended, lost, options};
use super::tally::Tally;
use super::worker::Client;
use super::{RESUME_PATIENCE, RESUME_TTL, TOPIC};

/// Opens the sessions of a worker, cuts their connections, and waits until all are back and have what was
/// published meanwhile.
pub(super) async fn run(mut client: Client) -> anyhow::Result<Tally> {
    let relay = Relay::start(client.task.endpoint.clone().into())?;
    let path = relay.path.to_string_lossy();
    let mut sessions = Vec::new();
    for _ in 0..client.task.clients {
        let options = options(&path)?
            .session_ttl(RESUME_TTL)
            .backoff(Duration::ZERO, BACKOFF_MAX);
        let channel = options
            .connect()
            .await?
            .join_with(&client.task.channel, Join::new().hidden())
            .await?;
        let messages = channel.subscribe_live(TOPIC).await?;
        sessions.push((channel, messages));
    }
    sleep_until(client.go().await?);
    relay.cut();
    client.settled().await;
    let missed = client.missed().await?;

    let start_ns = now_ns();
    relay.open();
    let mut returns = JoinSet::new();
    let mut channels = Vec::new();
    for (channel, messages) in sessions {
        channels.push(channel);
        returns.spawn(comes_back(messages, missed, start_ns));
    }
    let mut tally = Tally::default();
    while let Some(session) = returns.join_next().await {
        tally.merge(&session??);
    }
    for channel in channels {
        channel.client().clone().close().await?;
    }
    Ok(tally)
}

/// Waits for everything that one session has missed.
async fn comes_back(mut messages: Messages, missed: u64, start_ns: u64) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let all = async {
        while tally.received + tally.lost < missed {
            match messages.next().await {
                Some(Ok(_)) => tally.received += 1,
                Some(Err(gap)) => tally.lost += lost(&gap)?,
                None => return Err(ended()),
            }
        }
        Ok(())
    };
    // Who is not back by then is missing in the result.
    if let Ok(outcome) = time::timeout(RESUME_PATIENCE, all).await {
        outcome.context("a session is not back")?;
        tally.sessions = 1;
        tally.ended_ns = now_ns();
        tally
            .latencies
            .record(tally.ended_ns.saturating_sub(start_ns));
    }
    Ok(tally)
}

/// A socket behind which the broker's is, and which can be cut off.
struct Relay {
    path: PathBuf,
    _directory: TempDir,
    open: watch::Sender<bool>,
}

impl Relay {
    fn start(broker: PathBuf) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("localhub-bench-")
            .tempdir()?;
        let path = directory.path().join("relay.sock");
        let listener = UnixListener::bind(&path)?;
        let open = watch::Sender::new(true);
        tokio::spawn(accept(listener, broker, open.subscribe()));
        Ok(Self {
            path,
            _directory: directory,
            open,
        })
    }

    /// Ends all connections. Those that come now wait.
    fn cut(&self) {
        self.open.send_replace(false);
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn accept(listener: UnixListener, broker: PathBuf, mut open: watch::Receiver<bool>) {
    while open.wait_for(|open| *open).await.is_ok() {
        let accepted = tokio::select! {
            _ = open.wait_for(|open| !*open) => continue,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(carry(stream, broker.clone(), open.clone()));
        }
    }
}

/// Carries one connection until either side ends it, or the relay cuts it.
async fn carry(mut client: UnixStream, broker: PathBuf, mut open: watch::Receiver<bool>) {
    // The SDK sees the end of the connection, and comes again.
    let Ok(mut broker) = UnixStream::connect(broker).await else {
        return;
    };
    tokio::select! {
        _ = open.wait_for(|open| !*open) => {}
        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
    }
}

/// A session that finds the relay closed tries again soon: what is measured is the broker.
const BACKOFF_MAX: Duration = Duration::from_millis(10);
