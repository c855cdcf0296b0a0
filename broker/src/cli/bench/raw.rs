//! The jobs of a worker with frames made in advance and counted by their prefixes: what the broker can do
//! when its clients cost next to nothing.

mod wire;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use localhub_protocol::{ClientFrame, ClientId, ContentType, Message, Target};

use super::super::shared::clock::now_ns;
use super::pace::{sleep_until, stamp, stamp_of};
use super::tally::Tally;
use super::task::Job;
use super::worker::Client;
use super::{PATIENCE, PING, PONG, RESUME_TTL, TOPIC, WARM_UP};
use wire::{Counts, Wire, encoded, publish};

/// Does the job of a client.
pub(super) fn run(client: Client) -> anyhow::Result<Tally> {
    match client.task.job {
        Job::Answer => bail!("who answers does so through the SDK"),
        Job::Connect => connect(client),
        Job::Idle => idle(client),
        Job::Ping => ping(client),
        Job::Pong => pong(client),
        Job::Publish => publisher(client),
        Job::Request => request(client),
        Job::Resume => resume(client),
        Job::Subscribe => subscribe(client),
    }
}

fn publisher(mut client: Client) -> anyhow::Result<Tally> {
    let size = client.task.size_bytes;
    let mut wire = Wire::open(client.endpoint(), Duration::ZERO)?;
    ensure!(
        size as u64 <= wire.limits().payload_bytes,
        "the broker takes payloads of {} bytes at most",
        wire.limits().payload_bytes
    );
    let channel = wire.join(&client.task.channel)?;
    let one = publish(channel, TOPIC, &vec![b'x'; size]);
    let in_batch = (BATCH_BYTES / one.len()).max(1);
    let mut batch = one.repeat(in_batch);
    let (mut stream, mut frames) = wire.reader()?;
    let start_ns = client.handle().block_on(client.go())?;
    let end_ns = start_ns.saturating_add(client.task.length_ns);
    sleep_until(start_ns);

    // The broker confirms, and stops reading from who does not read that.
    let reader = thread::spawn(move || -> anyhow::Result<u64> {
        let mut counts = Counts::default();
        while counts.pongs == 0 {
            frames.fill(&mut stream)?;
            frames.count(&mut counts, |_| {})?;
        }
        Ok(counts.refused)
    });
    let mut tally = Tally::default();
    match client.timetable(start_ns) {
        Some(mut table) => {
            while table.due_ns() < end_ns {
                sleep_until(table.due_ns());
                let now_ns = now_ns().min(end_ns - 1);
                let mut due = 0;
                while due < in_batch && table.due_ns() <= now_ns {
                    let end = (due + 1) * one.len();
                    stamp(&mut batch[end - size..end], table.due_ns());
                    table.advance();
                    due += 1;
                }
                wire.send_bytes(&batch[..due * one.len()])?;
                tally.sent += due as u64;
            }
        }
        None => {
            while now_ns() < end_ns {
                wire.send_bytes(&batch)?;
                tally.sent += in_batch as u64;
            }
        }
    }
    let received = wire.counts.position();
    wire.send(&ClientFrame::Ping { nonce: 0, received })?;
    tally.refused = match reader.join() {
        Ok(refused) => refused?,
        Err(_) => bail!("the thread that reads has ended"),
    };
    tally.ended_ns = now_ns();
    wire.goodbye()?;
    Ok(tally)
}

fn subscribe(mut client: Client) -> anyhow::Result<Tally> {
    let size = client.task.size_bytes;
    let stamped = client.task.rate.is_some();
    let mut wire = Wire::open(client.endpoint(), Duration::ZERO)?;
    let channel = wire.join(&client.task.channel)?;
    wire.subscribe(channel, TOPIC)?;
    wire.set_patience(LOOK_EVERY)?;
    client.handle().block_on(client.go())?;

    let mut tally = Tally::default();
    let mut quiet_since = now_ns();
    loop {
        let latencies = &mut tally.latencies;
        let mut came_ns = None;
        let came = wire.read(|body| {
            if stamped {
                let came_ns = *came_ns.get_or_insert_with(now_ns);
                let payload = &body[body.len().saturating_sub(size)..];
                latencies.record(came_ns.saturating_sub(stamp_of(payload)));
            }
        })?;
        if came {
            tally.ended_ns = now_ns();
        }
        let accounted = wire.counts.messages + wire.counts.lost;
        match client.expected() {
            None => quiet_since = now_ns(),
            Some(expected) if accounted >= expected => break,
            Some(_) => {
                let quiet_ns = now_ns().saturating_sub(quiet_since.max(tally.ended_ns));
                if u128::from(quiet_ns) > PATIENCE.as_nanos() {
                    // The bench tells what is missing.
                    break;
                }
            }
        }
    }
    tally.received = wire.counts.messages;
    tally.lost = wire.counts.lost;
    wire.goodbye()?;
    Ok(tally)
}

fn ping(mut client: Client) -> anyhow::Result<Tally> {
    let mut wire = Wire::open(client.endpoint(), Duration::ZERO)?;
    let channel = wire.join(&client.task.channel)?;
    wire.subscribe(channel, PONG)?;
    let ping = publish(channel, PING, &vec![b'x'; client.task.size_bytes]);
    let start_ns = client.handle().block_on(client.go())?;
    sleep_until(start_ns);
    for _ in 0..WARM_UP {
        exchange(&mut wire, &ping)?;
    }

    let mut tally = Tally::default();
    let end_ns = now_ns().saturating_add(client.task.length_ns);
    let mut sent_ns = now_ns();
    while sent_ns < end_ns {
        tally.sent += 1;
        exchange(&mut wire, &ping)?;
        let came_ns = now_ns();
        tally.received += 1;
        tally.latencies.record(came_ns.saturating_sub(sent_ns));
        sent_ns = came_ns;
    }
    tally.ended_ns = sent_ns;
    wire.goodbye()?;
    Ok(tally)
}

fn pong(mut client: Client) -> anyhow::Result<Tally> {
    let mut wire = Wire::open(client.endpoint(), Duration::ZERO)?;
    let channel = wire.join(&client.task.channel)?;
    wire.subscribe(channel, PING)?;
    wire.set_patience(LOOK_EVERY)?;
    let pong = publish(channel, PONG, &vec![b'x'; client.task.size_bytes]);
    client.handle().block_on(client.go())?;
    let mut answered = 0;
    while client.expected().is_none() {
        wire.read(|_| {})?;
        ensure!(wire.counts.lost == 0, "a ping was lost");
        while answered < wire.counts.messages {
            wire.send_bytes(&pong)?;
            answered += 1;
        }
    }
    wire.goodbye()?;
    Ok(Tally::default())
}

/// Sends a frame and waits for one message.
fn exchange(wire: &mut Wire, frame: &[u8]) -> anyhow::Result<()> {
    let before = wire.counts.messages;
    wire.send_bytes(frame)?;
    while wire.counts.messages == before {
        ensure!(wire.read(|_| {})?, "no answer came");
        ensure!(wire.counts.lost == 0, "an answer was lost");
        ensure!(wire.counts.refused == 0, "the broker refused a message");
    }
    Ok(())
}

fn request(mut client: Client) -> anyhow::Result<Tally> {
    let mut wire = Wire::open(client.endpoint(), Duration::ZERO)?;
    let status = encoded(&ClientFrame::Message(Message::Request {
        to: Target::Id(ClientId::HUB),
        deadline_ms: PATIENCE.as_millis() as u32,
        command: None,
        window: 0,
        method: localhub_protocol::admin::STATUS,
        content: ContentType::CBOR,
        payload: NO_ARGUMENTS,
    }));
    let start_ns = client.handle().block_on(client.go())?;
    let mut tally = Tally::default();
    let mut calls = client.calls(start_ns);
    while let Some(from_ns) = calls.next() {
        tally.sent += 1;
        exchange(&mut wire, &status)?;
        tally.received += 1;
        tally.ended_ns = now_ns();
        tally
            .latencies
            .record(tally.ended_ns.saturating_sub(from_ns));
    }
    wire.goodbye()?;
    Ok(tally)
}

fn connect(mut client: Client) -> anyhow::Result<Tally> {
    let start_ns = client.handle().block_on(client.go())?;
    let mut tally = Tally::default();
    let mut calls = client.calls(start_ns);
    while let Some(from_ns) = calls.next() {
        tally.sent += 1;
        let wire = Wire::open(client.endpoint(), Duration::ZERO)?;
        tally.received += 1;
        tally.latencies.record(now_ns().saturating_sub(from_ns));
        wire.goodbye()?;
        tally.ended_ns = now_ns();
    }
    Ok(tally)
}

fn idle(mut client: Client) -> anyhow::Result<Tally> {
    // The first figure of the broker's memory is from before this.
    client.handle().block_on(client.go())?;
    let held = open(&client, Duration::ZERO)?;
    let tally = Tally {
        sessions: held.len() as u64,
        ended_ns: now_ns(),
        ..Tally::default()
    };
    client.handle().block_on(client.settled());
    client.handle().block_on(client.finish())?;
    Ok(tally)
}

fn resume(mut client: Client) -> anyhow::Result<Tally> {
    let sessions = open(&client, RESUME_TTL)?;
    let start_ns = client.handle().block_on(client.go())?;
    sleep_until(start_ns);
    sessions.iter().for_each(Wire::cut);
    client.handle().block_on(client.settled());
    let missed = client.handle().block_on(client.missed())?;

    // All hellos are on their way before the first welcome is read: the broker gets the whole storm.
    let start_ns = now_ns();
    let mut back = Vec::new();
    for session in sessions {
        back.push(Wire::reopen(client.endpoint(), &session, RESUME_TTL)?);
    }
    let mut tally = Tally::default();
    for wire in &mut back {
        ensure!(
            wire.welcome().context("a session is not back")?,
            "a session is gone"
        );
        // What came with the welcome is counted without another read.
        wire.count(|_| {})?;
        while wire.counts.messages + wire.counts.lost < missed && wire.read(|_| {})? {}
        tally.sessions += 1;
        tally.received += wire.counts.messages;
        tally.lost += wire.counts.lost;
        tally.ended_ns = now_ns();
        tally
            .latencies
            .record(tally.ended_ns.saturating_sub(start_ns));
    }
    for wire in back {
        wire.goodbye()?;
    }
    Ok(tally)
}

/// Opens the sessions of a worker, with one subscription each.
fn open(client: &Client, ttl: Duration) -> anyhow::Result<Vec<Wire>> {
    (0..client.task.clients)
        .map(|_| {
            let mut wire = Wire::open(client.endpoint(), ttl)?;
            let channel = wire.join(&client.task.channel)?;
            wire.subscribe(channel, TOPIC)?;
            Ok(wire)
        })
        .collect()
}

impl Client {
    fn endpoint(&self) -> &Path {
        Path::new(&self.task.endpoint)
    }
}

/// How often a client that waits looks whether it is time to finish.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is written at a time.
const BATCH_BYTES: usize = 64 * 1024;

/// CBOR's null.
const NO_ARGUMENTS: &[u8] = &[0xf6];
