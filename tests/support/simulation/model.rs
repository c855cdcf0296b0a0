use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use localhub_protocol::{
    Change, ChannelId, ClientFrame, ClientId, Message, Retain, Target, TopicFilter,
};

/// What every client must hear, worked out in the plainest way: a list for each client.
///
/// Where the hub may decide (what does not fit in an outbox is refused to its sender), the model is told
/// what it decided.
#[derive(Debug)]
pub(super) struct Model {
    ttl: Duration,
    clients: BTreeMap<ClientId, Expected>,
    rooms: BTreeMap<ChannelId, Room>,
    rooms_so_far: u64,
}

/// What one client must still hear.
#[derive(Debug, Default)]
struct Expected {
    items: VecDeque<Item>,
    /// Lost messages that gaps counted and no item was crossed out for yet.
    gaps: BTreeMap<Option<ChannelId>, u64>,
    parked: Option<Duration>,
    said: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Item {
    /// An answer to a request.
    Answer(u64),
    /// A message that was forwarded.
    Message {
        channel: Option<ChannelId>,
        sender: ClientId,
        retained: bool,
        body: Vec<u8>,
    },
    /// A change of presence, with its revision.
    Presence(ChannelId, ClientId, Change, u64),
}

/// What a client heard.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    Answer(u64),
    Gap(Option<ChannelId>, u64),
    Message {
        channel: Option<ChannelId>,
        sender: ClientId,
        retained: bool,
        body: &'a [u8],
    },
    Presence(ChannelId, ClientId, Change, u64),
    Refusal(u64),
}

#[derive(Debug, Default)]
struct Room {
    name: String,
    revision: u64,
    members: BTreeMap<ClientId, Member>,
    retained: BTreeMap<String, (ClientId, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Member {
    hidden: bool,
    watching: bool,
    away: bool,
    state: Vec<u8>,
    filters: BTreeSet<String>,
}

impl Item {
    /// The channel in whose gap the item may be counted.
    fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Message {
                channel,
                retained: false,
                ..
            } => *channel,
            Self::Presence(channel, ..) => Some(*channel),
            _ => None,
        }
    }

    fn is(&self, heard: &Heard<'_>) -> bool {
        match (self, heard) {
            (Self::Answer(request), Heard::Answer(of) | Heard::Refusal(of)) => request == of,
            (
                Self::Message {
                    channel,
                    sender,
                    retained,
                    body,
                },
                Heard::Message {
                    channel: c,
                    sender: s,
                    retained: r,
                    body: b,
                },
            ) => channel == c && sender == s && retained == r && body == b,
            (
                Self::Presence(channel, client, change, revision),
                Heard::Presence(c, who, what, r),
            ) => channel == c && client == who && change == what && revision == r,
            _ => false,
        }
    }
}

fn frame_end(bytes: &[u8]) -> Option<usize> {
    let prefix: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let end = 4 + u32::from_be_bytes(prefix) as usize;
    (bytes.len() >= end).then_some(end)
}

impl Model {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            clients: BTreeMap::new(),
            rooms: BTreeMap::new(),
            rooms_so_far: 0,
        }
    }

    /// The whole frames of what was read, in pieces: a frame that a full outbox may refuse is one by
    /// itself, so that the hub can be asked what became of it.
    pub(super) fn pieces(partial: &[u8], read: &[u8]) -> Vec<usize> {
        let all = [partial, read].concat();
        let mut pieces = vec![];
        let (mut at, mut piece) = (0, 0);
        while let Some(end) = frame_end(&all[at..]) {
            let frame = ClientFrame::decode(&all[at + 4..at + end]).expect("a client's frame");
            let alone = matches!(
                frame,
                ClientFrame::Subscribe { .. }
                    | ClientFrame::Snapshot { .. }
                    | ClientFrame::Message(Message::Direct { .. })
            );
            if alone && piece > 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            piece += end;
            at += end;
            if alone {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        if piece > 0 {
            pieces.push(piece);
        }
        pieces
    }

    pub(super) fn attach(&mut self, client: ClientId) {
        let expected = self.clients.entry(client).or_default();
        let back = expected.parked.take().is_some();
        if back {
            self.set_away(client, false);
        }
    }

    pub(super) fn park(&mut self, client: ClientId, now: Duration) {
        if let Some(expected) = self.clients.get_mut(&client) {
            expected.parked = Some(now);
            self.set_away(client, true);
        }
    }

    pub(super) fn expire(&mut self, now: Duration) {
        let mut over: Vec<_> = self
            .clients
            .iter()
            .filter_map(|(client, expected)| {
                let until = expected.parked? + self.ttl;
                (until <= now).then_some((until, *client))
            })
            .collect();
        over.sort();
        for (_, client) in over {
            let rooms: Vec<_> = self.rooms.keys().copied().collect();
            for room in rooms {
                self.leave(room, client);
            }
            self.clients.remove(&client);
        }
    }

    /// The hub has carried out these frames of a client, and refused some of them or not.
    pub(super) fn carry_out(&mut self, client: ClientId, frames: &[u8], refused: bool) {
        let mut at = 0;
        while let Some(end) = frame_end(&frames[at..]) {
            let body = &frames[at + 4..at + end];
            self.carry_out_one(client, body, refused);
            at += end;
        }
    }

    fn carry_out_one(&mut self, client: ClientId, body: &[u8], refused: bool) {
        let frame = ClientFrame::decode(body).expect("a client's frame");
        if matches!(frame, ClientFrame::Ack { .. } | ClientFrame::Ping { .. }) {
            return;
        }
        let expected = self.clients.get_mut(&client).expect("a client of the hub");
        expected.said += 1;
        let request = expected.said;
        match frame {
            ClientFrame::Join {
                name,
                hidden,
                state,
            } => self.join(client, request, name, hidden, state),
            ClientFrame::Leave { channel } => {
                self.leave(channel, client);
                self.expect(client, Item::Answer(request));
            }
            ClientFrame::PresenceSet { channel, state } => {
                let mut changed = false;
                if let Some(member) = self.member(channel, client) {
                    changed = member.state != state && !member.hidden;
                    member.state = state.to_vec();
                }
                if changed {
                    self.tell(channel, client, Change::Updated);
                }
                self.expect(client, Item::Answer(request));
            }
            ClientFrame::PresenceWatch { channel, on } => {
                if let Some(member) = self.member(channel, client) {
                    member.watching = on;
                }
                self.expect(client, Item::Answer(request));
            }
            ClientFrame::Subscribe {
                channel,
                filter,
                snapshot,
            } => {
                self.expect(client, Item::Answer(request));
                if refused {
                    return;
                }
                if snapshot {
                    self.values(client, channel, filter);
                }
                let member = self
                    .member(channel, client)
                    .expect("only members subscribe");
                member.filters.insert(filter.into());
            }
            ClientFrame::Unsubscribe { channel, filter } => {
                if let Some(member) = self.member(channel, client) {
                    member.filters.remove(filter);
                }
                self.expect(client, Item::Answer(request));
            }
            ClientFrame::Snapshot { channel, filter } => {
                self.expect(client, Item::Answer(request));
                if !refused {
                    self.values(client, channel, filter);
                }
            }
            ClientFrame::Message(message) => self.message(client, request, message, body, refused),
            other => panic!("the simulated clients never say {other:?}"),
        }
    }

    fn join(&mut self, client: ClientId, request: u64, name: &str, hidden: bool, state: &[u8]) {
        let known = self
            .rooms
            .iter()
            .find(|(_, room)| room.name == name)
            .map(|(id, _)| *id);
        let channel = known.unwrap_or_else(|| {
            self.rooms_so_far += 1;
            let channel = ChannelId(self.rooms_so_far);
            self.rooms.insert(
                channel,
                Room {
                    name: name.into(),
                    ..Room::default()
                },
            );
            channel
        });
        let members = &mut self.rooms.get_mut(&channel).expect("just made").members;
        let before = members
            .get(&client)
            .map(|member| (member.hidden, member.state.clone()));
        let member = members.entry(client).or_default();
        member.hidden = hidden;
        member.state = state.to_vec();
        match before {
            None | Some((true, _)) if !hidden => self.tell(channel, client, Change::Joined),
            Some((false, _)) if hidden => self.tell(channel, client, Change::Left),
            Some((false, old)) if old != state => self.tell(channel, client, Change::Updated),
            _ => {}
        }
        self.expect(client, Item::Answer(request));
    }

    fn leave(&mut self, channel: ChannelId, client: ClientId) {
        let Some(hidden) = self.member(channel, client).map(|member| member.hidden) else {
            return;
        };
        if !hidden {
            self.tell(channel, client, Change::Left);
        }
        let room = self.rooms.get_mut(&channel).expect("it has a member");
        room.members.remove(&client);
        if room.members.is_empty() && room.retained.is_empty() {
            self.rooms.remove(&channel);
        }
    }

    fn values(&mut self, client: ClientId, channel: ChannelId, filter: &str) {
        let filter: TopicFilter = filter.parse().expect("a filter");
        let values: Vec<_> = self.rooms[&channel]
            .retained
            .iter()
            .filter(|(topic, _)| filter.matches(topic))
            .map(|(_, (sender, body))| Item::Message {
                channel: Some(channel),
                sender: *sender,
                retained: true,
                body: body.clone(),
            })
            .collect();
        for item in values {
            self.expect(client, item);
        }
    }

    fn message(
        &mut self,
        client: ClientId,
        request: u64,
        message: Message<'_>,
        body: &[u8],
        refused: bool,
    ) {
        let (channel, receivers) = match message {
            Message::Direct {
                to: Target::Id(to), ..
            } => {
                if refused {
                    return self.expect(client, Item::Answer(request));
                }
                assert!(
                    self.clients.contains_key(&to),
                    "{to} is gone, and was sent something"
                );
                let (sender, body) = (client, body.to_vec());
                let item = Item::Message {
                    channel: None,
                    sender,
                    retained: false,
                    body,
                };
                return self.expect(to, item);
            }
            Message::Broadcast { channel, .. } => (channel, None),
            Message::Publish {
                channel,
                topic,
                retain,
                ..
            } => (channel, Some((topic, retain))),
            other => panic!("the simulated clients never say {other:?}"),
        };
        if self.member(channel, client).is_none() {
            return self.expect(client, Item::Answer(request));
        }
        let room = self.rooms.get_mut(&channel).expect("it has a member");
        let to: Vec<ClientId> = match receivers {
            None => room
                .members
                .keys()
                .copied()
                .filter(|member| *member != client)
                .collect(),
            Some((topic, retain)) => {
                match retain {
                    Retain::No => {}
                    Retain::Set => {
                        room.retained.insert(topic.into(), (client, body.to_vec()));
                    }
                    Retain::Clear => {
                        room.retained.remove(topic);
                    }
                }
                let matches = |filter: &String| {
                    filter
                        .parse::<TopicFilter>()
                        .expect("a filter")
                        .matches(topic)
                };
                room.members
                    .iter()
                    .filter(|(_, member)| member.filters.iter().any(matches))
                    .map(|(client, _)| *client)
                    .collect()
            }
        };
        let item = Item::Message {
            channel: Some(channel),
            sender: client,
            retained: false,
            body: body.to_vec(),
        };
        for to in to {
            self.expect(to, item.clone());
        }
    }

    fn set_away(&mut self, client: ClientId, away: bool) {
        let rooms: Vec<_> = self.rooms.keys().copied().collect();
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
        let room = self.rooms.get_mut(&channel).expect("it has a member");
        room.revision += 1;
        let revision = room.revision;
        let watchers: Vec<_> = room
            .members
            .iter()
            .filter(|(_, member)| member.watching)
            .map(|(watcher, _)| *watcher)
            .collect();
        for watcher in watchers {
            self.expect(watcher, Item::Presence(channel, client, change, revision));
        }
    }

    fn member(&mut self, channel: ChannelId, client: ClientId) -> Option<&mut Member> {
        self.rooms.get_mut(&channel)?.members.get_mut(&client)
    }

    fn expect(&mut self, client: ClientId, item: Item) {
        if let Some(expected) = self.clients.get_mut(&client) {
            expected.items.push_back(item);
        }
    }

    /// A client heard something: it must be the next that it had to hear.
    pub(super) fn judge(&mut self, client: ClientId, heard: &Heard<'_>) {
        let Some(expected) = self.clients.get_mut(&client) else {
            // The session is over; what was on its way is still read.
            return;
        };
        if let Heard::Gap(channel, lost) = heard {
            *expected.gaps.entry(*channel).or_default() += lost;
            return;
        }
        expected.cross_out(client);
        let item = expected.items.pop_front();
        assert!(
            item.as_ref().is_some_and(|item| item.is(heard)),
            "{client} had to hear {item:?}, and heard {heard:?}"
        );
    }

    /// Everything was delivered: nothing but what gaps count may be left.
    pub(super) fn finish(&mut self, client: ClientId) {
        if let Some(expected) = self.clients.get_mut(&client) {
            expected.cross_out(client);
            assert_eq!(
                expected.items,
                [],
                "{client} never heard these, and no gap says so"
            );
        }
    }
}

impl Expected {
    /// Takes out what gaps counted. One of a channel counts that channel's messages; one that a
    /// resume left, which names no channel, may count anything.
    fn cross_out(&mut self, client: ClientId) {
        let lost: u64 = self.gaps.values().sum();
        for _ in 0..lost {
            let item = self.items.pop_front();
            let channel = item.as_ref().map(Item::channel);
            let counted = channel
                .into_iter()
                .flat_map(|channel| [channel, None])
                .any(|channel| {
                    let lost = self.gaps.get_mut(&channel).filter(|lost| **lost > 0);
                    lost.map(|lost| *lost -= 1).is_some()
                });
            assert!(
                counted,
                "{client}: the gaps cannot count {item:?}; they have {:?}",
                self.gaps
            );
        }
        self.gaps.clear();
    }
}
