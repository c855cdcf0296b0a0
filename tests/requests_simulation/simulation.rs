//! What the clients do, and what becomes of it.

mod acts;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{Batch, Departure, Wakes};
use localhub_protocol::{
    BrokerFrame, Change, ClientFrame, ClientId, Code, ContentType, LeaseState, Message, Policy,
    Put, RawFrame, Retain, Start, Target, admin,
};
use localhub_tests::{Ask, Counts, Puppet, Rng, Seen, World};

use acts::Order;

use crate::judge::Judge;
use crate::model::{CHANNEL, Key, Model, TTL, Watched};
use crate::outbox::{Room, Said};

/// One hub, its clients, and what judges them.
#[derive(Debug)]
pub(crate) struct Simulation {
    rng: Rng,
    plan: Plan,
    world: World,
    model: Model,
    judge: Judge,
    clients: Vec<Client>,
    watcher: Puppet,
    /// The commands that were sent.
    orders: Vec<Order>,
    counts: Counts,
}

/// What differs between runs.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Whether there is so little room that messages are refused and lost.
    tight: bool,
    /// Whether outcomes are so large that they make others be forgotten.
    heavy: bool,
}

#[derive(Debug)]
struct Client {
    name: &'static str,
    user: u32,
    puppet: Puppet,
    /// What was written to its connection, and it has not read.
    wire: VecDeque<Unit>,
    /// The requests that it has read, and not finally replied to.
    desk: Vec<Key>,
    /// Those that it has replied to.
    past: Vec<Key>,
    /// Its own requests.
    made: Vec<u64>,
}

/// A message as it goes over the wire, with the header of its run.
type Unit = Vec<u8>;

const CLIENTS: [(&str, u32); 8] = [
    ("ana", 1_000),
    ("bo", 1_000),
    ("cy", 1_000),
    ("dan", 1_000),
    ("eva", 1_000),
    ("flo", 1_001),
    ("gus", 1_001),
    ("hal", 1_001),
];

/// Where there is little room, so many clients say little and are asked much.
const QUIET: usize = 3;

const SHARED: [&str; 2] = ["printer", "scanner"];
const EXCLUSIVE: [&str; 2] = ["clock", "door"];
const TOPICS: [&str; 4] = ["job", "job/1", "lamp", "paper"];

/// The largest payload.
const LARGE: usize = 262_144;

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        let tight = seed.is_multiple_of(3);
        let room = if tight {
            Room {
                bytes: 1_600,
                messages: 6,
            }
        } else {
            Room {
                bytes: 1 << 30,
                messages: 1 << 20,
            }
        };
        let plan = Plan {
            tight,
            heavy: seed % 8 == 1 && !tight,
        };
        let mut world = World::new(|settings| {
            settings.limits.outbox_bytes = room.bytes;
            settings.limits.outbox_messages = room.messages;
            settings.ttl = TTL;
        });
        let mut model = Model::new(room);
        let mut watcher = world.client("watcher");
        let channel = watcher.joins("kiosk");
        assert_eq!(channel, CHANNEL);
        watcher.subscribes_with(channel, "#", Start::Retained, Policy::DropOldest);
        watcher.watches(channel);
        watcher.hears();
        let clients = CLIENTS.iter().map(|(name, user)| {
            let identity = world.user(*user);
            let puppet = world.try_client(Some(name), identity).expect("a free name");
            model.begin(puppet.id, name, *user);
            Client {
                name,
                user: *user,
                puppet,
                wire: VecDeque::new(),
                desk: Vec::new(),
                past: Vec::new(),
                made: Vec::new(),
            }
        });
        let clients = clients.collect();
        Self {
            rng: Rng::new(seed),
            plan,
            world,
            model,
            judge: Judge::default(),
            clients,
            watcher,
            orders: Vec::new(),
            counts: Counts::new(),
        }
    }

    /// One of the clients does something, or time passes.
    pub(crate) fn step(&mut self) {
        let mut n = self.any_client();
        if self.plan.tight && n < QUIET && !self.rng.once_in(4) {
            n += QUIET;
        }
        if self.clients[n].puppet.peer.is_some() {
            self.act(n);
        } else {
            self.is_away(n);
        }
        // In a small outbox it matters how long each message is.
        for n in 0..self.clients.len() {
            let session = self.model.sessions.get(&self.clients[n].puppet.id);
            let session = session.filter(|it| self.plan.tight && !it.is_away());
            if session.is_some_and(|it| it.outbox.has_refusals()) {
                self.write(n, usize::MAX);
            }
        }
        let n = self.any_client();
        if !self.plan.tight || self.rng.once_in(6) {
            let max = [1, 1, 300, 2_000, usize::MAX][self.below(5)];
            self.write(n, max);
        }
        let n = self.any_client();
        let count = self.below(12);
        self.read(n, count);
        if self.rng.once_in(if self.plan.tight { 6 } else { 2 }) {
            self.confirm(n);
        }
        if self.rng.once_in(if self.plan.heavy { 60 } else { 10 }) {
            self.time_passes();
        }
        if self.rng.once_in(4) {
            self.check();
        }
        if self.rng.once_in(40) {
            self.look_around();
        }
    }

    /// Everybody hears what is left, and goes; nothing stays behind.
    pub(crate) fn finish(mut self) -> Counts {
        for n in 0..self.clients.len() {
            if self.clients[n].puppet.peer.is_some() {
                let open: Vec<_> = self.judge.open(self.clients[n].puppet.id).collect();
                for request in open {
                    // Streams have no deadline.
                    self.cancel(n, request);
                }
            }
        }
        self.pass_until(self.model.now + Duration::from_secs(3_600));
        for n in 0..self.clients.len() {
            if self.clients[n].puppet.peer.is_some() {
                self.write(n, usize::MAX);
                self.read(n, usize::MAX);
                let client = &self.clients[n];
                let id = client.puppet.id;
                let open = self.judge.open(id).next();
                let open = open.filter(|_| !self.judge.is_lossy(id));
                assert_eq!(open, None, "I12: {} waits for ever", client.name);
            }
        }
        self.look_around();
        for n in 0..self.clients.len() {
            if self.clients[n].puppet.peer.is_none() {
                continue;
            }
            match self.below(3) {
                0 => self.goodbye(n),
                1 => self.kick(n),
                _ => self.lose(n),
            }
            self.check();
        }
        self.pass_until(self.model.now + TTL);
        for topic in TOPICS {
            self.watcher.looks_at_the_clock(&self.world);
            self.watcher.puts(CHANNEL, clear(topic));
            self.watcher.hears();
        }
        self.model.values.clear();
        self.watcher
            .departs(&self.world, Departure::Final(Code::GOODBYE));
        self.pass_until(self.model.now + Duration::from_secs(3_600));
        self.check();
        for (what, count) in [
            ("made room", self.model.crowded_out),
            (
                "handed over after not_executed",
                self.judge.after_not_executed,
            ),
        ] {
            *self.counts.entry(("command", what)).or_default() += count;
        }
        let status = self.world.hub.status(self.world.now);
        let rest = [status.connected, status.parked, status.channels];
        assert_eq!(rest, [0; 3], "somebody is there: {status:?}");
        let rest = [status.requests, status.commands, status.command_bytes];
        assert_eq!(rest, [0; 3], "something is held: {status:?}");
        assert_eq!((status.queued_bytes, status.retained_bytes), (0, 0));
        self.counts
    }

    fn act(&mut self, n: usize) {
        self.clients[n].puppet.looks_at_the_clock(&self.world);
        let calm = self.plan.heavy && !self.rng.once_in(3);
        match self.below(if calm { 22 } else { 40 }) {
            0..=9 => self.ask(n),
            10..=21 => self.reply(n),
            22 | 23 => {
                let request = self.some_request(n);
                self.cancel(n, request);
            }
            24 | 25 => self.feed(n),
            26 => self.credit(n),
            27 | 28 => self.serve(n),
            29 => {
                let service = self.any_service();
                self.say(n, &ClientFrame::Unserve { service });
            }
            30 => self.lose(n),
            31 => self.lose_in_the_middle(n),
            32 => self.come_back_unnoticed(n),
            33 if self.rng.once_in(4) => self.goodbye(n),
            34 if self.rng.once_in(4) => self.kick(n),
            // The watcher would not hear of all values.
            34.. if self.plan.tight => self.ask(n),
            35 => self.join_or_leave(n),
            _ => self.put(n),
        }
    }

    /// A client without connection may come back, or begin anew.
    fn is_away(&mut self, n: usize) {
        match self.below(12) {
            0..=4 => self.come_back(n),
            5 => self.begin(n),
            _ => {}
        }
    }

    // Connections.

    /// A connection breaks; what was written to it and not read is gone.
    fn lose(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let unread = !client.wire.is_empty();
        client.wire.clear();
        client.puppet.loses_connection(&self.world);
        self.model.lose(client.puppet.id);
        self.watch();
        self.count("connections", "lost");
        if unread {
            self.count("connections", "lost with unread messages");
        }
    }

    /// A connection breaks in the middle of a frame, which is not carried out.
    fn lose_in_the_middle(&mut self, n: usize) {
        let mut bytes = Vec::new();
        let other = self.any_client();
        let to = Target::Id(self.clients[other].puppet.id);
        ClientFrame::Message(request_of(Ask::of(to))).encode(&mut bytes);
        let cut = 1 + self.below(bytes.len() - 1);
        let sent = self.clients[n].puppet.sends(&bytes[..cut]);
        sent.expect("the hub waits for the rest");
        self.lose(n);
        self.count("connections", "lost in the middle of a frame");
    }

    /// A client comes back while the hub believes in its old connection. What comes over that one is not
    /// carried out.
    fn come_back_unnoticed(&mut self, n: usize) {
        let mut old = self.clients[n].puppet.peer.take().expect("a connection");
        self.come_back(n);
        let mut bytes = Vec::new();
        let to = Target::Id(self.clients[n].puppet.id);
        ClientFrame::Message(request_of(Ask::of(to))).encode(&mut bytes);
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut wakes = Wakes::default();
        let pinned = buffer.capacity();
        let late = old.receive(&mut buffer, pinned, self.world.now, &mut wakes);
        assert_eq!(late.map(|_| ()), Err(Code::SUPERSEDED.into()));
        let lost = Departure::Lost(Code::CONNECTION_LOST);
        self.world.hub.detach(old, lost, self.world.now, &mut wakes);
        self.count("connections", "superseded");
    }

    /// A client asks for its session, which may be gone.
    fn come_back(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.wire.clear();
        let (before, received) = (client.puppet.id, client.puppet.heard);
        let (said, resume) = (client.puppet.said, client.puppet.resume());
        let identity = self.world.user(client.user);
        let let_in = client.puppet.tries_as(&mut self.world, resume, identity);
        let_in.expect("the hub lets it in");
        let welcome = self.read_welcome(n);
        let puppet = &self.clients[n].puppet;
        let resumed = puppet.resumed.expect("it wanted to resume");
        let told = (resumed.recovered, resumed.replayed, resumed.lost);
        match self.model.come_back(before, received) {
            Some((replayed, lost)) => {
                assert_eq!(told, (lost == 0, replayed, Some(lost)), "14.7");
                assert_eq!((puppet.id, puppet.confirmed), (before, said), "14.9");
                self.judge.is_back(before);
                self.count("resumes", if lost > 0 { "with loss" } else { "whole" });
            }
            None => {
                assert_eq!(told, (false, 0, None), "14.7");
                let (id, name) = (puppet.id, puppet.name.clone());
                self.model.begin(id, &name, self.clients[n].user);
                self.clients[n].forget();
                self.count("resumes", "too late");
            }
        }
        self.receive(n, &welcome);
        self.watch();
    }

    /// A client begins a new session under its name, which ends the one before.
    fn begin(&mut self, n: usize) {
        let (name, user) = (self.clients[n].name, self.clients[n].user);
        let sessions = self.model.sessions.iter();
        let mut holders = sessions.filter(|(_, session)| session.name == name);
        let holder = holders.next().map(|(client, _)| *client);
        if let Some(holder) = holder {
            self.model.end(holder, Code::NAME_TAKEN);
            self.count("ends", "name taken");
        }
        let identity = self.world.user(user);
        let puppet = self.world.try_client(Some(name), identity);
        let puppet = puppet.expect("the name is free, or nobody is behind it");
        self.model.begin(puppet.id, name, user);
        self.clients[n].puppet = puppet;
        self.clients[n].forget();
        self.watch();
    }

    fn goodbye(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.wire.clear();
        let goodbye = Departure::Final(Code::GOODBYE);
        client.puppet.departs(&self.world, goodbye);
        self.model.end(client.puppet.id, Code::GOODBYE);
        self.watch();
        self.count("ends", "goodbye");
    }

    fn kick(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.wire.clear();
        let mut wakes = Wakes::default();
        let (hub, now) = (&self.world.hub, self.world.now);
        assert!(hub.end(client.puppet.id, Code::KICKED, now, &mut wakes));
        wakes.fire();
        self.model.end(client.puppet.id, Code::KICKED);
        client.puppet.loses_connection(&self.world);
        self.watch();
        self.count("ends", "kicked");
    }

    // What goes to and fro.

    /// A client says something, and the hub carries it out.
    fn say(&mut self, n: usize, frame: &ClientFrame<'_>) {
        let client = &mut self.clients[n];
        client.puppet.looks_at_the_clock(&self.world);
        client.puppet.says(frame);
        self.model.carry_out(client.puppet.id, frame);
        self.watch();
    }

    /// The hub writes to a client's connection, about so many bytes. Each message must be the next that the
    /// client is to hear.
    fn write(&mut self, n: usize, max: usize) {
        let Some(peer) = &mut self.clients[n].puppet.peer else {
            return;
        };
        let mut batch = Batch::default();
        peer.take(&mut batch, max);
        let wire: Vec<u8> = batch.pieces().flatten().copied().collect();
        self.receive(n, &wire);
        let session = &self.model.sessions[&self.clients[n].puppet.id];
        if max == usize::MAX {
            let left = session.outbox.waiting().next();
            assert_eq!(left, None, "{} never hears that", self.clients[n].name);
        }
    }

    fn receive(&mut self, n: usize, wire: &[u8]) {
        let id = self.clients[n].puppet.id;
        for unit in units(wire) {
            let (run, frame, bytes) = read(&unit);
            if counts(&frame) {
                let said = Said::read(run, &frame, bytes);
                let session = self.model.sessions.get_mut(&id).expect("it has a session");
                let expected = session.outbox.write(bytes.len() as u64);
                assert_eq!(Some(&said), expected.as_ref(), "what {id} hears next");
                self.judge.is_written(id, run, &frame);
            }
            self.clients[n].wire.push_back(unit);
        }
    }

    /// Reads the welcome of a new connection. Gives what came with it.
    fn read_welcome(&mut self, n: usize) -> Vec<u8> {
        let puppet = &mut self.clients[n].puppet;
        let mut batch = Batch::default();
        let peer = puppet.peer.as_mut().expect("it has a connection");
        peer.take(&mut batch, 1);
        let wire: Vec<u8> = batch.pieces().flatten().copied().collect();
        let (first, _) = RawFrame::split(&wire, usize::MAX)
            .expect("a frame")
            .expect("a frame");
        let (welcome, rest) = wire.split_at(first.wire_bytes());
        puppet.reads(welcome);
        rest.to_vec()
    }

    /// A client reads so many messages.
    fn read(&mut self, n: usize, count: usize) {
        let client = &mut self.clients[n];
        for _ in 0..count {
            let Some(unit) = client.wire.pop_front() else {
                return;
            };
            let (run, frame, _) = read(&unit);
            let id = client.puppet.id;
            let now = self.world.now;
            self.judge.is_heard(id, run, &frame, now);
            let what = match (&frame, run) {
                (BrokerFrame::Message(Message::Request { .. }), Some(key)) => {
                    client.desk.push(key);
                    ("heard", "request")
                }
                (BrokerFrame::Message(Message::Reply { error, more, .. }), _) => {
                    let how = error.map_or("success", Code::name);
                    (if *more { "parts" } else { "outcome" }, how)
                }
                (BrokerFrame::Message(Message::Feed { .. }), _) => ("heard", "feed"),
                (BrokerFrame::Refusal { code, .. }, _) => ("refused", code.name()),
                (BrokerFrame::Credit(_), _) => ("heard", "credit"),
                (BrokerFrame::Cancelled { cause, .. }, _) => ("cancelled", cause.name()),
                (BrokerFrame::Lease { state, .. }, _) => ("lease", lease_name(*state)),
                (BrokerFrame::Stored { .. }, _) => ("heard", "stored"),
                (BrokerFrame::Gap(_), _) => ("heard", "gap"),
                _ => ("heard", "else"),
            };
            *self.counts.entry(what).or_default() += 1;
            client.puppet.reads(&unit);
        }
    }

    /// A client confirms what it has read.
    fn confirm(&mut self, n: usize) {
        if self.clients[n].puppet.peer.is_some() {
            let received = self.clients[n].puppet.heard;
            self.say(n, &ClientFrame::Ack { received });
        }
    }

    /// The watcher hears what happens in the channel.
    fn watch(&mut self) {
        if self.watcher.peer.is_none() {
            return;
        }
        self.watcher.looks_at_the_clock(&self.world);
        for seen in self.watcher.hears() {
            let heard = match seen {
                Seen::Channel(CHANNEL, sender, offset, Some(topic), payload) => {
                    Watched::Message(sender, offset, topic, payload)
                }
                Seen::Presence(_, Change::Left, Some(cause), name, _) => Watched::Left(name, cause),
                Seen::Presence(..) => continue,
                other => panic!("the watcher hears {other:?}"),
            };
            let what = match &heard {
                Watched::Message(ClientId::HUB, ..) => "values deleted",
                Watched::Message(..) => "values set",
                Watched::Left(..) => "left",
            };
            self.count("channel", what);
            let expected = self.model.watched.pop_front();
            assert_eq!(Some(heard), expected, "what the watcher hears next");
        }
        let next = self.model.watched.front();
        assert_eq!(next, None, "the watcher never hears that");
    }

    // Time, and what there is.

    fn time_passes(&mut self) {
        let now = self.model.now;
        let until = match (self.below(60), self.model.next()) {
            (0, _) => now + Duration::from_millis(self.rng.below(2 * 3_600_000)),
            (1, _) => now + TTL / 2,
            (2..=4, _) => now + Duration::from_millis(self.rng.below(6_000)),
            (5..=25, Some(next)) => next,
            // Nothing is due yet.
            (26..=35, Some(next)) => next - Duration::from_nanos(1),
            _ => now + Duration::from_millis(self.rng.below(100)),
        };
        let jump = until.saturating_sub(now);
        // What is due in many minutes is not waited for each time.
        if jump < Duration::from_secs(60) || self.rng.once_in(8) {
            self.pass_until(until.max(now));
        }
    }

    /// Lets time pass. The hub does each thing when it is due, and knows when the next is.
    fn pass_until(&mut self, until: Duration) {
        loop {
            let due = self.model.next().filter(|next| *next <= until);
            let now = due.unwrap_or(until);
            (self.world.now, self.model.now) = (now, now);
            let before = self.model.sessions.len();
            let mut wakes = Wakes::default();
            let next = self.world.hub.expire(now, &mut wakes);
            wakes.fire();
            self.model.tick();
            let expired = before - self.model.sessions.len();
            *self.counts.entry(("ends", "expired")).or_default() += expired as u64;
            assert_eq!(next, self.model.next(), "when the hub has something to do");
            self.watch();
            if due.is_none() {
                return;
            }
        }
    }

    fn check(&self) {
        self.world.hub.check();
        let status = self.world.hub.status(self.world.now);
        let (requests, commands) = (self.model.requests.len(), self.model.commands.len());
        let held = (status.requests, status.commands);
        assert_eq!(
            held,
            (requests as u64, commands as u64),
            "what the hub holds"
        );
    }

    /// The watcher asks for all services and all values.
    fn look_around(&mut self) {
        self.watcher.looks_at_the_clock(&self.world);
        self.watcher.asks(Ask {
            method: admin::SERVICES,
            content: ContentType::CBOR,
            payload: &admin::encode(&admin::Page::default()),
            ..Ask::of(Target::Id(ClientId::HUB))
        });
        let heard = self.watcher.hears();
        let [Seen::Reply(ClientId::HUB, _, None, payload)] = &heard[..] else {
            panic!("services: {heard:?}");
        };
        let told: admin::Services = admin::decode(payload).expect("services");
        let told = told.services.into_iter().map(|service| {
            let servers = service.servers.into_iter();
            let servers = servers.map(|it| (it.id, it.fence, it.in_flight, it.state == "away"));
            (service.name, service.shared, servers.collect::<Vec<_>>())
        });
        let services = self.model.services.iter().map(|(name, service)| {
            let servers = service.servers.iter().map(|(client, fence)| {
                let away = self.model.sessions[client].is_away();
                (*client, *fence, self.model.load(*client), away)
            });
            (name.clone(), service.shared, servers.collect::<Vec<_>>())
        });
        assert_eq!(told.collect::<Vec<_>>(), services.collect::<Vec<_>>());
        self.watcher.says(&ClientFrame::Snapshot {
            channel: CHANNEL,
            filter: "#",
        });
        let heard = self
            .watcher
            .hears()
            .into_iter()
            .filter_map(|seen| match seen {
                Seen::Retained(_, sender, offset, topic, payload) => {
                    Some((topic.unwrap_or_default(), (sender, offset, payload)))
                }
                _ => None,
            });
        let values = self.model.values.iter().map(|(topic, value)| {
            let value = (value.sender, value.version, value.payload.clone());
            (topic.clone(), value)
        });
        let (heard, values): (BTreeMap<_, _>, BTreeMap<_, _>) = (heard.collect(), values.collect());
        assert_eq!(heard, values, "the values of the channel");
    }

    fn any_client(&mut self) -> usize {
        self.below(CLIENTS.len())
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u64) as usize
    }

    fn count(&mut self, kind: &'static str, what: &'static str) {
        self.note((kind, what));
    }

    fn note(&mut self, what: (&'static str, &'static str)) {
        *self.counts.entry(what).or_default() += 1;
    }
}

impl Client {
    /// A new session knows nothing of the one before.
    fn forget(&mut self) {
        self.wire.clear();
        self.desk.clear();
        self.past.clear();
        self.made.clear();
    }
}

/// The frame of a request.
fn request_of(ask: Ask<'_>) -> Message<'_> {
    Message::Request {
        to: ask.to,
        deadline_ms: ask.deadline_ms,
        command: ask.command,
        window: ask.window,
        method: ask.method,
        content: ask.content,
        payload: ask.payload,
    }
}

/// A deletion on no conditions.
fn clear(topic: &str) -> Put<'_> {
    Put {
        expect: None,
        ttl_ms: 0,
        owned: false,
        retain: Retain::Clear,
        content: ContentType::BYTES,
        topic,
        payload: b"",
    }
}

const fn lease_name(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Queued => "queued",
        LeaseState::Held => "held",
        LeaseState::Lost => "lost",
    }
}

/// Cuts what was written into messages, each with the header of its run.
fn units(mut wire: &[u8]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut unit = Vec::new();
    while let Some((frame, rest)) = RawFrame::split(wire, usize::MAX).expect("a frame") {
        unit.extend_from_slice(&wire[..wire.len() - rest.len()]);
        wire = rest;
        let frame = BrokerFrame::decode(frame.body()).expect("a frame of the broker");
        if !matches!(frame, BrokerFrame::Run(_)) {
            units.push(std::mem::take(&mut unit));
        }
    }
    assert!(wire.is_empty() && unit.is_empty(), "whole messages");
    units
}

/// A message: the sender and the position that the header of its run says, the frame, and its bytes.
fn read(unit: &[u8]) -> (Option<(ClientId, u64)>, BrokerFrame<'_>, &[u8]) {
    let mut run = None;
    let mut rest = unit;
    loop {
        let (raw, after) = RawFrame::split(rest, usize::MAX)
            .expect("a frame")
            .expect("a whole frame");
        let frame = BrokerFrame::decode(raw.body()).expect("a frame of the broker");
        let BrokerFrame::Run(header) = &frame else {
            return (run, frame, rest);
        };
        let shape = (header.channel, header.count, header.retained);
        assert_eq!(shape, (None, 1, false), "the header of a run");
        run = Some((header.sender, header.first));
        rest = after;
    }
}

/// Whether a frame has a position.
const fn counts(frame: &BrokerFrame<'_>) -> bool {
    !matches!(
        frame,
        BrokerFrame::Ack { .. } | BrokerFrame::Ping { .. } | BrokerFrame::Pong { .. }
    )
}
