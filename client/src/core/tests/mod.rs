//! Scripted dialogues between a core and a broker that is played by the test, in simulated time.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, ContentType, Epoch, Hello, Limits, Member,
    Message, RawFrame, ResumeToken, Resumed, Retain, Run, Status, Version, Welcome,
};

use super::*;
use crate::testing::in_words;
use crate::{Error, Payload, ValueVersion};

mod anew;
mod cuts;
mod delivery;
mod doubt;
mod history;
mod presence;
mod requests;
mod serving;
mod session;
mod streams;
mod values;

/// The channel that most tests are about, as the broker numbers it at first.
const KIOSK: ChannelId = ChannelId(7);

/// A core, the time, and what came of the streams.
struct World {
    core: Core,
    now: Instant,
    /// Messages of the client so far in this session, as a broker counts them.
    position: u64,
}

fn settings() -> Settings {
    Settings {
        name: Some("ana".parse().unwrap()),
        session_ttl: None,
        resume: true,
        inbox: InboxLimits {
            messages: 4,
            bytes: 1024 * 1024,
        },
        unconfirmed_bytes: 4096,
    }
}

impl World {
    /// A client that is connected for the first time.
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let now = Instant::now();
        let mut world = Self {
            core: Core::new(settings, now),
            now,
            position: 0,
        };
        assert!(
            world.hello().resume.is_none(),
            "there is nothing to resume yet"
        );
        world.welcome(1, None, 0);
        world
    }

    /// The hello that would be sent now.
    fn hello(&mut self) -> Hello<'static> {
        let bytes = self.core.hello().leak();
        match ClientFrame::decode(&bytes[4..]) {
            Ok(ClientFrame::Hello(hello)) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    fn welcome(&mut self, client: u64, resumed: Option<Resumed>, received: u64) {
        let welcome = Welcome {
            version: Version::CURRENT,
            features: vec![],
            epoch: Epoch([9; 16]),
            client: ClientId(client),
            name: "ana",
            token: ResumeToken([client as u8; 32]),
            resumed,
            received,
            ttl_ms: 120_000,
            ping_ms: 10_000,
            limits: Limits {
                payload_bytes: 1_000,
                outbox_messages: 80,
                ..Limits::default()
            },
        };
        self.core.welcome(&welcome, self.now).unwrap();
    }

    fn loses_connection(&mut self) {
        self.core.lost("test".to_owned(), Duration::ZERO);
        assert_eq!(self.says(), [""; 0], "nothing is said without a connection");
    }

    /// Another connection of the same session; the broker carried out `received` messages.
    fn resumes(&mut self, received: u64) {
        let resumed = Resumed {
            recovered: true,
            replayed: 0,
            lost: Some(0),
        };
        self.welcome(1, Some(resumed), received);
    }

    /// Another connection; the broker does not know the session any more.
    fn starts_anew(&mut self) {
        let resumed = Resumed {
            recovered: false,
            replayed: 0,
            lost: None,
        };
        self.position = 0;
        self.welcome(2, Some(resumed), 0);
    }

    fn passes(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// What the core writes now, each frame in words.
    fn says(&mut self) -> Vec<String> {
        let mut batch = VecDeque::new();
        self.core.take(&mut batch, usize::MAX, self.now);
        self.core.outgoing.check();
        let mut said = Vec::new();
        for segment in &batch {
            let mut rest = &segment[..];
            while let Some((frame, after)) = RawFrame::split(rest, usize::MAX).unwrap() {
                said.push(in_words(&ClientFrame::decode(frame.body()).unwrap()));
                rest = after;
            }
            assert!(rest.is_empty(), "only whole frames are written");
        }
        said
    }

    fn hears(&mut self, frames: &[BrokerFrame<'_>]) -> Progress {
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        self.reads(&mut wire.into())
    }

    fn reads(&mut self, chunk: &mut Bytes) -> Progress {
        let progress = self
            .core
            .receive(chunk, 64 * 1024, self.now)
            .expect("the broker is right");
        self.core
            .streams
            .values()
            .for_each(|stream| stream.inbox.check());
        progress
    }

    /// Joins the channel and lets the broker agree.
    fn joins(&mut self, name: &str) -> RoomId {
        let (room, ticket) = self.core.join(name.parse().unwrap(), false, None).unwrap();
        self.says();
        self.position += 1;
        let request = self.position;
        self.hears(&[BrokerFrame::Joined {
            request,
            channel: KIOSK,
            offset: 0,
        }]);
        assert!(matches!(self.outcome(ticket), Some(Ok(Answer::Done))));
        room
    }

    /// Opens a stream of live messages and lets the broker agree.
    fn subscribes(&mut self, room: RoomId, filter: &str) -> StreamId {
        let (stream, ticket) = self
            .core
            .open_stream(Some(room), topics(filter, false))
            .unwrap();
        if let Some(ticket) = ticket {
            self.says();
            self.position += 1;
            let request = self.position;
            self.hears(&[BrokerFrame::Values {
                request,
                channel: KIOSK,
                offset: 0,
                count: 0,
                since: 0,
            }]);
            assert!(matches!(self.outcome(ticket), Some(Ok(Answer::Done))));
        }
        stream
    }

    fn publishes(&mut self, room: RoomId, topic: &str, text: &str) {
        assert!(matches!(
            self.publish(room, topic, text, false),
            Poll::Ready(Ok(None))
        ));
        self.position += 1;
    }

    fn puts(&mut self, room: RoomId, expect: Option<ValueVersion>) -> Ticket {
        let put = PutValue {
            topic: "a".parse().unwrap(),
            retain: Retain::Set,
            payload: Payload::default(),
            expect,
            ttl_ms: 0,
            owned: false,
        };
        self.core.put(room, put).unwrap()
    }

    fn publishes_confirmed(&mut self, room: RoomId, topic: &str, text: &str) -> Ticket {
        let Poll::Ready(Ok(Some(ticket))) = self.publish(room, topic, text, true) else {
            panic!("the message was not queued");
        };
        self.position += 1;
        ticket
    }

    fn publish(
        &mut self,
        room: RoomId,
        topic: &str,
        text: &str,
        confirm: bool,
    ) -> Poll<Result<Option<Ticket>, Error>> {
        let (content, payload) = (ContentType::TEXT, text.as_bytes());
        let outbound = Outbound::Publish {
            room,
            retain: Retain::No,
            content,
            topic,
            payload,
        };
        self.core
            .poll_send(&outbound, confirm, &Context::from_waker(Waker::noop()))
    }

    /// What a ticket came to, if to anything yet.
    fn outcome(&mut self, ticket: Ticket) -> Option<Outcome> {
        match self
            .core
            .poll_ticket(ticket, &Context::from_waker(Waker::noop()))
        {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    /// What waits in a stream, each in words; `end` if nothing more comes.
    fn got(&mut self, stream: StreamId) -> Vec<String> {
        let mut got = Vec::new();
        let mut last_topic = LastTopic::default();
        loop {
            let mut batch = VecDeque::new();
            let cx = &Context::from_waker(Waker::noop());
            if self.core.poll_stream(stream, &mut batch, cx).is_pending() {
                return got;
            }
            if batch.is_empty() {
                got.push("end".to_owned());
                return got;
            }
            for entry in batch {
                match entry {
                    Entry::Gap(gap) => got.push(gap.to_string()),
                    Entry::Run(mut piece) => {
                        while let Some(message) = piece.next(&mut last_topic) {
                            let text = message.text().unwrap();
                            let retained = if message.is_retained() {
                                " (retained)"
                            } else {
                                ""
                            };
                            got.push(format!("{text}@{}{retained}", message.offset()));
                        }
                    }
                }
            }
        }
    }

    /// The refusals that wait for a listener, each in words.
    fn refusals(&mut self, listener: StreamId) -> Vec<String> {
        let cx = &Context::from_waker(Waker::noop());
        let mut found = Vec::new();
        while let Poll::Ready(Some(refused)) = self.core.poll_refusals(listener, cx) {
            found.push(format!("{} x{}", refused.cause, refused.messages));
        }
        found
    }
}

fn topics(filter: &str, retained: bool) -> Takes {
    Takes::Topics {
        filter: filter.parse().unwrap(),
        start: if retained {
            crate::StartAt::Retained
        } else {
            crate::StartAt::Now
        },
        policy: localhub_protocol::Policy::default(),
        broadcasts: false,
    }
}

/// A run of another client, with messages to one topic.
fn run<'a>(first: u64, topic: &'a str, texts: &[&'a str]) -> Vec<BrokerFrame<'a>> {
    run_in(KIOSK, first, topic, texts, false)
}

fn run_in<'a>(
    channel: ChannelId,
    first: u64,
    topic: &'a str,
    texts: &[&'a str],
    retained: bool,
) -> Vec<BrokerFrame<'a>> {
    let mut frames = vec![BrokerFrame::Run(Run {
        channel: Some(channel),
        sender: ClientId(5),
        name: "bo",
        first,
        count: texts.len() as u64,
        retained,
    })];
    frames.extend(texts.iter().map(|text| published(channel, topic, text)));
    frames
}

fn published<'a>(channel: ChannelId, topic: &'a str, text: &'a str) -> BrokerFrame<'a> {
    BrokerFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::TEXT,
        topic,
        payload: text.as_bytes(),
    })
}
