//! localhub's own protocol, raw: `docs/protocol.md` of this repository.
//!
//! The generator is a well-behaved client: its sessions are resumable, it confirms what it received
//! (5.13), answers pings (16.1) and says goodbye (17.7).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, Code, ContentType, Hello, Message, PREFIX_BYTES, Resume,
    Resumed, Retain, Version, kind,
};

use super::{Opened, Role, Wire};
use crate::stream::{Counter, Frame, Frames, Stream, Tally};

/// A localhub.
pub struct Localhub {
    pub socket: PathBuf,
}

/// The one channel of the generator.
const CHANNEL: &str = "bench";

/// A subscriber confirms after so many messages or bytes: a quarter of what it has to (5.13).
const CONFIRM_MESSAGES: u64 = 16_384;
const CONFIRM_BYTES: u64 = 2 * 1024 * 1024;

impl Wire for Localhub {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        let mut session = Session::begin(&self.socket)?;
        let channel = session.join()?;
        if let Some(topic) = role.hears {
            session.subscribe(channel, topic)?;
        }
        let message = role.says.map_or_else(Vec::new, |topic| {
            encoded(&ClientFrame::Message(Message::Publish {
                channel,
                retain: Retain::No,
                content: ContentType::BYTES,
                topic,
                payload: &vec![b'x'; role.size],
            }))
        });
        let every = CONFIRM_BYTES / (role.size as u64).max(1);
        Ok(Opened {
            stream: session.stream,
            counter: Box::new(ByFrame {
                frames: Frames::new(Tally {
                    position: session.position,
                    ..Tally::default()
                }),
                confirmed: session.position,
                confirm_every: every.clamp(1, CONFIRM_MESSAGES),
            }),
            message,
            goodbye: goodbye(),
        })
    }
}

/// Counts messages by their frames, and answers what a client has to answer.
struct ByFrame {
    frames: Frames,
    confirmed: u64,
    confirm_every: u64,
}

impl Counter for ByFrame {
    fn read(&mut self, stream: &mut Stream) -> Result<bool> {
        let mut pings = Vec::new();
        let more = self
            .frames
            .read(stream, |bytes| inspect(bytes, &mut pings))?;

        let received = self.frames.tally().position;
        let mut answers = Vec::new();
        for nonce in pings {
            ClientFrame::Pong { nonce, received }.encode(&mut answers);
        }
        if received - self.confirmed >= self.confirm_every {
            self.confirmed = received;
            ClientFrame::Ack { received }.encode(&mut answers);
        }
        if !answers.is_empty() {
            stream.write_all(&answers)?;
        }
        Ok(more)
    }

    fn tally(&self) -> Tally {
        self.frames.tally()
    }
}

/// Looks at the length and the kind of a frame; only pings and gaps are decoded.
fn inspect(bytes: &[u8], pings: &mut Vec<u64>) -> Result<Option<Frame>> {
    /// The prefix, the head of the array, and the kind up to 23.
    const HEAD_BYTES: usize = PREFIX_BYTES + 2;
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let length = PREFIX_BYTES + u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let mut adds = Tally::default();
    match u64::from(head[5]) {
        kind::PUBLISH => (adds.received, adds.position) = (1, 1),
        kind::ACK | kind::RUN => {}
        kind::PING | kind::GAP | kind::CLOSE => {
            let Some(frame) = bytes.get(PREFIX_BYTES..length) else {
                return Ok(None);
            };
            match BrokerFrame::decode(frame)? {
                BrokerFrame::Ping { nonce, .. } => pings.push(nonce),
                BrokerFrame::Gap(gap) => (adds.lost, adds.position) = (gap.lost, gap.lost),
                other => bail!("localhub ends the connection: {other:?}"),
            }
        }
        // Kinds from 24 on are two bytes, and all of them are counted.
        other if other >= kind::FIRST_COUNTED => adds.position = 1,
        _ => {}
    }
    Ok(Some(Frame { length, adds }))
}

/// A session that is being set up, a frame at a time.
struct Session {
    stream: Stream,
    position: u64,
    /// With what to come back.
    resume: Resume,
    resumed: Option<Resumed>,
}

impl Session {
    fn begin(socket: &Path) -> Result<Self> {
        let mut stream = Stream::unix(socket)?;
        stream.write_all(&hello(None))?;
        Self::welcomed(stream, 0)
    }

    fn welcomed(mut stream: Stream, position: u64) -> Result<Self> {
        let frame = read_frame(&mut stream)?;
        match BrokerFrame::decode(&frame)? {
            BrokerFrame::Welcome(welcome) => Ok(Self {
                stream,
                position,
                resume: Resume {
                    epoch: welcome.epoch,
                    client: welcome.client,
                    token: welcome.token,
                    received: position,
                },
                resumed: welcome.resumed,
            }),
            other => bail!("localhub answers a hello with {other:?}"),
        }
    }

    fn join(&mut self) -> Result<ChannelId> {
        let answer = self.ask(&ClientFrame::Join {
            name: CHANNEL,
            hidden: true,
            state: b"",
        })?;
        match BrokerFrame::decode(&answer)? {
            BrokerFrame::Joined { channel, .. } => Ok(channel),
            other => bail!("localhub answers a join with {other:?}"),
        }
    }

    fn subscribe(&mut self, channel: ChannelId, filter: &str) -> Result<()> {
        let answer = self.ask(&ClientFrame::Subscribe {
            channel,
            filter,
            start: localhub_protocol::Start::Live,
            policy: localhub_protocol::Policy::DropOldest,
        })?;
        match BrokerFrame::decode(&answer)? {
            BrokerFrame::Values { .. } => Ok(()),
            other => bail!("localhub answers a subscription with {other:?}"),
        }
    }

    /// Sends a frame and waits for the first counted one.
    fn ask(&mut self, frame: &ClientFrame<'_>) -> Result<Vec<u8>> {
        self.stream.write_all(&encoded(frame))?;
        loop {
            let answer = read_frame(&mut self.stream)?;
            if !matches!(BrokerFrame::decode(&answer)?, BrokerFrame::Ack { .. }) {
                self.position += 1;
                return Ok(answer);
            }
        }
    }
}

/// Opens so many sessions, each with a subscription, drops all their connections at once, and
/// resumes them; how long that took, from the first drop to the last `Welcome`.
pub fn storm(socket: &Path, sessions: usize) -> Result<Duration> {
    /// The threads that come back, and the connections of each that are on their way at a time.
    const THREADS: usize = 2;
    const AT_A_TIME: usize = 128;

    let mut held = Vec::new();
    for _ in 0..sessions {
        let mut session = Session::begin(socket)?;
        let channel = session.join()?;
        session.subscribe(channel, "storm")?;
        held.push(session);
    }

    let start = Instant::now();
    let away: Vec<Resume> = held
        .into_iter()
        .map(|session| Resume {
            received: session.position,
            ..session.resume
        })
        .collect();
    let back = thread::scope(|scope| {
        let threads: Vec<_> = away
            .chunks(sessions.div_ceil(THREADS))
            .map(|away| scope.spawn(move || come_back(socket, away, AT_A_TIME)))
            .collect();
        let back = threads.into_iter().map(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a thread of the storm panicked"))?
        });
        back.collect::<Result<Vec<_>>>()
    })?;
    let took = start.elapsed();

    for mut session in back.into_iter().flatten() {
        session.stream.write_all(&goodbye())?;
    }
    Ok(took)
}

fn come_back(socket: &Path, away: &[Resume], at_a_time: usize) -> Result<Vec<Session>> {
    let mut back = Vec::new();
    for group in away.chunks(at_a_time) {
        let mut connecting = Vec::new();
        for resume in group {
            let mut stream = Stream::unix(socket)?;
            stream.write_all(&hello(Some(resume.clone())))?;
            connecting.push((stream, resume.received));
        }
        for (stream, position) in connecting {
            let session = Session::welcomed(stream, position)?;
            let resumed = session.resumed.context("localhub ignored a resume")?;
            ensure!(
                resumed.recovered,
                "a session was not recovered: {resumed:?}"
            );
            back.push(session);
        }
    }
    Ok(back)
}

fn hello(resume: Option<Resume>) -> Vec<u8> {
    encoded(&ClientFrame::Hello(Hello {
        versions: (Version::CURRENT, Version::CURRENT),
        features: Vec::new(),
        name: None,
        resume,
        ttl_ms: None,
    }))
}

fn goodbye() -> Vec<u8> {
    encoded(&ClientFrame::Close {
        code: Code::GOODBYE,
        detail: "",
    })
}

fn encoded(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// Reads the body of one frame, and nothing behind it.
fn read_frame(stream: &mut Stream) -> Result<Vec<u8>> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}
