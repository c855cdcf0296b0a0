//! A hub in memory and its clients: the one place that knows the hub's interface.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{About, Batch, Departure, Hub, Identity, Peer, Settings, User, Wakes};
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, ContentType, Epoch, Hello, Limits,
    Message, Policy, RawFrame, Resume, ResumeToken, Retain, Run, Start, Target, Version,
};

/// A hub, and the randomness for its sessions.
#[derive(Debug)]
pub struct World {
    hub: Arc<Hub>,
    tokens: u8,
}

/// A client's connection, with what its task in the server would keep beside it.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    wakes: Wakes,
    batch: Batch,
    token: ResumeToken,
    /// How many messages it was sent, as far as it [heard](Client::hears) them.
    heard: u64,
    /// The channel that it joined last.
    channel: Option<ChannelId>,
}

/// A hello that the hub has yet to answer.
#[derive(Debug)]
pub struct Arrival {
    hello: Hello<'static>,
    identity: Identity,
    token: ResumeToken,
    heard: u64,
}

/// What one write of the server takes at most.
const WRITE_BYTES: usize = 256 * 1024;

impl Default for World {
    fn default() -> Self {
        let settings = Settings {
            limits: Limits::default(),
            memory_bytes: 1 << 30,
            sessions: 10_000,
            channels: 1_000,
            retained_topics: 1_000,
            retained_bytes: 16 << 20,
            history_messages: 1_000,
            history_bytes: 16 << 20,
            history_age: Duration::from_secs(3_600),
            ttl: Duration::from_secs(120),
            ttl_max: Duration::from_secs(3_600),
            ping: Duration::from_secs(15),
            epoch: Epoch([7; 16]),
            about: About::default(),
        };
        Self {
            hub: Hub::new(settings),
            tokens: 0,
        }
    }
}

impl World {
    /// Somebody who asks for a new session.
    pub fn newcomer(&mut self, name: &'static str) -> Arrival {
        self.arrival(Some(name), None, 0)
    }

    /// Takes a client's connection away; it asks for its session back.
    pub fn cut(&mut self, mut client: Client) -> Arrival {
        let resume = Resume {
            epoch: self.hub.settings().epoch,
            client: client.peer.client(),
            token: client.token,
            received: client.heard,
        };
        let wakes = &mut client.wakes;
        self.hub.detach(
            client.peer,
            Departure::Lost(Code::CONNECTION_LOST),
            Duration::ZERO,
            wakes,
        );
        self.arrival(None, Some(resume), client.heard)
    }

    fn arrival(
        &mut self,
        name: Option<&'static str>,
        resume: Option<Resume>,
        heard: u64,
    ) -> Arrival {
        self.tokens += 1;
        Arrival {
            hello: Hello {
                versions: (Version::CURRENT, Version::CURRENT),
                features: vec![],
                name,
                resume,
                ttl_ms: None,
            },
            identity: Identity {
                user: User::Uid(1_000),
                gid: Some(1_000),
                pid: Some(1),
                executable: None,
            },
            token: ResumeToken([self.tokens; 32]),
            heard,
        }
    }

    /// Lets somebody in.
    ///
    /// # Panics
    /// The hub does not.
    pub fn attach(&self, arrival: Arrival) -> Client {
        let Arrival {
            hello,
            identity,
            token,
            heard,
        } = arrival;
        let mut wakes = Wakes::default();
        let now = Duration::ZERO;
        let peer = self
            .hub
            .attach(&hello, identity, token.clone(), now, &mut wakes)
            .expect("the hub lets the client in");
        wakes.fire();
        Client {
            peer,
            wakes,
            batch: Batch::default(),
            token,
            heard,
            channel: None,
        }
    }

    /// A client that has joined the channel of that name, and has heard all that it was told.
    pub fn member(&mut self, name: &'static str, channel: &str) -> Client {
        let newcomer = self.newcomer(name);
        let mut client = self.attach(newcomer);
        client.says(&ClientFrame::Join {
            name: channel,
            hidden: false,
            state: &[],
        });
        client
    }
}

impl Client {
    /// Its session.
    pub fn id(&self) -> ClientId {
        self.peer.client()
    }

    /// The channel that it joined last.
    ///
    /// # Panics
    /// It is in none.
    pub fn channel(&self) -> ChannelId {
        self.channel.expect("the client has joined a channel")
    }

    /// Subscribes to a filter in its channel.
    pub fn subscribes(&mut self, filter: &str) {
        self.says(&ClientFrame::Subscribe {
            channel: self.channel(),
            filter,
            start: Start::Live,
            policy: Policy::DropOldest,
        });
    }

    /// Says a frame, and hears the answer.
    fn says(&mut self, frame: &ClientFrame<'_>) {
        self.reads(&mut bytes(frame));
        self.hears();
    }

    /// Does what the server does with bytes that came from the client: carries them out, and wakes
    /// whom that concerns.
    ///
    /// # Panics
    /// The hub closes the connection.
    pub fn reads(&mut self, buffer: &mut BytesMut) {
        let pinned = buffer.capacity();
        self.peer
            .receive(buffer, pinned, Duration::ZERO, &mut self.wakes)
            .expect("the hub goes on with the connection");
        self.wakes.fire();
    }

    /// Waits for something to write, as a connection's task does; nobody is really woken.
    pub fn waits(&self) {
        let mut context = Context::from_waker(Waker::noop());
        let ready = self.peer.poll_ready(&mut context);
        assert!(ready.is_pending(), "nothing waits to be written");
    }

    /// Does what the server does before a write: takes what waits for the client.
    pub fn takes(&mut self) {
        self.peer.take(&mut self.batch, WRITE_BYTES);
    }

    /// Hears what was taken and what still waits, and says how many messages that is.
    ///
    /// # Panics
    /// Something was refused or lost.
    pub fn hears(&mut self) -> u64 {
        let mut messages = 0;
        loop {
            self.takes();
            if self.batch.is_empty() {
                break;
            }
            let wire: Vec<u8> = self.batch.pieces().flatten().copied().collect();
            self.batch.clear();
            let mut rest = &wire[..];
            while let Some((frame, after)) = RawFrame::split(rest, usize::MAX).expect("a frame") {
                rest = after;
                match BrokerFrame::decode(frame.body()).expect("a frame of the broker") {
                    BrokerFrame::Welcome(_) | BrokerFrame::Ack { .. } | BrokerFrame::Run(_) => {}
                    BrokerFrame::Joined { channel, .. } => {
                        self.channel = Some(channel);
                        messages += 1;
                    }
                    BrokerFrame::Message(_) | BrokerFrame::Values { .. } => messages += 1,
                    other => panic!("a guard has no use for {other:?}"),
                }
            }
        }
        self.batch.release();
        self.heard += messages;
        messages
    }

    /// The bytes that confirm all that it has heard.
    pub fn ack(&self) -> BytesMut {
        bytes(&ClientFrame::Ack {
            received: self.heard,
        })
    }
}

/// A publish of a payload that nobody keeps.
pub fn publish<'a>(channel: ChannelId, topic: &'a str, payload: &'a [u8]) -> ClientFrame<'a> {
    ClientFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic,
        payload,
    })
}

/// A direct message.
pub fn direct(to: ClientId, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Message(Message::Direct {
        to: Target::Id(to),
        content: ContentType::BYTES,
        payload,
    })
}

/// The header of a run in a channel.
pub fn run_header() -> Vec<u8> {
    let mut wire = Vec::new();
    BrokerFrame::Run(Run {
        channel: Some(ChannelId(12)),
        sender: ClientId(345),
        name: "printer-watcher",
        first: 678_901,
        count: 32,
        retained: false,
    })
    .encode(&mut wire);
    wire
}

/// A frame as a client sends it.
pub fn bytes(frame: &ClientFrame<'_>) -> BytesMut {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    BytesMut::from(&wire[..])
}

/// Finds the end of a client's frame and decodes it.
///
/// # Panics
/// It is not one.
pub fn decode_client_frame(wire: &[u8]) -> ClientFrame<'_> {
    let (frame, _) = split(wire);
    ClientFrame::decode(frame.body()).expect("a frame of a client")
}

/// Finds the end of a broker's frame and decodes it.
///
/// # Panics
/// It is not one.
pub fn decode_broker_frame(wire: &[u8]) -> BrokerFrame<'_> {
    let (frame, _) = split(wire);
    BrokerFrame::decode(frame.body()).expect("a frame of the broker")
}

fn split(wire: &[u8]) -> (RawFrame<'_>, &[u8]) {
    RawFrame::split(wire, Limits::default().frame_bytes())
        .expect("a frame that is not too large")
        .expect("a whole frame")
}
