//! What must not add up, and whom a stopped client must not slow down: a real broker, many cycles of connects,
//! cuts and resumes, many sessions that wait, and a subscriber that is stopped under load.
//!
//! An ordinary run is short. `CYCLES=100000 cargo test --release -p localhub --test endurance -- --nocapture`
//! is long, and shows the figures that `docs/testing.md` has.

#![cfg(target_os = "linux")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, ContentType, Epoch, Hello, Message, Policy,
    RawFrame, Resume, ResumeToken, Retain, Start, Target, Version,
};
use localhub_tests::process::{Daemon, until};

const LOCALHUB: &str = env!("CARGO_BIN_EXE_localhub");

/// Messages that wait for each parked session.
const WAITING: u64 = 10;
const WAITING_BYTES: usize = 100;

/// A connection that keeps to the protocol and does nothing by itself.
struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
    epoch: Epoch,
    client: ClientId,
    token: ResumeToken,
    /// Messages that it has received.
    received: u64,
}

impl Wire {
    fn connects(endpoint: &Path) -> Self {
        Self::opens(endpoint, None)
    }

    fn opens(endpoint: &Path, resume: Option<Resume>) -> Self {
        let received = resume.as_ref().map_or(0, |resume| resume.received);
        let asked = resume.is_some();
        let mut wire = Self {
            stream: UnixStream::connect(endpoint).expect("the broker listens"),
            read: Vec::new(),
            epoch: Epoch([0; 16]),
            client: ClientId::HUB,
            token: ResumeToken([0; 32]),
            received,
        };
        wire.says(&ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: vec![],
            name: None,
            resume,
            ttl_ms: None,
        }));
        let mut welcomed = None;
        while welcomed.is_none() {
            wire.hears(|frame| match frame {
                BrokerFrame::Welcome(welcome) => {
                    let back = welcome.resumed.is_some_and(|resumed| resumed.recovered);
                    assert_eq!(back, asked, "a session that was left is there");
                    welcomed = Some((welcome.epoch, welcome.client, welcome.token.clone()));
                }
                // What waited comes right behind it.
                other => assert!(welcomed.is_some(), "{other:?} before a welcome"),
            });
        }
        (wire.epoch, wire.client, wire.token) = welcomed.expect("the loop ended");
        wire
    }

    /// Drops the connection without a word, and comes back.
    fn drops_and_resumes(self, endpoint: &Path) -> Self {
        let resume = self.leaves();
        Self::opens(endpoint, Some(resume))
    }

    fn leaves(self) -> Resume {
        Resume {
            epoch: self.epoch,
            client: self.client,
            token: self.token,
            received: self.received,
        }
    }

    fn says_goodbye(&mut self) {
        self.says(&ClientFrame::Close {
            code: localhub_protocol::Code::GOODBYE,
            detail: "",
        });
    }

    fn says(&mut self, frame: &ClientFrame<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.stream.write_all(&wire).expect("the broker reads");
    }

    /// Reads once, and hands on what came, a frame at a time.
    fn hears(&mut self, mut each: impl FnMut(&BrokerFrame<'_>)) {
        let mut buffer = [0; 64 * 1024];
        let bytes = self.stream.read(&mut buffer).expect("the broker writes");
        assert!(bytes > 0, "the broker goes on");
        self.read.extend_from_slice(&buffer[..bytes]);
        let mut taken = 0;
        while let Some((frame, _)) =
            RawFrame::split(&self.read[taken..], usize::MAX).expect("a frame")
        {
            taken += frame.wire_bytes();
            let frame = BrokerFrame::decode(frame.body()).expect("a frame of the broker");
            match &frame {
                BrokerFrame::Gap(gap) => self.received += gap.lost,
                BrokerFrame::Run(_)
                | BrokerFrame::Ack { .. }
                | BrokerFrame::Ping { .. }
                | BrokerFrame::Pong { .. }
                | BrokerFrame::Welcome(_) => {}
                _ => self.received += 1,
            }
            each(&frame);
        }
        self.read.drain(..taken);
    }

    fn joins(&mut self, name: &str) -> ChannelId {
        let (hidden, state) = (false, &b""[..]);
        self.says(&ClientFrame::Join {
            name,
            hidden,
            state,
        });
        let mut joined = None;
        while joined.is_none() {
            self.hears(|frame| {
                if let BrokerFrame::Joined { channel, .. } = frame {
                    joined = Some(*channel);
                }
            });
        }
        joined.expect("the loop ended")
    }

    fn subscribes(&mut self, channel: ChannelId, filter: &str) {
        self.says(&ClientFrame::Subscribe {
            channel,
            filter,
            start: Start::Live,
            policy: Policy::DropOldest,
        });
        let mut subscribed = false;
        while !subscribed {
            self.hears(|frame| subscribed |= matches!(frame, BrokerFrame::Values { .. }));
        }
    }

    /// Waits until the broker has carried out everything.
    fn flushes(&mut self) {
        let received = self.received;
        self.says(&ClientFrame::Ping { nonce: 1, received });
        let mut flushed = false;
        while !flushed {
            self.hears(|frame| flushed |= matches!(frame, BrokerFrame::Pong { .. }));
        }
    }
}

/// What a process holds in memory, in KiB.
fn resident_kib(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).expect("KiB")
}

fn asked_for(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("{variable}=NUMBER, not {text}"))
    })
}

fn publish<'a>(channel: ChannelId, payload: &'a [u8]) -> ClientFrame<'a> {
    ClientFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic: "t",
        payload,
    })
}

#[test]
fn connecting_dropping_and_resuming_leaves_nothing_behind() {
    let mut daemon = Daemon::start(LOCALHUB, "");
    let endpoint = daemon.endpoint();
    let pid = daemon.process().pid();
    let mut others = Wire::connects(&endpoint);
    let channel = others.joins("kiosk");
    let mut wire = Wire::connects(&endpoint);
    wire.joins("kiosk");
    wire.subscribes(channel, "#");
    let cycles = asked_for("CYCLES", 3_000);
    let warm = cycles / 3;
    let mut before = 0;
    for n in 0..cycles {
        if n == warm {
            before = resident_kib(pid);
        }
        // Somebody new who leaves a session behind for its time, and somebody who comes back each time.
        others.says(&publish(channel, b"while it was away"));
        wire = wire.drops_and_resumes(&endpoint);
        let mut passing = Wire::connects(&endpoint);
        passing.joins("kiosk");
        passing.says_goodbye();
    }
    wire.flushes();
    let after = resident_kib(pid);
    println!("{cycles} cycles: {before} KiB after {warm} of them, {after} KiB at the end");
    // In a short run the record of the last 10,000 ends is still growing.
    assert!(after - before < 4_096, "from {before} to {after} KiB");
    until("those who passed are gone", || daemon.clients().len() <= 3);
}

#[test]
fn a_parked_session_costs_what_it_holds_and_little_more() {
    let mut daemon = Daemon::start(LOCALHUB, "");
    let endpoint = daemon.endpoint();
    let pid = daemon.process().pid();
    let mut publisher = Wire::connects(&endpoint);
    let sessions = asked_for("SESSIONS", 1_000);
    let before = resident_kib(pid);
    let mut left = Vec::new();
    for n in 0..sessions {
        let mut wire = Wire::connects(&endpoint);
        let channel = wire.joins(&format!("kiosk/{}", n % 100));
        wire.subscribes(channel, "#");
        left.push(wire.leaves());
    }
    let parked = |daemon: &Daemon| daemon.json(["status"])[0]["parked"].clone();
    until("all are parked", || parked(&daemon) == sessions);
    let empty = resident_kib(pid);
    let payload = vec![b'x'; WAITING_BYTES];
    for session in &left {
        for _ in 0..WAITING {
            publisher.says(&ClientFrame::Message(Message::Direct {
                to: Target::Id(session.client),
                content: ContentType::BYTES,
                payload: &payload,
            }));
        }
        publisher.flushes();
    }
    let full = resident_kib(pid);
    let each = |kib: i64| kib * 1_024 / i64::try_from(sessions).expect("few");
    let contents =
        i64::try_from(WAITING).expect("few") * i64::try_from(WAITING_BYTES).expect("few");
    println!(
        "{sessions} parked sessions: {} B each; with {WAITING} messages of {WAITING_BYTES} B waiting {} B more",
        each(empty - before),
        each(full - empty)
    );
    assert!(
        each(full - before) <= contents + 2 * 4_096,
        "{} B each",
        each(full - before)
    );
}

/// How long each message took, in ns; all of them arrive.
fn latencies(endpoint: &Path, rate: u64, messages: u64) -> Vec<u64> {
    let mut subscriber = Wire::connects(endpoint);
    let channel = subscriber.joins("load");
    subscriber.subscribes(channel, "t");
    let mut publisher = Wire::connects(endpoint);
    publisher.joins("load");
    let start = Instant::now();
    let reader = std::thread::spawn(move || {
        let mut took = Vec::new();
        while (took.len() as u64) < messages {
            let mut came = None;
            subscriber.hears(|frame| {
                if let BrokerFrame::Message(message) = frame {
                    let due =
                        u64::from_be_bytes(message.payload()[..8].try_into().expect("8 bytes"));
                    let came = *came.get_or_insert_with(|| start.elapsed().as_nanos() as u64);
                    took.push(came.saturating_sub(due));
                }
                assert!(!matches!(frame, BrokerFrame::Gap(_)), "nothing is lost");
            });
            let received = subscriber.received;
            subscriber.says(&ClientFrame::Ack { received });
        }
        subscriber.says_goodbye();
        took
    });
    let mut sent = 0;
    let mut batch = Vec::new();
    while sent < messages {
        let now = start.elapsed();
        let due = (now.as_nanos() as u64 * rate / 1_000_000_000).min(messages);
        batch.clear();
        while sent < due {
            let at = sent * 1_000_000_000 / rate;
            let mut payload = [b'x'; 64];
            payload[..8].copy_from_slice(&at.to_be_bytes());
            publish(channel, &payload).encode(&mut batch);
            sent += 1;
        }
        publisher
            .stream
            .write_all(&batch)
            .expect("the broker reads");
        #[expect(
            clippy::disallowed_methods,
            reason = "a fixed rate; nothing waits for it"
        )]
        std::thread::sleep(Duration::from_micros(200));
    }
    publisher.flushes();
    publisher.says_goodbye();
    reader.join().expect("it got everything")
}

#[test]
fn a_stopped_subscriber_takes_nothing_from_the_others() {
    let daemon = Daemon::start(LOCALHUB, "");
    let endpoint = daemon.endpoint();
    let rate = asked_for("RATE", 20_000);
    let messages = asked_for("MESSAGES", 20_000);
    let p99 = |mut took: Vec<u64>| {
        took.sort_unstable();
        took[took.len() * 99 / 100] / 1_000
    };
    let mut figures = Vec::new();
    for _ in 0..asked_for("ROUNDS", 1) {
        let alone = p99(latencies(&endpoint, rate, messages));
        let stopped = daemon.spawns(["sub", "load", "#", "--raw"]);
        until("it subscribes", || {
            daemon
                .clients()
                .iter()
                .any(|client| client["pid"] == stopped.pid() && client["subscriptions"] == 1)
        });
        stopped.signal("STOP");
        let beside = p99(latencies(&endpoint, rate, messages));
        figures.push((alone, beside));
    }
    for (alone, beside) in figures {
        println!("{rate}/s: p99 {alone} us without, {beside} us beside a stopped subscriber");
    }
}
