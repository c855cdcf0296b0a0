//! A connection that knows frames and nothing else: what can be known from the bytes alone.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use localhub_protocol::limits::HEADER_BYTES_MAX;
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, Code, ContentType, Hello, Limits, Message, Policy,
    RawFrame, Resume, Retain, Start, Version, kind,
};

use super::super::PATIENCE;

/// One connection of a client that blocks.
pub(super) struct Wire {
    stream: UnixStream,
    frames: Frames,
    pub(super) counts: Counts,
    /// With what to come back to this session.
    resume: Resume,
    limits: Limits,
    confirmed: Mark,
}

/// How far the client has confirmed.
#[derive(Clone, Copy, Default)]
struct Mark {
    position: u64,
    bytes: u64,
}

impl Wire {
    /// Connects, says hello and takes in the welcome.
    pub(super) fn open(endpoint: &Path, ttl: Duration) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(endpoint)
            .with_context(|| format!("cannot connect to {}", endpoint.display()))?;
        let mut wire = Self::hello(stream, None, ttl)?;
        wire.welcome()?;
        Ok(wire)
    }

    /// Connects and asks for the session of an earlier connection, whose welcome is then to be taken in.
    pub(super) fn reopen(endpoint: &Path, earlier: &Self, ttl: Duration) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(endpoint)?;
        let resume = Resume {
            received: earlier.counts.position(),
            ..earlier.resume.clone()
        };
        let mut wire = Self::hello(stream, Some(resume), ttl)?;
        wire.counts = Counts::at(earlier.counts.position());
        Ok(wire)
    }

    fn hello(stream: UnixStream, resume: Option<Resume>, ttl: Duration) -> anyhow::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Self {
            stream,
            frames: Frames::new(HEADER_BYTES_MAX),
            counts: Counts::default(),
            resume: resume.clone().unwrap_or(Resume {
                epoch: localhub_protocol::Epoch([0; 16]),
                client: localhub_protocol::ClientId(0),
                token: localhub_protocol::ResumeToken([0; 32]),
                received: 0,
            }),
            limits: Limits::default(),
            confirmed: Mark::default(),
        };
        wire.send(&ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: Vec::new(),
            name: None,
            resume,
            ttl_ms: Some(u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX)),
        }))?;
        Ok(wire)
    }

    /// Takes in the welcome. Whether it is to an earlier session, if one was asked for.
    pub(super) fn welcome(&mut self) -> anyhow::Result<bool> {
        let frame = self.frame()?;
        match BrokerFrame::decode(&frame)? {
            BrokerFrame::Welcome(welcome) => {
                self.resume = Resume {
                    epoch: welcome.epoch,
                    client: welcome.client,
                    token: welcome.token,
                    received: 0,
                };
                self.limits = welcome.limits;
                self.frames.max = welcome.limits.frame_bytes();
                Ok(welcome
                    .resumed
                    .is_some_and(|resumed| resumed.lost.is_some()))
            }
            BrokerFrame::Close { code, detail } => bail!("{}: {detail}", code.name()),
            _ => bail!("the broker did not say welcome"),
        }
    }

    /// What the broker allows.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Enters the channel, unseen by those who look at presence.
    pub(super) fn join(&mut self, name: &str) -> anyhow::Result<ChannelId> {
        self.send(&ClientFrame::Join {
            name,
            hidden: true,
            state: b"",
        })?;
        let frame = self.answer()?;
        match BrokerFrame::decode(&frame)? {
            BrokerFrame::Joined { channel, .. } => Ok(channel),
            other => bail!("no answer to a join: {other:?}"),
        }
    }

    /// Subscribes to what is published from now on.
    pub(super) fn subscribe(&mut self, channel: ChannelId, filter: &str) -> anyhow::Result<()> {
        self.send(&ClientFrame::Subscribe {
            channel,
            filter,
            start: Start::Live,
            policy: Policy::DropOldest,
        })?;
        let frame = self.answer()?;
        match BrokerFrame::decode(&frame)? {
            BrokerFrame::Values { .. } => Ok(()),
            other => bail!("no answer to a subscribe: {other:?}"),
        }
    }

    /// Sends one frame.
    pub(super) fn send(&mut self, frame: &ClientFrame<'_>) -> io::Result<()> {
        self.stream.write_all(&encoded(frame))
    }

    /// Sends frames that are encoded already.
    pub(super) fn send_bytes(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames)
    }

    /// Ends the session.
    pub(super) fn goodbye(mut self) -> anyhow::Result<()> {
        let code = Code::GOODBYE;
        self.send(&ClientFrame::Close { code, detail: "" })?;
        Ok(())
    }

    /// Loses the connection without a goodbye. What is left can be resumed.
    pub(super) fn cut(&self) {
        // An end that has come already is as good.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Another handle to the socket, for a thread that reads what comes back while this one writes.
    pub(super) fn reader(&self) -> io::Result<(UnixStream, Frames)> {
        let stream = self.stream.try_clone()?;
        Ok((stream, Frames::new(self.limits.frame_bytes())))
    }

    /// How long a read waits.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Reads once and counts what came; `message` gets the body of each message. Whether anything came
    /// in time. Pings are answered and messages confirmed.
    pub(super) fn read(&mut self, message: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        if !self.frames.fill(&mut self.stream)? {
            return Ok(false);
        }
        self.count(message)?;
        Ok(true)
    }

    /// Counts what was read already.
    pub(super) fn count(&mut self, message: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.frames.count(&mut self.counts, message)?;
        if let Some(nonce) = self.counts.ping.take() {
            let received = self.confirm();
            self.send(&ClientFrame::Pong { nonce, received })?;
        } else if self.counts.position() - self.confirmed.position >= CONFIRM_MESSAGES
            || self.counts.bytes - self.confirmed.bytes >= CONFIRM_BYTES
        {
            let received = self.confirm();
            self.send(&ClientFrame::Ack { received })?;
        }
        Ok(())
    }

    fn confirm(&mut self) -> u64 {
        self.confirmed = Mark {
            position: self.counts.position(),
            bytes: self.counts.bytes,
        };
        self.confirmed.position
    }

    /// The answer to a message of this client.
    fn answer(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let frame = self.frame()?;
            self.counts.control(&frame)?;
            if kind_of(&frame).is_some_and(kind::is_counted) {
                return Ok(frame);
            }
        }
    }

    /// The next frame, uncounted.
    fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(frame) = self.frames.take()? {
                return Ok(frame);
            }
            if !self.frames.fill(&mut self.stream)? {
                bail!("the broker does not answer");
            }
        }
    }
}

/// The bytes of a frame.
pub(super) fn encoded(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// The bytes of a publish, whose last ones are the payload.
pub(super) fn publish(channel: ChannelId, topic: &str, payload: &[u8]) -> Vec<u8> {
    encoded(&ClientFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic,
        payload,
    }))
}

/// Bytes that came, until they are whole frames.
pub(super) struct Frames {
    bytes: Vec<u8>,
    filled: usize,
    /// Whether the last read could have given more.
    was_full: bool,
    /// The limit of a frame's body.
    max: usize,
}

impl Frames {
    pub(super) fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            filled: 0,
            was_full: false,
            max,
        }
    }

    /// Reads once. `false` if nothing came in time.
    pub(super) fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        // A client that waits, of which there may be thousands, holds no large buffer.
        let room = match self.bytes.len() {
            0 => FIRST_READ_BYTES,
            room if self.filled * 2 > room => room * 2,
            room if self.was_full => room.max(READ_BYTES),
            room => room,
        };
        self.bytes.resize(room, 0);
        match from.read(&mut self.bytes[self.filled..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.filled += count;
                self.was_full = self.filled == room;
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Counts all whole frames; `message` gets the body of each message.
    pub(super) fn count(
        &mut self,
        counts: &mut Counts,
        mut message: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        let mut rest = &self.bytes[..self.filled];
        while let Some((frame, after)) = RawFrame::split(rest, self.max)? {
            let body = frame.body();
            match kind_of(body) {
                Some(kind::PUBLISH..=kind::FEED) => {
                    counts.messages += 1;
                    message(body);
                }
                _ => counts.control(body)?,
            }
            rest = after;
        }
        let left = rest.len();
        counts.bytes += (self.filled - left) as u64;
        self.bytes.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(())
    }

    /// The body of the first frame, if it is whole.
    fn take(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some((frame, rest)) = RawFrame::split(&self.bytes[..self.filled], self.max)? else {
            return Ok(None);
        };
        let (body, left) = (frame.body().to_vec(), rest.len());
        self.bytes.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(Some(body))
    }
}

/// What came over a connection.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    /// Messages of clients, and replies.
    pub(super) messages: u64,
    /// What else has a position, and what was there before this connection.
    others: u64,
    /// Messages that a gap stands for.
    pub(super) lost: u64,
    /// Refusals.
    pub(super) refused: u64,
    /// Pongs.
    pub(super) pongs: u64,
    /// Bytes of all frames, prefixes too.
    pub(super) bytes: u64,
    /// The nonce of a ping that is not yet answered.
    ping: Option<u64>,
}

impl Counts {
    fn at(position: u64) -> Self {
        Self {
            others: position,
            ..Self::default()
        }
    }

    /// How many messages of the broker this session has received.
    pub(super) fn position(&self) -> u64 {
        self.messages + self.others + self.lost
    }

    /// Counts a frame that is no message of a client.
    fn control(&mut self, body: &[u8]) -> anyhow::Result<()> {
        match BrokerFrame::decode(body)? {
            BrokerFrame::Gap(gap) => self.lost += gap.lost,
            BrokerFrame::Ping { nonce, .. } => self.ping = Some(nonce),
            BrokerFrame::Pong { .. } => self.pongs += 1,
            BrokerFrame::Close { code, detail } => {
                bail!("the broker closed the connection: {} {detail}", code.name())
            }
            BrokerFrame::Refusal { .. } => {
                self.refused += 1;
                self.others += 1;
            }
            _ if kind_of(body).is_some_and(kind::is_counted) => self.others += 1,
            _ => {}
        }
        Ok(())
    }
}

/// The kind of a frame: the first item of its array, in one byte or two.
fn kind_of(body: &[u8]) -> Option<u64> {
    match body.get(1..)? {
        [kind @ 0..24, ..] | [24, kind, ..] => Some(u64::from(*kind)),
        _ => None,
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// A client confirms after so many messages, and after so many bytes: far below a quarter of what an outbox
/// holds by default.
const CONFIRM_MESSAGES: u64 = 4_096;
const CONFIRM_BYTES: u64 = 1024 * 1024;

/// What is read at first.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// What is read at a time once a read has filled the buffer.
const READ_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use localhub_protocol::{Gap, PREFIX_BYTES, Run};

    /// What a broker sends to a subscriber that lost two messages, and is pinged.
    fn wire() -> Vec<u8> {
        let channel = ChannelId(7);
        let run = Run {
            channel: Some(channel),
            sender: localhub_protocol::ClientId(3),
            name: "publisher",
            first: 1,
            count: 2,
            retained: false,
        };
        let gap = Gap {
            channel: Some(channel),
            lost: 2,
            cause: Code::SLOW_CONSUMER,
        };
        let mut wire = Vec::new();
        BrokerFrame::Run(run).encode(&mut wire);
        wire.extend(publish(channel, "bench", b"one"));
        wire.extend(publish(channel, "bench", &[b'x'; 10_000]));
        BrokerFrame::Gap(gap).encode(&mut wire);
        BrokerFrame::Ping {
            nonce: 9,
            received: 0,
        }
        .encode(&mut wire);
        BrokerFrame::Done { request: 1 }.encode(&mut wire);
        BrokerFrame::Refusal {
            request: 2,
            code: Code::NOT_A_MEMBER,
            detail: "",
        }
        .encode(&mut wire);
        wire
    }

    /// Gives at most so many bytes a read.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(into.len());
            self.0.read(&mut into[..most])
        }
    }

    #[test]
    fn messages_are_counted_by_their_prefixes_however_they_come() {
        let wire = wire();
        for piece in [1, 3, 4_096, usize::MAX] {
            let mut from = Trickle(&wire, piece);
            let (mut frames, mut counts) = (Frames::new(100_000), Counts::default());
            let mut payloads = Vec::new();
            while !from.0.is_empty() {
                assert!(frames.fill(&mut from).unwrap());
                frames
                    .count(&mut counts, |body| payloads.push(body[body.len() - 1]))
                    .unwrap();
            }
            let expected = Counts {
                messages: 2,
                others: 2,
                lost: 2,
                refused: 1,
                pongs: 0,
                bytes: wire.len() as u64,
                ping: Some(9),
            };
            assert_eq!(counts, expected, "in pieces of {piece}");
            assert_eq!(counts.position(), 6);
            assert_eq!(payloads, *b"ex");
        }
    }

    #[test]
    fn a_close_and_an_end_are_errors() {
        let mut close = Vec::new();
        BrokerFrame::Close {
            code: Code::KICKED,
            detail: "",
        }
        .encode(&mut close);
        let (mut frames, mut counts) = (Frames::new(100), Counts::default());
        let mut from = &close[..];
        frames.fill(&mut from).unwrap();
        let error = frames.count(&mut counts, |_| {}).unwrap_err();
        assert!(error.to_string().contains("kicked"), "{error}");
        let end = frames.fill(&mut from).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_frame_above_the_limit_is_not_waited_for() {
        let (mut frames, mut counts) = (Frames::new(10), Counts::default());
        frames.fill(&mut &[0, 0, 0, 11][..]).unwrap();
        assert!(frames.count(&mut counts, |_| {}).is_err());
    }

    #[test]
    fn the_payload_is_the_end_of_a_publish() {
        let frame = publish(ChannelId(1), "bench", b"payload");
        assert!(frame.ends_with(b"payload"));
        assert_eq!(kind_of(&frame[PREFIX_BYTES..]), Some(kind::PUBLISH));
    }
}
