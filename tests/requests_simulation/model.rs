//! What must happen: maps and lists, looked through from one end to the other.
//!
//! The model is told each frame when the hub has carried it out, each connection that came or went,
//! and the time. It says what each client must hear, in which order and byte for byte (but for the
//! texts of refusals), and when the hub has something to do next. Section 12 of the protocol and
//! 8.19 to 8.22 are its source.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, ContentType, Credit, LeaseState, Message,
    Put, Retain, ServeMode, Target,
};

use crate::outbox::{Bytes, Outbox, Room, Said};

/// The whole hub, as far as it can be told from outside.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) now: Duration,
    room: Room,
    pub(crate) sessions: BTreeMap<ClientId, Session>,
    pub(crate) requests: BTreeMap<Key, Request>,
    pub(crate) commands: BTreeMap<CommandKey, Command>,
    /// The highest id that is not kept any more, by user.
    forgotten: BTreeMap<u32, CommandId>,
    /// How many commands have got an outcome.
    outcomes: u64,
    /// How many of these made room for others.
    pub(crate) crowded_out: u64,
    pub(crate) services: BTreeMap<String, Service>,
    fence: u64,
    pub(crate) values: BTreeMap<String, Value>,
    pub(crate) offset: u64,
    /// What a client that watches the channel must hear next.
    pub(crate) watched: VecDeque<Watched>,
}

/// A request: who made it, and its position there.
pub(crate) type Key = (ClientId, u64);
pub(crate) type CommandId = [u8; 16];
/// A command: whose, and its id.
pub(crate) type CommandKey = (u32, CommandId);

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) name: String,
    user: u32,
    /// When it ends, if nobody comes back to it.
    away_until: Option<Duration>,
    /// How many messages it has sent.
    pub(crate) said: u64,
    pub(crate) is_member: bool,
    pub(crate) outbox: Outbox,
}

/// A request without outcome.
#[derive(Debug)]
pub(crate) struct Request {
    /// Nobody if it waits for the outcome of an earlier one.
    pub(crate) handler: Option<ClientId>,
    /// Where it is in the handler's outbox.
    at: u64,
    deadline: Option<Duration>,
    pub(crate) streamed: bool,
    fed: bool,
    /// A part, or something that was fed, did not fit.
    torn_parts: bool,
    torn_feed: bool,
    pub(crate) command: Option<CommandKey>,
    /// Whether the caller waits.
    pub(crate) wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Command {
    asks: Asks,
    pub(crate) state: CommandState,
}

#[derive(Debug)]
pub(crate) enum CommandState {
    Running {
        first: Key,
        waiters: Vec<Key>,
    },
    /// Since when, the how manieth to have an outcome, and which.
    Over(Duration, u64, Outcome),
}

/// Whom, which method, which content type, which payload.
type Asks = (String, String, u16, Vec<u8>);

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Replied {
        sender: ClientId,
        at: u64,
        error: Option<Code>,
        content: ContentType,
        payload: Vec<u8>,
    },
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) shared: bool,
    /// In the order in which they came, with the fence of who has the lease.
    pub(crate) servers: Vec<(ClientId, u64)>,
    /// Whose turn it is among equals.
    turn: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Value {
    pub(crate) version: u64,
    pub(crate) sender: ClientId,
    pub(crate) payload: Vec<u8>,
    pub(crate) until: Option<Duration>,
    pub(crate) owner: Option<ClientId>,
}

/// What who watches the channel hears.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Watched {
    /// A message: sender, offset, topic, payload.
    Message(ClientId, u64, String, Vec<u8>),
    /// A member left: its name, and why.
    Left(String, Code),
}

/// The channel that the values are in: the first one.
pub(crate) const CHANNEL: ChannelId = ChannelId(1);

/// How long a session waits for its client.
pub(crate) const TTL: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3_600);
const OUTCOME_BYTES_MAX: usize = 16 << 20;

impl Model {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            now: Duration::ZERO,
            room,
            sessions: BTreeMap::new(),
            requests: BTreeMap::new(),
            commands: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            outcomes: 0,
            crowded_out: 0,
            services: BTreeMap::new(),
            fence: 0,
            values: BTreeMap::new(),
            offset: 0,
            watched: VecDeque::new(),
        }
    }

    // Connections and time.

    /// A session begins.
    pub(crate) fn begin(&mut self, client: ClientId, name: &str, user: u32) {
        let session = Session {
            name: name.into(),
            user,
            away_until: None,
            said: 0,
            is_member: false,
            outbox: Outbox::new(self.room),
        };
        let before = self.sessions.insert(client, session);
        assert!(before.is_none(), "{client} is there already");
    }

    /// A connection is lost.
    pub(crate) fn lose(&mut self, client: ClientId) {
        let until = self.now + TTL;
        if let Some(session) = self.sessions.get_mut(&client) {
            session.away_until = Some(until);
        }
    }

    /// A client comes back. Gives how many messages it is sent, and how many are lost; nothing if its session
    /// is gone.
    pub(crate) fn come_back(&mut self, client: ClientId, received: u64) -> Option<(u64, u64)> {
        let session = self.sessions.get_mut(&client)?;
        session.away_until = None;
        let (replayed, lost, missed) = session.outbox.begin_again(received);
        // 12.14: what is not sent again it never gets.
        let missed = received + 1..=missed;
        let keys: Vec<Key> = self.requests.keys().copied().collect();
        for key in keys {
            let Some(request) = self.requests.get(&key) else {
                continue;
            };
            let is_missed = request.handler == Some(client) && missed.contains(&request.at);
            if is_missed && request.command.is_some() {
                self.lose_handler(key, false);
            }
        }
        Some((replayed, lost))
    }

    /// A session ends.
    pub(crate) fn end(&mut self, client: ClientId, cause: Code) {
        let Some(session) = self.sessions.remove(&client) else {
            return;
        };
        let served = self.services.iter();
        let served = served.filter(|(_, service)| service.has(client));
        let served: Vec<_> = served.map(|(name, _)| name.clone()).collect();
        for name in served {
            self.stop_serving(client, &name);
        }
        let keys: Vec<Key> = self.requests.keys().copied().collect();
        for key in keys.iter().filter(|key| key.0 == client) {
            if self.requests.get(key).is_some_and(|it| it.wanted) {
                self.give_up(*key, Code::PEER_GONE);
            }
        }
        for key in keys {
            let Some(request) = self.requests.get(&key) else {
                continue;
            };
            if request.handler == Some(client) {
                let was_written = session.outbox.has_written(request.at);
                self.lose_handler(key, was_written);
            }
        }
        if session.is_member {
            self.leave_channel(client, &session.name, cause);
        }
    }

    fn lose_handler(&mut self, key: Key, was_written: bool) {
        let Some(command) = self.requests[&key].command else {
            self.fail(key, Code::PEER_GONE);
            return;
        };
        if was_written {
            // 12.14: nobody knows, and nobody ever will.
            self.end_command(key, command, Outcome::Unknown);
            return;
        }
        let Some(Command { state, .. }) = self.commands.remove(&command) else {
            unreachable!("a command without outcome is known");
        };
        let CommandState::Running { waiters, .. } = state else {
            unreachable!("a command whose request is open has no outcome");
        };
        self.fail(key, Code::NOT_EXECUTED);
        for waiter in waiters {
            self.fail(waiter, Code::NOT_EXECUTED);
        }
    }

    /// The hub has done what is due now.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        let values = self.values.iter();
        let due = values.filter_map(|(topic, value)| Some((value.until?, topic.clone())));
        let mut due: Vec<_> = due.filter(|(until, _)| *until <= now).collect();
        due.sort();
        for (_, topic) in due {
            self.delete_value(&topic);
        }
        let sessions = self.sessions.iter();
        let due = sessions.filter_map(|(client, session)| Some((session.away_until?, *client)));
        let mut due: Vec<_> = due.filter(|(until, _)| *until <= now).collect();
        due.sort();
        for (_, client) in due {
            self.end(client, Code::SESSION_EXPIRED);
        }
        let requests = self.requests.iter();
        let due = requests.filter_map(|(key, request)| Some((request.deadline?, *key)));
        let mut due: Vec<_> = due.filter(|(deadline, _)| *deadline <= now).collect();
        due.sort();
        for (_, key) in due {
            self.give_up(key, Code::DEADLINE);
        }
        let commands = self.commands.iter();
        let old = commands.filter_map(|(key, command)| Some((command.over()?, *key)));
        let old: Vec<_> = old.filter(|(since, _)| *since + HOUR <= now).collect();
        for (_, key) in old {
            self.forget(key);
        }
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Option<Duration> {
        let values = self.values.values().filter_map(|value| value.until);
        let sessions = self.sessions.values().filter_map(|it| it.away_until);
        let deadlines = self.requests.values().filter_map(|it| it.deadline);
        let commands = self.commands.values().filter_map(Command::over);
        let commands = commands.map(|since| since + HOUR);
        let all = values.chain(sessions).chain(deadlines).chain(commands);
        all.min()
    }

    // Frames.

    /// The hub has carried out a frame of a client.
    pub(crate) fn carry_out(&mut self, client: ClientId, frame: &ClientFrame<'_>) {
        if let ClientFrame::Ack { received } = frame {
            self.session(client).outbox.confirm(*received);
            return;
        }
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let session = self.session(client);
        session.said += 1;
        let at = session.said;
        let said = Said::Forwarded(client, at, Bytes(bytes));
        let outcome = match *frame {
            ClientFrame::Message(message) => match message {
                Message::Request { .. } => self.ask((client, at), message, said),
                Message::Reply { .. } => self.reply(client, at, message, said),
                Message::Feed { request, more, .. } => self.feed((client, request), more, said),
                Message::Publish { .. } => self.publish(client, message),
                other => unreachable!("nobody says {other:?}"),
            },
            ClientFrame::Credit(credit) => self.credit(client, credit),
            ClientFrame::Cancel { request } => {
                let key = (client, request);
                if self.requests.get(&key).is_some_and(|it| it.wanted) {
                    self.give_up(key, Code::CANCELLED);
                }
                Ok(())
            }
            ClientFrame::Serve { service, mode, .. } => self.serve(client, at, service, mode),
            ClientFrame::Unserve { service } => match self.stop_serving(client, service) {
                true => self.done(client, at),
                false => Err(Code::NOT_SERVING),
            },
            ClientFrame::Join { .. } => {
                self.session(client).is_member = true;
                let offset = self.offset;
                let joined = BrokerFrame::Joined {
                    request: at,
                    channel: CHANNEL,
                    offset,
                };
                self.tell(client, Said::frame(&joined));
                Ok(())
            }
            ClientFrame::Leave { .. } => self.leave(client, at),
            ClientFrame::Put { put, .. } => self.put(client, at, &put),
            ref other => unreachable!("nobody says {other:?}"),
        };
        if let Err(code) = outcome {
            self.tell(client, Said::Refused(at, code));
        }
    }

    fn ask(&mut self, key: Key, message: Message<'_>, said: Said) -> Result<(), Code> {
        let Message::Request {
            to,
            deadline_ms,
            command,
            window,
            method,
            content,
            payload,
        } = message
        else {
            unreachable!("only requests ask");
        };
        if command.is_some() && window > 0 {
            return Err(Code::BAD_REQUEST);
        }
        let user = self.sessions[&key.0].user;
        let command = command.map(|id| (user, id));
        let asks = (format!("{to:?}"), method.into(), content.0, payload.into());
        let wait = match deadline_ms {
            0 => HOUR,
            ms => Duration::from_millis(ms.into()).min(HOUR),
        };
        let mut request = Request {
            handler: None,
            at: 0,
            deadline: Some(self.now + wait),
            streamed: window > 0,
            fed: false,
            torn_parts: false,
            torn_feed: false,
            command,
            wanted: true,
        };
        if let Some(id) = command {
            match self.commands.get_mut(&id) {
                Some(known) if known.asks != asks => return Err(Code::ID_REUSE),
                Some(Command {
                    state: CommandState::Over(_, _, outcome),
                    ..
                }) => {
                    let outcome = outcome.clone();
                    self.tell_outcome(key, &outcome);
                    return Ok(());
                }
                Some(Command {
                    state: CommandState::Running { waiters, .. },
                    ..
                }) => {
                    waiters.push(key);
                    self.requests.insert(key, request);
                    return Ok(());
                }
                None if self.forgotten.get(&user).is_some_and(|old| id.1 <= *old) => {
                    return Err(Code::STALE_COMMAND);
                }
                None => {}
            }
        }
        let handler = match to {
            Target::Id(client) => self.sessions.contains_key(&client).then_some(client),
            Target::Name(name) => {
                let mut sessions = self.sessions.iter();
                let found = sessions.find(|(_, session)| session.name == name);
                found.map(|(client, _)| *client)
            }
            Target::Service(name) => Some(self.pick(name).ok_or(Code::NO_SUCH_SERVICE)?),
        };
        let handler = handler.ok_or(Code::UNKNOWN_CLIENT)?;
        let outbox = &mut self.session(handler).outbox;
        request.at = outbox.offer(said).ok_or(Code::OUTBOX_FULL)?;
        request.handler = Some(handler);
        self.requests.insert(key, request);
        if let Some(id) = command {
            let state = CommandState::Running {
                first: key,
                waiters: Vec::new(),
            };
            self.commands.insert(id, Command { asks, state });
        }
        Ok(())
    }

    /// 12.9: of those who serve it and are not away, one with the fewest requests; among these, in turn. Of an
    /// exclusive service the first in line.
    fn pick(&mut self, name: &str) -> Option<ClientId> {
        let service = self.services.get(name)?;
        let count = service.servers.len();
        let here = |client: &ClientId| self.sessions[client].away_until.is_none();
        if !service.shared {
            return Some(service.servers[0].0).filter(here);
        }
        let in_turn = (0..count).map(|n| (service.turn + n) % count);
        let able = in_turn.filter(|at| here(&service.servers[*at].0));
        let picked = able.min_by_key(|at| self.load(service.servers[*at].0))?;
        let client = service.servers[picked].0;
        if let Some(service) = self.services.get_mut(name) {
            service.turn = (picked + 1) % count;
        }
        Some(client)
    }

    /// How many requests a client has not replied to.
    pub(crate) fn load(&self, client: ClientId) -> u64 {
        let mine = |it: &&Request| it.handler == Some(client);
        self.requests.values().filter(mine).count() as u64
    }

    fn reply(
        &mut self,
        client: ClientId,
        at: u64,
        message: Message<'_>,
        said: Said,
    ) -> Result<(), Code> {
        let Message::Reply {
            to,
            request,
            error,
            more,
            content,
            payload,
        } = message
        else {
            unreachable!("only replies reply");
        };
        if error.is_some_and(|code| code != Code::FAILED) {
            return Err(Code::BAD_REQUEST);
        }
        let key = (to, request);
        let known = self.requests.get_mut(&key);
        let known = known.filter(|it| it.handler == Some(client));
        let request = known.ok_or(Code::UNKNOWN_REQUEST)?;
        if more {
            if !request.streamed {
                return Err(Code::BAD_REQUEST);
            }
            let caller = self.sessions.get_mut(&key.0).expect("a caller is there");
            // 12.18
            if request.torn_parts || caller.outbox.offer(said).is_none() {
                request.torn_parts = true;
                return Err(Code::OUTBOX_FULL);
            }
            // 12.19
            request.deadline = None;
            return Ok(());
        }
        let torn = request.torn_parts && error.is_none();
        if let Some(command) = request.command {
            let outcome = Outcome::Replied {
                sender: client,
                at,
                error,
                content,
                payload: payload.into(),
            };
            self.end_command(key, command, outcome);
            return Ok(());
        }
        self.requests.remove(&key);
        if torn || self.session(key.0).outbox.offer(said).is_none() {
            self.tell(key.0, Said::Failed(key.0, key.1, Code::OUTBOX_FULL));
        }
        Ok(())
    }

    fn feed(&mut self, key: Key, more: bool, said: Said) -> Result<(), Code> {
        let known = self.requests.get(&key).filter(|it| it.streamed && !it.fed);
        let handler = known.and_then(|it| it.handler);
        let handler = handler.ok_or(Code::UNKNOWN_REQUEST)?;
        let torn = known.is_some_and(|it| it.torn_feed);
        let fits = !torn && self.session(handler).outbox.offer(said).is_some();
        if let Some(request) = self.requests.get_mut(&key) {
            request.torn_feed = !fits;
            request.fed = fits && !more;
        }
        fits.then_some(()).ok_or(Code::OUTBOX_FULL)
    }

    fn credit(&mut self, from: ClientId, credit: Credit) -> Result<(), Code> {
        let key = (credit.of, credit.request);
        let known = self.requests.get(&key).filter(|it| it.streamed);
        let handler = known.and_then(|it| it.handler);
        let handler = handler.ok_or(Code::UNKNOWN_REQUEST)?;
        let to = match from {
            _ if from == credit.of => handler,
            _ if from == handler => credit.of,
            _ => return Err(Code::UNKNOWN_REQUEST),
        };
        let said = Said::frame(&BrokerFrame::Credit(credit));
        let offered = self.session(to).outbox.offer(said);
        offered.map(|_| ()).ok_or(Code::OUTBOX_FULL)
    }

    // Outcomes.

    /// The request is over: the hub says why, if the caller still waits.
    fn fail(&mut self, key: Key, why: Code) {
        if self.requests.remove(&key).is_some_and(|it| it.wanted) {
            self.tell(key.0, Said::Failed(key.0, key.1, why));
        }
    }

    /// The caller does not wait any more.
    fn give_up(&mut self, key: Key, why: Code) {
        let Some(request) = self.requests.get_mut(&key) else {
            return;
        };
        (request.deadline, request.wanted) = (None, false);
        let (handler, command) = (request.handler, request.command);
        self.tell(key.0, Said::Failed(key.0, key.1, why));
        let Some(command) = command else {
            self.requests.remove(&key);
            self.tell_cancelled(handler, key, why);
            return;
        };
        if handler.is_none() {
            self.requests.remove(&key);
        }
        let known = self.commands.get_mut(&command);
        if let Some(CommandState::Running { first, waiters }) = known.map(|it| &mut it.state) {
            waiters.retain(|waiter| *waiter != key);
            let (first, last) = (*first, waiters.is_empty());
            let request = &self.requests[&first];
            // 12.14: only when the last caller cancels.
            if last && !request.wanted && why == Code::CANCELLED {
                self.tell_cancelled(request.handler, first, why);
            }
        }
    }

    fn tell_cancelled(&mut self, handler: Option<ClientId>, (caller, request): Key, cause: Code) {
        let cancelled = BrokerFrame::Cancelled {
            caller,
            request,
            cause,
        };
        if let Some(handler) = handler {
            self.tell(handler, Said::frame(&cancelled));
        }
    }

    /// All who wait for a command get its outcome.
    fn end_command(&mut self, first: Key, id: CommandKey, outcome: Outcome) {
        self.outcomes += 1;
        let over = CommandState::Over(self.now, self.outcomes, outcome.clone());
        let command = self.commands.get_mut(&id).expect("the command is known");
        let before = std::mem::replace(&mut command.state, over);
        let CommandState::Running { waiters, .. } = before else {
            unreachable!("a command has one outcome");
        };
        for key in std::iter::once(first).chain(waiters) {
            if self.requests.remove(&key).is_some_and(|it| it.wanted) {
                self.tell_outcome(key, &outcome);
            }
        }
        // 12.15: so many bytes of a user, but always the last.
        loop {
            let commands = self.commands.iter().filter(|(key, _)| key.0 == id.0);
            let over: Vec<_> = commands
                .filter_map(|(key, command)| match &command.state {
                    CommandState::Over(_, number, outcome) => {
                        Some((*number, *key, outcome.bytes()))
                    }
                    CommandState::Running { .. } => None,
                })
                .collect();
            let bytes: usize = over.iter().map(|(.., bytes)| bytes).sum();
            if bytes <= OUTCOME_BYTES_MAX || over.len() == 1 {
                return;
            }
            if let Some((_, oldest, _)) = over.into_iter().min() {
                self.crowded_out += 1;
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, (user, id): CommandKey) {
        self.commands.remove(&(user, id));
        let mark = self.forgotten.entry(user).or_insert(id);
        *mark = id.max(*mark);
    }

    fn tell_outcome(&mut self, (to, request): Key, outcome: &Outcome) {
        let Outcome::Replied {
            sender,
            at,
            error,
            content,
            payload,
        } = outcome
        else {
            self.tell(to, Said::Failed(to, request, Code::OUTCOME_UNKNOWN));
            return;
        };
        let mut bytes = Vec::new();
        BrokerFrame::Message(Message::Reply {
            to,
            request,
            error: *error,
            more: false,
            content: *content,
            payload,
        })
        .encode(&mut bytes);
        let said = Said::Forwarded(*sender, *at, Bytes(bytes));
        if self.session(to).outbox.offer(said).is_none() {
            self.tell(to, Said::Failed(to, request, Code::OUTBOX_FULL));
        }
    }

    // Services.

    fn serve(
        &mut self,
        client: ClientId,
        at: u64,
        name: &str,
        mode: ServeMode,
    ) -> Result<(), Code> {
        let shared = mode == ServeMode::Shared;
        let service = self.services.entry(name.into()).or_default();
        if service.servers.is_empty() {
            service.shared = shared;
        } else if service.shared != shared {
            return Err(Code::BAD_REQUEST);
        }
        if !service.has(client) {
            service.servers.push((client, 0));
        }
        let mut ousted = None;
        if mode == ServeMode::Takeover && service.servers[0].0 != client {
            ousted = Some(service.servers.remove(0));
            service.servers.retain(|(server, _)| *server != client);
            service.servers.insert(0, (client, 0));
        }
        self.done(client, at)?;
        if let Some((before, fence)) = ousted {
            self.tell_lease(name, before, LeaseState::Lost, fence);
        }
        if !shared && self.grant(name).is_none() {
            let mut servers = self.services[name].servers.iter();
            let (_, fence) = servers.find(|it| it.0 == client).expect("it serves");
            let state = match fence {
                0 => LeaseState::Queued,
                _ => LeaseState::Held,
            };
            self.tell_lease(name, client, state, *fence);
        }
        Ok(())
    }

    fn stop_serving(&mut self, client: ClientId, name: &str) -> bool {
        let Some(service) = self.services.get_mut(name) else {
            return false;
        };
        let before = service.servers.len();
        service.servers.retain(|(server, _)| *server != client);
        let served = service.servers.len() < before;
        if service.servers.is_empty() {
            self.services.remove(name);
        } else if !service.shared {
            self.grant(name);
        }
        served
    }

    /// Gives the lease to the first in line, if nobody has it.
    fn grant(&mut self, name: &str) -> Option<()> {
        let service = self.services.get_mut(name)?;
        let (heir, fence) = service.servers.first_mut()?;
        if *fence > 0 {
            return None;
        }
        self.fence += 1;
        *fence = self.fence;
        let (heir, fence) = (*heir, *fence);
        self.tell_lease(name, heir, LeaseState::Held, fence);
        Some(())
    }

    fn tell_lease(&mut self, service: &str, client: ClientId, state: LeaseState, fence: u64) {
        let lease = BrokerFrame::Lease {
            service,
            state,
            fence,
        };
        self.tell(client, Said::frame(&lease));
    }

    // Values.

    fn put(&mut self, client: ClientId, at: u64, put: &Put<'_>) -> Result<(), Code> {
        if !self.session(client).is_member {
            return Err(Code::NOT_A_MEMBER);
        }
        let version = self.values.get(put.topic).map_or(0, |value| value.version);
        if put.expect.is_some_and(|expected| expected != version) {
            return Err(Code::VERSION_CONFLICT);
        }
        let until = (put.ttl_ms > 0).then(|| self.now + Duration::from_millis(put.ttl_ms.into()));
        let owner = put.owned.then_some(client);
        self.say_value(client, put.retain, put.topic, put.payload, (until, owner));
        let stored = BrokerFrame::Stored {
            request: at,
            offset: self.offset,
        };
        self.tell(client, Said::frame(&stored));
        Ok(())
    }

    fn publish(&mut self, client: ClientId, message: Message<'_>) -> Result<(), Code> {
        let Message::Publish {
            retain,
            topic,
            payload,
            ..
        } = message
        else {
            unreachable!("only a publish publishes");
        };
        if !self.session(client).is_member {
            return Err(Code::NOT_A_MEMBER);
        }
        // 8.22
        self.say_value(client, retain, topic, payload, (None, None));
        Ok(())
    }

    fn say_value(
        &mut self,
        sender: ClientId,
        retain: Retain,
        topic: &str,
        payload: &[u8],
        (until, owner): (Option<Duration>, Option<ClientId>),
    ) {
        self.offset += 1;
        match retain {
            Retain::No => {}
            Retain::Clear => drop(self.values.remove(topic)),
            Retain::Set => {
                let value = Value {
                    version: self.offset,
                    sender,
                    payload: payload.into(),
                    until,
                    owner,
                };
                self.values.insert(topic.into(), value);
            }
        }
        let (topic, payload) = (topic.into(), payload.into());
        let message = Watched::Message(sender, self.offset, topic, payload);
        self.watched.push_back(message);
    }

    fn delete_value(&mut self, topic: &str) {
        self.say_value(ClientId::HUB, Retain::Clear, topic, b"", (None, None));
    }

    fn leave(&mut self, client: ClientId, at: u64) -> Result<(), Code> {
        if !self.session(client).is_member {
            return Err(Code::NOT_A_MEMBER);
        }
        self.session(client).is_member = false;
        let name = self.sessions[&client].name.clone();
        self.leave_channel(client, &name, Code::GOODBYE);
        self.done(client, at)
    }

    /// 8.21: first what it owns goes, then it has left.
    fn leave_channel(&mut self, client: ClientId, name: &str, cause: Code) {
        let values = self.values.iter();
        let owned = values.filter(|(_, value)| value.owner == Some(client));
        let owned: Vec<_> = owned.map(|(topic, _)| topic.clone()).collect();
        for topic in owned {
            self.delete_value(&topic);
        }
        self.watched.push_back(Watched::Left(name.into(), cause));
    }

    fn done(&mut self, client: ClientId, request: u64) -> Result<(), Code> {
        self.tell(client, Said::frame(&BrokerFrame::Done { request }));
        Ok(())
    }

    fn tell(&mut self, client: ClientId, said: Said) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.outbox.answer(said);
        }
    }

    fn session(&mut self, client: ClientId) -> &mut Session {
        self.sessions
            .get_mut(&client)
            .expect("the session is there")
    }
}

impl Service {
    fn has(&self, client: ClientId) -> bool {
        self.servers.iter().any(|(server, _)| *server == client)
    }
}

impl Session {
    pub(crate) fn is_away(&self) -> bool {
        self.away_until.is_some()
    }
}

impl Command {
    /// Since when it has an outcome.
    fn over(&self) -> Option<Duration> {
        match &self.state {
            CommandState::Over(since, ..) => Some(*since),
            CommandState::Running { .. } => None,
        }
    }
}

impl Outcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Replied { payload, .. } => payload.len(),
            Self::Unknown => 0,
        }
    }
}
