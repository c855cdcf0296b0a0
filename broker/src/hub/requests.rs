//! Who has asked whom for what: every request has one outcome.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::admin::{ServerView, ServiceView};
use localhub_protocol::limits::{DESCRIPTION_BYTES_MAX, METHOD_BYTES_MAX};
use localhub_protocol::{
    BrokerFrame, ClientId, ClientName, Code, ContentType, Credit, Message, ServeMode, ServiceName,
    Target,
};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::budget::Budget;
use super::commands::{
    COMMAND_AGE_MAX, COMMANDS_MAX, CommandKey, Commands, Outcome, Standing, fingerprint,
};
use super::outbox::{Entry, Offer, Origin, Sender};
use super::services::{Lease, SERVICES_MAX, Services};
use super::session::Session;
use super::{Refusal, Wakes};

/// The requests between clients, from when they are carried out to their outcome, and the services
/// that they are made to (`docs/protocol.md` 12).
///
/// A request is taken in, replied to and given up under one lock. So it has one outcome, whoever
/// comes first.
#[derive(Debug)]
pub(super) struct Requests {
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Those who take part: who has asked, is asked, or serves.
    parties: FxHashMap<ClientId, Party>,
    pending: FxHashMap<Key, Pending>,
    /// How many requests of one client are with another.
    pairs: FxHashMap<(ClientId, ClientId), u64>,
    deadlines: BTreeSet<(Duration, Key)>,
    services: Services,
    commands: Commands,
    /// When something is to be done, as far as the server knows.
    alarm: Option<Duration>,
    /// What all this is charged, without commands.
    held: u64,
}

/// A request: who made it, and its position among the messages of that client.
pub(super) type Key = (ClientId, u64);

/// A client as far as requests are concerned.
#[derive(Debug)]
struct Party {
    session: Arc<Session>,
    away: bool,
    /// The requests that it waits for, by position.
    made: FxHashSet<u64>,
    /// The requests that it has not replied to.
    handling: FxHashSet<Key>,
    serves: BTreeSet<ServiceName>,
}

/// A request without outcome.
#[derive(Debug)]
struct Pending {
    /// Who is to reply; nobody if it waits for the outcome of a command that came before.
    handler: Option<ClientId>,
    service: Option<ServiceName>,
    /// Which service of that name has counted it; 0 if none did.
    counted_by: u64,
    since: Duration,
    deadline: Option<Duration>,
    /// Its position in the handler's outbox.
    at: u64,
    /// Whether the reply may come in parts.
    streamed: bool,
    /// Whether the caller has said that nothing more of the request comes.
    fed: bool,
    /// A part of the reply, or something that was fed, did not fit: nothing more of it is passed on, so that
    /// nobody takes what comes behind for what comes next.
    torn: Torn,
    command: Option<CommandKey>,
    /// Whether the caller still waits. A command goes on without.
    wanted: bool,
}

/// In which directions something is missing.
#[derive(Clone, Copy, Debug, Default)]
struct Torn {
    parts: bool,
    feed: bool,
}

/// A request, as its connection has it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) caller: &'a Arc<Session>,
    pub(super) sender: &'a Arc<Sender>,
    pub(super) message: Message<'a>,
    pub(super) frames: Bytes,
    pub(super) position: u64,
}

/// A reply, as its connection has it.
#[derive(Debug)]
pub(super) struct Replied<'a> {
    pub(super) handler: &'a Arc<Session>,
    pub(super) sender: &'a Arc<Sender>,
    pub(super) to: Key,
    pub(super) error: Option<Code>,
    pub(super) more: bool,
    pub(super) content: ContentType,
    pub(super) payload: &'a [u8],
    pub(super) frames: Bytes,
    pub(super) position: u64,
}

/// How long a request may wait for its reply.
pub(super) const DEADLINE_MAX: Duration = Duration::from_secs(60 * 60);

/// The requests without outcome of one client to another: what a handler may have on its desk of one caller.
pub(super) const REQUESTS_PER_PAIR_MAX: u64 = 1_024;

/// The requests without outcome of one client, whoever handles them.
pub(super) const REQUESTS_PER_CALLER_MAX: usize = 16_384;

/// What a request without outcome costs beside its place in an outbox.
const REQUEST_BYTES: u64 = 512;

impl Requests {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            state: Mutex::new(State {
                parties: FxHashMap::default(),
                pending: FxHashMap::default(),
                pairs: FxHashMap::default(),
                deadlines: BTreeSet::new(),
                services: Services::default(),
                commands: Commands::new(budget.clone()),
                alarm: None,
                held: 0,
            }),
            budget,
        }
    }

    /// Takes a request in and sends it to its handler; `named` is the client that it is for, if it is
    /// for one.
    pub(super) fn ask(
        &self,
        asked: Asked<'_>,
        named: Option<Arc<Session>>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let Message::Request {
            to,
            deadline_ms,
            command,
            window,
            method,
            ..
        } = asked.message
        else {
            unreachable!("only requests ask");
        };
        if method.len() > METHOD_BYTES_MAX {
            return Err(Refusal::Impossible {
                what: "a method has at most 255 bytes",
            });
        }
        if command.is_some() && window > 0 {
            return Err(Refusal::Impossible {
                what: "a command has a single reply (set the window to 0)",
            });
        }
        let service: Option<ServiceName> = match to {
            Target::Service(name) => Some(name.parse().map_err(Refusal::BadServiceName)?),
            Target::Id(_) | Target::Name(_) => None,
        };
        let command = command.map(|id| {
            let user = asked.caller.identity.lock().user.clone();
            ((user, id), fingerprint(&asked.message))
        });
        let key = (asked.caller.id, asked.position);
        let wait = match deadline_ms {
            0 => DEADLINE_MAX,
            ms => Duration::from_millis(ms.into()).min(DEADLINE_MAX),
        };
        let mut pending = Pending {
            handler: None,
            service,
            counted_by: 0,
            since: now,
            deadline: Some(now + wait),
            at: 0,
            streamed: window > 0,
            fed: false,
            torn: Torn::default(),
            command: command.as_ref().map(|(key, _)| key.clone()),
            wanted: true,
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        if asked.caller.outbox.is_over() {
            return Ok(());
        }
        if let Some((id, asks)) = &command {
            match state.commands.look(id, asks, now) {
                Standing::New => {}
                Standing::Running => {
                    if state.has_room_for(asked.caller.id, &self.budget).is_err() {
                        // A refusal would say that it was not carried out: only this wait for it is over.
                        tell(asked.caller, key, &Outcome::Failed(Code::DEADLINE), wakes);
                        return Ok(());
                    }
                    state.commands.wait(id, key);
                    self.insert(state, key, asked.caller, None, pending, wakes);
                    return Ok(());
                }
                Standing::Over(outcome) => {
                    tell(asked.caller, key, &outcome, wakes);
                    return Ok(());
                }
                Standing::Reused => return Err(Refusal::IdReuse),
                Standing::Stale => return Err(Refusal::StaleCommand),
                Standing::Full => {
                    return Err(Refusal::LimitReached {
                        what: "too many commands",
                        limit: COMMANDS_MAX as u64,
                    });
                }
            }
        }
        let handler = match &pending.service {
            Some(name) => state.pick(name).ok_or(Refusal::NoSuchService)?,
            None => named.ok_or(Refusal::UnknownClient)?,
        };
        state.has_room_for(asked.caller.id, &self.budget)?;
        let pair = state.pairs.get(&(asked.caller.id, handler.id));
        if pair.is_some_and(|count| *count >= REQUESTS_PER_PAIR_MAX) {
            return Err(Refusal::LimitReached {
                what: "too many requests to one client without outcome",
                limit: REQUESTS_PER_PAIR_MAX,
            });
        }
        let origin = Origin::Direct {
            sender: asked.sender.clone(),
            first: asked.position,
        };
        match handler
            .outbox
            .offer(&Entry::new(origin, asked.frames, 1), wakes)
        {
            Offer::Queued(at) => pending.at = at,
            Offer::Full => return Err(Refusal::OutboxFull),
            Offer::Over if pending.service.is_some() => return Err(Refusal::NoSuchService),
            Offer::Over => return Err(Refusal::UnknownClient),
        }
        pending.handler = Some(handler.id);
        if let Some((id, asks)) = command {
            state.commands.begin(&id, asks, key);
        }
        self.insert(state, key, asked.caller, Some(&handler), pending, wakes);
        Ok(())
    }

    /// Passes a reply on to who waits for it, or a part of one.
    pub(super) fn reply(
        &self,
        reply: Replied<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        if reply.error.is_some_and(|code| code != Code::FAILED) {
            return Err(Refusal::Impossible {
                what: "a handler's error is `failed`, and the payload says more",
            });
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let known = state.pending.get_mut(&reply.to);
        let pending = known
            .filter(|pending| pending.handler == Some(reply.handler.id))
            .ok_or(Refusal::UnknownRequest)?;
        let origin = Origin::Direct {
            sender: reply.sender.clone(),
            first: reply.position,
        };
        if reply.more {
            if !pending.streamed {
                return Err(Refusal::Impossible {
                    what: "the caller wants a single reply",
                });
            }
            if pending.torn.parts {
                return Err(Refusal::OutboxFull);
            }
            let entry = Entry::new(origin, reply.frames, 1);
            let passed = state.pass_on(reply.to.0, &entry, wakes);
            if let Some(pending) = state.pending.get_mut(&reply.to) {
                pending.torn.parts = passed.is_err();
                if let Some(deadline) = pending.deadline.take_if(|_| passed.is_ok()) {
                    state.deadlines.remove(&(deadline, reply.to));
                }
            }
            return passed;
        }
        let failed = reply.error.is_some();
        // A success would say that all parts were there.
        let torn = pending.torn.parts && !failed;
        if let Some(command) = pending.command.clone() {
            let outcome = Outcome::Replied {
                sender: reply.sender.clone(),
                first: reply.position,
                error: reply.error,
                content: reply.content,
                payload: Bytes::copy_from_slice(reply.payload),
            };
            self.end_command(state, reply.to, &command, &outcome, now, wakes);
            return Ok(());
        }
        let entry = Entry::new(origin, reply.frames, 1);
        if (torn || state.pass_on(reply.to.0, &entry, wakes).is_err())
            && let Some(party) = state.parties.get(&reply.to.0)
        {
            let outcome = Outcome::Failed(Code::OUTBOX_FULL);
            tell(&party.session, reply.to, &outcome, wakes);
        }
        self.remove(state, reply.to, failed, now);
        Ok(())
    }

    /// Passes more of a streamed request on to its handler.
    pub(super) fn feed(
        &self,
        key: Key,
        more: bool,
        entry: &Entry,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let known = state.pending.get_mut(&key);
        let pending = known
            .filter(|pending| pending.streamed && !pending.fed)
            .ok_or(Refusal::UnknownRequest)?;
        let handler = pending.handler.ok_or(Refusal::UnknownRequest)?;
        if pending.torn.feed {
            return Err(Refusal::OutboxFull);
        }
        let passed = state.pass_on(handler, entry, wakes);
        if let Some(pending) = state.pending.get_mut(&key) {
            pending.torn.feed = passed.is_err();
            pending.fed = passed.is_ok() && !more;
        }
        passed
    }

    /// Passes a credit on to the other side of a streamed request.
    pub(super) fn credit(
        &self,
        from: ClientId,
        credit: Credit,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let state = self.state.lock();
        let key = (credit.of, credit.request);
        let known = state.pending.get(&key);
        let pending = known
            .filter(|pending| pending.streamed)
            .ok_or(Refusal::UnknownRequest)?;
        let other = match pending.handler {
            Some(handler) if credit.of == from => handler,
            Some(handler) if handler == from => credit.of,
            _ => return Err(Refusal::UnknownRequest),
        };
        let mut bytes = Vec::new();
        BrokerFrame::Credit(credit).encode(&mut bytes);
        state.pass_on(other, &Entry::new(Origin::Answer, bytes, 1), wakes)
    }

    /// The caller does not want an outcome any more.
    pub(super) fn cancel(&self, key: Key, now: Duration, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        if state.pending.get(&key).is_some_and(|it| it.wanted) {
            self.give_up(&mut state, key, Code::CANCELLED, now, wakes);
        }
    }

    /// A client serves from now on.
    pub(super) fn serve(
        &self,
        session: &Arc<Session>,
        request: u64,
        (name, mode, description): (&str, ServeMode, &[u8]),
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let name: ServiceName = name.parse().map_err(Refusal::BadServiceName)?;
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(Refusal::PayloadTooLarge {
                bytes: description.len() as u64,
                max: DESCRIPTION_BYTES_MAX as u64,
            });
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        if session.outbox.is_over() {
            return Ok(());
        }
        self.budget_fits(description.len() as u64 + REQUEST_BYTES)?;
        let known = state.parties.get(&session.id);
        let serves = known.map_or(0, |party| party.serves.len());
        if serves >= SERVICES_MAX && !known.is_some_and(|party| party.serves.contains(&name)) {
            return Err(Refusal::LimitReached {
                what: "too many services of one client",
                limit: SERVICES_MAX as u64,
            });
        }
        let description = Bytes::copy_from_slice(description);
        let served = state
            .services
            .serve(session.id, name.clone(), mode, description);
        let (told, more) = served?;
        self.charge(state, more);
        state.party(session).serves.insert(name.clone());
        let done = BrokerFrame::Done { request };
        session.outbox.answer(&done, wakes);
        for lease in told {
            if lease.client != session.id
                && let Some(ousted) = state.parties.get_mut(&lease.client)
            {
                ousted.serves.remove(&name);
            }
            state.tell_lease(&name, lease, wakes);
            state.forget_idle(lease.client);
        }
        Ok(())
    }

    /// A client does not serve any more.
    pub(super) fn unserve(
        &self,
        session: &Arc<Session>,
        request: u64,
        name: &str,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let name: ServiceName = name.parse().map_err(Refusal::BadServiceName)?;
        let mut state = self.state.lock();
        if !self.stop_serving(&mut state, session.id, &name, wakes) {
            return Err(Refusal::NotServing);
        }
        state.forget_idle(session.id);
        session.outbox.answer(&BrokerFrame::Done { request }, wakes);
        Ok(())
    }

    /// Whether a client has no connection now, and gets no requests to the services that it serves.
    pub(super) fn set_away(&self, client: ClientId, away: bool) {
        if let Some(party) = self.state.lock().parties.get_mut(&client) {
            party.away = away;
        }
    }

    /// A session is over; `sent` is the position of the last message that was ever written to its client.
    /// The outbox takes no more by now.
    pub(super) fn depart(&self, client: ClientId, sent: u64, now: Duration, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(party) = state.parties.get(&client) else {
            return;
        };
        for name in party.serves.clone() {
            self.stop_serving(state, client, &name, wakes);
        }
        let Some(party) = state.parties.get(&client) else {
            return;
        };
        let mut handling: Vec<_> = party.handling.iter().copied().collect();
        let mut made: Vec<_> = party
            .made
            .iter()
            .map(|position| (client, *position))
            .collect();
        // The same order in every run.
        handling.sort_unstable();
        made.sort_unstable();
        for key in made {
            self.give_up(state, key, Code::PEER_GONE, now, wakes);
        }
        for key in handling {
            let Some(pending) = state.pending.get(&key) else {
                continue;
            };
            let Some(command) = pending.command.clone() else {
                state.tell_caller(key, Code::PEER_GONE, wakes);
                self.remove(state, key, true, now);
                continue;
            };
            if pending.at <= sent {
                let outcome = Outcome::Failed(Code::OUTCOME_UNKNOWN);
                self.end_command(state, key, &command, &outcome, now, wakes);
                continue;
            }
            self.undo_command(state, key, &command, now, wakes);
        }
        state.parties.remove(&client);
    }

    /// A client has come back without the messages at these positions, and they are not sent again: it has not
    /// got the commands among them, and never will.
    pub(super) fn miss(
        &self,
        client: ClientId,
        missed: RangeInclusive<u64>,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        if missed.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(party) = state.parties.get(&client) else {
            return;
        };
        let pending = party.handling.iter().filter_map(|key| {
            let pending = state.pending.get(key)?;
            let command = pending.command.clone()?;
            missed.contains(&pending.at).then_some((*key, command))
        });
        let mut commands: Vec<_> = pending.collect();
        // The same order in every run.
        commands.sort_unstable_by_key(|(key, _)| *key);
        for (key, command) in commands {
            self.undo_command(state, key, &command, now, wakes);
        }
    }

    /// Ends the wait for replies that did not come in time. Returns when there is something to do next.
    pub(super) fn expire(&self, now: Duration, wakes: &mut Wakes) -> Option<Duration> {
        let mut state = self.state.lock();
        let state = &mut *state;
        while let Some(&(deadline, key)) = state.deadlines.first()
            && deadline <= now
        {
            self.give_up(state, key, Code::DEADLINE, now, wakes);
        }
        let next = state.deadlines.first().map(|(deadline, _)| *deadline);
        let forget = state.commands.expire(now);
        state.alarm = next.into_iter().chain(forget).min();
        state.alarm
    }

    /// Ends a caller's wait. The handler is told, unless it is a command: that goes on.
    fn give_up(&self, state: &mut State, key: Key, why: Code, now: Duration, wakes: &mut Wakes) {
        let Some(pending) = state.pending.get_mut(&key) else {
            return;
        };
        pending.wanted = false;
        if let Some(deadline) = pending.deadline.take() {
            state.deadlines.remove(&(deadline, key));
        }
        let command = pending.command.clone();
        let handler = pending.handler;
        state.tell_caller(key, why, wakes);
        match (command, handler) {
            (None, handler) => {
                state.tell_handler(handler, key, why, wakes);
                self.remove(state, key, true, now);
            }
            (Some(command), None) => {
                state.commands.give_up(&command, key);
                self.remove(state, key, true, now);
                state.cancel_unwanted(&command, why, wakes);
            }
            (Some(command), Some(_)) => {
                if let Some(caller) = state.parties.get_mut(&key.0) {
                    caller.made.remove(&key.1);
                }
                state.forget_idle(key.0);
                state.cancel_unwanted(&command, why, wakes);
            }
        }
    }

    /// A command has an outcome: all who wait for it are told.
    fn end_command(
        &self,
        state: &mut State,
        first: Key,
        command: &CommandKey,
        outcome: &Outcome,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let waiters = state.commands.end(command, outcome, now);
        state.note_alarm(now + COMMAND_AGE_MAX, wakes);
        let failed = !matches!(outcome, Outcome::Replied { error: None, .. });
        for key in std::iter::once(first).chain(waiters) {
            let wanted = state.pending.get(&key).is_some_and(|it| it.wanted);
            if let Some(party) = state.parties.get(&key.0).filter(|_| wanted) {
                tell(&party.session, key, outcome, wakes);
            }
            self.remove(state, key, failed, now);
        }
    }

    /// A command never came to its handler: all who wait for it are told.
    fn undo_command(
        &self,
        state: &mut State,
        first: Key,
        command: &CommandKey,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let waiters = state.commands.undo(command);
        for key in std::iter::once(first).chain(waiters) {
            state.tell_caller(key, Code::NOT_EXECUTED, wakes);
            self.remove(state, key, true, now);
        }
    }

    fn insert(
        &self,
        state: &mut State,
        key: Key,
        caller: &Arc<Session>,
        handler: Option<&Arc<Session>>,
        mut pending: Pending,
        wakes: &mut Wakes,
    ) {
        state.party(caller).made.insert(key.1);
        if let Some(handler) = handler {
            state.party(handler).handling.insert(key);
            *state.pairs.entry((key.0, handler.id)).or_default() += 1;
        }
        if let Some(service) = &pending.service
            && let Some(service) = state.services.get_mut(service.as_str())
        {
            service.tally.begin(pending.since);
            pending.counted_by = service.number;
        }
        if let Some(deadline) = pending.deadline {
            state.deadlines.insert((deadline, key));
            state.note_alarm(deadline, wakes);
        }
        state.pending.insert(key, pending);
        self.charge(state, REQUEST_BYTES as i64);
    }

    fn remove(&self, state: &mut State, key: Key, failed: bool, now: Duration) {
        let Some(pending) = state.pending.remove(&key) else {
            return;
        };
        if let Some(deadline) = pending.deadline {
            state.deadlines.remove(&(deadline, key));
        }
        if let Some(service) = &pending.service
            && let Some(service) = state.services.get_mut(service.as_str())
            && service.number == pending.counted_by
        {
            let took = now.saturating_sub(pending.since);
            service.tally.end(took, failed);
        }
        if let Some(caller) = state.parties.get_mut(&key.0) {
            caller.made.remove(&key.1);
        }
        state.forget_idle(key.0);
        if let Some(handler) = pending.handler {
            if let Some(party) = state.parties.get_mut(&handler) {
                party.handling.remove(&key);
            }
            if let Some(count) = state.pairs.get_mut(&(key.0, handler)) {
                *count -= 1;
                if *count == 0 {
                    state.pairs.remove(&(key.0, handler));
                }
            }
            state.forget_idle(handler);
        }
        self.charge(state, -(REQUEST_BYTES as i64));
    }

    fn stop_serving(
        &self,
        state: &mut State,
        client: ClientId,
        name: &ServiceName,
        wakes: &mut Wakes,
    ) -> bool {
        let Some((heir, less)) = state.services.unserve(client, name.as_str()) else {
            return false;
        };
        self.charge(state, -less);
        if let Some(party) = state.parties.get_mut(&client) {
            party.serves.remove(name);
        }
        if let Some(lease) = heir {
            state.tell_lease(name, lease, wakes);
        }
        true
    }

    fn charge(&self, state: &mut State, bytes: i64) {
        state.held = state.held.saturating_add_signed(bytes);
        if bytes >= 0 {
            self.budget.charge(bytes.unsigned_abs());
        } else {
            self.budget.refund(bytes.unsigned_abs());
        }
    }

    fn budget_fits(&self, bytes: u64) -> Result<(), Refusal> {
        match self.budget.fits(bytes) {
            true => Ok(()),
            false => Err(Refusal::LimitReached {
                what: "the broker's memory, in bytes",
                limit: self.budget.limit(),
            }),
        }
    }

    /// Requests without outcome, commands that are known, and what these take.
    pub(super) fn totals(&self) -> [u64; 3] {
        let state = self.state.lock();
        let (commands, bytes) = state.commands.held();
        [state.pending.len() as u64, commands, bytes]
    }

    /// The services after a name, at most so many, for operators; and whether there are more.
    pub(super) fn services(
        &self,
        after: Bound<ServiceName>,
        most: usize,
        now: Duration,
    ) -> (Vec<ServiceView>, bool) {
        let mut state = self.state.lock();
        let State {
            parties, services, ..
        } = &mut *state;
        let mut rest = services.range_mut(after);
        let page = rest.by_ref().take(most).map(|(name, service)| {
            let servers = service.servers.iter().filter_map(|server| {
                let party = parties.get(&server.client)?;
                Some(ServerView {
                    id: server.client,
                    name: party.session.name.to_string(),
                    state: if party.away { "away" } else { "online" }.into(),
                    in_flight: party.handling.len() as u64,
                    fence: server.fence,
                    description: server.description.to_vec(),
                })
            });
            let servers = servers.collect();
            let tally = &mut service.tally;
            ServiceView {
                name: name.to_string(),
                shared: service.shared,
                servers,
                in_flight: tally.in_flight,
                requests: tally.requests,
                failed: tally.failed,
                per_second: tally.rate(now),
                p50_us: tally.quantile_us(0.5),
                p99_us: tally.quantile_us(0.99),
            }
        });
        (page.collect(), rest.next().is_some())
    }

    /// What requests, services and commands are charged.
    pub(super) fn held(&self) -> u64 {
        let state = self.state.lock();
        state.held + state.commands.held().1
    }

    /// Panics if the invariant does not hold; `sessions` are those that there are.
    pub(super) fn check(&self, sessions: &dyn Fn(ClientId) -> bool) {
        let state = self.state.lock();
        let mut pairs: FxHashMap<(ClientId, ClientId), u64> = FxHashMap::default();
        let mut deadlines = BTreeSet::new();
        for (key, pending) in &state.pending {
            deadlines.extend(pending.deadline.map(|deadline| (deadline, *key)));
            let made = state.parties.get(&key.0);
            let made = made.is_some_and(|party| party.made.contains(&key.1));
            assert_eq!(made, pending.wanted, "who waits is there: {key:?}");
            assert!(pending.wanted || pending.command.is_some(), "{key:?}");
            if let Some(handler) = pending.handler {
                *pairs.entry((key.0, handler)).or_default() += 1;
                assert!(state.parties[&handler].handling.contains(key), "{key:?}");
            }
        }
        assert_eq!(pairs, state.pairs, "requests by pair");
        assert_eq!(deadlines, state.deadlines, "deadlines");
        for (client, party) in &state.parties {
            assert!(sessions(*client), "{client} is gone");
            assert!(!party.is_idle(), "{client} has nothing to do here");
            for position in &party.made {
                assert!(state.pending.contains_key(&(*client, *position)));
            }
            assert!(party.handling.iter().all(|key| {
                let pending = state.pending.get(key);
                pending.is_some_and(|pending| pending.handler == Some(*client))
            }));
            for name in &party.serves {
                let service = state.services.get(name.as_str());
                let mut servers = service.into_iter().flat_map(|service| &service.servers);
                assert!(servers.any(|server| server.client == *client), "{name}");
            }
        }
    }
}

impl State {
    /// The client that is to get the next request to a service.
    fn pick(&mut self, name: &ServiceName) -> Option<Arc<Session>> {
        let parties = &self.parties;
        let load = |client| {
            let party = parties.get(&client)?;
            (!party.away).then_some(party.handling.len())
        };
        let picked = self.services.get_mut(name.as_str())?.pick(load)?;
        Some(self.parties.get(&picked)?.session.clone())
    }

    fn party(&mut self, session: &Arc<Session>) -> &mut Party {
        self.parties.entry(session.id).or_insert_with(|| Party {
            session: session.clone(),
            away: session.outbox.is_absent(),
            made: FxHashSet::default(),
            handling: FxHashSet::default(),
            serves: BTreeSet::new(),
        })
    }

    fn forget_idle(&mut self, client: ClientId) {
        if self.parties.get(&client).is_some_and(Party::is_idle) {
            self.parties.remove(&client);
        }
    }

    fn has_room_for(&self, caller: ClientId, budget: &Budget) -> Result<(), Refusal> {
        let made = self.parties.get(&caller).map_or(0, |it| it.made.len());
        if made >= REQUESTS_PER_CALLER_MAX {
            return Err(Refusal::LimitReached {
                what: "too many requests without outcome",
                limit: REQUESTS_PER_CALLER_MAX as u64,
            });
        }
        if !budget.fits(REQUEST_BYTES) {
            return Err(Refusal::LimitReached {
                what: "the broker's memory, in bytes",
                limit: budget.limit(),
            });
        }
        Ok(())
    }

    fn note_alarm(&mut self, at: Duration, wakes: &mut Wakes) {
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            wakes.ring();
        }
    }

    fn pass_on(&self, to: ClientId, entry: &Entry, wakes: &mut Wakes) -> Result<(), Refusal> {
        let Some(party) = self.parties.get(&to) else {
            return Err(Refusal::UnknownRequest);
        };
        match party.session.outbox.offer(entry, wakes) {
            Offer::Queued(_) | Offer::Over => Ok(()),
            Offer::Full => Err(Refusal::OutboxFull),
        }
    }

    fn tell_caller(&self, key: Key, why: Code, wakes: &mut Wakes) {
        let wanted = self.parties.get(&key.0);
        if let Some(party) = wanted.filter(|party| party.made.contains(&key.1)) {
            tell(&party.session, key, &Outcome::Failed(why), wakes);
        }
    }

    fn tell_handler(&self, handler: Option<ClientId>, key: Key, why: Code, wakes: &mut Wakes) {
        let party = handler.and_then(|handler| self.parties.get(&handler));
        if let Some(party) = party {
            let cancelled = BrokerFrame::Cancelled {
                caller: key.0,
                request: key.1,
                cause: why,
            };
            party.session.outbox.answer(&cancelled, wakes);
        }
    }

    /// Tells the handler of a command that its caller has cancelled it, if nobody else waits for it.
    fn cancel_unwanted(&mut self, command: &CommandKey, why: Code, wakes: &mut Wakes) {
        if why != Code::CANCELLED {
            return;
        }
        let Some(first) = self.commands.alone(command) else {
            return;
        };
        let pending = self.pending.get(&first).filter(|it| !it.wanted);
        if let Some(handler) = pending.map(|pending| pending.handler) {
            self.tell_handler(handler, first, why, wakes);
        }
    }

    fn tell_lease(&self, name: &ServiceName, lease: Lease, wakes: &mut Wakes) {
        if let Some(party) = self.parties.get(&lease.client) {
            let frame = BrokerFrame::Lease {
                service: name.as_str(),
                state: lease.state,
                fence: lease.fence,
            };
            party.session.outbox.answer(&frame, wakes);
        }
    }
}

impl Party {
    fn is_idle(&self) -> bool {
        self.made.is_empty() && self.handling.is_empty() && self.serves.is_empty()
    }
}

/// Tells a caller the outcome of its request.
fn tell(caller: &Session, key: Key, outcome: &Outcome, wakes: &mut Wakes) {
    let (sender, first, error, content, payload) = match outcome {
        Outcome::Replied {
            sender,
            first,
            error,
            content,
            payload,
        } => (sender.clone(), *first, *error, *content, &payload[..]),
        Outcome::Failed(code) => {
            let hub = Sender {
                client: ClientId::HUB,
                name: ClientName::hub(),
            };
            let why = code.description().as_bytes();
            (Arc::new(hub), key.1, Some(*code), ContentType::TEXT, why)
        }
    };
    let mut frame = Vec::new();
    BrokerFrame::Message(Message::Reply {
        to: key.0,
        request: key.1,
        error,
        more: false,
        content,
        payload,
    })
    .encode(&mut frame);
    let entry = Entry::new(Origin::Direct { sender, first }, frame, 1);
    if matches!(outcome, Outcome::Failed(_)) {
        // Small, and one at most for each request.
        caller.outbox.answer_entries([entry], wakes);
    } else if matches!(caller.outbox.offer(&entry, wakes), Offer::Full) {
        tell(caller, key, &Outcome::Failed(Code::OUTBOX_FULL), wakes);
    }
}
