use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use localhub_protocol::{Change, ChannelId, ChannelSettings, ClientId, Code, Policy, Status};

use super::Counts;
use super::absence::{Alarm, Testament};
use super::expected::Expected;
use super::filters::{FilterSet, Filters};
use super::heard::{Heard, Item, Joined, Members, Seen, Sent};
use super::kept::History;
use super::ledger::Ledger;
use super::space::{Load, Space};
use super::tokens::Strikes;

/// What every client must hear, worked out in the plainest way: a list for each client.
///
/// It knows no outbox. Where the hub may decide (what does not fit in an outbox is lost, or refused to its
/// sender), the model is told what it decided, and holds it against how much can be waiting there.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) space: Space,
    pub(super) now: Duration,
    /// By client id; nobody has the first.
    pub(super) clients: Vec<Expected>,
    /// Sessions without a connection, by when they end.
    pub(super) parked: BTreeSet<(Duration, ClientId)>,
    pub(super) alarms: BTreeSet<(Duration, Alarm)>,
    /// By channel id; none has the first.
    pub(super) rooms: Vec<Option<Room>>,
    by_name: HashMap<Rc<str>, ChannelId>,
    /// The messages that the hub was handed together with the one that it carries out now.
    pub(super) together: Load,
    /// The publish before, if the next one may have come together with it.
    pub(super) run: Option<(ClientId, ChannelId, Rc<str>)>,
    /// A message went to who has publishers wait for long.
    pub(super) blocks: bool,
    pub(super) strikes: Strikes,
    pub(super) filters: Filters,
    pub(super) ledger: Ledger,
    /// Grows with all that is carried out or heard.
    pub(super) progress: u64,
    pub(super) counts: Counts,
}

#[derive(Debug)]
pub(super) struct Room {
    name: Rc<str>,
    pub(super) offset: u64,
    pub(super) revision: u64,
    pub(super) members: BTreeMap<ClientId, Member>,
    pub(super) retained: BTreeMap<Rc<str>, Rc<Sent>>,
    pub(super) history: Option<History>,
    pub(super) debounce: Duration,
    /// Until when it stays for its history, without members.
    pub(super) linger: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) hidden: bool,
    pub(super) watching: bool,
    pub(super) status: Status,
    /// Its status as the others know it.
    pub(super) told: Status,
    pub(super) away_because: Code,
    state: Rc<[u8]>,
    pub(super) filters: FilterSet,
    /// The policy of each filter.
    pub(super) policies: Vec<(usize, Policy)>,
    pub(super) wills: Vec<Testament>,
}

/// As many members fit in one frame.
const MEMBERS_PER_FRAME: usize = 128;

impl Model {
    pub(super) fn new(space: Space, authors: usize) -> Self {
        Self {
            space,
            now: Duration::ZERO,
            clients: vec![Expected::default()],
            parked: BTreeSet::new(),
            alarms: BTreeSet::new(),
            rooms: vec![None],
            by_name: HashMap::new(),
            together: Load::default(),
            run: None,
            blocks: false,
            strikes: Strikes::default(),
            filters: Filters::default(),
            ledger: Ledger::new(authors),
            progress: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn is_over(&self, client: ClientId) -> bool {
        let expected = self.clients.get(client.0 as usize);
        client == ClientId::HUB || expected.is_none_or(|expected| expected.over.is_some())
    }

    pub(super) fn client(&mut self, client: ClientId) -> &mut Expected {
        &mut self.clients[client.0 as usize]
    }

    pub(super) fn room(&mut self, channel: ChannelId) -> Option<&mut Room> {
        self.rooms.get_mut(channel.0 as usize)?.as_mut()
    }

    pub(super) fn member(&mut self, channel: ChannelId, client: ClientId) -> Option<&mut Member> {
        self.room(channel)?.members.get_mut(&client)
    }

    /// Something is addressed to a client that no policy is about.
    pub(super) fn expect(&mut self, client: ClientId, item: Item) {
        let (together, space) = (self.together, self.space);
        self.client(client).expect(item, None, together, space);
    }

    /// The channel of that name, which is made if it is new.
    fn room_of(&mut self, name: &str) -> ChannelId {
        if let Some(known) = self.by_name.get(name).copied() {
            let room = self.room(known).expect("it has its name");
            if let Some(until) = room.linger.take() {
                self.alarms.remove(&(until, Alarm::History(known)));
            }
            return known;
        }
        let channel = ChannelId(self.rooms.len() as u64);
        let name: Rc<str> = name.into();
        self.rooms.push(Some(Room {
            name: name.clone(),
            offset: 0,
            revision: 0,
            members: BTreeMap::new(),
            retained: BTreeMap::new(),
            history: None,
            debounce: Duration::ZERO,
            linger: None,
        }));
        self.by_name.insert(name, channel);
        channel
    }

    pub(super) fn join(
        &mut self,
        client: ClientId,
        request: u64,
        name: &str,
        hidden: bool,
        state: &[u8],
    ) {
        let channel = self.room_of(name);
        self.client(client).rooms.insert(channel);
        let room = self.room(channel).expect("just made");
        let state: Rc<[u8]> = state.into();
        let change = match room.members.get_mut(&client) {
            None => {
                room.members.insert(client, Member::new(hidden, state));
                (!hidden).then_some(Change::Joined)
            }
            Some(member) => {
                let before = std::mem::replace(&mut member.state, state);
                let was_hidden = std::mem::replace(&mut member.hidden, hidden);
                if was_hidden != hidden {
                    member.told = member.status;
                }
                match (was_hidden, hidden) {
                    (true, false) => Some(Change::Joined),
                    (false, true) => Some(Change::Left),
                    (false, false) if before != member.state => Some(Change::Updated),
                    _ => None,
                }
            }
        };
        let (offset, name) = (room.offset, room.name.clone());
        if let Some(change) = change {
            let cause = (change == Change::Left).then_some(Code::GOODBYE);
            self.tell(channel, client, change, cause);
        }
        let joined = Joined {
            request,
            channel,
            offset,
            name,
        };
        self.expect(client, Item::Joined(Box::new(joined)));
    }

    /// Ends a membership; `false` if there is none.
    pub(super) fn leave(&mut self, channel: ChannelId, client: ClientId) -> bool {
        let member = self.client(client).rooms.remove(&channel);
        if member {
            self.part(channel, client, Code::GOODBYE);
        }
        member
    }

    pub(super) fn part(&mut self, channel: ChannelId, client: ClientId, cause: Code) {
        let Some(hidden) = self.member(channel, client).map(|member| member.hidden) else {
            return;
        };
        if !hidden {
            self.tell(channel, client, Change::Left, Some(cause));
        }
        let Some(room) = self.room(channel) else {
            return;
        };
        room.members.remove(&client);
        if !room.members.is_empty() {
            return;
        }
        if let Some(until) = room.history.as_ref().and_then(History::until) {
            room.linger = Some(until);
            self.alarms.insert((until, Alarm::History(channel)));
        }
        self.close_if_idle(channel);
    }

    /// A channel ends when nobody would miss it.
    pub(super) fn close_if_idle(&mut self, channel: ChannelId) {
        let slot = &mut self.rooms[channel.0 as usize];
        if let Some(room) = slot
            && room.members.is_empty()
            && room.retained.is_empty()
            && room.history.as_ref().is_none_or(History::is_empty)
        {
            self.by_name.remove(&room.name);
            *slot = None;
        }
    }

    pub(super) fn set_state(
        &mut self,
        channel: ChannelId,
        client: ClientId,
        state: &[u8],
    ) -> Option<()> {
        let member = self.member(channel, client)?;
        let changed = *member.state != *state && !member.hidden;
        member.state = state.into();
        if changed {
            self.tell(channel, client, Change::Updated, None);
        }
        Some(())
    }

    /// Says what a channel keeps from now on; nothing if the hub grants it.
    pub(super) fn set_channel(
        &mut self,
        channel: ChannelId,
        client: ClientId,
        settings: ChannelSettings,
    ) -> Option<Code> {
        let now = self.now;
        if self.member(channel, client).is_none() {
            return Some(NOT_A_MEMBER);
        }
        if settings.debounce_ms > DEBOUNCE_MAX_MS {
            return Some(Code::LIMIT_REACHED);
        }
        let room = self.room(channel)?;
        room.debounce = Duration::from_millis(settings.debounce_ms.into());
        if settings.history_messages == 0 {
            room.history = None;
        } else {
            let offset = room.offset;
            let history = room.history.get_or_insert_with(|| History::new(offset));
            history.set(settings, now);
        }
        None
    }

    /// Leaves a will, in the place of an earlier one for its topic.
    pub(super) fn set_will(
        &mut self,
        channel: ChannelId,
        client: ClientId,
        will: Testament,
    ) -> Option<()> {
        let wills = &mut self.member(channel, client)?.wills;
        match wills.iter_mut().find(|old| old.topic == will.topic) {
            Some(old) => *old = will,
            None => wills.push(will),
        }
        Some(())
    }

    /// The answer to who wants to know who is there: the members of a channel, in pages.
    pub(super) fn members(&mut self, channel: ChannelId, client: ClientId, request: u64) {
        let room = self.room(channel).expect("it has a member");
        let seen = room.seen();
        let revision = room.revision;
        let mut pages = seen.chunks(MEMBERS_PER_FRAME).peekable();
        let mut page = pages.next().unwrap_or(&[]);
        loop {
            let more = pages.peek().is_some();
            let members = page.to_vec();
            let members = Members {
                request,
                channel,
                revision,
                more,
                members,
            };
            self.expect(client, Item::Members(Rc::new(members)));
            match pages.next() {
                Some(next) => page = next,
                None => return,
            }
        }
    }

    /// Those that a message of a channel goes to: whose filter matches its topic, or all others.
    pub(super) fn forward(&mut self, sent: &Rc<Sent>) {
        let channel = sent.channel.expect("a message of a channel");
        let Some(room) = &self.rooms[channel.0 as usize] else {
            return;
        };
        let matching = sent
            .topic
            .as_ref()
            .map(|topic| self.filters.matching(topic));
        for (to, member) in &room.members {
            let policy = match matching {
                Some(matching) => match member.policy(matching) {
                    Some(policy) => Some(policy),
                    None => continue,
                },
                None if *to == sent.sender => continue,
                None => None,
            };
            self.blocks |= policy == Some(Policy::Block);
            let (sent, retained) = (sent.clone(), false);
            let item = Item::Message { sent, retained };
            let expected = &mut self.clients[to.0 as usize];
            expected.expect(item, policy, self.together, self.space);
        }
    }

    /// A client heard something: it must be the next that it had to hear. Gives back what that was;
    /// nothing for a gap.
    pub(super) fn judge(&mut self, client: ClientId, heard: &Heard<'_>) -> Option<Item> {
        self.progress += 1;
        self.counts.heard(client, heard);
        self.clients[client.0 as usize].judge(client, heard, self.space)
    }

    /// Everything was delivered: nothing but what gaps count may be left.
    pub(super) fn finish(&mut self, client: ClientId) {
        let space = self.space;
        self.client(client).finish(client, space);
    }

    /// Where a client is, by the names of the channels.
    pub(super) fn memberships(&self, client: ClientId) -> BTreeMap<&str, &Room> {
        let rooms = self.clients[client.0 as usize].rooms.iter();
        rooms
            .filter_map(|channel| self.rooms[channel.0 as usize].as_ref())
            .map(|room| (&*room.name, room))
            .collect()
    }
}

impl Room {
    /// The members that others see.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let visible = self.members.iter().filter(|(_, member)| !member.hidden);
        visible
            .map(|(client, member)| member.seen(*client))
            .collect()
    }
}

impl Member {
    fn new(hidden: bool, state: Rc<[u8]>) -> Self {
        Self {
            hidden,
            watching: false,
            status: Status::Online,
            told: Status::Online,
            away_because: Code::CONNECTION_LOST,
            state,
            filters: FilterSet::default(),
            policies: Vec::new(),
            wills: Vec::new(),
        }
    }

    pub(super) fn seen(&self, client: ClientId) -> Seen {
        Seen {
            client,
            status: self.told,
            state: self.state.clone(),
        }
    }

    pub(super) fn subscribe(&mut self, filter: usize, policy: Policy) {
        self.unsubscribe(filter);
        self.filters.insert(filter);
        self.policies.push((filter, policy));
    }

    pub(super) fn unsubscribe(&mut self, filter: usize) {
        self.filters.remove(filter);
        self.policies.retain(|(known, _)| *known != filter);
    }

    /// Of the policies of the filters that match, the one that gives up least; none if none does.
    fn policy(&self, matching: FilterSet) -> Option<Policy> {
        if !self.filters.meets(matching) {
            return None;
        }
        let held = self.policies.iter();
        let held = held.filter(|(filter, _)| matching.contains(*filter));
        let held = held.map(|(_, policy)| *policy);
        held.min_by_key(|policy| GIVES_UP_LEAST.iter().position(|known| known == policy))
    }
}

/// Rule 15.8.
const GIVES_UP_LEAST: [Policy; 5] = [
    Policy::Park,
    Policy::Block,
    Policy::DropOldest,
    Policy::DropNewest,
    Policy::Latest,
];

/// The hub grants no longer debounce.
pub(super) const DEBOUNCE_MAX_MS: u32 = 60_000;

/// Who is no member is refused everything in a channel.
pub(super) const NOT_A_MEMBER: Code = Code::NOT_A_MEMBER;
