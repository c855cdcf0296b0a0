//! One channel. What its members see of each other is in `presence.rs`, what they want to hear in
//! `subscriptions.rs`, what it keeps for them in `values.rs`, `puts.rs` and `wills.rs`, what operators see in
//! `views.rs`.

mod presence;
mod puts;
mod subscriptions;
mod values;
mod views;
mod wills;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ChannelName, ChannelSettings, ClientId, Code, ContentType,
    Policy, Retain, Status, Topic, TopicFilter,
};
use parking_lot::Mutex;

use super::admin::millis;
use super::budget::Budget;
use super::history::{Bounds, History};
use super::outbox::{Delivery, Entry, Origin, Sender};
use super::topics::TopicTree;
use super::{Refusal, Session, Wakes};
use subscriptions::Route;
use values::Values;
use wills::Testament;

pub(super) use puts::ValueAlarms;
pub(super) use values::ValuesLimits;
pub(super) use views::status_word;

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

    /// Whether nobody would miss the channel.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let history = state.history.as_ref();
        state.members.is_empty()
            && state.values.is_empty()
            && history.is_none_or(|history| history.messages() == 0)
    }

    /// What the channel is charged for: the retained values, the history and the wills.
    pub(super) fn kept_bytes(&self) -> u64 {
        let state = self.state.lock();
        let history = state.history.as_ref().map_or(0, |history| history.bytes());
        state.values.bytes() + history + state.wills_bytes
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
