//! The programs on the hub of the demo. Each is what a small local app would be: it connects,
//! joins a channel, and talks to the others by name.

use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use localhub_client::endpoint::ENDPOINT_VARIABLE;
use localhub_client::{
    Channel, Endpoint, Error, Gap, Join, Member, Message, Messages, Options, Payload, Sender,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, time};

use super::readings::Machine;
use super::report::{Envelope, Report, Role, Sample, State, Turn, Way, Word, now_ns};

/// Runs one program until the demo closes its standard input, or the hub has gone.
pub(super) async fn run(role: Role) -> ExitCode {
    // Ctrl-C reaches all processes of a terminal; the demo ends its programs itself, in order.
    tokio::spawn(tokio::signal::ctrl_c());
    match act(role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the demo does not listen any more, there is nobody left to tell.
            let _ = report(&Report::Failed {
                reason: format!("{error:#}"),
            });
            ExitCode::FAILURE
        }
    }
}

async fn act(role: Role) -> anyhow::Result<()> {
    let mut app = App::join(role).await?;
    let client = app.channel.client().clone();
    let curtain = curtain();
    tokio::select! {
        outcome = async {
            match role {
                Role::Controller => app.control().await,
                Role::Monitor => app.monitor().await,
                Role::Observer => app.observe().await,
                Role::Sidecar => app.read().await,
            }
        } => outcome,
        _ = curtain => Ok(client.close().await?),
    }
}

/// Ends when the demo closes our standard input, which also happens when it dies.
fn curtain() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    // A thread, because nothing can call back a read of standard input.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}

/// One program: a client in the channel of the demo.
struct App {
    channel: Channel,
    broadcasts: Messages,
    directs: Messages,
}

impl App {
    async fn join(role: Role) -> anyhow::Result<Self> {
        // Read here and not by the SDK, which would pass over it in a privileged program and lead
        // the demo to the user's real hub.
        let endpoint = env::var_os(ENDPOINT_VARIABLE)
            .context("a role of the demo is started by `localhub demo` (run that instead)")?;
        let client = Options::new()
            .name(role.name())
            .endpoint(Endpoint::new(endpoint)?)
            .reconnect(false)
            .connect()
            .await?;
        let interval_ms = (role == Role::Sidecar).then_some(INTERVAL_MS);
        let state = State {
            pid: process::id(),
            interval_ms,
        };
        let directs = client.directs();
        let channel = client
            .join_with(CHANNEL, Join::new().state(&state)?)
            .await?;
        let broadcasts = channel.broadcasts();
        Ok(Self {
            channel,
            broadcasts,
            directs,
        })
    }

    /// Publishes this machine's readings; the controller says how often.
    async fn read(&mut self) -> anyhow::Result<()> {
        let mut machine = Machine::new();
        let mut number = 0;
        let mut rounds = time::interval(Duration::from_millis(INTERVAL_MS));
        report(&Report::Ready)?;
        loop {
            tokio::select! {
                _ = rounds.tick() => {
                    for (topic, reading) in machine.round() {
                        number += 1;
                        let payload = envelope(Sample { number, reading })?;
                        self.channel.retain(&topic, payload).await?;
                    }
                }
                word = self.hear() => {
                    let (sender, word) = word?;
                    if let Word::Interval(ms) = word {
                        rounds = time::interval(Duration::from_millis(ms));
                        let state = State { pid: process::id(), interval_ms: Some(ms) };
                        self.channel.set_state(&state).await?;
                    }
                    self.answer(&sender, word).await?;
                }
            }
        }
    }

    /// Subscribes to everything the sidecar publishes, and checks that nothing is missing.
    async fn monitor(&mut self) -> anyhow::Result<()> {
        let mut readings = self.channel.subscribe("#").await?;
        let mut last = HashMap::new();
        report(&Report::Ready)?;
        loop {
            tokio::select! {
                reading = readings.next() => {
                    let message = reading.context(HUB_GONE)?;
                    let Some((message, envelope)) = open::<Sample>(message)? else { continue };
                    let latency_ns = now_ns().saturating_sub(envelope.sent_ns);
                    let Sample { number, reading } = envelope.content;
                    let sender = message.sender();
                    let expected = last.insert(sender.id, number).unwrap_or(0) + 1;
                    if number != expected {
                        let what = format!("reading {expected} of {}", sender.name);
                        report(&Report::Lost { what })?;
                    }
                    let topic = message.topic().unwrap_or_default().to_owned();
                    report(&Report::Reading { topic, reading, latency_ns })?;
                }
                word = self.hear() => {
                    let (sender, word) = word?;
                    self.answer(&sender, word).await?;
                }
            }
        }
    }

    /// Watches who is there.
    async fn observe(&mut self) -> anyhow::Result<()> {
        let mut presence = self.channel.presence().await?;
        for member in presence.members() {
            report(&about(&member, None)?)?;
        }
        report(&Report::Ready)?;
        loop {
            tokio::select! {
                event = presence.next() => {
                    let event = event.context(HUB_GONE)?;
                    report(&about(&event.member, Some(event.change.into()))?)?;
                }
                word = self.hear() => {
                    let (sender, word) = word?;
                    self.answer(&sender, word).await?;
                }
            }
        }
    }

    /// Calls the roll by broadcast, and tells the sidecar by direct messages how often to read.
    async fn control(&mut self) -> anyhow::Result<()> {
        let mut rounds = time::interval(ROLL_CALL_EVERY);
        let mut round = 0;
        report(&Report::Ready)?;
        loop {
            tokio::select! {
                _ = rounds.tick() => {
                    round += 1;
                    let word = Word::RollCall(round);
                    let payload = envelope(word)?;
                    self.channel.broadcast(payload).await?;
                    let (way, to) = (Way::Broadcast, "all".to_owned());
                    report(&Report::Sent { way, to, word, refused: None })?;
                    if round % 4 == 0 {
                        let ms = if round % 8 == 4 { HURRIED_INTERVAL_MS } else { INTERVAL_MS };
                        self.tell(Role::Sidecar.name(), Word::Interval(ms)).await?;
                    }
                }
                word = self.hear() => {
                    word?;
                }
            }
        }
    }

    /// The next direct or broadcast, reported.
    async fn hear(&mut self) -> anyhow::Result<(Sender, Word)> {
        loop {
            let (way, message) = tokio::select! {
                message = self.broadcasts.next() => (Way::Broadcast, message),
                message = self.directs.next() => (Way::Direct, message),
            };
            let Some((message, envelope)) = open::<Word>(message.context(HUB_GONE)?)? else {
                continue;
            };
            let latency_ns = now_ns().saturating_sub(envelope.sent_ns);
            let (from, word) = (message.sender().name.to_string(), envelope.content);
            report(&Report::Received {
                way,
                from,
                word,
                latency_ns,
            })?;
            return Ok((message.sender().clone(), word));
        }
    }

    /// Answers a roll call.
    async fn answer(&self, to: &Sender, word: Word) -> anyhow::Result<()> {
        match word {
            Word::RollCall(number) => self.tell(to.name.as_str(), Word::Here(number)).await,
            Word::Here(_) | Word::Interval(_) => Ok(()),
        }
    }

    /// Sends a direct message. The hub's refusal is an answer like any other: the receiver may
    /// have gone.
    async fn tell(&self, to: &str, word: Word) -> anyhow::Result<()> {
        let payload = envelope(word)?;
        let refused = match self.channel.client().send(to, payload).await {
            Ok(()) => None,
            Err(Error::Refused { code, .. }) => Some(code.name().to_owned()),
            Err(error) => bail!(error),
        };
        let to = to.to_owned();
        report(&Report::Sent {
            way: Way::Direct,
            to,
            word,
            refused,
        })
    }
}

fn envelope<T: Serialize>(content: T) -> Result<Payload, Error> {
    Payload::cbor(&Envelope {
        sent_ns: now_ns(),
        content,
    })
}

/// Reads what another program of the demo has sent; a gap is reported.
fn open<T: DeserializeOwned>(
    message: Result<Message, Gap>,
) -> anyhow::Result<Option<(Message, Envelope<T>)>> {
    match message {
        Ok(message) => {
            let envelope = message.decode()?;
            Ok(Some((message, envelope)))
        }
        Err(gap) => {
            report(&Report::Lost {
                what: gap.to_string(),
            })?;
            Ok(None)
        }
    }
}

fn about(member: &Member, change: Option<Turn>) -> anyhow::Result<Report> {
    Ok(Report::Presence {
        id: member.id.0,
        name: member.name.to_string(),
        change,
        state: member.state()?,
        seen_ns: now_ns(),
    })
}

/// Tells the demo.
fn report(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// The channel in which the programs meet.
const CHANNEL: &str = "demo";

/// How often the sidecar reads at first, and when it is told to hurry.
const INTERVAL_MS: u64 = 200;
const HURRIED_INTERVAL_MS: u64 = 100;

const ROLL_CALL_EVERY: Duration = Duration::from_millis(500);

const HUB_GONE: &str = "the hub has gone";
