use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::limits::{
    CLIENT_NAME_BYTES_MAX, MEMBERS_PER_FRAME_MAX, PAYLOAD_BYTES_MAX_FLOOR,
    PRESENCE_STATE_BYTES_MAX, WILLS_MAX,
};
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ChannelName, ChannelSettings, ClientFrame, ClientId,
    ClientName, Code, ContentType, Member as WireMember, Message, Policy, Put, Retain, Start,
    Status, Topic, TopicFilter, Will, admin,
};
use parking_lot::Mutex;

use super::admin::millis;
use super::budget::Budget;
use super::history::{Bounds, History};
use super::outbox::{Delivery, Entry, Origin, Outbox, Sender};
use super::topics::TopicTree;
use super::values::{RETAINED_BYTES, Retained, Values, ValuesLimits};
use super::{Refusal, Session, Wakes};

/// The members of one channel, its retained values, and the one order in which all members see its
/// traffic.
///
/// Whoever publishes holds the channel's lock while it fills the members' outboxes; that lock is
/// what makes every member see the same order. A snapshot is queued under the same lock, so nothing
/// is missing or doubled between it and the live messages.
///
/// `offset` counts messages, `revision` counts presence changes; both only grow.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: ChannelName,
    limits: ChannelLimits,
    budget: Arc<Budget>,
    /// Where to say when a value ends.
    alarms: Arc<ValueAlarms>,
    state: Mutex<State>,
}

/// When values of channels end by themselves, by channel. A leaf, as the outboxes are.
pub(super) type ValueAlarms = Mutex<BTreeSet<(Duration, ChannelName)>>;

/// How much one channel may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelLimits {
    pub(super) values: ValuesLimits,
    pub(super) history_messages: u64,
    pub(super) history_bytes: u64,
    pub(super) history_age: Duration,
}

/// The longest debounce: a member that is gone for a minute is away.
const DEBOUNCE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct State {
    offset: u64,
    revision: u64,
    members: BTreeMap<ClientId, Member>,
    /// How many members want presence changes.
    watchers: usize,
    filters: TopicTree,
    /// The receivers of topics published lately; emptied whenever filters change.
    routes: BTreeMap<Box<str>, Box<[Route]>>,
    values: Values,
    /// When the hub looks at values that end by themselves.
    value_alarm: Option<Duration>,
    history: Option<Box<History>>,
    debounce: Duration,
    /// The charges of all members' wills.
    wills_bytes: u64,
}

/// One receiver of a topic.
#[derive(Debug)]
struct Route {
    outbox: Arc<Outbox>,
    policy: Policy,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    status: Status,
    /// Its status as the others know it: they are told later that it is away.
    told: Status,
    /// Why it is away, if it is.
    away_because: Code,
    hidden: bool,
    watching: bool,
    state: Bytes,
    filters: Vec<(TopicFilter, Policy)>,
    /// How many of them have another policy than the usual one.
    special: usize,
    wills: Vec<Testament>,
}

/// A message to be published when its member is lost.
#[derive(Debug)]
struct Testament {
    delay: Duration,
    topic: Topic,
    retain: Retain,
    content: ContentType,
    payload_bytes: usize,
    /// The publish as it goes over the wire.
    frame: Bytes,
}

/// What is to be done for a member that lost its connection, and when, if it does not come back before.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// Tell the others.
    pub(super) tell_after: Option<Duration>,
    /// Publish its wills that have such a delay.
    pub(super) wills_after: Vec<Duration>,
}

/// Messages of one client to one channel, and to one topic if they have one, as they came in.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) topic: Option<&'a str>,
    pub(super) retain: Retain,
    pub(super) content: ContentType,
    pub(super) payload_bytes: usize,
    pub(super) frames: Bytes,
    pub(super) count: u64,
}

/// Topics whose receivers are remembered: more than a program has in use at one time.
const ROUTES_MAX: usize = 4_096;

impl Testament {
    fn charge(&self) -> u64 {
        self.frame.len() as u64 + RETAINED_BYTES
    }
}

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        name: ChannelName,
        limits: ChannelLimits,
        budget: Arc<Budget>,
        alarms: Arc<ValueAlarms>,
    ) -> Self {
        let state = State {
            offset: 0,
            revision: 0,
            members: BTreeMap::new(),
            watchers: 0,
            filters: TopicTree::default(),
            routes: BTreeMap::new(),
            values: Values::new(limits.values, budget.clone()),
            value_alarm: None,
            history: None,
            debounce: Duration::ZERO,
            wills_bytes: 0,
        };
        Self {
            id,
            name,
            limits,
            budget,
            alarms,
            state: Mutex::new(state),
        }
    }

    /// Adds a member and tells those who watch; a member that joins again sets its state anew.
    pub(super) fn join(
        &self,
        session: &Arc<Session>,
        request: u64,
        hidden: bool,
        presence: &[u8],
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        let presence = Bytes::copy_from_slice(presence);
        let change = match state.members.get_mut(&session.id) {
            Some(member) if member.hidden != hidden => {
                member.hidden = hidden;
                member.state = presence;
                member.told = member.status;
                Some(if hidden { Change::Left } else { Change::Joined })
            }
            Some(member) => {
                let changed = member.state != presence;
                member.state = presence;
                (changed && !hidden).then_some(Change::Updated)
            }
            None => {
                state.members.insert(
                    session.id,
                    Member {
                        session: session.clone(),
                        status: Status::Online,
                        told: Status::Online,
                        away_because: Code::CONNECTION_LOST,
                        hidden,
                        watching: false,
                        state: presence,
                        filters: Vec::new(),
                        special: 0,
                        wills: Vec::new(),
                    },
                );
                (!hidden).then_some(Change::Joined)
            }
        };
        if let Some(change) = change {
            let cause = (change == Change::Left).then_some(Code::GOODBYE);
            self.tell(&mut state, session.id, change, cause, wakes);
        }
        let offset = state.offset;
        session.outbox.answer(
            &BrokerFrame::Joined {
                request,
                channel: self.id,
                offset,
            },
            wakes,
        );
    }

    /// Removes a member with its subscriptions, wills and values, and tells those who watch why.
    pub(super) fn leave(&self, client: ClientId, cause: Code, now: Duration, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        while let Some(topic) = state.values.first_owned(client) {
            self.end_value(&mut state, &topic, now, wakes);
        }
        let Some(hidden) = state.members.get(&client).map(|member| member.hidden) else {
            return;
        };
        if !hidden {
            self.tell(&mut state, client, Change::Left, Some(cause), wakes);
        }
        let Some(member) = state.members.remove(&client) else {
            return;
        };
        state.watchers -= usize::from(member.watching);
        for (filter, _) in &member.filters {
            state.filters.remove(filter, client);
        }
        let wills = member.wills.iter().map(Testament::charge).sum::<u64>();
        state.wills_bytes -= wills;
        self.budget.refund(wills);
        state.routes.clear();
        let held = &member.session.subscriptions;
        held.fetch_sub(member.filters.len() as u64, Ordering::Relaxed);
    }

    /// A member lost its connection. Those who watch are told at once, or later.
    pub(super) fn lose(&self, client: ClientId, cause: Code, wakes: &mut Wakes) -> Absence {
        let mut state = self.state.lock();
        let debounce = state.debounce;
        let Some(member) = state.members.get_mut(&client) else {
            return Absence::default();
        };
        member.status = Status::Away;
        member.away_because = cause;
        let mut wills_after: Vec<_> = member.wills.iter().map(|will| will.delay).collect();
        wills_after.sort_unstable();
        wills_after.dedup();
        let tell_after = (!debounce.is_zero()).then_some(debounce);
        if tell_after.is_none() {
            self.tell_status(&mut state, client, wakes);
        }
        Absence {
            tell_after,
            wills_after,
        }
    }

    /// A member has a connection again, and reads and answers, or does not.
    pub(super) fn set_present(&self, client: ClientId, stalled: bool, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.get_mut(&client) {
            member.status = if stalled {
                Status::Stalled
            } else {
                Status::Online
            };
            self.tell_status(&mut state, client, wakes);
        }
    }

    /// A member has been away for so long that those who watch are told.
    pub(super) fn tell_absence(&self, client: ClientId, wakes: &mut Wakes) {
        self.tell_status(&mut self.state.lock(), client, wakes);
    }

    /// Tells those who watch of a member's status, unless they know it.
    fn tell_status(&self, state: &mut State, client: ClientId, wakes: &mut Wakes) {
        let Some(member) = state.members.get_mut(&client) else {
            return;
        };
        if member.told == member.status {
            return;
        }
        member.told = member.status;
        if member.hidden {
            return;
        }
        let (change, cause) = match member.status {
            Status::Online => (Change::Back, None),
            Status::Away => (Change::Away, Some(member.away_because)),
            Status::Stalled => (Change::Stalled, None),
        };
        self.tell(state, client, change, cause, wakes);
    }

    /// Leaves a message to be published when the member is lost.
    pub(super) fn set_will(&self, client: ClientId, will: &Will<'_>) -> Result<(), Refusal> {
        let topic: Topic = will.topic.parse().map_err(Refusal::BadTopic)?;
        let run = self.value_run(will.retain, will.content, will.topic, will.payload);
        let will = Testament {
            delay: Duration::from_millis(will.delay_ms.into()),
            topic,
            retain: will.retain,
            content: will.content,
            payload_bytes: will.payload.len(),
            frame: run.frames,
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let known = member.wills.iter().position(|old| old.topic == will.topic);
        let before = known.map_or(0, |at| member.wills[at].charge());
        let after = will.charge();
        if after > before && !self.budget.fits(after - before) {
            return Err(Refusal::LimitReached {
                what: "the broker's memory, in bytes",
                limit: self.budget.limit(),
            });
        }
        match known {
            Some(at) => member.wills[at] = will,
            None if member.wills.len() >= WILLS_MAX => {
                return Err(Refusal::LimitReached {
                    what: "too many wills in one channel",
                    limit: WILLS_MAX as u64,
                });
            }
            None => member.wills.push(will),
        }
        self.budget.refund(before);
        self.budget.charge(after);
        state.wills_bytes = state.wills_bytes - before + after;
        Ok(())
    }

    /// Takes a will back, if there is one.
    pub(super) fn clear_will(&self, client: ClientId, topic: &str) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let mut wills = member.wills.iter();
        if let Some(at) = wills.position(|will| will.topic.as_str() == topic) {
            let charge = member.wills.remove(at).charge();
            state.wills_bytes -= charge;
            self.budget.refund(charge);
        }
        Ok(())
    }

    /// Publishes the wills of a member that have such a delay, or all that have a longer one than
    /// `delay` if `rest`.
    pub(super) fn publish_wills(
        &self,
        client: ClientId,
        due: impl Fn(Duration) -> bool,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(member) = state.members.get(&client) else {
            return;
        };
        let session = member.session.clone();
        let sender = Arc::new(Sender {
            client,
            name: session.name.clone(),
        });
        let due: Vec<_> = member
            .wills
            .iter()
            .filter(|will| due(will.delay))
            .map(|will| (will.topic.clone(), will.run()))
            .collect();
        for (topic, run) in due {
            let run = Run {
                topic: Some(topic.as_str()),
                ..run
            };
            if let Err(refusal) = self.carry_out(state, &sender, run, now, wakes) {
                session.totals.refuse(refusal.code(), 1);
            }
        }
    }

    /// Says what the channel keeps from now on, and how it tells of its members.
    pub(super) fn set(
        &self,
        client: ClientId,
        settings: ChannelSettings,
        now: Duration,
    ) -> Result<(), Refusal> {
        let limits = &self.limits;
        let age = Duration::from_millis(settings.history_age_ms.into());
        let debounce = Duration::from_millis(settings.debounce_ms.into());
        let granted = [
            (
                "the messages of a history",
                settings.history_messages,
                limits.history_messages,
            ),
            (
                "the bytes of a history",
                settings.history_bytes,
                limits.history_bytes,
            ),
            (
                "the age of a history, in ms",
                millis(age),
                millis(limits.history_age),
            ),
            (
                "the debounce of a channel, in ms",
                millis(debounce),
                millis(DEBOUNCE_MAX),
            ),
        ];
        if let Some(&(what, _, limit)) = granted.iter().find(|(_, asked, limit)| asked > limit) {
            return Err(Refusal::LimitReached { what, limit });
        }
        let mut state = self.state.lock();
        if !state.members.contains_key(&client) {
            return Err(Refusal::NotAMember);
        }
        state.debounce = debounce;
        let bounds = Bounds {
            messages: settings.history_messages,
            bytes: settings.history_bytes,
            age,
        };
        let offset = state.offset;
        match &mut state.history {
            _ if bounds.messages == 0 => state.history = None,
            Some(history) => history.set_bounds(bounds, now),
            None => {
                let history = History::new(bounds, offset, self.budget.clone());
                state.history = Some(Box::new(history));
            }
        }
        Ok(())
    }

    /// When the history of a channel without members will be empty; `None` if it has none.
    pub(super) fn history_until(&self) -> Option<Duration> {
        let state = self.state.lock();
        let history = state.history.as_ref()?;
        history.until().filter(|_| state.members.is_empty())
    }

    /// Forgets what is too old.
    pub(super) fn trim_history(&self, now: Duration) {
        if let Some(history) = &mut self.state.lock().history {
            history.trim(now);
        }
    }

    /// Replaces a member's presence state and tells those who watch.
    pub(super) fn set_presence(
        &self,
        client: ClientId,
        presence: &[u8],
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        if member.state != presence {
            member.state = Bytes::copy_from_slice(presence);
            if !member.hidden {
                self.tell(&mut state, client, Change::Updated, None, wakes);
            }
        }
        Ok(())
    }

    /// Starts or stops presence changes; the start is answered with all members.
    pub(super) fn watch(
        &self,
        client: ClientId,
        request: u64,
        on: bool,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        state.watchers = state.watchers - usize::from(member.watching) + usize::from(on);
        member.watching = on;
        let outbox = member.session.outbox.clone();
        if !on {
            outbox.answer(&BrokerFrame::Done { request }, wakes);
            return Ok(());
        }
        outbox.answer_entries(self.members(state, request), wakes);
        Ok(())
    }

    /// The members as one or more frames, each below the limits of a frame.
    fn members(&self, state: &State, request: u64) -> Vec<Entry> {
        let visible: Vec<_> = state
            .members
            .iter()
            .filter(|(_, member)| !member.hidden)
            .map(|(client, member)| member.on_the_wire(*client))
            .collect();
        let mut pages: Vec<&[WireMember<'_>]> = visible.chunks(MEMBERS_PER_FRAME_MAX).collect();
        if pages.is_empty() {
            pages.push(&[]);
        }
        let last = pages.len() - 1;
        let mut entries = Vec::with_capacity(pages.len());
        for (n, page) in pages.into_iter().enumerate() {
            let mut bytes = Vec::new();
            BrokerFrame::Members {
                request,
                channel: self.id,
                revision: state.revision,
                more: n < last,
                members: page.to_vec(),
            }
            .encode(&mut bytes);
            entries.push(Entry::new(Origin::Answer, bytes, 1));
        }
        entries
    }

    /// Adds a subscription, or sets its policy; what it is to start with comes first. The session may
    /// hold `limit` of them over all channels.
    #[expect(clippy::too_many_arguments, reason = "all that a subscription is")]
    pub(super) fn subscribe(
        &self,
        client: ClientId,
        request: u64,
        filter: TopicFilter,
        start: Start,
        policy: Policy,
        limit: u64,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get(&client).ok_or(Refusal::NotAMember)?;
        let session = member.session.clone();
        let known = member
            .filters
            .iter()
            .position(|(known, _)| *known == filter);
        if known.is_none() && session.subscriptions.load(Ordering::Relaxed) >= limit {
            return Err(Refusal::LimitReached {
                what: "too many subscriptions",
                limit,
            });
        }
        if let Some(history) = &mut state.history {
            history.trim(now);
        }
        let values = self.values(state, &session.outbox, request, &filter, start)?;
        if known.is_none() {
            state.filters.insert(&filter, client);
            session.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        match known {
            Some(at) => {
                let before = std::mem::replace(&mut member.filters[at].1, policy);
                member.special -= usize::from(before != Policy::default());
            }
            None => {
                if member.filters.is_empty() {
                    // Most members have no other.
                    member.filters.reserve_exact(1);
                }
                member.filters.push((filter, policy));
            }
        }
        member.special += usize::from(policy != Policy::default());
        state.routes.clear();
        session.outbox.answer_entries(values, wakes);
        Ok(())
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, client: ClientId, filter: &str) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let at = member
            .filters
            .iter()
            .position(|(known, _)| known.as_str() == filter)
            .ok_or(Refusal::NotSubscribed)?;
        let (filter, policy) = member.filters.swap_remove(at);
        member.special -= usize::from(policy != Policy::default());
        member.session.subscriptions.fetch_sub(1, Ordering::Relaxed);
        state.filters.remove(&filter, client);
        state.routes.clear();
        Ok(())
    }

    /// Answers with the retained values that match.
    pub(super) fn snapshot(
        &self,
        client: ClientId,
        request: u64,
        filter: &TopicFilter,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let state = self.state.lock();
        let member = state.members.get(&client).ok_or(Refusal::NotAMember)?;
        let outbox = &member.session.outbox;
        let values = self.values(&state, outbox, request, filter, Start::Retained)?;
        outbox.answer_entries(values, wakes);
        Ok(())
    }

    /// The answer to a subscription or snapshot: the count, then the messages that it starts with.
    fn values(
        &self,
        state: &State,
        outbox: &Outbox,
        request: u64,
        filter: &TopicFilter,
        start: Start,
    ) -> Result<Vec<Entry>, Refusal> {
        let offset = state.offset;
        let (mut entries, since) = match (start, &state.history) {
            (Start::After(after), _) if after > offset => {
                return Err(Refusal::UnknownOffset { after, offset });
            }
            (Start::Live, _) => (vec![], offset),
            (Start::Retained, _) => {
                let values = state.values.matching(filter);
                (values.map(|value| value.entry(self.id)).collect(), offset)
            }
            (start, Some(history)) => history.replay(filter, start),
            (_, None) => (vec![], offset),
        };
        let bytes: usize = entries.iter().map(|entry| entry.frames.len()).sum();
        let count: u64 = entries.iter().map(|entry| entry.count).sum();
        if !outbox.has_room(bytes as u64, entries.len() as u64 + 1, count + 1) {
            return Err(Refusal::OutboxFull);
        }
        let mut head = Vec::new();
        BrokerFrame::Values {
            request,
            channel: self.id,
            offset,
            count,
            since,
        }
        .encode(&mut head);
        entries.insert(0, Entry::new(Origin::Answer, head, 1));
        Ok(entries)
    }

    /// Delivers messages to the members whose filter matches, or to all others if there is no topic.
    pub(super) fn publish(
        &self,
        sender: &Arc<Sender>,
        run: Run<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if !state.members.contains_key(&sender.client) {
            return Err(Refusal::NotAMember);
        }
        self.carry_out(&mut state, sender, run, now, wakes)
    }

    fn carry_out(
        &self,
        state: &mut State,
        sender: &Arc<Sender>,
        run: Run<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let known = run
            .topic
            .is_some_and(|topic| state.routes.contains_key(topic));
        if let Some(topic) = run.topic
            && !known
        {
            Topic::check(topic).map_err(Refusal::BadTopic)?;
        }
        if let (Some(topic), Retain::Set | Retain::Clear) = (run.topic, run.retain) {
            self.retain(state, sender, topic, &run)?;
            if state.value_alarm.is_some() {
                self.set_value_alarm(state, wakes);
            }
        }
        let first = state.offset + 1;
        if let (Some(topic), Some(history)) = (run.topic, &mut state.history) {
            history.push(self.id, sender, topic, first, &run.frames, run.count, now);
        }
        let origin = Origin::Channel {
            channel: self.id,
            sender: Some(sender.clone()),
            first,
            retained: false,
        };
        let entry = Entry::new(origin, run.frames, run.count);
        state.offset += run.count;
        match run.topic {
            None => state
                .members
                .iter()
                .filter(|(client, _)| **client != sender.client)
                .for_each(|(_, member)| member.session.outbox.push(entry.to_all(), wakes)),
            Some(topic) => {
                if !known {
                    let route = state.route(topic);
                    if state.routes.len() >= ROUTES_MAX {
                        state.routes.clear();
                    }
                    state.routes.insert(topic.into(), route);
                }
                for Route { outbox, policy } in &state.routes[topic] {
                    let delivery = Delivery {
                        entry: &entry,
                        policy: *policy,
                        topic: Some(topic),
                    };
                    outbox.push(delivery, wakes);
                }
            }
        }
        Ok(())
    }

    /// Keeps or forgets the last value of a topic.
    fn retain(
        &self,
        state: &mut State,
        sender: &Arc<Sender>,
        topic: &str,
        run: &Run<'_>,
    ) -> Result<(), Refusal> {
        if run.retain == Retain::Clear {
            state.values.clear(topic);
            return Ok(());
        }
        // Its own allocation: a kept value must not keep a whole read buffer.
        let frame = Bytes::copy_from_slice(&run.frames);
        let offset = state.offset + 1;
        let value = Retained::new(
            sender.clone(),
            offset,
            frame,
            run.content,
            run.payload_bytes,
        );
        state.values.set(topic, value)
    }

    /// Sets or deletes a value, if it has the version that it is to have. Gives the offset of the message.
    pub(super) fn put(
        &self,
        session: &Session,
        sender: &Arc<Sender>,
        put: &Put<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<u64, Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.members.contains_key(&session.id) {
            return Err(Refusal::NotAMember);
        }
        Topic::check(put.topic).map_err(Refusal::BadTopic)?;
        let version = state.values.version(put.topic);
        if let Some(expected) = put.expect.filter(|expected| *expected != version) {
            return Err(Refusal::VersionConflict { expected, version });
        }
        let run = self.value_run(put.retain, put.content, put.topic, put.payload);
        self.carry_out(state, sender, run, now, wakes)?;
        if put.retain == Retain::Set {
            let ttl = Duration::from_millis(put.ttl_ms.into());
            let until = (!ttl.is_zero()).then_some(now + ttl);
            let owner = put.owned.then_some(session.id);
            state.values.bind(put.topic, until, owner);
            self.set_value_alarm(state, wakes);
        }
        Ok(state.offset)
    }

    /// Deletes the values whose time is over.
    pub(super) fn end_values(&self, now: Duration, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        while let Some(topic) = state.values.first_due(now) {
            self.end_value(&mut state, &topic, now, wakes);
        }
        self.set_value_alarm(&mut state, wakes);
    }

    /// Deletes a value, and says so in the channel: the hub does, not the client that set it.
    fn end_value(&self, state: &mut State, topic: &Topic, now: Duration, wakes: &mut Wakes) {
        let hub = Arc::new(Sender {
            client: ClientId::HUB,
            name: ClientName::hub(),
        });
        let run = self.value_run(Retain::Clear, ContentType::BYTES, topic.as_str(), b"");
        if let Err(refusal) = self.carry_out(state, &hub, run, now, wakes) {
            debug_assert!(false, "a value can always be deleted: {refusal}");
            state.values.clear(topic.as_str());
        }
    }

    /// A publish that was not sent as one.
    fn value_run<'a>(
        &self,
        retain: Retain,
        content: ContentType,
        topic: &'a str,
        payload: &[u8],
    ) -> Run<'a> {
        let mut frame = Vec::new();
        ClientFrame::Message(Message::Publish {
            channel: self.id,
            retain,
            content,
            topic,
            payload,
        })
        .encode(&mut frame);
        Run {
            topic: Some(topic),
            retain,
            content,
            payload_bytes: payload.len(),
            frames: frame.into(),
            count: 1,
        }
    }

    /// Has the hub come back when the next value ends.
    fn set_value_alarm(&self, state: &mut State, wakes: &mut Wakes) {
        let next = state.values.next_expiry();
        let before = std::mem::replace(&mut state.value_alarm, next);
        if before == next {
            return;
        }
        let mut alarms = self.alarms.lock();
        if let Some(at) = before {
            alarms.remove(&(at, self.name.clone()));
        }
        if let Some(at) = next {
            alarms.insert((at, self.name.clone()));
            wakes.ring();
        }
    }

    /// Tells those who watch of a change of one member, the member itself too.
    fn tell(
        &self,
        state: &mut State,
        client: ClientId,
        change: Change,
        cause: Option<Code>,
        wakes: &mut Wakes,
    ) {
        state.revision += 1;
        if state.watchers == 0 {
            return;
        }
        let mut frame = Vec::new();
        BrokerFrame::Presence {
            channel: self.id,
            revision: state.revision,
            change,
            cause,
            member: state.members[&client].on_the_wire(client),
        }
        .encode(&mut frame);
        let origin = Origin::Channel {
            channel: self.id,
            sender: None,
            first: 0,
            retained: false,
        };
        let entry = Entry::new(origin, frame, 1);
        for member in state.members.values().filter(|member| member.watching) {
            member.session.outbox.push(entry.to_all(), wakes);
        }
    }

    /// Whether nobody would miss the channel.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let history = state.history.as_ref();
        state.members.is_empty()
            && state.values.is_empty()
            && history.is_none_or(|history| history.messages() == 0)
    }

    pub(super) fn summary(&self) -> admin::ChannelSummary {
        let state = self.state.lock();
        self.summary_of(&state)
    }

    pub(super) fn view(&self) -> admin::ChannelView {
        let state = self.state.lock();
        admin::ChannelView {
            summary: self.summary_of(&state),
            settings: settings_of(&state),
            members: state
                .members
                .iter()
                .map(|(client, member)| admin::MemberView {
                    id: *client,
                    name: member.session.name.to_string(),
                    state: status_word(member.status).into(),
                    hidden: member.hidden,
                    filters: member.held().collect(),
                    presence: member.state.to_vec(),
                })
                .collect(),
            retained: state
                .values
                .iter()
                .map(|(topic, retained)| admin::RetainedView {
                    topic: topic.to_string(),
                    bytes: retained.payload_bytes as u64,
                    content: retained.content.0,
                    sender: retained.sender.name.to_string(),
                    offset: retained.offset,
                })
                .collect(),
        }
    }

    fn summary_of(&self, state: &State) -> admin::ChannelSummary {
        let history = state.history.as_deref();
        admin::ChannelSummary {
            name: self.name.to_string(),
            members: state.members.len() as u64,
            subscriptions: state.filters.len() as u64,
            offset: state.offset,
            retained: state.values.len() as u64,
            retained_bytes: state.values.bytes(),
            history: history.map_or(0, History::messages),
            history_bytes: history.map_or(0, History::bytes),
        }
    }

    /// What the channel is charged for: the retained values, the history and the wills.
    pub(super) fn kept_bytes(&self) -> u64 {
        let state = self.state.lock();
        let history = state.history.as_ref().map_or(0, |history| history.bytes());
        state.values.bytes() + history + state.wills_bytes
    }

    /// The subscriptions of a member.
    pub(super) fn subscriptions_of(&self, client: ClientId) -> Vec<admin::SubscriptionView> {
        let state = self.state.lock();
        let member = state.members.get(&client);
        member.map_or_else(Vec::new, |member| member.held().collect())
    }

    /// The members, by ascending id.
    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.state.lock().members.keys().copied().collect()
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let state = self.state.lock();
        let members = state.members.values();
        assert_eq!(
            state.watchers,
            members.clone().filter(|member| member.watching).count()
        );
        assert_eq!(
            state.filters.len(),
            members.map(|member| member.filters.len()).sum::<usize>()
        );
        state.values.check(state.offset);
        assert_eq!(state.value_alarm, state.values.next_expiry());
        if let Some(at) = state.value_alarm {
            assert!(self.alarms.lock().contains(&(at, self.name.clone())));
        }
        if let Some(history) = &state.history {
            history.check(state.offset);
        }
        let wills = state.members.values().flat_map(|member| &member.wills);
        assert_eq!(
            state.wills_bytes,
            wills.map(Testament::charge).sum::<u64>(),
            "bytes of wills"
        );
        for member in state.members.values() {
            let special = |(_, policy): &&(TopicFilter, Policy)| *policy != Policy::default();
            assert_eq!(
                member.special,
                member.filters.iter().filter(special).count()
            );
        }
        for (topic, route) in &state.routes {
            let now = state.route(topic);
            let same = |(kept, now): (&Route, &Route)| {
                Arc::ptr_eq(&kept.outbox, &now.outbox) && kept.policy == now.policy
            };
            assert!(
                route.len() == now.len() && route.iter().zip(&now).all(same),
                "the route of {topic} is not what the filters say"
            );
        }
    }
}

impl State {
    fn route(&self, topic: &str) -> Box<[Route]> {
        self.filters
            .matching(topic)
            .into_iter()
            .filter_map(|client| self.members.get(&client))
            .map(|member| Route {
                outbox: member.session.outbox.clone(),
                policy: member.policy_of(topic),
            })
            .collect()
    }
}

/// How much a policy gives up, the one that gives up least first.
const fn frugality(policy: Policy) -> u8 {
    match policy {
        Policy::Park => 0,
        Policy::Block => 1,
        Policy::DropOldest => 2,
        Policy::DropNewest => 3,
        Policy::Latest => 4,
    }
}

impl Testament {
    /// The message, but for its topic.
    fn run(&self) -> Run<'static> {
        Run {
            topic: None,
            retain: self.retain,
            content: self.content,
            payload_bytes: self.payload_bytes,
            frames: self.frame.clone(),
            count: 1,
        }
    }
}

impl Entry {
    /// For a member of the channel, whatever it is subscribed to.
    const fn to_all(&self) -> Delivery<'_> {
        Delivery {
            entry: self,
            policy: Policy::DropOldest,
            topic: None,
        }
    }
}

impl Member {
    fn on_the_wire(&self, client: ClientId) -> WireMember<'_> {
        WireMember {
            client,
            name: self.session.name.as_str(),
            status: self.told,
            state: &self.state,
        }
    }

    /// The policy for messages of a topic: of the subscriptions that match, the one that gives up least.
    fn policy_of(&self, topic: &str) -> Policy {
        if self.special == 0 {
            return Policy::default();
        }
        let matching = self.filters.iter();
        matching
            .filter(|(filter, _)| filter.matches(topic))
            .map(|(_, policy)| *policy)
            .min_by_key(|policy| frugality(*policy))
            .unwrap_or_default()
    }

    fn held(&self) -> impl Iterator<Item = admin::SubscriptionView> {
        self.filters
            .iter()
            .map(|(filter, policy)| admin::SubscriptionView {
                filter: filter.to_string(),
                policy: policy.name().into(),
            })
    }
}

/// What the members of a channel had it keep, for operators.
fn settings_of(state: &State) -> admin::SettingsView {
    let bounds = state.history.as_deref().map(History::bounds);
    let bounds = bounds.unwrap_or_default();
    admin::SettingsView {
        history_messages: bounds.messages,
        history_bytes: bounds.bytes,
        history_age_ms: millis(bounds.age),
        debounce_ms: millis(state.debounce),
    }
}

/// A member's status as one word, for operators.
pub(super) const fn status_word(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
        Status::Stalled => "stalled",
    }
}

// A page of members with the largest states is a frame within the smallest limit.
const _: () = assert!(
    MEMBERS_PER_FRAME_MAX * (PRESENCE_STATE_BYTES_MAX + CLIENT_NAME_BYTES_MAX + 32)
        <= PAYLOAD_BYTES_MAX_FLOOR
);
