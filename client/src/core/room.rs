use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use localhub_protocol::{ChannelId, ChannelName, ChannelSettings, ClientId, Policy, TopicFilter};

use super::ask::Ask;
use super::inbox::Inbox;
use super::ticket::Ticket;
use crate::channel::Will;
use crate::{Cursor, Member, PresenceEvent, StartAt};

/// Identifies a membership for as long as the client wants it, over any number of sessions.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RoomId(pub(super) u64);

/// Identifies a stream of messages, refusals or presence events.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct StreamId(pub(super) u64);

/// A channel that the client is a member of, or is about to be.
pub(super) struct Room {
    pub(super) name: ChannelName,
    /// The channel's id in this session; `None` until the broker has answered the join.
    pub(super) channel: Option<ChannelId>,
    pub(super) hidden: bool,
    /// The presence state, as the client set it last.
    pub(super) state: Bytes,
    /// What the client has set for the channel.
    pub(super) settings: Option<ChannelSettings>,
    /// The client's wills, by topic.
    pub(super) wills: BTreeMap<Box<str>, Will>,
    /// Who waits to become a member.
    pub(super) joiners: Vec<Ticket>,
    /// What is to be done once the client is a member, in this order.
    pub(super) later: VecDeque<Later>,
    /// The streams of this channel, by age.
    pub(super) streams: Vec<StreamId>,
    pub(super) watch: Watch,
    /// The filters whose subscription has the policy `latest`, whichever stream wanted that.
    pub(super) latest: Vec<TopicFilter>,
    /// The topic that was published to last, which need not be checked again.
    pub(super) checked_topic: String,
    routes: Routes,
}

/// What waits for a membership.
pub(super) enum Later {
    Ask(Ask),
    /// A message to the channel, as a frame with whatever channel id.
    Message {
        frame: Bytes,
        confirm: Option<Ticket>,
    },
}

/// Which streams get what: looked up once for each topic and again when streams come or go.
#[derive(Default)]
struct Routes {
    topics: HashMap<Box<str>, Route>,
    broadcasts: Option<Route>,
}

/// The streams that get a message.
pub(super) type Route = Arc<[StreamId]>;

/// Topics whose streams are remembered: more than a program has in use at one time.
const ROUTES_MAX: usize = 1_024;

/// What a stream of messages takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Takes {
    Broadcasts,
    Directs,
    /// What the filter matches, from somewhere on; with `broadcasts`, those too.
    Topics {
        filter: TopicFilter,
        start: StartAt,
        policy: Policy,
        broadcasts: bool,
    },
}

/// A stream of messages that the application reads.
pub(super) struct Stream {
    pub(super) room: Option<RoomId>,
    pub(super) takes: Takes,
    pub(super) inbox: Inbox,
    /// Whether the subscription stands in this session.
    pub(super) live: bool,
    /// Who waits for the subscription.
    pub(super) subscriber: Option<Ticket>,
    /// The broker may hold the subscription even if it refuses it: the answer before may be
    /// lost, or another stream with the same filter has left it behind.
    pub(super) may_stand: bool,
    /// Whether a gap tells that the subscription has to be asked for again.
    pub(super) tells_restarts: bool,
    /// Where a stream that began with history is.
    pub(super) cursor: Option<Cursor>,
    /// Messages that made way for newer ones of their topic, as the policy wants it.
    pub(super) conflated: u64,
    /// Nothing more will come.
    pub(super) ended: bool,
}

/// Who is in a channel, as far as the application wants to know.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) state: WatchState,
    pub(super) members: BTreeMap<ClientId, Member>,
    pub(super) revision: u64,
    /// The members told so far in an answer of several frames.
    pub(super) incoming: Vec<Member>,
    /// Who waits for the members.
    pub(super) waiting: Vec<Ticket>,
    pub(super) watchers: Vec<StreamId>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum WatchState {
    #[default]
    Off,
    /// Asked for; what comes before the answer is older than the answer.
    Asked,
    /// `members` are those at `revision`.
    On,
}

/// A stream of presence events that the application reads.
pub(super) struct Watcher {
    pub(super) room: RoomId,
    pub(super) events: VecDeque<PresenceEvent>,
    /// The events do not lead to the present members any more: the reader must compare.
    pub(super) behind: bool,
    pub(super) ended: bool,
    pub(super) waker: Option<Waker>,
}

impl Room {
    pub(super) fn new(name: ChannelName, hidden: bool, state: Bytes) -> Self {
        Self {
            name,
            channel: None,
            hidden,
            state,
            settings: None,
            wills: BTreeMap::new(),
            joiners: Vec::new(),
            later: VecDeque::new(),
            streams: Vec::new(),
            watch: Watch::default(),
            latest: Vec::new(),
            checked_topic: String::new(),
            routes: Routes::default(),
        }
    }

    /// The streams that get what is published to a topic.
    pub(super) fn route(&mut self, topic: &str, streams: &BTreeMap<StreamId, Stream>) -> Route {
        if let Some(route) = self.routes.topics.get(topic) {
            return route.clone();
        }
        let route = self.find(streams, |takes| match takes {
            Takes::Topics { filter, .. } => filter.matches(topic),
            Takes::Broadcasts | Takes::Directs => false,
        });
        if self.routes.topics.len() >= ROUTES_MAX {
            self.routes.topics.clear();
        }
        self.routes.topics.insert(topic.into(), route.clone());
        route
    }

    /// The streams that get what is broadcast.
    pub(super) fn broadcast_route(&mut self, streams: &BTreeMap<StreamId, Stream>) -> Route {
        if let Some(route) = &self.routes.broadcasts {
            return route.clone();
        }
        let route = self.find(streams, |takes| {
            matches!(
                takes,
                Takes::Broadcasts
                    | Takes::Topics {
                        broadcasts: true,
                        ..
                    }
            )
        });
        self.routes.broadcasts.insert(route).clone()
    }

    /// To be called whenever a stream of this channel comes, goes or becomes live.
    pub(super) fn forget_routes(&mut self) {
        self.routes = Routes::default();
    }

    fn find(&self, streams: &BTreeMap<StreamId, Stream>, wants: impl Fn(&Takes) -> bool) -> Route {
        let found = |id: &&StreamId| {
            streams
                .get(id)
                .is_some_and(|stream| stream.live && wants(&stream.takes))
        };
        self.streams.iter().filter(found).copied().collect()
    }
}

impl Takes {
    /// Whether it is a subscription to that filter.
    pub(super) fn is_of(&self, of: &TopicFilter) -> bool {
        matches!(self, Self::Topics { filter, .. } if filter == of)
    }

    /// Whether a lost session costs it nothing that the channel's history has.
    pub(super) fn has_history(&self) -> bool {
        let Self::Topics { start, .. } = self else {
            return false;
        };
        matches!(start, StartAt::Last(_) | StartAt::After(_))
    }
}

impl Watch {
    /// Whether anybody wants to know who is in the channel.
    pub(super) fn is_wanted(&self) -> bool {
        !self.watchers.is_empty() || !self.waiting.is_empty()
    }
}
