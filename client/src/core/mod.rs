//! Every rule of the client, without I/O: no socket, no clock, no random number, no runtime.
//!
//! Bytes from the broker come in through [`Core::receive`], bytes for it go out through
//! [`Core::take`], time comes in as an argument, and who waits for something leaves a [`Waker`]. The
//! link (`link.rs`) drives it, the handles (`client.rs`, `channel.rs`, `stream.rs`) ask it.
//!
//! A [`Core`] outlives sessions. What the application wants is kept here: memberships ([`Room`]),
//! subscriptions and streams, presence watches; what only a session knows (channel ids, positions)
//! is set anew by each [`Core::welcome`] that does not resume.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use localhub_protocol::{
    ChannelId, ChannelName, ClientFrame, ClientId, ClientName, Epoch, Limits, ResumeToken,
};

mod anew;
mod ask;
mod byte_stream;
mod flow;
mod handling;
mod inbox;
mod outgoing;
mod receive;
mod refusals;
mod requests;
mod room;
mod serving;
mod session;
mod ticket;
mod verbs;
mod wakers;
mod watch;

#[cfg(test)]
mod tests;

use ask::Ask;
use flow::Unsettled;
use outgoing::Outgoing;
use receive::{Run, Values};
use refusals::Refusals;
use requests::Requests;
use room::{Room, Route, Stream, Watcher};
use serving::Serving;
use ticket::Tickets;
use wakers::Wakers;

pub(crate) use ask::PutValue;
pub(crate) use byte_stream::{End, Read, STREAM_WINDOW};
pub(crate) use handling::{Arrived, DROPPED, HandlingId, PANICKED, Said};
pub(crate) use inbox::{Entry, InboxLimits, LastTopic};
pub(crate) use receive::Progress;
pub(crate) use requests::{Asking, RequestId};
pub(crate) use room::{RoomId, StreamId, Takes};
pub(crate) use serving::PostId;
pub(crate) use ticket::{Answer, Failure, Outcome, Ticket};
pub(crate) use verbs::{CLOSED_HERE, Outbound};
pub(crate) use watch::Seen;

use crate::message::Sender;
use crate::{ConnectionState, Refused};

/// What the core is told once and for all.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: Option<ClientName>,
    pub(crate) session_ttl: Option<Duration>,
    pub(crate) resume: bool,
    pub(crate) inbox: InboxLimits,
    pub(crate) unconfirmed_bytes: usize,
}

/// A client without its connection.
pub(crate) struct Core {
    settings: Settings,
    session: Option<Session>,
    /// The token was refused: the next hello asks for a new session.
    token_spent: bool,
    connected: bool,
    /// Why nothing works any more.
    end: Option<Failure>,
    closing: Option<Closing>,
    state: ConnectionState,
    /// How many sessions there were.
    sessions: u64,
    state_changes: u64,
    state_wakers: Wakers,

    outgoing: Outgoing,
    control: Vec<u8>,
    /// The bytes that wait in rooms for their membership.
    later_bytes: usize,
    /// Flushes that wait for them.
    later_flushes: Vec<Ticket>,
    /// Requests that the broker has not yet answered, by position.
    pending: BTreeMap<u64, Ask>,
    /// Who waits for messages to be carried out, by ascending position.
    confirms: VecDeque<Confirm>,
    /// Answers to messages up to this position may be lost.
    doubtful: u64,
    ping_wanted: bool,
    pings_in_flight: usize,
    /// Everything up to this position was carried out or refused, and we know which.
    settled: u64,

    rooms: BTreeMap<RoomId, Room>,
    by_name: BTreeMap<ChannelName, RoomId>,
    by_channel: BTreeMap<ChannelId, RoomId>,
    streams: BTreeMap<StreamId, Stream>,
    watchers: BTreeMap<StreamId, Watcher>,
    refusals: Refusals,
    requests: Requests,
    serving: Serving,
    unsettled: Unsettled,
    ids_given: u64,
    tickets: Tickets,
    directs: Option<Route>,

    /// How many messages of the broker were received in this session.
    received: u64,
    /// How many of them the broker was told of.
    told: u64,
    untold_bytes: u64,
    tell_at: Option<Instant>,
    heard_at: Instant,
    probed: bool,
    run: Option<Run>,
    /// The sender of the last run, which is likely that of the next.
    last_sender: Option<Sender>,
    /// How long to wait after the broker closed the connection, as it announced.
    away: Option<Duration>,
    values: Option<Values>,
    /// Reading waits for a full inbox.
    blocked: bool,

    wakes: Vec<Waker>,
    link: Option<Waker>,
    link_busy: bool,
    /// Who waits for room to publish.
    publishers: Wakers,
}

/// What the broker said in its last `Welcome`.
struct Session {
    epoch: Epoch,
    client: ClientId,
    name: ClientName,
    token: ResumeToken,
    limits: Limits,
    ping: Duration,
}

struct Confirm {
    position: u64,
    ticket: Ticket,
    /// It waits for the messages before it, and is none itself.
    flush: bool,
}

struct Closing {
    /// Goodbye is said once everything up to here is settled, or time is up.
    position: u64,
    until: Instant,
    said: bool,
}

/// How long what was received may stay unconfirmed when nothing more comes.
const TELL_DELAY: Duration = Duration::from_millis(100);

/// The broker is told how far the client has come after this share of what it keeps for it.
const TELL_SHARE: u64 = 8;

/// How long a client that closes waits for what it sent to be carried out.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            session: None,
            token_spent: false,
            connected: false,
            end: None,
            closing: None,
            state: ConnectionState::Connecting,
            sessions: 0,
            state_changes: 1,
            state_wakers: Wakers::default(),
            outgoing: Outgoing::default(),
            control: Vec::new(),
            later_bytes: 0,
            later_flushes: Vec::new(),
            pending: BTreeMap::new(),
            confirms: VecDeque::new(),
            doubtful: 0,
            ping_wanted: false,
            pings_in_flight: 0,
            settled: 0,
            rooms: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            streams: BTreeMap::new(),
            watchers: BTreeMap::new(),
            refusals: Refusals::default(),
            requests: Requests::default(),
            serving: Serving::default(),
            unsettled: Unsettled::default(),
            ids_given: 0,
            tickets: Tickets::default(),
            directs: None,
            received: 0,
            told: 0,
            untold_bytes: 0,
            tell_at: None,
            heard_at: now,
            probed: false,
            run: None,
            last_sender: None,
            away: None,
            values: None,
            blocked: false,
            wakes: Vec::new(),
            link: None,
            link_busy: false,
            publishers: Wakers::default(),
        }
    }

    /// The wakers to call once the lock of the core is released.
    pub(crate) fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    pub(crate) fn id(&self) -> ClientId {
        self.session
            .as_ref()
            .map_or(ClientId::HUB, |session| session.client)
    }

    pub(crate) fn name(&self) -> Option<&ClientName> {
        self.session
            .as_ref()
            .map(|session| &session.name)
            .or(self.settings.name.as_ref())
    }

    pub(crate) fn limits(&self) -> Limits {
        self.session
            .as_ref()
            .map_or_else(Limits::default, |session| session.limits)
    }

    pub(crate) fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// Ready with the present state if it is not the one with the number `seen`; `None` after the
    /// last.
    pub(crate) fn poll_state(
        &mut self,
        seen: &mut u64,
        cx: &Context<'_>,
    ) -> Poll<Option<ConnectionState>> {
        if *seen != self.state_changes {
            *seen = self.state_changes;
            return Poll::Ready(Some(self.state.clone()));
        }
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        self.state_wakers.add(cx, &mut self.wakes);
        Poll::Pending
    }

    /// How much is remembered of requests, by what it is.
    pub(crate) fn holds(&self) -> Vec<(&'static str, usize)> {
        let mut holds = self.requests.holds();
        holds.extend(self.serving.holds());
        holds.push(("tickets", self.tickets.waiting()));
        holds.push(("unanswered", self.pending.len()));
        holds.push(("unsettled", self.unsettled.len()));
        holds
    }

    // Below: what the parts of the core share.

    fn set_state(&mut self, state: ConnectionState) {
        self.state = state;
        self.state_changes += 1;
        self.state_wakers.wake(&mut self.wakes);
    }

    fn next_id(&mut self) -> u64 {
        self.ids_given += 1;
        self.ids_given
    }

    fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        self.tickets.settle(ticket, outcome, &mut self.wakes);
    }

    /// There is something to write.
    fn wake_link(&mut self) {
        if !self.link_busy {
            self.rouse_link();
        }
    }

    /// There is something else for the link to do.
    fn rouse_link(&mut self) {
        self.wakes.extend(self.link.take());
    }

    fn control(&mut self, frame: &ClientFrame<'_>) {
        frame.encode(&mut self.control);
    }

    fn release_publishers(&mut self) {
        if !self.connected || self.end.is_some() || self.has_room() {
            self.publishers.wake(&mut self.wakes);
        }
    }

    fn has_room(&self) -> bool {
        self.outgoing.bytes() + self.later_bytes < self.settings.unconfirmed_bytes
    }

    /// Tells those who listen, and the log, that unconfirmed messages came to nothing.
    fn report(&mut self, refused: Refused, now: Instant) {
        self.refusals.push(refused, now, &mut self.wakes);
    }
}
