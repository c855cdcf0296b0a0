//! A connection that breaks again and again, and a stream of numbers that misses none of them.
//!
//! ```console
//! $ cargo run --example resume                 # ten cuts
//! $ cargo run --example resume -- --cuts 100
//! ```
//!
//! The program brings a private broker. One client publishes numbers; the other subscribes to
//! them, by way of a relay that cuts its connection. Each time the client connects again by itself and
//! resumes its session: the broker has kept what was published meanwhile, and sends it in order. The
//! subscriber's code knows nothing of all this: it reads a stream, and would be told of a loss
//! by a gap in it.
//!
//! The relay needs Unix sockets; on Windows the program says so and fails.

mod relay;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use localhub::{Broker, config::Config};
use localhub_client::endpoint::Endpoint;
use localhub_client::{
    Channel, Client, ConnectionState, ConnectionStates, Messages, Options, Payload, Resumed,
};
use localhub_examples::say;
use relay::Relay;
use tokio::sync::oneshot;
use tokio::{signal, time};

/// Shows that a stream survives its connections.
#[derive(Parser)]
struct Args {
    /// How often the connection is cut.
    #[arg(long, default_value_t = 10)]
    cuts: u32,
}

/// How often a number is published: often enough that some are always on their way.
const PUBLISH_EVERY: Duration = Duration::from_millis(1);

/// How long a connection lives before it is cut.
const ALIVE: Duration = Duration::from_millis(150);

/// How long there is none then.
const DEAD: Duration = Duration::from_millis(50);

/// How long the client waits between attempts: less than a program would, so that the show goes on.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = run(Args::parse().cuts) => outcome,
        _ = signal::ctrl_c() => Ok(()),
    };
    localhub_examples::exit_code("resume", outcome)
}

async fn run(cuts: u32) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let hub = directory.path().join("hub.sock");
    let relay = Relay::start(&directory.path().join("relay.sock"), &hub)?;
    let broker = Broker::start(&Config {
        endpoint: Some(hub.display().to_string()),
        ..Config::default()
    })
    .await?;

    let publisher = connect("publisher", broker.endpoint()).await?;
    let subscriber = connect("subscriber", &relay.endpoint()?).await?;
    let numbers = subscriber.join("numbers").await?.subscribe("#").await?;
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(publish(publisher.join("numbers").await?, stopped));
    let reading = tokio::spawn(read(numbers));

    let mut states = subscriber.connection();
    states.next().await; // connected, for the first time
    for cut in 1..=cuts {
        time::sleep(ALIVE).await;
        relay.cut();
        lost(&mut states).await?;
        time::sleep(DEAD).await;
        relay.open();
        let Resumed {
            recovered,
            replayed,
            lost,
            ..
        } = resumed(&mut states).await?;
        let lost = lost.map_or_else(|| "nobody knows".to_owned(), |lost| lost.to_string());
        say!("cut {cut}: recovered {recovered}, replayed {replayed}, lost {lost}");
    }

    let _ = stop.send(());
    let published = publishing.await??;
    let tally = reading.await??;
    say!(
        "{published} numbers published: {} seen once, {} twice, {} never; {} gaps",
        tally.numbers_seen(1),
        tally.numbers_seen(2),
        published - tally.times_seen.len(),
        tally.gaps
    );
    subscriber.close().await?;
    publisher.close().await?;
    broker.stop().await;
    ensure!(
        tally.numbers_seen(1) == published,
        "a number is missing, or was seen twice"
    );
    Ok(())
}

async fn connect(name: &str, endpoint: &Endpoint) -> anyhow::Result<Client> {
    let options = Options::new().name(name).endpoint(endpoint.clone());
    Ok(options.backoff(BACKOFF.0, BACKOFF.1).connect().await?)
}

/// Waits until the client has seen that its connection is lost.
async fn lost(states: &mut ConnectionStates) -> anyhow::Result<()> {
    while let Some(state) = states.next().await {
        if let ConnectionState::Disconnected { .. } = state {
            return Ok(());
        }
    }
    bail!("the client has ended")
}

/// Waits for the next connection, and says what became of the session.
async fn resumed(states: &mut ConnectionStates) -> anyhow::Result<Resumed> {
    while let Some(state) = states.next().await {
        if let ConnectionState::Connected {
            resumed: Some(resumed),
            ..
        } = state
        {
            return Ok(resumed);
        }
    }
    bail!("the client has ended")
}

/// Publishes 0, 1, 2 and so on until it is told to stop, then a word that this was all. Gives how many
/// there were.
async fn publish(channel: Channel, mut stopped: oneshot::Receiver<()>) -> anyhow::Result<usize> {
    let mut ticks = time::interval(PUBLISH_EVERY);
    let mut published = 0;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick() => {
                channel.publish("number", Payload::cbor(&published)?).await?;
                published += 1;
            }
        }
    }
    channel.publish_confirmed("end", "").await?;
    Ok(published)
}

/// What the subscriber saw.
#[derive(Default)]
struct Tally {
    /// How often each number came, by number.
    times_seen: Vec<u32>,
    gaps: usize,
}

impl Tally {
    fn numbers_seen(&self, times: u32) -> usize {
        let seen = self.times_seen.iter();
        seen.filter(|seen| **seen == times).count()
    }
}

async fn read(mut numbers: Messages) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    loop {
        match numbers.next().await.context("the stream has ended")? {
            Ok(message) if message.topic() == Some("end") => return Ok(tally),
            Ok(message) => {
                let number: usize = message.decode()?;
                if number >= tally.times_seen.len() {
                    tally.times_seen.resize(number + 1, 0);
                }
                tally.times_seen[number] += 1;
            }
            Err(gap) => {
                tally.gaps += 1;
                say!("{gap}");
            }
        }
    }
}
