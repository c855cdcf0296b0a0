use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientId, ClientName, Code, Gap, PREFIX_BYTES, Policy, RawFrame, Run,
};

use super::budget::Budget;
use super::session::FIRST_GENERATION;
use super::sync::Mutex;
use super::wakes::{BLOCK_MAX, STALL_MAX};
use super::{Batch, Wakes};

/// The messages on their way to one client, kept until the client confirms them.
///
/// Every message addressed to the session has a position, from 1 on. They pass through two queues:
/// `waiting` (not yet sent on this connection) and `sent` (sent, not yet confirmed):
///
/// ```text
///   kept + messages(sent) = passed      passed + messages(waiting) = queued
///   acked <= passed                     kept <= passed <= queued
/// ```
///
/// A reconnect puts `sent` back in front of `waiting`. When the outbox is full, the oldest of `sent`
/// is let go first, which costs nothing but the chance to send it again; then channel
/// messages of `waiting`, or the newcomer, as their [`Policy`] says, each leaving a gap in its place.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    budget: Arc<Budget>,
    /// Whether answers alone have filled it: the client is to read some before it gets more.
    flooded: AtomicBool,
    state: Mutex<State>,
}

/// What a client that comes back gets of what was sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rewound {
    /// How many messages are sent again, or for the first time.
    pub(super) replayed: u64,
    /// How many are lost.
    pub(super) lost: u64,
    /// Up to this position nothing is sent again, whether the client has received it or not.
    pub(super) missed: u64,
}

/// How much one outbox may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    pub(super) bytes: u64,
    pub(super) messages: u64,
}

#[derive(Debug, Default)]
struct State {
    sent: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
    /// The position before the first entry of `sent`: what came earlier is not kept any more.
    kept: u64,
    /// The position of the last message that was sent on this connection.
    passed: u64,
    /// The position of the last message that was sent on an earlier one.
    passed_before: u64,
    /// The highest position that the client confirmed.
    acked: u64,
    /// The position of the last message queued.
    queued: u64,
    /// The messages in both queues, without those that are only counted in gaps.
    messages: u64,
    /// The charges of both queues.
    bytes: u64,
    /// The charges of `waiting` alone.
    waiting_bytes: u64,
    /// The charges of what the client has asked for, of that.
    asked_bytes: u64,
    /// How long somebody waited in vain for this outbox to drain; nobody waits so long again until it has.
    overstayed: Duration,
    /// No entry of `waiting` that begins before this position can be dropped.
    firm: u64,
    /// Where the newest message of each topic waits, for subscriptions that want no other.
    latest: Option<Box<Latest>>,
    /// The generation of the connection that may take from here.
    generation: u64,
    /// Whether the session is over, and nothing is queued any more.
    over: bool,
    /// Whether no connection takes anything from here: there is nothing to wait for.
    absent: bool,
    /// The connection's task, when it has nothing to write.
    writer: Option<Waker>,
    /// Publishers that wait until there is room again.
    stalled: Vec<Waker>,
    /// Why the connection must end, once what waits is written.
    closing: Option<Code>,
    totals: Totals,
}

/// Positions of messages by channel and topic. Some may be of messages that do not wait any more.
#[derive(Debug, Default)]
struct Latest {
    positions: BTreeMap<(ChannelId, Box<str>), u64>,
    /// So many may there be before those that do not wait any more are sorted out.
    room: usize,
}

/// What went through an outbox since its session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    /// Messages that made way for newer ones of their topic.
    pub(super) conflated: u64,
    /// In how many places messages were lost or conflated.
    pub(super) gaps: u64,
}

/// What an outbox holds now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The positions of the last messages confirmed, sent and queued.
    pub(super) cursors: [u64; 3],
    /// Whether publishers have waited for it in vain.
    pub(super) slow: bool,
    pub(super) totals: Totals,
}

/// One or more messages that were queued together.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// The frames, each with its length prefix; the same bytes for every receiver.
    pub(super) frames: Bytes,
    /// How many messages they are.
    pub(super) count: u64,
    /// The position of the first of them; given when it is queued.
    pub(super) at: u64,
    /// What becomes of them if they are read too slowly; given with the position.
    policy: Policy,
    /// Whether the client itself has asked for them.
    asked: bool,
}

/// What became of messages of one client to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Offer {
    /// They are queued, the first of them at that position.
    Queued(u64),
    /// There is no room for them.
    Full,
    /// The session is over.
    Over,
}

/// A channel's messages for one of its members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery<'a> {
    pub(super) entry: &'a Entry,
    pub(super) policy: Policy,
    /// The topic of them all; broadcasts and presence have none.
    pub(super) topic: Option<&'a str>,
}

/// Where the messages of an entry come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The broker itself answers this client: never dropped.
    Answer,
    /// A client sent them to a channel, or the broker tells of a channel's presence.
    Channel {
        channel: ChannelId,
        sender: Option<Arc<Sender>>,
        first: u64,
        retained: bool,
    },
    /// A client sent them to this one.
    Direct { sender: Arc<Sender>, first: u64 },
    /// They were lost; there are no frames.
    Lost {
        channel: Option<ChannelId>,
        cause: Code,
    },
}

/// Who sent a message, as receivers are told.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) client: ClientId,
    pub(super) name: ClientName,
}

/// What an entry costs beside its frames: its place in a queue and a share of the run header.
const ENTRY_BYTES: u64 = 160;

/// An outbox above this share of its limit makes publishers wait a moment.
const STALL_SHARE: u64 = 2;

/// No connection has this generation.
const SEALED: u64 = u64::MAX;

/// There is always room for so many positions of topics.
const LATEST_MIN: usize = 64;

impl Entry {
    /// An entry that is not queued yet.
    pub(super) fn new(origin: Origin, frames: impl Into<Bytes>, count: u64) -> Self {
        Self {
            origin,
            frames: frames.into(),
            count,
            at: 0,
            policy: Policy::DropOldest,
            asked: false,
        }
    }

    fn charge(&self) -> u64 {
        self.frames.len() as u64 + ENTRY_BYTES
    }

    fn charge_asked(&self) -> u64 {
        if self.asked { self.charge() } else { 0 }
    }

    /// The position behind the last message.
    fn end(&self) -> u64 {
        self.at + self.count
    }

    /// How many messages are there, and not only counted.
    fn present(&self) -> u64 {
        if matches!(self.origin, Origin::Lost { .. }) {
            0
        } else {
            self.count
        }
    }

    /// Whether the entry may be dropped, with a gap in its place.
    fn droppable(&self) -> bool {
        matches!(
            self.origin,
            Origin::Channel {
                retained: false,
                ..
            }
        ) && self.policy != Policy::DropNewest
    }

    /// Forgets the first `count` messages, but not all.
    pub(super) fn skip(&mut self, count: u64) {
        debug_assert!(count < self.count);
        self.count -= count;
        self.at += count;
        match &mut self.origin {
            Origin::Lost { .. } => return,
            Origin::Channel { first, .. } | Origin::Direct { first, .. } => *first += count,
            Origin::Answer => {}
        }
        let mut rest = &self.frames[..];
        for _ in 0..count {
            let Ok(Some((_, after))) = RawFrame::split(rest, usize::MAX) else {
                unreachable!("queued frames are whole");
            };
            rest = after;
        }
        self.frames = self.frames.slice_ref(rest);
    }

    /// Appends the entry as it goes over the wire.
    fn write(&self, batch: &mut Batch) {
        match &self.origin {
            Origin::Answer | Origin::Channel { sender: None, .. } => {}
            Origin::Channel {
                channel,
                sender: Some(sender),
                first,
                retained,
            } => {
                batch.frame(&BrokerFrame::Run(Run {
                    channel: Some(*channel),
                    sender: sender.client,
                    name: sender.name.as_str(),
                    first: *first,
                    count: self.count,
                    retained: *retained,
                }));
            }
            Origin::Direct { sender, first } => batch.frame(&BrokerFrame::Run(Run {
                channel: None,
                sender: sender.client,
                name: sender.name.as_str(),
                first: *first,
                count: self.count,
                retained: false,
            })),
            Origin::Lost { channel, cause } => batch.frame(&BrokerFrame::Gap(Gap {
                channel: *channel,
                lost: self.count,
                cause: *cause,
            })),
        }
        batch.share(&self.frames);
    }
}

impl Origin {
    /// Lost messages of a channel.
    const fn lost(channel: ChannelId, cause: Code) -> Self {
        Self::Lost {
            channel: Some(channel),
            cause,
        }
    }

    /// Whether it is a loss of that channel for that reason.
    fn is_loss(&self, of: ChannelId, why: Code) -> bool {
        matches!(self, Self::Lost { channel, cause } if *channel == Some(of) && *cause == why)
    }
}

impl Outbox {
    pub(super) fn new(limits: OutboxLimits, budget: Arc<Budget>) -> Self {
        let state = State {
            generation: FIRST_GENERATION,
            ..State::default()
        };
        Self {
            limits,
            budget,
            flooded: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Queues messages of a channel. Always done: what does not fit is counted in gaps, be it
    /// these messages or older ones, as the policy says.
    pub(super) fn push(self: &Arc<Self>, delivery: Delivery<'_>, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.over {
            return;
        }
        let Delivery {
            entry,
            policy,
            topic,
        } = delivery;
        let Origin::Channel { channel, .. } = entry.origin else {
            unreachable!("only messages of a channel are pushed");
        };
        let last;
        let entry = match (policy, topic) {
            (Policy::Latest, Some(topic)) => {
                last = self.conflate(state, channel, topic, entry);
                &last
            }
            _ => entry,
        };
        let charge = entry.charge();
        if policy == Policy::Park && !self.fits(state, charge, entry.count) {
            // While everything that was sent can still be sent again.
            state.closing.get_or_insert(Code::SLOW_CONSUMER);
        }
        if self.make_room(state, charge, entry.count, policy) {
            self.append(state, entry.clone(), charge, policy);
        } else {
            self.lose_newest(state, channel, Code::SLOW_CONSUMER, entry.count);
        }
        let patience = if policy == Policy::Block {
            BLOCK_MAX
        } else {
            STALL_MAX
        };
        if self.is_worth_waiting_for(state, patience) {
            wakes.stall(self, patience);
        }
        wakes.writers.extend(state.writer.take());
    }

    /// Makes way for the last message of `entry`, which it gives back and which is to be the only one of
    /// its topic that waits: older ones become gaps.
    fn conflate(&self, state: &mut State, channel: ChannelId, topic: &str, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        let older = entry.count - 1;
        if older > 0 {
            entry.skip(older);
            // What waits for long keeps its own bytes, and not those of the whole run.
            entry.frames = Bytes::copy_from_slice(&entry.frames);
            // Its place, once the older ones are counted: a run is cut before anything is queued.
            self.lose_newest(state, channel, Code::CONFLATED, older);
        }
        let position = state.queued + 1;
        let mut latest = state.latest.take().unwrap_or_default();
        if latest.positions.len() > latest.room.max(LATEST_MIN) {
            let passed = state.passed;
            latest.positions.retain(|_, waits| *waits > passed);
            latest.room = latest.positions.len() * 2;
        }
        let before = latest.positions.insert((channel, topic.into()), position);
        state.latest = Some(latest);
        let Some(before) = before.filter(|before| *before > state.passed) else {
            return entry;
        };
        let at = state.waiting.partition_point(|entry| entry.end() <= before);
        let waits = state.waiting.get(at).is_some_and(|entry| {
            let of_channel = matches!(entry.origin, Origin::Channel { .. });
            of_channel && (entry.at, entry.count) == (before, 1) && entry.policy == Policy::Latest
        });
        if waits {
            self.drop_at(state, at, Code::CONFLATED);
        }
        entry
    }

    /// Queues messages of one client to this one, if they fit.
    pub(super) fn offer(self: &Arc<Self>, entry: &Entry, wakes: &mut Wakes) -> Offer {
        let mut state = self.state.lock();
        if state.over {
            return Offer::Over;
        }
        let charge = entry.charge();
        while !self.fits(&state, charge, entry.count) {
            if !self.release(&mut state) {
                return Offer::Full;
            }
        }
        let at = state.queued + 1;
        self.append(&mut state, entry.clone(), charge, Policy::DropOldest);
        if self.is_worth_waiting_for(&state, STALL_MAX) {
            wakes.stall(self, STALL_MAX);
        }
        wakes.writers.extend(state.writer.take());
        Offer::Queued(at)
    }

    /// Queues an answer to the client's own request, limit or not: a client that does not read
    /// its answers is not read from either ([`Outbox::is_owed`]).
    pub(super) fn answer(&self, frame: &BrokerFrame<'_>, wakes: &mut Wakes) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.answer_entries([Entry::new(Origin::Answer, bytes, 1)], wakes);
    }

    /// As [`Outbox::answer`], for entries that must follow each other.
    pub(super) fn answer_entries(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        if state.over {
            return;
        }
        for mut entry in entries {
            entry.asked = true;
            let charge = entry.charge();
            self.append(&mut state, entry, charge, Policy::DropOldest);
        }
        if state.asked_bytes > self.limits.bytes {
            self.flooded.store(true, Ordering::Relaxed);
        }
        wakes.writers.extend(state.writer.take());
    }

    /// Whether more answers wait than it may hold.
    pub(super) fn is_flooded(&self) -> bool {
        // It changes under the lock, which is taken only if it was so.
        self.flooded.load(Ordering::Relaxed) && {
            let state = self.state.lock();
            let flooded = state.asked_bytes > self.limits.bytes;
            self.flooded.store(flooded, Ordering::Relaxed);
            flooded
        }
    }

    /// Whether `messages` more of `bytes` together, in `entries` entries, would fit beside what waits now.
    pub(super) fn has_room(&self, bytes: u64, entries: u64, messages: u64) -> bool {
        let state = self.state.lock();
        let charge = bytes + entries * ENTRY_BYTES;
        state.waiting_bytes + charge <= self.limits.bytes
            && state.queued - state.passed + messages <= self.limits.messages
    }

    /// Moves what waits to `batch`, at most about `max` bytes of it; whether everything was taken.
    ///
    /// A connection that a newer one has taken over from gets nothing.
    pub(super) fn take(&self, generation: u64, batch: &mut Batch, max: usize) -> bool {
        let mut lock = self.state.lock();
        let state = &mut *lock;
        if state.generation != generation {
            return false;
        }
        if !state.waiting.is_empty() {
            batch.expect(state.waiting.len());
        }
        while batch.len() < max {
            let Some(entry) = state.waiting.pop_front() else {
                break;
            };
            entry.write(batch);
            state.waiting_bytes -= entry.charge();
            state.asked_bytes -= entry.charge_asked();
            state.passed += entry.count;
            state.sent.push_back(entry);
        }
        let share = self.limits.bytes / STALL_SHARE;
        let mut relieved = Vec::new();
        if state.waiting_bytes <= share {
            relieved = std::mem::take(&mut state.stalled);
        }
        if state.waiting_bytes <= share / 2 {
            state.overstayed = Duration::ZERO;
        }
        if state.waiting.is_empty() {
            state.latest = None;
        }
        let all = state.waiting.is_empty();
        drop(lock);
        relieved.into_iter().for_each(Waker::wake);
        all
    }

    /// Forgets what the client confirms to have received; `false` if it was never sent.
    #[must_use]
    pub(super) fn ack(&self, received: u64) -> bool {
        let mut state = self.state.lock();
        if received > state.passed {
            return false;
        }
        state.acked = state.acked.max(received);
        self.trim(&mut state);
        if state.sent.is_empty() && state.waiting.is_empty() {
            // A session that is quiet now may stay so for hours.
            state.sent = VecDeque::new();
            state.waiting = VecDeque::new();
        }
        true
    }

    /// The position of the last message queued.
    pub(super) fn queued(&self) -> u64 {
        self.state.lock().queued
    }

    /// The position of the last message sent on this connection.
    pub(super) fn passed(&self) -> u64 {
        self.state.lock().passed
    }

    /// Starts another connection's turn: what the client has not received is sent again.
    ///
    /// `None` if the client claims to have received what was never sent.
    pub(super) fn rewind(&self, generation: u64, received: u64) -> Option<Rewound> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.generation = generation;
        state.absent = false;
        if received > state.passed {
            return None;
        }
        state.passed_before = state.passed_before.max(state.passed);
        state.writer = None;
        state.closing = None;
        state.acked = state.acked.max(received);
        self.trim(state);
        self.unsend(state);
        let mut before = state.kept;
        let missed = before;
        if before > state.acked {
            // Let go although the client had not confirmed it, and now it turns out to be missing.
            let lost = before - state.acked;
            before = state.acked;
            state.kept = before;
            state.totals.lost += lost;
            state.totals.gaps += 1;
            let origin = Origin::Lost {
                channel: None,
                cause: Code::SLOW_CONSUMER,
            };
            let mut gap = Entry::new(origin, Bytes::new(), lost);
            gap.at = before + 1;
            self.insert(state, 0, gap);
        } else if before < state.acked
            && let Some(mut first) = state.waiting.pop_front()
        {
            let (charge, present) = (first.charge(), first.present());
            state.asked_bytes -= first.charge_asked();
            first.skip(state.acked - before);
            state.asked_bytes += first.charge_asked();
            self.refund(state, charge - first.charge());
            state.waiting_bytes -= charge - first.charge();
            state.messages -= present - first.present();
            state.waiting.push_front(first);
            before = state.acked;
            state.kept = before;
        }
        state.passed = before;
        let lost = state
            .waiting
            .iter()
            .filter(|entry| match entry.origin {
                // What the client asked to be left out is not missing.
                Origin::Lost { cause, .. } => cause != Code::CONFLATED,
                _ => false,
            })
            .map(|entry| entry.count)
            .sum();
        Some(Rewound {
            replayed: state.messages,
            lost,
            missed,
        })
    }

    /// Lets nobody take or queue anything any more. Gives the position of the last message that was ever sent,
    /// on whichever connection.
    pub(super) fn seal(&self) -> u64 {
        let mut state = self.state.lock();
        state.generation = SEALED;
        state.over = true;
        state.passed.max(state.passed_before)
    }

    /// Whether the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    /// Whether the session has no connection now.
    pub(super) fn is_absent(&self) -> bool {
        self.state.lock().absent
    }

    /// The connection is gone: nothing of it is told any more.
    pub(super) fn detach(&self, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        state.writer = None;
        state.absent = true;
        wakes.writers.append(&mut state.stalled);
    }

    /// Asks the connection to write what waits and then to end with `code`.
    pub(super) fn close(&self, code: Code, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        // Who was to be parked, or is just coming back, is told what has become of its session instead.
        if state
            .closing
            .is_none_or(|known| matches!(known, Code::SLOW_CONSUMER | Code::SUPERSEDED))
        {
            state.closing = Some(code);
        }
        wakes.writers.extend(state.writer.take());
    }

    /// Why the connection must end, if it must.
    pub(super) fn closing(&self) -> Option<Code> {
        self.state.lock().closing
    }

    /// Ready when there is something to write, or a reason to end.
    pub(super) fn poll_ready(&self, generation: u64, waker: &Waker) -> Poll<()> {
        let mut state = self.state.lock();
        if state.generation == generation && state.waiting.is_empty() && state.closing.is_none() {
            state.writer = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Wakes the connection at the next push or close, whatever waits already.
    pub(super) fn watch(&self, generation: u64, waker: &Waker) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.writer = Some(waker.clone());
        }
    }

    /// Whether so many answers wait that the client had better read before it asks for more. What others send it is
    /// no reason not to hear it.
    pub(super) fn is_owed(&self) -> bool {
        self.state.lock().asked_bytes > self.limits.bytes / STALL_SHARE
    }

    /// Whether so much waits that it takes a slow client a while to come to what is sent to it now.
    pub(super) fn is_crowded(&self) -> bool {
        self.state.lock().waiting_bytes > self.limits.bytes / STALL_SHARE
    }

    /// Ready when publishers need not wait so long for this outbox any more.
    pub(super) fn poll_relief(&self, patience: Duration, waker: &Waker) -> Poll<()> {
        let mut state = self.state.lock();
        if !self.is_worth_waiting_for(&state, patience) {
            return Poll::Ready(());
        }
        if !state.stalled.iter().any(|known| known.will_wake(waker)) {
            state.stalled.push(waker.clone());
        }
        Poll::Pending
    }

    /// Nobody waits so long for this outbox again until it has drained. Its own connection is to see that.
    pub(super) fn overstay(&self, patience: Duration) {
        let mut state = self.state.lock();
        state.overstayed = state.overstayed.max(patience);
        let mut waiting = std::mem::take(&mut state.stalled);
        waiting.extend(state.writer.take());
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether publishers have waited for it in vain, and it has not drained since.
    pub(super) fn is_slow(&self) -> bool {
        !self.state.lock().overstayed.is_zero()
    }

    pub(super) fn holds(&self) -> Holds {
        let state = self.state.lock();
        Holds {
            messages: state.messages,
            bytes: state.bytes,
            cursors: [state.acked, state.passed, state.queued],
            slow: !state.overstayed.is_zero(),
            totals: state.totals,
        }
    }

    /// Forgets everything; the session is over.
    pub(super) fn clear(&self, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let bytes = state.bytes;
        self.refund(&mut state, bytes);
        state.over = true;
        state.messages = 0;
        state.waiting_bytes = 0;
        state.asked_bytes = 0;
        state.sent.clear();
        state.waiting.clear();
        state.latest = None;
        state.kept = state.queued;
        state.passed = state.queued;
        wakes.writers.append(&mut state.stalled);
    }

    fn append(&self, state: &mut State, mut entry: Entry, charge: u64, policy: Policy) {
        entry.at = state.queued + 1;
        entry.policy = policy;
        state.queued += entry.count;
        state.messages += entry.count;
        state.totals.messages += entry.count;
        state.totals.bytes += entry.frames.len() as u64;
        state.bytes += charge;
        state.waiting_bytes += charge;
        state.asked_bytes += entry.charge_asked();
        self.budget.charge(charge);
        state.waiting.push_back(entry);
    }

    /// Puts an entry back that was counted before.
    fn insert(&self, state: &mut State, at: usize, entry: Entry) {
        let charge = entry.charge();
        state.bytes += charge;
        state.waiting_bytes += charge;
        self.budget.charge(charge);
        state.waiting.insert(at, entry);
    }

    fn refund(&self, state: &mut State, charge: u64) {
        state.bytes -= charge;
        self.budget.refund(charge);
    }

    /// Whether so much waits that publishers had better wait as well, and so long.
    fn is_worth_waiting_for(&self, state: &State, patience: Duration) -> bool {
        !state.absent
            && state.waiting_bytes > self.limits.bytes / STALL_SHARE
            && state.overstayed < patience
    }

    fn fits(&self, state: &State, charge: u64, count: u64) -> bool {
        state.bytes + charge <= self.limits.bytes
            && state.messages + count <= self.limits.messages
            && self.budget.fits(charge)
    }

    fn make_room(&self, state: &mut State, charge: u64, count: u64, policy: Policy) -> bool {
        while !self.fits(state, charge, count) {
            if self.release(state) {
                continue;
            }
            if policy == Policy::DropNewest || !self.drop_oldest(state) {
                return false;
            }
        }
        true
    }

    /// Lets go of the oldest entry that was sent; `false` if there is none.
    fn release(&self, state: &mut State) -> bool {
        let Some(entry) = state.sent.pop_front() else {
            return false;
        };
        state.kept += entry.count;
        state.messages -= entry.present();
        self.refund(state, entry.charge());
        true
    }

    /// Puts a gap in the place of the oldest channel messages that wait; `false` if there are none.
    fn drop_oldest(&self, state: &mut State) -> bool {
        let firm = state.firm;
        let start = state.waiting.partition_point(|entry| entry.at < firm);
        let found = (start..state.waiting.len()).find(|at| state.waiting[*at].droppable());
        // What was looked at in vain need not be looked at again.
        state.firm = match found {
            Some(at) => state.waiting[at].at,
            None => state.queued + 1,
        };
        if let Some(at) = found {
            self.drop_at(state, at, Code::SLOW_CONSUMER);
        }
        found.is_some()
    }

    /// Puts a gap in the place of the channel messages that wait there.
    fn drop_at(&self, state: &mut State, at: usize, cause: Code) {
        let Some(entry) = state.waiting.remove(at) else {
            return;
        };
        if entry.policy == Policy::Park && cause == Code::SLOW_CONSUMER {
            // Another message took its place.
            state.closing.get_or_insert(Code::SLOW_CONSUMER);
        }
        let charge = entry.charge();
        self.refund(state, charge);
        state.waiting_bytes -= charge;
        state.messages -= entry.count;
        let Origin::Channel { channel, .. } = entry.origin else {
            unreachable!("only messages of a channel are dropped");
        };
        if self.widen(state, at, channel, cause, entry.count) {
            return;
        }
        let mut gap = Entry::new(Origin::lost(channel, cause), Bytes::new(), entry.count);
        gap.at = entry.at;
        self.insert(state, at, gap);
    }

    /// Counts messages that are never queued in a gap behind everything.
    fn lose_newest(&self, state: &mut State, channel: ChannelId, cause: Code, lost: u64) {
        let end = state.waiting.len();
        let at = state.queued + 1;
        state.queued += lost;
        if self.widen(state, end, channel, cause, lost) {
            return;
        }
        let mut gap = Entry::new(Origin::lost(channel, cause), Bytes::new(), lost);
        gap.at = at;
        self.insert(state, end, gap);
    }

    /// Counts `lost` messages that were before the entry `at` in a gap that is there already, if nothing but
    /// gaps lies between; else the caller makes one. So there are never more gaps than messages around them,
    /// channels and causes.
    fn widen(
        &self,
        state: &mut State,
        at: usize,
        channel: ChannelId,
        cause: Code,
        lost: u64,
    ) -> bool {
        match cause {
            Code::CONFLATED => state.totals.conflated += lost,
            _ => state.totals.lost += lost,
        }
        for index in (0..at).rev() {
            match &state.waiting[index].origin {
                origin if origin.is_loss(channel, cause) => {}
                Origin::Lost { .. } => continue,
                _ => break,
            }
            state.waiting[index].count += lost;
            for between in state.waiting.range_mut(index + 1..at) {
                between.at += lost;
            }
            self.join_gaps(state, at, channel, cause);
            return true;
        }
        if let Some(next) = state.waiting.get_mut(at)
            && next.origin.is_loss(channel, cause)
        {
            next.at -= lost;
            next.count += lost;
            return true;
        }
        state.totals.gaps += 1;
        false
    }

    /// Makes one of two gaps that have come together at the entry `at`.
    fn join_gaps(&self, state: &mut State, at: usize, channel: ChannelId, cause: Code) {
        let is_loss = |index: usize| {
            let entry = state.waiting.get(index);
            entry.is_some_and(|entry| entry.origin.is_loss(channel, cause))
        };
        if at == 0 || !is_loss(at - 1) || !is_loss(at) {
            return;
        }
        let Some(second) = state.waiting.remove(at) else {
            return;
        };
        self.refund(state, second.charge());
        state.waiting_bytes -= second.charge();
        state.waiting[at - 1].count += second.count;
    }

    /// Forgets the entries of `sent` that are confirmed as a whole.
    fn trim(&self, state: &mut State) {
        while let Some(entry) = state.sent.front() {
            if state.kept + entry.count > state.acked {
                break;
            }
            self.release(state);
        }
    }

    /// Puts what was sent back in front of what waits.
    fn unsend(&self, state: &mut State) {
        while let Some(entry) = state.sent.pop_back() {
            state.waiting_bytes += entry.charge();
            state.asked_bytes += entry.charge_asked();
            state.waiting.push_front(entry);
        }
        state.passed = state.kept;
        state.firm = 0;
    }

    /// Panics if the invariant does not hold.
    pub(super) fn check(&self) {
        let state = self.state.lock();
        let count = |queue: &VecDeque<Entry>| queue.iter().map(|entry| entry.count).sum::<u64>();
        let charge = |queue: &VecDeque<Entry>| queue.iter().map(Entry::charge).sum::<u64>();
        assert_eq!(
            state.kept + count(&state.sent),
            state.passed,
            "sent messages"
        );
        assert_eq!(
            state.passed + count(&state.waiting),
            state.queued,
            "waiting messages"
        );
        assert!(state.acked <= state.passed, "confirmed, but not sent");
        let mut position = state.kept + 1;
        for entry in state.sent.iter().chain(&state.waiting) {
            assert_eq!(entry.at, position, "the position of an entry");
            position = entry.end();
        }
        let present = state
            .sent
            .iter()
            .chain(&state.waiting)
            .map(Entry::present)
            .sum::<u64>();
        assert_eq!(state.messages, present, "messages");
        assert_eq!(state.waiting_bytes, charge(&state.waiting), "waiting bytes");
        let asked = state.waiting.iter().map(Entry::charge_asked).sum::<u64>();
        assert_eq!(state.asked_bytes, asked, "bytes of answers");
        assert_eq!(
            state.bytes,
            state.waiting_bytes + charge(&state.sent),
            "bytes"
        );
        for entry in state.sent.iter().chain(&state.waiting) {
            assert!(entry.count > 0, "an entry without messages");
            let mut rest = &entry.frames[..];
            let mut frames = 0;
            while let Ok(Some((frame, after))) = RawFrame::split(rest, usize::MAX) {
                assert!(frame.wire_bytes() > PREFIX_BYTES);
                frames += 1;
                rest = after;
            }
            let lost = matches!(entry.origin, Origin::Lost { .. });
            assert_eq!(
                frames,
                if lost { 0 } else { entry.count },
                "frames of an entry"
            );
        }
    }
}
