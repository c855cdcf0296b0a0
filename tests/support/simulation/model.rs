use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use localhub_protocol::{Change, ChannelId, ClientId, Code};

use super::expected::Expected;
use super::filters::{FilterSet, Filters};
use super::heard::{Heard, Item, Joined, Members, Presence, Seen, Sent};
use super::ledger::Ledger;

/// What every client must hear, worked out in the plainest way: a list for each client.
///
/// It knows no outbox. Where the hub may decide (what does not fit in an outbox is refused to its
/// sender), the model is told what it decided, and holds it against how much can be waiting there.
#[derive(Debug)]
pub(super) struct Model {
    ttl: Duration,
    /// By client id; nobody has the first.
    clients: Vec<Expected>,
    parked: BTreeSet<(Duration, ClientId)>,
    /// By channel id; none has the first.
    rooms: Vec<Option<Room>>,
    by_name: HashMap<Rc<str>, ChannelId>,
    pub(super) filters: Filters,
    pub(super) ledger: Ledger,
    /// Grows with all that is carried out or heard.
    pub(super) progress: u64,
}

#[derive(Debug)]
pub(super) struct Room {
    name: Rc<str>,
    pub(super) offset: u64,
    revision: u64,
    pub(super) members: BTreeMap<ClientId, Member>,
    pub(super) retained: BTreeMap<Rc<str>, Rc<Sent>>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) hidden: bool,
    pub(super) watching: bool,
    away: bool,
    state: Rc<[u8]>,
    pub(super) filters: FilterSet,
}

/// As many members fit in one frame.
const MEMBERS_PER_FRAME: usize = 128;

impl Model {
    pub(super) fn new(ttl: Duration, authors: usize) -> Self {
        Self {
            ttl,
            clients: vec![Expected::default()],
            parked: BTreeSet::new(),
            rooms: vec![None],
            by_name: HashMap::new(),
            filters: Filters::default(),
            ledger: Ledger::new(authors),
            progress: 0,
        }
    }

    pub(super) fn attach(&mut self, client: ClientId) {
        let index = client.0 as usize;
        if index >= self.clients.len() {
            self.clients.resize_with(index + 1, Expected::default);
        }
        if let Some(until) = self.clients[index].parked.take() {
            self.parked.remove(&(until, client));
            self.set_away(client, false);
        }
    }

    /// The client's connection is gone.
    pub(super) fn park(&mut self, client: ClientId, now: Duration) {
        let expected = self.client(client);
        if expected.over || expected.parked.is_some() {
            return;
        }
        let until = now + self.ttl;
        self.client(client).parked = Some(until);
        self.parked.insert((until, client));
        self.set_away(client, true);
    }

    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(&(until, client)) = self.parked.first()
            && until <= now
        {
            self.parked.pop_first();
            self.end(client);
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self, client: ClientId) {
        for room in std::mem::take(&mut self.client(client).rooms) {
            self.part(room, client);
        }
        let expected = self.client(client);
        expected.over = true;
        if let Some(until) = expected.parked.take() {
            self.parked.remove(&(until, client));
        }
    }

    pub(super) fn is_over(&self, client: ClientId) -> bool {
        let expected = self.clients.get(client.0 as usize);
        client == ClientId::HUB || expected.is_none_or(|expected| expected.over)
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

    /// The channel of that name, which is made if it is new.
    fn room_of(&mut self, name: &str) -> ChannelId {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let channel = ChannelId(self.rooms.len() as u64);
        let name: Rc<str> = name.into();
        self.rooms.push(Some(Room {
            name: name.clone(),
            offset: 0,
            revision: 0,
            members: BTreeMap::new(),
            retained: BTreeMap::new(),
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
                let member = Member {
                    hidden,
                    watching: false,
                    away: false,
                    state,
                    filters: FilterSet::default(),
                };
                room.members.insert(client, member);
                (!hidden).then_some(Change::Joined)
            }
            Some(member) => {
                let before = std::mem::replace(&mut member.state, state);
                match (std::mem::replace(&mut member.hidden, hidden), hidden) {
                    (true, false) => Some(Change::Joined),
                    (false, true) => Some(Change::Left),
                    (false, false) if before != member.state => Some(Change::Updated),
                    _ => None,
                }
            }
        };
        let (offset, name) = (room.offset, room.name.clone());
        if let Some(change) = change {
            self.tell(channel, client, change);
        }
        self.client(client).expect(Item::Joined(Box::new(Joined {
            request,
            channel,
            offset,
            name,
        })));
    }

    /// Ends a membership; `false` if there is none.
    pub(super) fn leave(&mut self, channel: ChannelId, client: ClientId) -> bool {
        self.client(client).rooms.remove(&channel) && self.part(channel, client)
    }

    fn part(&mut self, channel: ChannelId, client: ClientId) -> bool {
        let Some(hidden) = self.member(channel, client).map(|member| member.hidden) else {
            return false;
        };
        if !hidden {
            self.tell(channel, client, Change::Left);
        }
        let slot = &mut self.rooms[channel.0 as usize];
        if let Some(room) = slot {
            room.members.remove(&client);
            if room.members.is_empty() && room.retained.is_empty() {
                self.by_name.remove(&room.name);
                *slot = None;
            }
        }
        true
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
            self.tell(channel, client, Change::Updated);
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
            self.clients[client.0 as usize].expect(Item::Members(Rc::new(Members {
                request,
                channel,
                revision,
                more,
                members,
            })));
            match pages.next() {
                Some(next) => page = next,
                None => return,
            }
        }
    }

    fn set_away(&mut self, client: ClientId, away: bool) {
        let rooms: Vec<_> = self.client(client).rooms.iter().copied().collect();
        for room in rooms {
            let Some(member) = self.member(room, client) else {
                continue;
            };
            let changed = member.away != away && !member.hidden;
            member.away = away;
            if changed {
                self.tell(room, client, if away { Change::Away } else { Change::Back });
            }
        }
    }

    fn tell(&mut self, channel: ChannelId, client: ClientId, change: Change) {
        let Some(room) = &mut self.rooms[channel.0 as usize] else {
            return;
        };
        room.revision += 1;
        let mut watchers = room
            .members
            .iter()
            .filter(|(_, member)| member.watching)
            .peekable();
        if watchers.peek().is_none() {
            return;
        }
        let presence = Rc::new(Presence {
            channel,
            revision: room.revision,
            change,
            member: room.members[&client].seen(client),
        });
        for (watcher, _) in watchers {
            self.clients[watcher.0 as usize].expect(Item::Presence(presence.clone()));
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
            let hears = match matching {
                Some(matching) => member.filters.meets(matching),
                None => *to != sent.sender,
            };
            if hears {
                let (sent, retained) = (sent.clone(), false);
                self.clients[to.0 as usize].expect(Item::Message { sent, retained });
            }
        }
    }

    /// A client heard something: it must be the next that it had to hear. Gives back what that was;
    /// nothing for a gap.
    pub(super) fn judge(&mut self, client: ClientId, heard: &Heard<'_>) -> Option<Item> {
        self.progress += 1;
        self.clients[client.0 as usize].judge(client, heard)
    }

    /// Everything was delivered: nothing but what gaps count may be left.
    pub(super) fn finish(&mut self, client: ClientId) {
        self.client(client).finish(client);
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
    pub(super) fn seen(&self, client: ClientId) -> Seen {
        Seen {
            client,
            away: self.away,
            state: self.state.clone(),
        }
    }
}

/// Who is no member is refused everything in a channel.
pub(super) const NOT_A_MEMBER: Code = Code::NOT_A_MEMBER;
