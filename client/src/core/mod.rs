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

use bytes::Bytes;
use localhub_protocol::{
    ChannelId, ChannelName, ClientFrame, ClientId, ClientName, Code, Epoch, FrameError, Hello,
    Limits, Resume, ResumeToken, Resumed, Version, Welcome,
};

mod anew;
mod ask;
mod inbox;
mod outgoing;
mod receive;
mod refusals;
mod room;
mod ticket;
mod verbs;
mod watch;

#[cfg(test)]
mod tests;

use ask::Ask;
use outgoing::{NeverSent, Outgoing};
use receive::{Run, Values};
use refusals::Refusals;
use room::{Room, Route, Stream, Watcher};
use ticket::Tickets;

pub(crate) use inbox::{Entry, InboxLimits, LastTopic};
pub(crate) use receive::Progress;
pub(crate) use room::{RoomId, StreamId, Takes};
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
    state_changes: u64,
    state_wakers: Vec<Waker>,

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
    publishers: Vec<Waker>,
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

/// The broker did not say anything for two ping intervals.
#[derive(Debug)]
pub(crate) struct Silent;

/// How long what was received may stay unconfirmed when nothing more comes.
const TELL_DELAY: Duration = Duration::from_millis(100);

/// The broker is told how far the client has come after this share of what it keeps for it.
const TELL_SHARE: u64 = 8;

/// The broker answers this many pings at a time without stopping to read.
const PINGS_MAX: usize = 16;

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
            state_changes: 1,
            state_wakers: Vec::new(),
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
            publishers: Vec::new(),
        }
    }

    // What the link tells and asks.

    /// The first frame of a connection.
    pub(crate) fn hello(&mut self) -> Vec<u8> {
        let resume = match &self.session {
            Some(session) if self.settings.resume && !self.token_spent => Some(Resume {
                epoch: session.epoch,
                client: session.client,
                token: session.token.clone(),
                received: self.received,
            }),
            _ => None,
        };
        let ttl = self.settings.session_ttl;
        let mut bytes = Vec::new();
        ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: Vec::new(),
            name: self.wanted_name(),
            resume,
            ttl_ms: ttl.map(|ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX)),
        })
        .encode(&mut bytes);
        self.set_state(ConnectionState::Connecting);
        bytes
    }

    /// The connection stands: the session goes on, or a new one begins.
    ///
    /// # Errors
    /// The welcome contradicts itself or the session. [`Core::lost`] is to be called.
    pub(crate) fn welcome(&mut self, welcome: &Welcome<'_>, now: Instant) -> Result<(), FrameError> {
        let contradiction = |reason| FrameError::Malformed { reason };
        let name = welcome
            .name
            .parse()
            .map_err(|_| contradiction("a welcome with a name that is none"))?;
        let session = Session {
            epoch: welcome.epoch,
            client: welcome.client,
            name,
            token: welcome.token.clone(),
            limits: welcome.limits,
            ping: Duration::from_millis(welcome.ping_ms.into()),
        };
        let goes_on = |resumed: Resumed| resumed.recovered || resumed.lost.is_some();
        let before = self.session.replace(session).map(|before| (before.epoch, before.client));
        if welcome.resumed.is_some_and(goes_on) {
            if before != Some((welcome.epoch, welcome.client)) {
                self.token_spent = true;
                return Err(contradiction("a welcome to another session"));
            }
            if let Err(NeverSent) = self.outgoing.resume(welcome.received) {
                self.token_spent = true;
                return Err(contradiction("a welcome with a position that was never sent"));
            }
        } else if before.is_some() {
            self.begin_anew(now);
        }
        self.token_spent = false;
        self.connected = true;
        self.run = None;
        self.told = self.received;
        self.untold_bytes = 0;
        self.tell_at = None;
        self.heard_at = now;
        self.probed = false;
        self.pings_in_flight = 0;
        self.ping_wanted = !self.confirms.is_empty() || self.doubtful > 0 || self.closing.is_some();
        self.set_state(ConnectionState::Connected { resumed: welcome.resumed });
        self.release_publishers();
        Ok(())
    }

    /// The connection is gone, and another attempt is made after `retry_in`.
    pub(crate) fn lost(&mut self, reason: String, retry_in: Duration) {
        self.connected = false;
        self.blocked = false;
        self.control.clear();
        self.set_state(ConnectionState::Disconnected { reason, retry_in });
        self.release_publishers();
    }

    /// The broker does not know the resume token any more: the next hello asks for a new session.
    pub(crate) fn forget_token(&mut self) {
        self.token_spent = true;
    }

    /// The client is over: whatever waits is told so.
    pub(crate) fn finish(&mut self, code: Option<Code>, reason: String) {
        if self.end.is_some() {
            return;
        }
        self.connected = false;
        let end = Failure::Closed { code, reason: reason.clone() };
        self.tickets.fail_all(&end, &mut self.wakes);
        self.end = Some(end);
        self.set_state(ConnectionState::Closed { code, reason });
        let inboxes = self.streams.values_mut().map(|stream| &mut stream.inbox.waker);
        let watchers = self.watchers.values_mut().map(|watcher| &mut watcher.waker);
        self.wakes.extend(inboxes.chain(watchers).filter_map(Option::take));
        self.refusals.wake(&mut self.wakes);
        self.release_publishers();
    }

    /// What is to be written now, about `max` bytes of it.
    pub(crate) fn take(&mut self, batch: &mut VecDeque<Bytes>, max: usize, now: Instant) {
        if !self.connected {
            return;
        }
        self.outgoing.take(batch, max);
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell();
        }
        if !self.outgoing.has_unsent() {
            if self.ping_wanted && self.pings_in_flight < PINGS_MAX {
                self.ping();
            }
            self.say_goodbye(now);
        }
        if !self.control.is_empty() {
            batch.push_back(std::mem::take(&mut self.control).into());
        }
    }

    /// How long the broker asked to be left alone, if it announced that it closes the connection.
    pub(crate) fn take_away(&mut self) -> Option<Duration> {
        self.away.take()
    }

    /// Leaves a waker that is called when there is something to write, or room to read on.
    ///
    /// While it is `busy` with what it took before, it is called only for other reasons.
    pub(crate) fn register_link(&mut self, cx: &Context<'_>, busy: bool) {
        self.link_busy = busy;
        if self.link.as_ref().is_none_or(|link| !link.will_wake(cx.waker())) {
            self.link = Some(cx.waker().clone());
        }
    }

    /// Does what is due at this time.
    ///
    /// # Errors
    /// The broker is silent for too long.
    pub(crate) fn elapse(&mut self, now: Instant) -> Result<(), Silent> {
        let Some(ping) = self.ping_interval() else {
            return Ok(());
        };
        let silence = now.saturating_duration_since(self.heard_at);
        if silence >= ping * 2 {
            return Err(Silent);
        }
        if silence >= ping && !self.probed {
            self.probed = true;
            self.ping();
        }
        Ok(())
    }

    /// When [`Core::elapse`] or [`Core::take`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let silent = self.ping_interval().map(|ping| {
            self.heard_at + if self.probed { ping * 2 } else { ping }
        });
        let closing = self.closing.as_ref().filter(|closing| !closing.said);
        let closing = closing.map(|closing| closing.until);
        [silent, self.tell_at, closing].into_iter().flatten().min()
    }

    /// Ready when the application wants the client to end.
    pub(crate) fn poll_closing(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.closing.is_some() {
            return Poll::Ready(());
        }
        self.register_link(cx, true);
        Poll::Pending
    }

    /// Whether the application wants the client to end; and whether goodbye was said already.
    pub(crate) fn closing(&self) -> Option<bool> {
        self.closing.as_ref().map(|closing| closing.said)
    }

    /// The largest frame that the broker may send.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        /// Lists of members and answers to operators may be larger than any message.
        const FRAME_BYTES_MIN: usize = 16 * 1024 * 1024;
        self.limits().frame_bytes().max(FRAME_BYTES_MIN)
    }

    /// The wakers to call once the lock of the core is released.
    pub(crate) fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    // What anybody may ask.

    pub(crate) fn id(&self) -> ClientId {
        self.session.as_ref().map_or(ClientId::HUB, |session| session.client)
    }

    pub(crate) fn name(&self) -> Option<&ClientName> {
        self.session.as_ref().map(|session| &session.name).or(self.settings.name.as_ref())
    }

    pub(crate) fn limits(&self) -> Limits {
        self.session.as_ref().map_or_else(Limits::default, |session| session.limits)
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
        self.state_wakers.push(cx.waker().clone());
        Poll::Pending
    }

    // Below: what the parts of the core share.

    fn wanted_name(&self) -> Option<&str> {
        // A client that was given a name keeps it: others know it by that.
        let given = self.session.as_ref().map(|session| session.name.as_str());
        given.or(self.settings.name.as_ref().map(ClientName::as_str))
    }

    fn set_state(&mut self, state: ConnectionState) {
        self.state = state;
        self.state_changes += 1;
        self.wakes.append(&mut self.state_wakers);
    }

    fn next_id(&mut self) -> u64 {
        self.ids_given += 1;
        self.ids_given
    }

    fn ping_interval(&self) -> Option<Duration> {
        let ping = self.session.as_ref()?.ping;
        (self.connected && !ping.is_zero()).then_some(ping)
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

    /// Confirms what was received.
    fn tell(&mut self) {
        self.control(&ClientFrame::Ack { received: self.received });
        self.note_told();
    }

    fn note_told(&mut self) {
        self.told = self.received;
        self.untold_bytes = 0;
        self.tell_at = None;
    }

    /// Sends a ping; its nonce is the position up to which the pong settles everything.
    fn ping(&mut self) {
        self.ping_wanted = false;
        self.pings_in_flight += 1;
        self.control(&ClientFrame::Ping { nonce: self.outgoing.sent(), received: self.received });
        self.note_told();
    }

    fn say_goodbye(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        let settled = self.later_bytes == 0 && self.settled >= closing.position;
        if !closing.said && (settled || now >= closing.until) {
            closing.said = true;
            self.control(&ClientFrame::Close { code: Code::GOODBYE, detail: "" });
        }
    }

    fn release_publishers(&mut self) {
        if !self.connected || self.end.is_some() || self.has_room() {
            self.wakes.append(&mut self.publishers);
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
