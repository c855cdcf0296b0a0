use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{
    About, Batch, Close, Departure, Hub, Identity, Pace, Peer, Settings, User, Wakes,
};
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ClientFrame, ClientId, Code, ContentType, Credit, Epoch, Gap,
    Hello, LeaseState, Limits, Message, Policy, Put, RawFrame, Resume, ResumeToken, Resumed,
    Retain, ServeMode, Start, Status, Target, Version,
};

/// A hub in memory, with its time and its randomness in the test's hands.
#[derive(Debug)]
pub struct World {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The time since it began.
    pub now: Duration,
    tokens: u8,
}

/// A client in memory, without any cleverness: it says what it is told, and keeps what it hears.
#[derive(Debug)]
pub struct Puppet {
    hub: Arc<Hub>,
    /// Its connection, while it has one.
    pub peer: Option<Peer>,
    /// Its session.
    pub id: ClientId,
    /// The name that the hub gave it.
    pub name: String,
    /// What the last welcome said of a resume.
    pub resumed: Option<Resumed>,
    /// How many of its messages the hub had, as the last welcome said.
    pub confirmed: u64,
    token: Option<ResumeToken>,
    /// How many messages it has heard, gaps included.
    pub heard: u64,
    /// How many it has said.
    pub said: u64,
    now: Duration,
    seen: Vec<Seen>,
    /// How far the hub has come with its messages, as it last said unasked.
    pub acked: u64,
    out: Vec<u8>,
    /// Whom it has filled, and whom it would wait for.
    wakes: Wakes,
}

/// What a puppet heard, in owned form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// A message of a channel: channel, sender, offset, topic if it has one, payload.
    Channel(ChannelId, ClientId, u64, Option<String>, Vec<u8>),
    /// A retained value of a snapshot, in the same form.
    Retained(ChannelId, ClientId, u64, Option<String>, Vec<u8>),
    /// A direct message: sender, its position at the sender, payload.
    Direct(ClientId, u64, Vec<u8>),
    /// A request: who asks, its position there, the method, the payload.
    Request(ClientId, u64, String, Vec<u8>),
    /// A reply, or the last part of one: who replies, the request, the error, the payload.
    Reply(ClientId, u64, Option<Code>, Vec<u8>),
    /// A part of a reply, with more to come: who replies, the request, the payload.
    Part(ClientId, u64, Vec<u8>),
    /// More of a request: who asks, the request, whether still more comes, the payload.
    Feed(ClientId, u64, bool, Vec<u8>),
    /// The other side of a request may be sent more.
    Credit(Credit),
    /// A request is over: who asked, its position there, why.
    Cancelled(ClientId, u64, Code),
    /// Whether it has an exclusive service: its name, and the number of the lease.
    Lease(String, LeaseState, u64),
    /// A value was set or deleted: request, offset.
    Stored(u64, u64),
    /// Lost messages.
    Gap(Gap),
    /// A request was carried out.
    Done(u64),
    /// A join was.
    Joined(u64, ChannelId, u64),
    /// Values follow: request, offset, count, since.
    Values(u64, u64, u64, u64),
    /// The members: request, revision, more, and each one's name and status.
    Members(u64, u64, bool, Vec<(String, Status)>),
    /// A presence change: revision, change, cause, name, state.
    Presence(u64, Change, Option<Code>, String, Vec<u8>),
    /// A refusal: request, code, detail.
    Refusal(u64, Code, String),
    /// A ping's nonce.
    Ping(u64),
    /// A pong: nonce, how far the hub has come.
    Pong(u64, u64),
    /// The end.
    Close(Code),
}

/// A request to be made. Beside whom it is for, everything can be left as it is.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whom it is for.
    pub to: Target<'a>,
    /// How long to wait for a reply.
    pub deadline_ms: u32,
    /// Its id, if it is a command.
    pub command: Option<[u8; 16]>,
    /// How much may come at first of a reply in parts.
    pub window: u32,
    /// What is asked for.
    pub method: &'a str,
    /// What the payload is.
    pub content: ContentType,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Ask<'a> {
    /// A request with a single reply and all the time that there is.
    pub fn of(to: Target<'a>) -> Self {
        Self {
            to,
            deadline_ms: 0,
            command: None,
            window: 0,
            method: "print",
            content: ContentType::TEXT,
            payload: b"a page",
        }
    }
}

impl<'a> From<Target<'a>> for Ask<'a> {
    fn from(to: Target<'a>) -> Self {
        Self::of(to)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl World {
    /// A hub whose settings differ from the usual as `change` says.
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
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
        change(&mut settings);
        Self {
            hub: Hub::new(settings),
            now: Duration::ZERO,
            tokens: 0,
        }
    }

    /// The same hub for another thread, which counts its own time and draws its own tokens.
    pub fn share(&self, number: u8) -> Self {
        Self {
            hub: self.hub.clone(),
            now: self.now,
            tokens: number.wrapping_mul(40),
        }
    }

    /// A client with a session of its own.
    ///
    /// # Panics
    /// The hub does not let it in.
    pub fn client(&mut self, name: &str) -> Puppet {
        self.try_client(Some(name), self.user(1_000))
            .expect("the hub lets the client in")
    }

    /// A client with a session of its own, if the hub lets it in.
    ///
    /// # Errors
    /// It does not.
    pub fn try_client(&mut self, name: Option<&str>, identity: Identity) -> Result<Puppet, Close> {
        let mut puppet = Puppet {
            hub: self.hub.clone(),
            peer: None,
            id: ClientId::HUB,
            name: String::new(),
            resumed: None,
            confirmed: 0,
            token: None,
            heard: 0,
            said: 0,
            now: self.now,
            seen: Vec::new(),
            acked: 0,
            out: Vec::new(),
            wakes: Wakes::default(),
        };
        let hello = hello(name, None);
        puppet.connect(self, &hello, identity)?;
        puppet.listens();
        Ok(puppet)
    }

    /// Somebody as the kernel would describe them.
    pub fn user(&self, uid: u32) -> Identity {
        Identity {
            user: User::Uid(uid),
            gid: Some(uid),
            pid: Some(1),
            executable: None,
        }
    }

    /// Lets time pass, and sessions expire.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut wakes = Wakes::default();
        self.hub.expire(self.now, &mut wakes);
        wakes.fire();
    }

    fn token(&mut self) -> ResumeToken {
        self.tokens = self.tokens.wrapping_add(1);
        let mut token = [self.tokens; 32];
        token[1..9].copy_from_slice(&(self.now.as_nanos() as u64).to_be_bytes());
        ResumeToken(token)
    }
}

/// A hello of this protocol version.
pub fn hello(name: Option<&str>, resume: Option<Resume>) -> Hello<'_> {
    let versions = (Version::CURRENT, Version::CURRENT);
    Hello {
        versions,
        features: vec![],
        name,
        resume,
        ttl_ms: None,
    }
}

impl Puppet {
    fn connect(
        &mut self,
        world: &mut World,
        hello: &Hello<'_>,
        identity: Identity,
    ) -> Result<(), Close> {
        let token = world.token();
        let mut wakes = Wakes::default();
        let attached = world
            .hub
            .attach(hello, identity, token, world.now, &mut wakes);
        wakes.fire();
        self.now = world.now;
        self.peer = Some(attached?);
        Ok(())
    }

    /// Loses its connection.
    pub fn loses_connection(&mut self, world: &World) {
        self.departs(world, Departure::Lost(Code::CONNECTION_LOST));
    }

    /// Leaves for good.
    pub fn departs(&mut self, world: &World, departure: Departure) {
        let peer = self.peer.take().expect("it has a connection");
        let mut wakes = Wakes::default();
        world.hub.detach(peer, departure, world.now, &mut wakes);
        wakes.fire();
    }

    /// What it would say to come back.
    pub fn resume(&self) -> Resume {
        Resume {
            epoch: self.hub.settings().epoch,
            client: self.id,
            token: self.token.clone().expect("it was welcomed"),
            received: self.heard,
        }
    }

    /// Comes back to its session.
    ///
    /// # Panics
    /// The hub does not let it in.
    pub fn comes_back(&mut self, world: &mut World) -> Resumed {
        let resume = self.resume();
        self.tries_to_come_back(world, resume)
            .expect("the hub lets the client back in");
        self.listens();
        self.resumed.expect("a resume was asked for")
    }

    /// Comes back with whatever it claims.
    ///
    /// # Errors
    /// The hub does not let it in.
    pub fn tries_to_come_back(&mut self, world: &mut World, resume: Resume) -> Result<(), Close> {
        let identity = world.user(1_000);
        self.tries_as(world, resume, identity)
    }

    /// Comes back with whatever it claims, as whoever it is.
    ///
    /// # Errors
    /// The hub does not let it in.
    pub fn tries_as(
        &mut self,
        world: &mut World,
        resume: Resume,
        identity: Identity,
    ) -> Result<(), Close> {
        self.connect(world, &hello(None, Some(resume)), identity)
    }

    /// Says a frame; it reaches the hub at once.
    ///
    /// # Panics
    /// The hub closes the connection.
    pub fn says(&mut self, frame: &ClientFrame<'_>) -> u64 {
        self.tries(frame)
            .expect("the hub goes on with the connection")
    }

    /// Says a frame, which may end the connection. Gives the position of the message.
    ///
    /// # Errors
    /// The hub closes the connection.
    pub fn tries(&mut self, frame: &ClientFrame<'_>) -> Result<u64, Close> {
        frame.encode(&mut self.out);
        self.said += u64::from(!matches!(
            frame,
            ClientFrame::Hello(_)
                | ClientFrame::Ack { .. }
                | ClientFrame::Ping { .. }
                | ClientFrame::Pong { .. }
                | ClientFrame::Close { .. }
        ));
        let bytes = std::mem::take(&mut self.out);
        self.sends(&bytes)?;
        Ok(self.said)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The hub closes the connection.
    pub fn sends(&mut self, bytes: &[u8]) -> Result<(), Close> {
        let peer = self.peer.as_mut().expect("it has a connection");
        let mut buffer = BytesMut::from(bytes);
        let pinned = buffer.capacity();
        let wakes = &mut self.wakes;
        let mut result = Ok(());
        loop {
            let before = buffer.len();
            if let Err(close) = peer.receive(&mut buffer, pinned, self.now, wakes) {
                result = Err(close);
            }
            wakes.fire();
            if result.is_err() || buffer.len() == before {
                return result;
            }
        }
    }

    /// How long it has to wait for those that it filled; nothing if it need not wait.
    pub fn has_to_wait(&self) -> Duration {
        self.wakes.patience()
    }

    /// Whether those that it filled are still to be waited for.
    pub fn is_held_up(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.wakes.poll_relief(&mut cx).is_pending()
    }

    /// Has waited so long for those that it filled.
    pub fn waits_in_vain(&mut self, waited: Duration) {
        self.wakes.give_up(waited);
    }

    /// Has the server notice that it reads nothing.
    pub fn stands_still(&mut self) {
        let peer = self.peer.as_mut().expect("it has a connection");
        peer.stands_still();
    }

    /// Has the hub see how it keeps up; `silent` if it did not answer a ping.
    pub fn is_looked_at(&mut self, silent: bool) -> Option<Pace> {
        let peer = self.peer.as_mut().expect("it has a connection");
        let mut wakes = Wakes::default();
        let pace = peer.note_pace(silent, &mut wakes);
        wakes.fire();
        pace
    }

    /// Looks at the clock: what it says from now on, it says at that time.
    pub fn looks_at_the_clock(&mut self, world: &World) {
        self.now = world.now;
    }

    /// Whether the hub has asked the server to look at its clock earlier than it last said.
    pub fn rings(&mut self) -> bool {
        self.wakes.takes_alarm()
    }

    /// Hears everything that waits for it, confirms it, and gives what it has not given before.
    pub fn hears(&mut self) -> Vec<Seen> {
        self.listens();
        let received = self.heard;
        if self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.closing().is_none())
        {
            self.says(&ClientFrame::Ack { received });
        }
        std::mem::take(&mut self.seen)
    }

    /// Hears everything that waits for it, and confirms nothing.
    pub fn listens(&mut self) {
        let wire = self.takes();
        self.reads(&wire);
    }

    /// Takes everything that waits for it, as it goes over the wire.
    pub fn takes(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        let Some(peer) = &mut self.peer else {
            return wire;
        };
        loop {
            let mut batch = Batch::default();
            peer.take(&mut batch, 64 * 1024);
            if batch.is_empty() {
                break;
            }
            batch
                .pieces()
                .for_each(|piece| wire.extend_from_slice(piece));
        }
        wire
    }

    /// Hears what came over the wire.
    pub fn reads(&mut self, wire: &[u8]) {
        let mut rest = wire;
        let mut run = None;
        while let Some((frame, after)) = RawFrame::split(rest, usize::MAX).expect("a frame") {
            rest = after;
            let frame = BrokerFrame::decode(frame.body()).expect("a frame of the broker");
            self.hear(&frame, &mut run);
        }
        assert!(rest.is_empty(), "the hub sends whole frames");
        assert!(run.is_none(), "a run is as long as it says");
    }

    fn hear(
        &mut self,
        frame: &BrokerFrame<'_>,
        run: &mut Option<(Option<ChannelId>, ClientId, u64, u64, bool)>,
    ) {
        let seen = match *frame {
            BrokerFrame::Welcome(ref welcome) => {
                if self.id != welcome.client {
                    (self.heard, self.said, self.acked) = (0, 0, 0);
                }
                self.id = welcome.client;
                self.name = welcome.name.into();
                self.token = Some(welcome.token.clone());
                self.resumed = welcome.resumed;
                self.confirmed = welcome.received;
                return;
            }
            BrokerFrame::Run(header) => {
                assert!(
                    run.is_none() && header.count > 0,
                    "a run where one may begin"
                );
                *run = Some((
                    header.channel,
                    header.sender,
                    header.first,
                    header.count,
                    header.retained,
                ));
                return;
            }
            BrokerFrame::Gap(gap) => {
                self.heard += gap.lost;
                Seen::Gap(gap)
            }
            BrokerFrame::Ack { received } => {
                assert!(
                    received > self.acked && received <= self.said,
                    "an ack goes forward"
                );
                self.acked = received;
                return;
            }
            BrokerFrame::Ping { nonce, .. } => Seen::Ping(nonce),
            BrokerFrame::Pong { nonce, received } => Seen::Pong(nonce, received),
            BrokerFrame::Close { code, .. } => Seen::Close(code),
            BrokerFrame::GoAway { .. } => return,
            BrokerFrame::Message(message) => {
                let (channel, sender, at, left, retained) = run.take().expect("a run's header");
                if left > 1 {
                    *run = Some((channel, sender, at + 1, left - 1, retained));
                }
                self.heard += 1;
                if let Message::Reply {
                    to,
                    request,
                    error,
                    content,
                    ..
                } = message
                {
                    assert_eq!(to, self.id, "a reply comes to who asked");
                    let why = error.is_none() || content == ContentType::TEXT;
                    let by_hub = at == request && why;
                    assert!(sender != ClientId::HUB || by_hub, "12.5: {message:?}");
                }
                forwarded(message, channel, sender, at, retained)
            }
            ref answer => {
                self.heard += 1;
                answered(answer)
            }
        };
        self.seen.push(seen);
    }

    /// Joins a channel, and hears what the hub says to it.
    ///
    /// # Panics
    /// The hub refuses.
    pub fn joins(&mut self, name: &str) -> ChannelId {
        self.joins_as(name, false, b"")
    }

    /// Joins a channel with a presence state.
    ///
    /// # Panics
    /// The hub refuses.
    pub fn joins_as(&mut self, name: &str, hidden: bool, state: &[u8]) -> ChannelId {
        let request = self.says(&ClientFrame::Join {
            name,
            hidden,
            state,
        });
        let seen = self.hears();
        let joined = seen.iter().find_map(|seen| match seen {
            Seen::Joined(of, channel, _) if *of == request => Some(*channel),
            _ => None,
        });
        joined.unwrap_or_else(|| panic!("{name} is joined, and not {seen:?}"))
    }

    /// Subscribes, with the retained values first.
    pub fn subscribes(&mut self, channel: ChannelId, filter: &str) -> u64 {
        self.says(&ClientFrame::Subscribe {
            channel,
            filter,
            start: Start::Retained,
            policy: Policy::DropOldest,
        })
    }

    /// Subscribes, with what comes first and what becomes of messages that it reads too slowly.
    pub fn subscribes_with(
        &mut self,
        channel: ChannelId,
        filter: &str,
        start: Start,
        policy: Policy,
    ) -> u64 {
        self.says(&ClientFrame::Subscribe {
            channel,
            filter,
            start,
            policy,
        })
    }

    /// Watches a channel's presence.
    pub fn watches(&mut self, channel: ChannelId) -> u64 {
        self.says(&ClientFrame::PresenceWatch { channel, on: true })
    }

    /// Publishes.
    pub fn publishes(&mut self, channel: ChannelId, topic: &str, payload: &str) -> u64 {
        self.publishes_as(channel, topic, Retain::No, payload.as_bytes())
    }

    /// Publishes, and says whether the value is kept.
    pub fn publishes_as(
        &mut self,
        channel: ChannelId,
        topic: &str,
        retain: Retain,
        payload: &[u8],
    ) -> u64 {
        let content = ContentType::BYTES;
        self.says(&ClientFrame::Message(Message::Publish {
            channel,
            retain,
            content,
            topic,
            payload,
        }))
    }

    /// Broadcasts.
    pub fn broadcasts(&mut self, channel: ChannelId, payload: &str) -> u64 {
        let payload = payload.as_bytes();
        let content = ContentType::TEXT;
        self.says(&ClientFrame::Message(Message::Broadcast {
            channel,
            content,
            payload,
        }))
    }

    /// Asks for something.
    pub fn asks<'a>(&mut self, ask: impl Into<Ask<'a>>) -> u64 {
        let ask = ask.into();
        self.says(&ClientFrame::Message(Message::Request {
            to: ask.to,
            deadline_ms: ask.deadline_ms,
            command: ask.command,
            window: ask.window,
            method: ask.method,
            content: ask.content,
            payload: ask.payload,
        }))
    }

    /// Hears a request and nothing else. Gives who has made it, and its position there.
    ///
    /// # Panics
    /// It hears something else.
    pub fn is_asked(&mut self) -> (ClientId, u64) {
        match self.hears()[..] {
            [Seen::Request(caller, request, ..)] => (caller, request),
            ref other => panic!("{} hears {other:?} and not one request", self.name),
        }
    }

    /// Replies that it is done.
    pub fn replies(&mut self, to: (ClientId, u64), payload: &str) -> u64 {
        self.replies_with(to, None, false, payload)
    }

    /// Replies with a part, and more to come.
    pub fn replies_in_part(&mut self, to: (ClientId, u64), payload: &str) -> u64 {
        self.replies_with(to, None, true, payload)
    }

    /// Replies with an error, or with a part.
    pub fn replies_with(
        &mut self,
        (to, request): (ClientId, u64),
        error: Option<Code>,
        more: bool,
        payload: &str,
    ) -> u64 {
        self.says(&ClientFrame::Message(Message::Reply {
            to,
            request,
            error,
            more,
            content: ContentType::TEXT,
            payload: payload.as_bytes(),
        }))
    }

    /// Sends more of a request.
    pub fn feeds(&mut self, request: u64, more: bool, payload: &str) -> u64 {
        self.says(&ClientFrame::Message(Message::Feed {
            request,
            more,
            content: ContentType::TEXT,
            payload: payload.as_bytes(),
        }))
    }

    /// Lets the other side of a request send so many more bytes.
    pub fn credits(&mut self, (of, request): (ClientId, u64), bytes: u64) -> u64 {
        self.says(&ClientFrame::Credit(Credit { of, request, bytes }))
    }

    /// Wants no outcome of a request any more.
    pub fn cancels(&mut self, request: u64) {
        self.says(&ClientFrame::Cancel { request });
    }

    /// Serves a service.
    pub fn serves(&mut self, service: &str, mode: ServeMode) -> u64 {
        self.says(&ClientFrame::Serve {
            service,
            mode,
            description: b"",
        })
    }

    /// Serves a service no more.
    pub fn unserves(&mut self, service: &str) -> u64 {
        self.says(&ClientFrame::Unserve { service })
    }

    /// Sets or deletes a value.
    pub fn puts(&mut self, channel: ChannelId, put: Put<'_>) -> u64 {
        self.says(&ClientFrame::Put { channel, put })
    }

    /// Sends a direct message.
    pub fn sends_to(&mut self, to: Target<'_>, payload: &str) -> u64 {
        let payload = payload.as_bytes();
        let content = ContentType::TEXT;
        self.says(&ClientFrame::Message(Message::Direct {
            to,
            content,
            payload,
        }))
    }
}

fn forwarded(
    message: Message<'_>,
    channel: Option<ChannelId>,
    sender: ClientId,
    at: u64,
    retained: bool,
) -> Seen {
    let payload = message.payload().to_vec();
    match (message, channel) {
        (
            Message::Publish {
                topic, channel: of, ..
            },
            Some(channel),
        ) => {
            assert_eq!(of, channel, "a run has messages of its channel");
            let topic = Some(topic.to_owned());
            if retained {
                Seen::Retained(channel, sender, at, topic, payload)
            } else {
                Seen::Channel(channel, sender, at, topic, payload)
            }
        }
        (Message::Broadcast { .. }, Some(channel)) => {
            Seen::Channel(channel, sender, at, None, payload)
        }
        (Message::Direct { .. }, None) => Seen::Direct(sender, at, payload),
        (Message::Request { method, .. }, None) => {
            Seen::Request(sender, at, method.to_owned(), payload)
        }
        (Message::Reply { request, more, .. }, None) if more => {
            Seen::Part(sender, request, payload)
        }
        (Message::Reply { request, error, .. }, None) => {
            Seen::Reply(sender, request, error, payload)
        }
        (Message::Feed { request, more, .. }, None) => Seen::Feed(sender, request, more, payload),
        other => panic!("a message where none may stand: {other:?}"),
    }
}

fn answered(frame: &BrokerFrame<'_>) -> Seen {
    match frame {
        BrokerFrame::Done { request } => Seen::Done(*request),
        BrokerFrame::Joined {
            request,
            channel,
            offset,
        } => Seen::Joined(*request, *channel, *offset),
        BrokerFrame::Values {
            request,
            offset,
            count,
            since,
            ..
        } => Seen::Values(*request, *offset, *count, *since),
        BrokerFrame::Members {
            request,
            revision,
            more,
            members,
            ..
        } => Seen::Members(
            *request,
            *revision,
            *more,
            members
                .iter()
                .map(|member| (member.name.to_owned(), member.status))
                .collect(),
        ),
        BrokerFrame::Presence {
            revision,
            change,
            cause,
            member,
            ..
        } => Seen::Presence(
            *revision,
            *change,
            *cause,
            member.name.to_owned(),
            member.state.to_vec(),
        ),
        BrokerFrame::Refusal {
            request,
            code,
            detail,
        } => Seen::Refusal(*request, *code, (*detail).to_owned()),
        BrokerFrame::Credit(credit) => Seen::Credit(*credit),
        BrokerFrame::Cancelled {
            caller,
            request,
            cause,
        } => Seen::Cancelled(*caller, *request, *cause),
        BrokerFrame::Lease {
            service,
            state,
            fence,
        } => Seen::Lease((*service).to_owned(), *state, *fence),
        BrokerFrame::Stored { request, offset } => Seen::Stored(*request, *offset),
        other => panic!("not an answer: {other:?}"),
    }
}
