use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use localhub_protocol::limits::{
    CLIENT_NAME_BYTES_MAX, MEMBERS_PER_FRAME_MAX, PAYLOAD_BYTES_MAX_FLOOR, PRESENCE_STATE_BYTES_MAX,
};
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ChannelName, ClientId, ContentType, Member as WireMember,
    Retain, Status, Topic, TopicFilter, admin,
};
use parking_lot::Mutex;

use super::budget::Budget;
use super::outbox::{Entry, Origin, Outbox, Sender};
use super::topics::TopicTree;
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
    state: Mutex<State>,
}

/// How much one channel may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelLimits {
    pub(super) retained_topics: u64,
    pub(super) retained_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    offset: u64,
    revision: u64,
    members: BTreeMap<ClientId, Member>,
    /// How many members want presence changes.
    watchers: usize,
    filters: TopicTree,
    /// The receivers of topics published lately; emptied whenever filters change.
    routes: BTreeMap<Box<str>, Box<[Arc<Outbox>]>>,
    retained: BTreeMap<Topic, Retained>,
    retained_bytes: u64,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    status: Status,
    hidden: bool,
    watching: bool,
    state: Bytes,
    filters: Vec<TopicFilter>,
}

#[derive(Debug)]
struct Retained {
    sender: Sender,
    offset: u64,
    frame: Bytes,
    content: ContentType,
    payload_bytes: usize,
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

/// What a retained value costs beside its frame.
const RETAINED_BYTES: u64 = 256;

impl Retained {
    fn charge(&self) -> u64 {
        self.frame.len() as u64 + RETAINED_BYTES
    }

    fn entry(&self, channel: ChannelId) -> Entry {
        Entry {
            origin: Origin::Channel {
                channel,
                sender: Some(self.sender.clone()),
                first: self.offset,
                retained: true,
            },
            frames: self.frame.clone(),
            count: 1,
        }
    }
}

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        name: ChannelName,
        limits: ChannelLimits,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            id,
            name,
            limits,
            budget,
            state: Mutex::default(),
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
                        hidden,
                        watching: false,
                        state: presence,
                        filters: Vec::new(),
                    },
                );
                (!hidden).then_some(Change::Joined)
            }
        };
        if let Some(change) = change {
            self.tell(&mut state, session.id, change, wakes);
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

    /// Removes a member with its subscriptions, and tells those who watch.
    pub(super) fn leave(&self, client: ClientId, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let Some(hidden) = state.members.get(&client).map(|member| member.hidden) else {
            return;
        };
        if !hidden {
            self.tell(&mut state, client, Change::Left, wakes);
        }
        let Some(member) = state.members.remove(&client) else {
            return;
        };
        state.watchers -= usize::from(member.watching);
        for filter in &member.filters {
            state.filters.remove(filter, client);
        }
        state.routes.clear();
        let held = &member.session.subscriptions;
        held.fetch_sub(member.filters.len() as u64, Ordering::Relaxed);
    }

    /// Says whether a member has a connection, and tells those who watch.
    pub(super) fn set_status(&self, client: ClientId, status: Status, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        let Some(member) = state.members.get_mut(&client) else {
            return;
        };
        if member.status == status {
            return;
        }
        member.status = status;
        if !member.hidden {
            let change = match status {
                Status::Online => Change::Back,
                Status::Away => Change::Away,
            };
            self.tell(&mut state, client, change, wakes);
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
                self.tell(&mut state, client, Change::Updated, wakes);
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
            entries.push(Entry {
                origin: Origin::Answer,
                frames: bytes.into(),
                count: 1,
            });
        }
        entries
    }

    /// Adds a subscription; the retained values that match come first, if wanted. The session may hold
    /// `limit` of them over all channels.
    pub(super) fn subscribe(
        &self,
        client: ClientId,
        request: u64,
        filter: TopicFilter,
        snapshot: bool,
        limit: u64,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get(&client).ok_or(Refusal::NotAMember)?;
        let session = member.session.clone();
        let new = !member.filters.contains(&filter);
        if new && session.subscriptions.load(Ordering::Relaxed) >= limit {
            return Err(Refusal::LimitReached {
                what: "too many subscriptions",
                limit,
            });
        }
        let values = self.values(state, &session.outbox, request, snapshot.then_some(&filter))?;
        if new {
            state.filters.insert(&filter, client);
            let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
            member.filters.push(filter);
            state.routes.clear();
            session.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
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
            .position(|known| known.as_str() == filter)
            .ok_or(Refusal::NotSubscribed)?;
        let filter = member.filters.swap_remove(at);
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
        outbox.answer_entries(self.values(&state, outbox, request, Some(filter))?, wakes);
        Ok(())
    }

    /// The answer to a subscription or snapshot: the count, then the values.
    fn values(
        &self,
        state: &State,
        outbox: &Outbox,
        request: u64,
        filter: Option<&TopicFilter>,
    ) -> Result<Vec<Entry>, Refusal> {
        let mut entries = vec![];
        if let Some(filter) = filter {
            entries.extend(
                state
                    .retained
                    .iter()
                    .filter(|(topic, _)| filter.matches(topic.as_str()))
                    .map(|(_, retained)| retained.entry(self.id)),
            );
        }
        let bytes: usize = entries.iter().map(|entry| entry.frames.len()).sum();
        if !outbox.has_room(bytes as u64, entries.len() as u64 + 1) {
            return Err(Refusal::OutboxFull);
        }
        let mut head = Vec::new();
        BrokerFrame::Values {
            request,
            channel: self.id,
            offset: state.offset,
            count: entries.len() as u64,
        }
        .encode(&mut head);
        entries.insert(
            0,
            Entry {
                origin: Origin::Answer,
                frames: head.into(),
                count: 1,
            },
        );
        Ok(entries)
    }

    /// Delivers messages to the members whose filter matches, or to all others if there is no topic.
    pub(super) fn publish(
        &self,
        sender: &Sender,
        run: Run<'_>,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.members.contains_key(&sender.client) {
            return Err(Refusal::NotAMember);
        }
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
        }
        let entry = Entry {
            origin: Origin::Channel {
                channel: self.id,
                sender: Some(sender.clone()),
                first: state.offset + 1,
                retained: false,
            },
            frames: run.frames,
            count: run.count,
        };
        state.offset += run.count;
        match run.topic {
            None => state
                .members
                .iter()
                .filter(|(client, _)| **client != sender.client)
                .for_each(|(_, member)| member.session.outbox.push(&entry, wakes)),
            Some(topic) => {
                if !known {
                    let route = state.route(topic);
                    if state.routes.len() >= ROUTES_MAX {
                        state.routes.clear();
                    }
                    state.routes.insert(topic.into(), route);
                }
                for outbox in &state.routes[topic] {
                    outbox.push(&entry, wakes);
                }
            }
        }
        Ok(())
    }

    /// Keeps or forgets the last value of a topic.
    fn retain(
        &self,
        state: &mut State,
        sender: &Sender,
        topic: &str,
        run: &Run<'_>,
    ) -> Result<(), Refusal> {
        let before = state.retained.get(topic).map_or(0, Retained::charge);
        if run.retain == Retain::Clear {
            state.retained.remove(topic);
            state.retained_bytes -= before;
            self.budget.refund(before);
            return Ok(());
        }
        let value = Retained {
            sender: sender.clone(),
            offset: state.offset + 1,
            // Its own allocation: a kept value must not keep a whole read buffer.
            frame: Bytes::copy_from_slice(&run.frames),
            content: run.content,
            payload_bytes: run.payload_bytes,
        };
        let after = value.charge();
        let bytes = state.retained_bytes - before + after;
        if bytes > self.limits.retained_bytes
            || before == 0 && state.retained.len() as u64 >= self.limits.retained_topics
            || after > before && !self.budget.fits(after - before)
        {
            return Err(Refusal::RetainedFull);
        }
        self.budget.refund(before);
        self.budget.charge(after);
        state.retained_bytes = bytes;
        match state.retained.get_mut(topic) {
            Some(kept) => *kept = value,
            None => {
                let topic = topic.parse().map_err(Refusal::BadTopic)?;
                state.retained.insert(topic, value);
            }
        }
        Ok(())
    }

    /// Tells those who watch of a change of one member, the member itself too.
    fn tell(&self, state: &mut State, client: ClientId, change: Change, wakes: &mut Wakes) {
        state.revision += 1;
        if state.watchers == 0 {
            return;
        }
        let mut frame = Vec::new();
        BrokerFrame::Presence {
            channel: self.id,
            revision: state.revision,
            change,
            member: state.members[&client].on_the_wire(client),
        }
        .encode(&mut frame);
        let entry = Entry {
            origin: Origin::Channel {
                channel: self.id,
                sender: None,
                first: 0,
                retained: false,
            },
            frames: frame.into(),
            count: 1,
        };
        for member in state.members.values().filter(|member| member.watching) {
            member.session.outbox.push(&entry, wakes);
        }
    }

    /// Whether nobody would miss the channel.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.members.is_empty() && state.retained.is_empty()
    }

    pub(super) fn summary(&self) -> admin::ChannelSummary {
        let state = self.state.lock();
        self.summary_of(&state)
    }

    pub(super) fn view(&self) -> admin::ChannelView {
        let state = self.state.lock();
        admin::ChannelView {
            summary: self.summary_of(&state),
            members: state
                .members
                .iter()
                .map(|(client, member)| admin::MemberView {
                    id: *client,
                    name: member.session.name.to_string(),
                    state: status_word(member.status).into(),
                    hidden: member.hidden,
                    filters: member.filters.iter().map(ToString::to_string).collect(),
                    presence: member.state.to_vec(),
                })
                .collect(),
            retained: state
                .retained
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
        admin::ChannelSummary {
            name: self.name.to_string(),
            members: state.members.len() as u64,
            subscriptions: state.filters.len() as u64,
            offset: state.offset,
            retained: state.retained.len() as u64,
            retained_bytes: state.retained_bytes,
        }
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        self.state.lock().retained_bytes
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
        assert_eq!(
            state.retained_bytes,
            state.retained.values().map(Retained::charge).sum::<u64>(),
            "retained bytes"
        );
        assert!(
            state
                .retained
                .values()
                .all(|retained| retained.offset <= state.offset)
        );
        for (topic, route) in &state.routes {
            let now = state.route(topic);
            assert!(
                route.len() == now.len()
                    && route
                        .iter()
                        .zip(&now)
                        .all(|(kept, now)| Arc::ptr_eq(kept, now)),
                "the route of {topic} is not what the filters say"
            );
        }
    }
}

impl State {
    fn route(&self, topic: &str) -> Box<[Arc<Outbox>]> {
        self.filters
            .matching(topic)
            .into_iter()
            .filter_map(|client| self.members.get(&client))
            .map(|member| member.session.outbox.clone())
            .collect()
    }
}

impl Member {
    fn on_the_wire(&self, client: ClientId) -> WireMember<'_> {
        WireMember {
            client,
            name: self.session.name.as_str(),
            status: self.status,
            state: &self.state,
        }
    }
}

/// A member's status as one word, for operators.
pub(super) const fn status_word(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}

// A page of members with the largest states is a frame within the smallest limit.
const _: () = assert!(
    MEMBERS_PER_FRAME_MAX * (PRESENCE_STATE_BYTES_MAX + CLIENT_NAME_BYTES_MAX + 32)
        <= PAYLOAD_BYTES_MAX_FLOOR
);
