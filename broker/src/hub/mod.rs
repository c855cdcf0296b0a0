//! Every rule of the broker, without I/O.
//!
//! Nothing here touches a socket, reads a clock or draws a random number. Time comes in as an
//! argument (the time since the hub began), secrets come in as arguments, bytes leave through a
//! [`Batch`]. The same code serves real sockets and a simulation of thousands of clients on one thread.
//!
//! - [`Hub`] knows who is where: sessions, and the registry of channels. Its lock is taken when
//!   somebody arrives, leaves, joins or expires.
//! - [`Peer`] is one connection. It is owned by the task that reads that connection.
//! - A channel is where peers meet: its members, its retained values, the order of its traffic.
//! - An outbox is what waits to be written to one client, and what may have to be sent again.
//!
//! - Requests are what one client has asked another, until there is an outcome; services and commands
//!   are part of that.
//!
//! **Lock order:** a session's turn, then hub, then channel or requests, then outbox. A directory entry is cloned
//! out and let go within one statement. [`Wakes`] fire when every lock is released.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use localhub_protocol::limits::CLIENT_NAME_BYTES_MAX;
use localhub_protocol::{
    BrokerFrame, ChannelId, ChannelName, ClientId, ClientName, Code, Epoch, Hello, Limits,
    ResumeToken, Resumed, Version, Welcome,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

mod admin;
mod batch;
mod budget;
mod channel;
mod closed;
mod commands;
mod history;
mod identity;
mod joined;
mod outbox;
mod peer;
mod refusal;
mod requests;
#[cfg(test)]
mod resume_races;
mod services;
mod session;
mod suspects;
mod sync;
#[cfg(test)]
pub(crate) mod testing;
mod topics;
mod wakes;

use budget::Budget;
use channel::{Channel, ChannelLimits, ValueAlarms, ValuesLimits};
use closed::{ClosedLog, End};
use joined::Joined;
use outbox::{Outbox, OutboxLimits, Rewound};
use requests::Requests;
use session::{FIRST_GENERATION, Session};
use suspects::Suspects;

pub use batch::Batch;
pub use identity::{Identity, User};
pub use peer::{Pace, Peer, Turn};
pub use refusal::{Close, Refusal};
pub use wakes::Wakes;

/// What a hub allows and how long it waits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What each client is told and held to.
    pub limits: Limits,
    /// The bytes of all outboxes and retained values together.
    pub memory_bytes: u64,
    /// Sessions, with or without a connection.
    pub sessions: u64,
    /// Channels.
    pub channels: u64,
    /// Retained values of one channel.
    pub retained_topics: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// The messages that the history of one channel may have.
    pub history_messages: u64,
    /// Their bytes.
    pub history_bytes: u64,
    /// How long they may stay.
    pub history_age: Duration,
    /// How long a session outlives its connection, if the client does not say.
    pub ttl: Duration,
    /// The most that a client may ask for.
    pub ttl_max: Duration,
    /// How long a connection may be silent before it is pinged.
    pub ping: Duration,
    /// This life of the hub.
    pub epoch: Epoch,
    /// What operators are told of the process around the hub.
    pub about: About,
}

/// What operators are told of the process around the hub.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The broker's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub endpoint: String,
}

/// The sessions and channels of one broker.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    budget: Arc<Budget>,
    directory: Directory,
    registry: Mutex<Registry>,
    requests: Requests,
    value_alarms: Arc<ValueAlarms>,
    /// A leaf, as the outboxes are.
    closed: Mutex<ClosedLog>,
    /// What happened so far.
    pub counters: Counters,
}

/// What happened in a hub so far, for operators.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were turned away or closed for cause.
    pub connections_refused: AtomicU64,
    log_lines_lost: LostLines,
    messages_in: AtomicU64,
    /// Of sessions that are over; those of the others are in their outboxes.
    messages_out: AtomicU64,
    messages_lost: AtomicU64,
}

/// How many log lines were dropped, as the log itself counts them.
#[derive(Default)]
struct LostLines(OnceLock<Arc<dyn Fn() -> u64 + Send + Sync>>);

impl fmt::Debug for LostLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LostLines({})", self.count())
    }
}

impl LostLines {
    fn count(&self) -> u64 {
        self.0.get().map_or(0, |count| count())
    }
}

/// Where direct messages find their receiver. Never iterated; no guard outlives its statement.
#[derive(Debug, Default)]
struct Directory {
    ids: DashMap<ClientId, Arc<Session>>,
    names: DashMap<ClientName, Arc<Session>>,
}

/// Who is where, under the hub's lock.
#[derive(Debug, Default)]
struct Registry {
    /// Boxed, because the nodes of a map are half empty.
    sessions: BTreeMap<ClientId, Box<Place>>,
    channels: BTreeMap<ChannelName, Arc<Channel>>,
    /// Parked sessions, the one that expires first at the front.
    parked: BTreeSet<(Duration, ClientId)>,
    /// What else is to be done at some time, the first at the front.
    alarms: BTreeSet<(Duration, Alarm)>,
    /// When a channel without members will have no history any more.
    lingering: BTreeMap<ChannelName, Duration>,
    suspects: Suspects,
    clients_so_far: u64,
    channels_so_far: u64,
    stopping: bool,
}

/// What only the hub knows of a session.
#[derive(Debug)]
struct Place {
    session: Arc<Session>,
    joined: Joined,
    /// SHA-256 of the token that resumes it.
    token: [u8; 32],
    /// SHA-256 of the token before, until the client has shown that it got the newer one: the
    /// welcome that told it may have been lost with its connection.
    spent: Option<[u8; 32]>,
    ttl: Duration,
    parked: Option<Parked>,
}

#[derive(Debug)]
struct Parked {
    since: Duration,
    until: Duration,
    /// Why.
    cause: Code,
    /// Those of [`Registry::alarms`] that are about this absence.
    alarms: Vec<(Duration, Alarm)>,
}

/// What is to be done at some time.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Alarm {
    /// Tell a channel's members that one of them is away.
    Absence(ClientId, ChannelId),
    /// Publish the wills that have such a delay, of a member that is away.
    Wills(ClientId, ChannelId, Duration),
    /// The history of a channel without members is too old.
    History(ChannelName),
}

/// How a connection ended, as far as its session is concerned, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Departure {
    /// The client said so, broke the rules, or its process is dead: the session is over.
    Final(Code),
    /// The connection was lost: the session is parked until the client comes back.
    Lost(Code),
}

impl Hub {
    /// Creates an empty hub.
    pub fn new(settings: Settings) -> Arc<Self> {
        let budget = Arc::new(Budget::new(settings.memory_bytes));
        Arc::new(Self {
            requests: Requests::new(budget.clone()),
            value_alarms: Arc::default(),
            budget,
            directory: Directory::default(),
            registry: Mutex::default(),
            closed: Mutex::default(),
            counters: Counters::default(),
            settings,
        })
    }

    /// Says where to ask how many log lines were dropped, for [`Hub::status`]. The first call counts.
    pub fn ask_for_lost_lines(&self, count: Arc<dyn Fn() -> u64 + Send + Sync>) {
        // A second log does not replace the first: there is one for the whole process.
        let _ = self.counters.log_lines_lost.0.set(count);
    }

    /// What the hub was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Binds a connection to a session: a new one, or the one that the client comes back to.
    ///
    /// `token` is fresh randomness: it becomes the session's next resume token. The first bytes
    /// of the peer's batches are the `Welcome`.
    ///
    /// # Errors
    /// The client is told to go: no common version, a name that is taken or none, a wrong token,
    /// too many sessions, or the hub is stopping.
    pub fn attach(
        self: &Arc<Self>,
        hello: &Hello<'_>,
        identity: Identity,
        token: ResumeToken,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<Peer, Close> {
        let spoken = (Version::CURRENT, Version::CURRENT);
        let version = Version::choose(spoken, hello.versions).ok_or_else(|| {
            let (low, high) = hello.versions;
            Close::new(
                Code::VERSION_MISMATCH,
                format!(
                    "the broker speaks {}, the client {low} to {high}",
                    Version::CURRENT
                ),
            )
        })?;
        let name = match hello.name {
            Some(name) => Some(
                name.parse::<ClientName>()
                    .map_err(|error| Close::new(Code::BAD_CLIENT_NAME, error.to_string()))?,
            ),
            None => None,
        };
        if name == Some(ClientName::hub()) {
            return Err(Close::new(
                Code::BAD_CLIENT_NAME,
                "that name is the broker's own",
            ));
        }
        let ttl = match hello.ttl_ms {
            Some(ttl) => Duration::from_millis(ttl.into()).min(self.settings.ttl_max),
            None => self.settings.ttl,
        };
        let asked_to_resume = hello.resume.is_some();
        let (resumed, peer) = match self.resume(hello, &identity, &token, ttl, now, wakes)? {
            Some((peer, resumed)) => (Some(resumed), peer),
            None => {
                let gone = Resumed {
                    recovered: false,
                    replayed: 0,
                    lost: None,
                };
                let peer = self.admit(name, identity, &token, ttl, now, wakes)?;
                (asked_to_resume.then_some(gone), peer)
            }
        };
        let mut peer = peer;
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let session = peer.session().clone();
        peer.control(&BrokerFrame::Welcome(Welcome {
            version,
            features: vec![],
            epoch: self.settings.epoch,
            client: session.id,
            name: session.name.as_str(),
            token,
            resumed,
            received: peer.received(),
            ttl_ms: millis(ttl),
            ping_ms: millis(self.settings.ping),
            limits: self.settings.limits,
        }));
        Ok(peer)
    }

    /// Binds a connection to the session it comes back to; `None` if that is gone.
    fn resume(
        self: &Arc<Self>,
        hello: &Hello<'_>,
        identity: &Identity,
        token: &ResumeToken,
        ttl: Duration,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<Option<(Peer, Resumed)>, Close> {
        let Some(resume) = &hello.resume else {
            return Ok(None);
        };
        if resume.epoch != self.settings.epoch {
            return Ok(None);
        }
        let (session, generation) = {
            let mut registry = self.registry.lock();
            let registry = &mut *registry;
            if registry.stopping {
                return Err(Code::SHUTTING_DOWN.into());
            }
            if let Some(wait) = registry.suspects.wait(identity, now) {
                let detail = format!(
                    "this process showed too many wrong tokens (wait {} s)",
                    wait.as_millis().div_ceil(1_000)
                );
                return Err(Close::new(Code::BAD_TOKEN, detail));
            }
            let Some(place) = registry.sessions.get_mut(&resume.client) else {
                return Ok(None);
            };
            let known = place.session.identity.lock().user.clone();
            let shown = hash(&resume.token);
            if (shown != place.token && Some(shown) != place.spent) || identity.user != known {
                registry.suspects.strike(identity, now);
                let (id, name) = (resume.client, &place.session.name);
                return Err(Close::new(
                    Code::BAD_TOKEN,
                    format!("for session {id} of {name}, which goes on"),
                ));
            }
            place.spent = Some(shown);
            place.token = hash(token);
            place.ttl = ttl;
            if let Some(parked) = place.parked.take() {
                registry.parked.remove(&(parked.until, resume.client));
                for alarm in &parked.alarms {
                    registry.alarms.remove(alarm);
                }
            }
            *place.session.identity.lock() = identity.clone();
            let generation = place.session.next_generation();
            // An older connection learns that it was superseded when it next wakes.
            place.session.outbox.close(Code::SUPERSEDED, wakes);
            (place.session.clone(), generation)
        };
        // The hub's lock is free again: the older connection may need it to end its turn.
        let received = *session.turn.lock();
        let mut registry = self.registry.lock();
        // Meanwhile the hub may have stopped, the session ended, or a newer connection taken it over.
        if registry.stopping {
            return Err(Code::SHUTTING_DOWN.into());
        }
        if session.generation() != generation {
            let ended = !registry.sessions.contains_key(&session.id);
            let code = session.outbox.closing().filter(|_| ended);
            return Err(code.unwrap_or(Code::SUPERSEDED).into());
        }
        let Some(Rewound {
            replayed,
            lost,
            missed,
        }) = session.outbox.rewind(generation, resume.received)
        else {
            self.remove(&mut registry, session.id, Code::BAD_POSITION, now, wakes);
            return Err(Code::BAD_POSITION.into());
        };
        // What the older connection joined and left in its last turn counts.
        let place = registry.sessions.get(&session.id);
        let channels = place.map_or_else(Joined::default, |place| place.joined.clone());
        let missed = resume.received + 1..=missed;
        self.requests.miss(session.id, missed, now, wakes);
        self.requests.set_away(session.id, false);
        for channel in channels.iter() {
            channel.set_present(session.id, false, wakes);
        }
        drop(registry);
        let resumed = Resumed {
            recovered: lost == 0,
            replayed,
            lost: Some(lost),
        };
        let peer = Peer::new(self.clone(), session, generation, received, channels);
        Ok(Some((peer, resumed)))
    }

    /// Makes a session for a client that is new here.
    fn admit(
        self: &Arc<Self>,
        name: Option<ClientName>,
        identity: Identity,
        token: &ResumeToken,
        ttl: Duration,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<Peer, Close> {
        let mut registry = self.registry.lock();
        if registry.stopping {
            return Err(Code::SHUTTING_DOWN.into());
        }
        let holder = name
            .as_ref()
            .and_then(|name| self.directory.names.get(name).map(|holder| holder.id));
        if let Some(holder) = holder {
            // A client that lost its connection, and its memory with it, comes back under its
            // name: the newcomer takes the place of what nobody can resume any more.
            match registry.sessions.get(&holder) {
                Some(place) if place.parked.is_none() => {
                    let pid = place.session.identity.lock().pid;
                    let detail =
                        pid.map_or_else(String::new, |pid| format!("held by process {pid}"));
                    return Err(Close::new(Code::NAME_TAKEN, detail));
                }
                _ => self.remove(&mut registry, holder, Code::NAME_TAKEN, now, wakes),
            }
        }
        if registry.sessions.len() as u64 >= self.settings.sessions {
            return Err(Close::new(
                Code::TOO_MANY_CONNECTIONS,
                format!("the limit is {} sessions", self.settings.sessions),
            ));
        }
        registry.clients_so_far += 1;
        let id = ClientId(registry.clients_so_far);
        let name = name.unwrap_or_else(|| self.free_name(id));
        let Limits {
            outbox_bytes: bytes,
            outbox_messages: messages,
            ..
        } = self.settings.limits;
        let outbox = Arc::new(Outbox::new(
            OutboxLimits { bytes, messages },
            self.budget.clone(),
        ));
        let session = Arc::new(Session::new(id, name, identity, outbox, now));
        self.directory.ids.insert(id, session.clone());
        self.directory
            .names
            .insert(session.name.clone(), session.clone());
        registry.sessions.insert(
            id,
            Box::new(Place {
                session: session.clone(),
                joined: Joined::default(),
                token: hash(token),
                spent: None,
                ttl,
                parked: None,
            }),
        );
        Ok(Peer::new(
            self.clone(),
            session,
            FIRST_GENERATION,
            0,
            Joined::default(),
        ))
    }

    /// The client has spoken on a connection that resumed its session, so it has the newer token.
    fn forget_spent_token(&self, client: ClientId, generation: u64) {
        if let Some(place) = self.registry.lock().sessions.get_mut(&client)
            && place.session.generation() == generation
        {
            place.spent = None;
        }
    }

    /// A name for a client that asks for none. Ids are not given twice, so one of the first few is
    /// free unless somebody asked for just these.
    fn free_name(&self, id: ClientId) -> ClientName {
        let mut text = format!("client-{id}");
        loop {
            debug_assert!(text.len() <= CLIENT_NAME_BYTES_MAX);
            let name: ClientName = text
                .parse()
                .expect("letters, digits and hyphens are a name");
            if !self.directory.names.contains_key(&name) {
                return name;
            }
            text.push('x');
        }
    }

    /// Tells the hub that a connection ended. A connection that a newer one superseded changes nothing. Gives how
    /// long the session waits for its client now, if it does.
    pub fn detach(
        &self,
        peer: Peer,
        departure: Departure,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Option<Duration> {
        let (session, generation, end) = peer.into_parts();
        let mut registry = self.registry.lock();
        let registry = &mut *registry;
        let known = registry.sessions.get_mut(&session.id);
        let Some(place) = known.filter(|_| session.generation() == generation) else {
            self.note(end.as_ref(), &session, false, now);
            return None;
        };
        let cause = match departure {
            Departure::Final(cause) => Err(cause),
            Departure::Lost(cause) if place.ttl.is_zero() || registry.stopping => Err(cause),
            Departure::Lost(cause) => Ok(cause),
        };
        self.note(end.as_ref(), &session, cause.is_ok(), now);
        let cause = match cause {
            Ok(cause) => cause,
            Err(cause) => {
                self.remove(registry, session.id, cause, now, wakes);
                return None;
            }
        };
        session.outbox.detach(wakes);
        self.requests.set_away(session.id, true);
        let until = now + place.ttl;
        let mut alarms = Vec::new();
        for channel in place.joined.iter() {
            let absence = channel.lose(session.id, cause, wakes);
            let tell = absence.tell_after.map(|after| {
                let alarm = Alarm::Absence(session.id, channel.id);
                (now + after, alarm)
            });
            alarms.extend(tell);
            alarms.extend(absence.wills_after.into_iter().map(|after| {
                let alarm = Alarm::Wills(session.id, channel.id, after);
                (now + after, alarm)
            }));
        }
        registry.parked.insert((until, session.id));
        registry.alarms.extend(alarms.iter().cloned());
        place.parked = Some(Parked {
            since: now,
            until,
            cause,
            alarms,
        });
        Some(place.ttl)
    }

    /// The process that had the connection `generation` of a session is dead. If the session waits since then for
    /// its client, nobody is left to come back to it.
    pub fn bury(&self, client: ClientId, generation: u64, now: Duration, wakes: &mut Wakes) {
        let mut registry = self.registry.lock();
        if let Some(place) = registry.waiting(client, generation) {
            let end = End::of_session(&place.session, "died", "", false, now);
            self.closed.lock().push(end);
            self.remove(&mut registry, client, Code::PROCESS_DIED, now, wakes);
        }
    }

    /// Whether a session waits for its client since that connection ended.
    pub fn is_away(&self, client: ClientId, generation: u64) -> bool {
        let registry = self.registry.lock();
        registry.waiting(client, generation).is_some()
    }

    /// Says that a client does not read or answer any more, or does so again.
    fn set_stalled(&self, session: &Session, generation: u64, stalled: bool, wakes: &mut Wakes) {
        let registry = self.registry.lock();
        let place = registry.sessions.get(&session.id);
        if let Some(place) = place.filter(|_| session.generation() == generation) {
            for channel in place.joined.iter() {
                channel.set_present(session.id, stalled, wakes);
            }
        }
    }

    /// Does what is due: ends the sessions whose time to come back is over, publishes wills, tells of
    /// members that are away, ends waits for replies. Returns when there is something to do next; other calls
    /// that bring something earlier say so by [`Wakes::takes_alarm`].
    pub fn expire(&self, now: Duration, wakes: &mut Wakes) -> Option<Duration> {
        // Values that ended may stay for a while in the history of a channel without members.
        self.expire_values(now, wakes);
        let sessions = self.expire_sessions(now, wakes);
        // Sessions that ended have ended values and requests.
        let values = self.value_alarms.lock().first().map(|(at, _)| *at);
        let requests = self.requests.expire(now, wakes);
        let next = sessions.into_iter().chain(requests).chain(values);
        wakes.takes_alarm();
        next.min()
    }

    fn expire_values(&self, now: Duration, wakes: &mut Wakes) {
        loop {
            let first = self.value_alarms.lock().first().cloned();
            let Some((_, name)) = first.filter(|(at, _)| *at <= now) else {
                return;
            };
            let mut registry = self.registry.lock();
            let Some(channel) = registry.channels.get(&name).cloned() else {
                self.value_alarms.lock().retain(|(_, known)| *known != name);
                continue;
            };
            channel.end_values(now, wakes);
            registry.let_go(&channel, wakes);
        }
    }

    fn expire_sessions(&self, now: Duration, wakes: &mut Wakes) -> Option<Duration> {
        let mut registry = self.registry.lock();
        let registry = &mut *registry;
        loop {
            let over = registry.parked.first().map(|(until, _)| *until);
            let alarm = registry.alarms.first().map(|(at, _)| *at);
            let next = over.into_iter().chain(alarm).min()?;
            if next > now {
                return Some(next);
            }
            // Of what is due at one time, alarms come first: they may be about who is removed then.
            if alarm == Some(next) {
                if let Some(alarm) = registry.alarms.pop_first() {
                    self.carry_out_alarm(registry, alarm, now, wakes);
                }
            } else if let Some((_, client)) = registry.parked.pop_first() {
                if let Some(place) = registry.sessions.get(&client) {
                    let end = End::of_session(&place.session, "expired", "", false, now);
                    self.closed.lock().push(end);
                }
                self.remove(registry, client, Code::SESSION_EXPIRED, now, wakes);
            }
        }
    }

    fn carry_out_alarm(
        &self,
        registry: &mut Registry,
        alarm: (Duration, Alarm),
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let (client, channel, delay) = match &alarm.1 {
            Alarm::Absence(client, channel) => (*client, *channel, None),
            Alarm::Wills(client, channel, delay) => (*client, *channel, Some(*delay)),
            Alarm::History(name) => {
                registry.lingering.remove(name);
                if let Some(channel) = registry.channels.get(name).cloned() {
                    channel.trim_history(now);
                    registry.let_go(&channel, wakes);
                }
                return;
            }
        };
        let Some(place) = registry.sessions.get_mut(&client) else {
            return;
        };
        if let Some(parked) = &mut place.parked {
            parked.alarms.retain(|known| *known != alarm);
        }
        let Some(channel) = place.joined.get(channel) else {
            return;
        };
        match delay {
            None => channel.tell_absence(client, wakes),
            Some(delay) => channel.publish_wills(client, |of| of == delay, now, wakes),
        }
    }

    /// Notes for operators how a connection ended, if the server said how.
    fn note(&self, end: Option<&(String, String)>, session: &Session, parked: bool, now: Duration) {
        if let Some((reason, detail)) = end {
            let end = End::of_session(session, reason, detail, parked, now);
            self.closed.lock().push(end);
        }
    }

    /// Notes for operators that a connection was turned away.
    pub fn note_turned_away(&self, close: &Close, identity: Identity, now: Duration) {
        let end = End::of_stranger(identity, close.code.name(), &close.detail, now);
        self.closed.lock().push(end);
    }

    /// Ends a session, whatever its connection does; `false` if there is none.
    pub fn end(&self, client: ClientId, code: Code, now: Duration, wakes: &mut Wakes) -> bool {
        let mut registry = self.registry.lock();
        let known = registry.sessions.contains_key(&client);
        self.remove(&mut registry, client, code, now, wakes);
        known
    }

    /// Asks every connection to say goodbye, and lets nobody in any more.
    pub fn stop(&self, wakes: &mut Wakes) {
        let mut registry = self.registry.lock();
        registry.stopping = true;
        for place in registry.sessions.values() {
            place.session.outbox.close(Code::SHUTTING_DOWN, wakes);
        }
    }

    /// Forgets a session: its connection is closed with `code`, its wills are published unless the client
    /// itself said goodbye, its channels are told.
    fn remove(
        &self,
        registry: &mut Registry,
        client: ClientId,
        code: Code,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let Some(place) = registry.sessions.remove(&client) else {
            return;
        };
        let testate = code != Code::GOODBYE && !registry.stopping;
        if let Some(parked) = &place.parked {
            registry.parked.remove(&(parked.until, client));
            for alarm in &parked.alarms {
                registry.alarms.remove(alarm);
            }
        }
        for channel in place.joined.iter().filter(|_| testate) {
            let due = |delay| {
                match &place.parked {
                // The others have been published in this absence.
                Some(parked) => parked.alarms.iter().any(|(_, alarm)| {
                    matches!(alarm, Alarm::Wills(_, of, after) if *of == channel.id && *after == delay)
                }),
                None => true,
            }
            };
            channel.publish_wills(client, due, now, wakes);
        }
        self.directory.ids.remove(&client);
        self.directory.names.remove(&place.session.name);
        place.session.next_generation();
        let sent = place.session.outbox.seal();
        self.requests.depart(client, sent, now, wakes);
        for channel in place.joined.iter() {
            self.part(registry, channel, &place.session, code, now, wakes);
        }
        let outbox = &place.session.outbox;
        outbox.close(code, wakes);
        let totals = outbox.holds().totals;
        self.counters
            .messages_out
            .fetch_add(totals.messages, Ordering::Relaxed);
        self.counters
            .messages_lost
            .fetch_add(totals.lost, Ordering::Relaxed);
        outbox.clear(wakes);
    }

    /// Takes a session out of a channel, and lets the channel go if nobody would miss it.
    fn part(
        &self,
        registry: &mut Registry,
        channel: &Arc<Channel>,
        session: &Session,
        cause: Code,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        channel.leave(session.id, cause, now, wakes);
        registry.let_go(channel, wakes);
    }

    /// Makes a session a member of a channel, which is made if it is new. `enter` is called before the channel can end
    /// again.
    fn join(
        &self,
        session: &Arc<Session>,
        name: ChannelName,
        enter: impl FnOnce(&Channel),
    ) -> Result<Arc<Channel>, Refusal> {
        let mut registry = self.registry.lock();
        let registry = &mut *registry;
        // A connection that is superseded meanwhile still ends its turn.
        let place = registry
            .sessions
            .get_mut(&session.id)
            .ok_or(Refusal::UnknownClient)?;
        let known = registry.channels.get(&name);
        if known.is_none() && registry.channels.len() as u64 >= self.settings.channels {
            let limit = self.settings.channels;
            return Err(Refusal::LimitReached {
                what: "too many channels",
                limit,
            });
        }
        let limit = self.settings.limits.channels;
        let member = known.is_some_and(|channel| place.joined.contains(channel.id));
        if !member && place.joined.len() as u64 >= limit {
            return Err(Refusal::LimitReached {
                what: "too many channels for one client",
                limit,
            });
        }
        let channel = registry.channels.entry(name).or_insert_with_key(|name| {
            registry.channels_so_far += 1;
            let limits = ChannelLimits {
                values: ValuesLimits {
                    topics: self.settings.retained_topics,
                    bytes: self.settings.retained_bytes,
                },
                history_messages: self.settings.history_messages,
                history_bytes: self.settings.history_bytes,
                history_age: self.settings.history_age,
            };
            let id = ChannelId(registry.channels_so_far);
            let (budget, alarms) = (self.budget.clone(), self.value_alarms.clone());
            Arc::new(Channel::new(id, name.clone(), limits, budget, alarms))
        });
        let channel = channel.clone();
        place.joined.insert(channel.clone());
        registry.forget_history_alarm(&channel.name);
        enter(&channel);
        Ok(channel)
    }

    /// Ends a session's membership.
    fn leave(
        &self,
        session: &Session,
        channel: &Arc<Channel>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut registry = self.registry.lock();
        let registry = &mut *registry;
        // A connection that is superseded meanwhile still ends its turn.
        let place = registry
            .sessions
            .get_mut(&session.id)
            .ok_or(Refusal::UnknownClient)?;
        if place.joined.remove(channel.id).is_none() {
            return Err(Refusal::NotAMember);
        }
        self.part(registry, channel, session, Code::GOODBYE, now, wakes);
        Ok(())
    }

    /// Panics if an invariant does not hold. For tests: takes every lock, one after the other.
    pub fn check(&self) {
        let registry = self.registry.lock();
        let mut held = 0;
        for (client, place) in &registry.sessions {
            place.session.outbox.check();
            held += place.session.outbox.holds().bytes;
            assert!(
                self.directory.ids.contains_key(client),
                "{client} is not in the directory"
            );
            assert!(self.directory.names.contains_key(&place.session.name));
            for channel in place.joined.iter() {
                assert!(
                    channel.clients().contains(client),
                    "{client} is not a member"
                );
                assert!(registry.channels.contains_key(&channel.name));
            }
            let parked = registry.parked.iter().any(|(_, parked)| parked == client);
            assert_eq!(place.parked.is_some(), parked, "{client} is parked");
        }
        assert_eq!(registry.sessions.len(), self.directory.ids.len());
        assert_eq!(registry.sessions.len(), self.directory.names.len());
        assert!(registry.parked.len() <= registry.sessions.len());
        let mut alarms: Vec<_> = registry
            .sessions
            .values()
            .filter_map(|place| place.parked.as_ref())
            .flat_map(|parked| parked.alarms.iter().cloned())
            .collect();
        alarms.extend(registry.lingering.iter().map(|(name, until)| {
            assert!(registry.channels.contains_key(name));
            (*until, Alarm::History(name.clone()))
        }));
        alarms.sort();
        assert!(
            registry.alarms.iter().eq(&alarms),
            "alarms are about what there is"
        );
        for (name, channel) in &registry.channels {
            channel.check();
            held += channel.kept_bytes();
            assert!(!channel.is_idle(), "{name} is empty and still here");
            for client in channel.clients() {
                let place = &registry.sessions[&client];
                assert!(
                    place.joined.contains(channel.id),
                    "{client} never joined {name}"
                );
            }
        }
        self.requests
            .check(&|client| registry.sessions.contains_key(&client));
        held += self.requests.held();
        assert_eq!(held, self.budget.used(), "the budget is what is held");
    }
}

impl Registry {
    /// The session that waits for its client since that connection ended, if it does.
    fn waiting(&self, client: ClientId, generation: u64) -> Option<&Place> {
        let place = self.sessions.get(&client)?;
        let waits = place.parked.is_some() && place.session.generation() == generation;
        waits.then_some(place)
    }

    /// Lets a channel go if nobody would miss it; one without members stays as long as its history.
    fn let_go(&mut self, channel: &Channel, wakes: &mut Wakes) {
        let name = &channel.name;
        self.forget_history_alarm(name);
        if channel.is_idle() {
            self.channels.remove(name);
        } else if let Some(until) = channel.history_until() {
            self.lingering.insert(name.clone(), until);
            self.alarms.insert((until, Alarm::History(name.clone())));
            wakes.ring();
        }
    }

    fn forget_history_alarm(&mut self, name: &ChannelName) {
        if let Some(until) = self.lingering.remove(name) {
            self.alarms.remove(&(until, Alarm::History(name.clone())));
        }
    }
}

fn hash(token: &ResumeToken) -> [u8; 32] {
    Sha256::digest(token.0).into()
}
