//! Requests to the broker, and what its answers do.

use std::time::Instant;

use bytes::Bytes;
use localhub_protocol::{
    ChannelId, ChannelName, ClientFrame, Code, Epoch, Message as WireMessage, Policy,
    Put as WirePut, Retain, Start, Topic, TopicFilter, Will as WireWill,
};

use super::anew::message_of;
use super::receive::Values;
use super::room::{Later, Room, RoomId, StreamId, Takes};
use super::serving::PostId;
use super::{Answer, Confirm, Core, Failure, Ticket};
use crate::message::Sender;
use crate::{Cause, Cursor, Gap, Message, Payload, Refused, Snapshot, StartAt, ValueVersion};

/// A request that the broker answers.
#[derive(Debug)]
pub(super) enum Ask {
    Admin(Ticket),
    Join(RoomId),
    Leave(RoomId, Ticket),
    Put(Box<PendingPut>),
    Serve(PostId),
    /// Without a ticket, nobody waits: it is set again in a new session.
    Set(RoomId, Setting, Option<Ticket>),
    Snapshot(Box<PendingSnapshot>),
    Subscribe {
        room: RoomId,
        stream: StreamId,
    },
    Unserve(PostId),
    Unsubscribe,
    Unwatch,
    Watch(RoomId),
}

/// What a client sets in a channel. The value is in the [`Room`](super::Room).
#[derive(Debug)]
pub(super) enum Setting {
    Channel,
    State,
    /// The will for a topic; it is cleared if the room has none.
    Will(Box<str>),
}

#[derive(Debug)]
pub(super) struct PendingPut {
    pub(super) room: RoomId,
    pub(super) put: PutValue,
    pub(super) ticket: Ticket,
    /// Where it was sent to.
    pub(super) place: Option<(Epoch, ChannelId)>,
}

/// A value to be set or deleted, and how.
#[derive(Clone, Debug)]
pub(crate) struct PutValue {
    pub(crate) topic: Topic,
    pub(crate) retain: Retain,
    pub(crate) payload: Payload,
    pub(crate) expect: Option<ValueVersion>,
    pub(crate) ttl_ms: u32,
    pub(crate) owned: bool,
}

#[derive(Debug)]
pub(super) struct PendingSnapshot {
    pub(super) room: RoomId,
    pub(super) filter: TopicFilter,
    pub(super) ticket: Ticket,
    pub(super) offset: u64,
    pub(super) place: Option<(Epoch, ChannelId)>,
    pub(super) values: Vec<Message>,
}

impl Core {
    /// Sends a request that concerns a channel, or keeps it until the client is a member.
    pub(super) fn ask(&mut self, room: RoomId, ask: Ask) {
        let Some(found) = self.rooms.get_mut(&room) else {
            return self.give_up(ask);
        };
        match found.channel {
            Some(channel) => self.ask_now(channel, ask),
            None => found.later.push_back(Later::Ask(ask)),
        }
    }

    fn ask_now(&mut self, channel: ChannelId, mut ask: Ask) {
        if let Ask::Put(pending) = &mut ask {
            pending.place = self.session.as_ref().map(|it| (it.epoch, channel));
            if let Some(version) = pending.put.expect
                && !version.may_be_in(pending.place)
            {
                // The same number may be that of another value here.
                let ticket = pending.ticket;
                return self.settle(ticket, Err(Failure::of_another_life()));
            }
        }
        let frame = match &ask {
            Ask::Leave(..) => ClientFrame::Leave { channel },
            Ask::Put(pending) => put_frame(&pending.put, channel),
            Ask::Set(room, setting, _) => match self.rooms.get(room) {
                Some(room) => setting_frame(setting, room, channel),
                None => return self.give_up(ask),
            },
            Ask::Snapshot(snapshot) => ClientFrame::Snapshot {
                channel,
                filter: snapshot.filter.as_str(),
            },
            Ask::Subscribe { stream, .. } => {
                let Some(found) = self.streams.get_mut(stream) else {
                    return;
                };
                let Takes::Topics {
                    filter,
                    start,
                    policy,
                    ..
                } = &found.takes
                else {
                    return;
                };
                if let Some(room) = found.room.and_then(|id| self.rooms.get_mut(&id)) {
                    room.latest.retain(|of| of != filter);
                    if *policy == Policy::Latest {
                        room.latest.push(filter.clone());
                    }
                }
                let epoch = self.session.as_ref().map(|session| session.epoch);
                let here =
                    |cursor: &&Cursor| Some(cursor.epoch) == epoch && cursor.channel == channel;
                let start = match (*start, &found.cursor) {
                    (StartAt::Now, _) => Start::Live,
                    (StartAt::Retained, _) => Start::Retained,
                    (StartAt::Last(count), None) => Start::Last(count),
                    (_, cursor) => match cursor.as_ref().filter(here) {
                        Some(cursor) => Start::After(cursor.offset),
                        None => {
                            // Another channel, or another life of it: all that it has is new, and what
                            // came between nobody knows.
                            let room = found.room.and_then(|id| self.rooms.get(&id));
                            found.inbox.push_gap(Gap {
                                channel: room.map(|room| room.name.clone()),
                                lost: None,
                                cause: Cause::SessionLost,
                            });
                            self.wakes.extend(found.inbox.waker.take());
                            found.cursor = None;
                            Start::After(0)
                        }
                    },
                };
                ClientFrame::Subscribe {
                    channel,
                    filter: filter.as_str(),
                    start,
                    policy: *policy,
                }
            }
            Ask::Unwatch => ClientFrame::PresenceWatch { channel, on: false },
            Ask::Watch(_) => ClientFrame::PresenceWatch { channel, on: true },
            Ask::Admin(_) | Ask::Join(_) | Ask::Serve(_) | Ask::Unserve(_) | Ask::Unsubscribe => {
                unreachable!("sent by who makes them")
            }
        };
        let position = self.outgoing.push(&frame);
        let left = match &ask {
            Ask::Leave(room, _) => self.rooms.remove(room),
            _ => None,
        };
        self.pending.insert(position, ask);
        self.wake_link();
        if let Some(left) = left {
            self.by_channel.remove(&channel);
            self.join_after(&left.name);
        }
    }

    /// Tells who waits for a request that its channel was left before it could be sent, or answered.
    fn give_up(&mut self, ask: Ask) {
        let waits = match ask {
            Ask::Set(_, _, ticket) => ticket,
            Ask::Put(put) => Some(put.ticket),
            Ask::Snapshot(snapshot) => Some(snapshot.ticket),
            _ => None,
        };
        if let Some(ticket) = waits {
            self.settle(ticket, Err(Failure::not_a_member()));
        }
    }

    /// Joins a channel that the application wanted to join again before it was left.
    fn join_after(&mut self, left: &ChannelName) {
        if let Some(next) = self.by_name.get(left).copied() {
            self.rejoin(next);
        }
    }

    /// Asks to become a member, unless an older membership of that channel has yet to be left.
    pub(super) fn rejoin(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else {
            return;
        };
        if self
            .rooms
            .range(..id)
            .any(|(_, older)| older.name == room.name)
        {
            return;
        }
        if let [Later::Ask(Ask::Leave(_, ticket))] = room.later.as_slices().0
            && room.later.len() == 1
        {
            // Nothing is left to be done there but to leave.
            let (name, ticket) = (room.name.clone(), *ticket);
            self.rooms.remove(&id);
            self.settle(ticket, Ok(Answer::Done));
            return self.join_after(&name);
        }
        let position = self.outgoing.push(&ClientFrame::Join {
            name: room.name.as_str(),
            hidden: room.hidden,
            state: &room.state,
        });
        self.pending.insert(position, Ask::Join(id));
        self.wake_link();
    }

    /// Does what a request was to do once more.
    pub(super) fn repeat(&mut self, ask: Ask) {
        match ask {
            Ask::Admin(ticket) => self.settle(ticket, Err(Failure::Disconnected)),
            // It may have been carried out, and then a condition would not hold a second time.
            Ask::Put(put) => self.settle(put.ticket, Err(Failure::Disconnected)),
            // The membership ended with the session, or was ended.
            Ask::Leave(_, ticket) => self.settle(ticket, Ok(Answer::Done)),
            Ask::Unsubscribe | Ask::Unwatch => {}
            Ask::Unserve(post) => self.end_post(post),
            Ask::Serve(post) => self.offer_again(post),
            Ask::Join(room) => self.rejoin(room),
            Ask::Snapshot(mut snapshot) => {
                snapshot.values.clear();
                self.ask(snapshot.room, Ask::Snapshot(snapshot));
            }
            Ask::Set(room, ..) => self.ask(room, ask),
            Ask::Subscribe { room, stream } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.may_stand = true;
                    // What comes until it stands again goes past a reader that may have asked for a snapshot.
                    if stream.tells_restarts && !stream.ended {
                        let room = self.rooms.get(&room);
                        stream.inbox.push_gap(Gap {
                            channel: room.map(|room| room.name.clone()),
                            lost: None,
                            cause: Cause::Broker(Code::SLOW_CONSUMER),
                        });
                        self.wakes.extend(stream.inbox.waker.take());
                    }
                }
                self.ask(room, ask);
            }
            Ask::Watch(room) => self.watch(room),
        }
    }

    /// The client is a member.
    pub(super) fn joined(&mut self, request: u64, channel: ChannelId) {
        let Some(Ask::Join(id)) = self.pending.remove(&request) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        room.channel = Some(channel);
        room.forget_routes();
        self.by_channel.insert(channel, id);
        let joiners = std::mem::take(&mut room.joiners);
        let later = std::mem::take(&mut room.later);
        let streams = room.streams.clone();
        let watched = room.watch.is_wanted();
        joiners
            .into_iter()
            .for_each(|ticket| self.settle(ticket, Ok(Answer::Done)));
        for stream in streams {
            let subscribes = |stream: &super::Stream| {
                !stream.live && matches!(stream.takes, Takes::Topics { .. })
            };
            if self.streams.get(&stream).is_some_and(subscribes) {
                self.ask_now(channel, Ask::Subscribe { room: id, stream });
            }
        }
        if watched {
            self.watch(id);
        }
        self.set_again(id);
        for later in later {
            match later {
                Later::Ask(ask) => self.ask_now(channel, ask),
                Later::Message { frame, confirm } => {
                    self.later_bytes -= frame.len();
                    self.send_to(channel, &frame, confirm);
                }
            }
        }
        self.waited_enough();
    }

    /// Sets in a new session what the client has set in an earlier one; the state came with the join.
    fn set_again(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else {
            return;
        };
        let settings = room.settings.map(|_| Setting::Channel);
        let wills = room.wills.keys().map(|topic| Setting::Will(topic.clone()));
        let all: Vec<_> = settings.into_iter().chain(wills).collect();
        for setting in all {
            self.ask(id, Ask::Set(id, setting, None));
        }
    }

    fn send_to(&mut self, to: ChannelId, frame: &Bytes, confirm: Option<Ticket>) {
        let message = match message_of(frame) {
            Some(WireMessage::Publish {
                retain,
                content,
                topic,
                payload,
                ..
            }) => WireMessage::Publish {
                channel: to,
                retain,
                content,
                topic,
                payload,
            },
            Some(WireMessage::Broadcast {
                content, payload, ..
            }) => WireMessage::Broadcast {
                channel: to,
                content,
                payload,
            },
            _ => unreachable!("only messages to a channel wait for a membership"),
        };
        let position = self.outgoing.push(&ClientFrame::Message(message));
        if let Some(ticket) = confirm {
            self.confirms.push_back(Confirm {
                position,
                ticket,
                flush: false,
            });
            self.ping_wanted = true;
        }
        self.wake_link();
    }

    /// A request that has no other answer was carried out.
    pub(super) fn done(&mut self, request: u64) {
        match self.pending.remove(&request) {
            Some(Ask::Leave(_, ticket) | Ask::Set(_, _, Some(ticket))) => {
                self.settle(ticket, Ok(Answer::Done));
            }
            Some(Ask::Serve(post)) => self.served(post, request),
            Some(Ask::Unserve(post)) => self.end_post(post),
            Some(Ask::Set(_, _, None) | Ask::Unsubscribe | Ask::Unwatch) | None => {}
            Some(ask) => {
                self.pending.insert(request, ask);
            }
        }
    }

    /// A value was set or deleted.
    pub(super) fn stored(&mut self, request: u64, offset: u64) {
        match self.pending.remove(&request) {
            Some(Ask::Put(put)) => {
                let version = ValueVersion::new(put.place, offset);
                self.settle(put.ticket, Ok(Answer::Stored(version)));
            }
            Some(ask) => {
                self.pending.insert(request, ask);
            }
            None => {}
        }
    }

    /// Retained values follow.
    pub(super) fn values_follow(
        &mut self,
        request: u64,
        channel: ChannelId,
        (offset, since): (u64, u64),
        count: u64,
    ) {
        // Whoever was before has got all it will get.
        self.values = None;
        match self.pending.get_mut(&request) {
            Some(Ask::Snapshot(snapshot)) => {
                snapshot.offset = offset;
                let epoch = self.session.as_ref().map(|session| session.epoch);
                snapshot.place = epoch.map(|epoch| (epoch, channel));
                self.values = Some(Values::Snapshot {
                    request,
                    remaining: count,
                });
                self.end_of_values();
            }
            Some(Ask::Subscribe { room, stream }) => {
                let (room, stream) = (*room, *stream);
                self.pending.remove(&request);
                // One that has ended meanwhile, with its membership, gets nothing more.
                let Some(found) = self.streams.get_mut(&stream).filter(|found| !found.ended) else {
                    return;
                };
                found.live = true;
                if found.takes.has_history()
                    && let Some(session) = &self.session
                {
                    let asked = found.cursor.as_ref().map_or(0, |cursor| cursor.offset);
                    if found.cursor.is_some() && since > asked {
                        let room = self.rooms.get(&room);
                        found.inbox.push_gap(Gap {
                            channel: room.map(|room| room.name.clone()),
                            lost: None,
                            cause: Cause::NotKept,
                        });
                        self.wakes.extend(found.inbox.waker.take());
                    }
                    // What is still to come has offsets of its own.
                    let cursor = Cursor {
                        epoch: session.epoch,
                        channel,
                        offset: if count == 0 { offset } else { asked },
                    };
                    found.cursor = Some(cursor);
                }
                let subscriber = found.subscriber.take();
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.forget_routes();
                }
                if let Some(ticket) = subscriber {
                    self.settle(ticket, Ok(Answer::Done));
                }
                self.values = Some(Values::Stream {
                    stream,
                    remaining: count,
                });
                self.end_of_values();
            }
            _ => {}
        }
    }

    /// Settles a snapshot that has all its values.
    pub(super) fn end_of_values(&mut self) {
        match &self.values {
            Some(Values::Snapshot {
                request,
                remaining: 0,
            }) => {
                if let Some(Ask::Snapshot(snapshot)) = self.pending.remove(request) {
                    let values = Snapshot {
                        offset: snapshot.offset,
                        values: snapshot.values,
                        place: snapshot.place,
                    };
                    self.settle(snapshot.ticket, Ok(Answer::Values(values)));
                }
            }
            Some(Values::Stream { remaining: 0, .. }) => {}
            _ => return,
        }
        self.values = None;
    }

    /// Somebody replies to a request, or the broker itself to an operator.
    pub(super) fn replied(&mut self, sender: &Sender, reply: &WireMessage<'_>, now: Instant) {
        let WireMessage::Reply {
            request,
            error,
            content,
            payload,
            ..
        } = *reply
        else {
            return;
        };
        let Some(Ask::Admin(ticket)) = self.pending.get(&request) else {
            return self.request_replied(sender, reply, now);
        };
        let ticket = *ticket;
        self.pending.remove(&request);
        let outcome = match error {
            None => {
                let payload = Bytes::copy_from_slice(payload);
                Ok(Answer::Reply { content, payload })
            }
            Some(code) => {
                let detail = String::from_utf8_lossy(payload).into_owned();
                Err(Failure::Refused { code, detail })
            }
        };
        self.settle(ticket, outcome);
    }

    /// Whether the refused message belongs to a request, where the refusal is dealt with.
    fn refused_in_request(
        &mut self,
        position: u64,
        code: Code,
        detail: &str,
        now: Instant,
    ) -> bool {
        self.request_refused(position, code, detail, now)
            // The other side ended the request meanwhile, which is told there.
            || code == Code::UNKNOWN_REQUEST
            || self.piece_refused(position, code)
    }

    /// The broker refused the message at that position.
    pub(super) fn refused(&mut self, position: u64, code: Code, detail: &str, now: Instant) {
        let failure = Failure::Refused {
            code,
            detail: detail.to_owned(),
        };
        let at = self
            .confirms
            .partition_point(|confirm| confirm.position < position);
        let waits = |confirm: &&Confirm| confirm.position == position && !confirm.flush;
        if let Some(found) = self
            .confirms
            .iter()
            .skip(at)
            .position(|confirm| waits(&confirm))
        {
            if let Some(confirm) = self.confirms.remove(at + found) {
                self.settle(confirm.ticket, Err(failure));
            }
            return;
        }
        let unheard = match self.pending.remove(&position) {
            Some(Ask::Admin(ticket) | Ask::Set(_, _, Some(ticket))) => {
                self.settle(ticket, Err(failure));
                false
            }
            Some(Ask::Leave(_, ticket)) => {
                // Not a member any more is what was asked for.
                self.settle(ticket, Ok(Answer::Done));
                false
            }
            Some(Ask::Join(room)) => self.join_refused(room, &failure),
            Some(Ask::Put(put)) => {
                self.settle(put.ticket, Err(failure));
                false
            }
            Some(Ask::Snapshot(snapshot)) => {
                self.settle(snapshot.ticket, Err(failure));
                false
            }
            Some(Ask::Subscribe { stream, .. }) => self.subscribe_refused(stream, failure),
            Some(Ask::Watch(room)) => self.watch_refused(room, &failure),
            Some(Ask::Serve(post)) => self.serve_refused(post, position, failure),
            Some(Ask::Unserve(post)) => {
                self.end_post(post);
                false
            }
            Some(Ask::Unsubscribe | Ask::Unwatch) => false,
            Some(Ask::Set(_, _, None)) => true,
            None => !self.refused_in_request(position, code, detail, now),
        };
        if unheard {
            let cause = Cause::Broker(code);
            self.report(
                Refused {
                    cause,
                    detail: detail.to_owned(),
                    messages: 1,
                },
                now,
            );
        }
    }

    /// Whether nobody waited to be told.
    fn join_refused(&mut self, id: RoomId, failure: &Failure) -> bool {
        let Some(room) = self.rooms.remove(&id) else {
            return false;
        };
        if self.by_name.get(&room.name) == Some(&id) {
            self.by_name.remove(&room.name);
        }
        let unheard = room.joiners.is_empty();
        let tickets = room.joiners.into_iter().chain(room.watch.waiting);
        tickets.for_each(|ticket| self.settle(ticket, Err(failure.clone())));
        for later in room.later {
            let ticket = match later {
                Later::Ask(Ask::Leave(_, ticket)) => {
                    self.settle(ticket, Ok(Answer::Done));
                    None
                }
                Later::Ask(Ask::Set(_, _, ticket)) => ticket,
                Later::Ask(Ask::Put(put)) => Some(put.ticket),
                Later::Ask(Ask::Snapshot(snapshot)) => Some(snapshot.ticket),
                Later::Ask(_) => None,
                Later::Message { frame, confirm } => {
                    self.later_bytes -= frame.len();
                    confirm
                }
            };
            if let Some(ticket) = ticket {
                self.settle(ticket, Err(failure.clone()));
            }
        }
        for stream in room.streams {
            self.end_stream(stream, Some(failure));
        }
        for watcher in room.watch.watchers {
            self.end_watcher(watcher);
        }
        self.join_after(&room.name);
        self.waited_enough();
        unheard
    }

    /// Whether nobody waited to be told.
    fn subscribe_refused(&mut self, id: StreamId, failure: Failure) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let unheard = stream.subscriber.is_none() && !stream.ended;
        let held = match &stream.takes {
            Takes::Topics { filter, .. } if stream.may_stand => {
                stream.room.map(|room| (room, filter.clone()))
            }
            _ => None,
        };
        self.end_stream(id, Some(&failure));
        if let Some((room, filter)) = held {
            self.let_go(room, &filter);
        }
        unheard
    }

    /// Nothing more comes in a stream; whoever waits for its subscription is told why.
    pub(super) fn end_stream(&mut self, id: StreamId, failure: Option<&Failure>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.ended = true;
        stream.live = false;
        self.wakes.extend(stream.inbox.waker.take());
        let (room, subscriber) = (stream.room, stream.subscriber.take());
        if let Some(room) = room.and_then(|id| self.rooms.get_mut(&id)) {
            room.streams.retain(|stream| *stream != id);
            room.forget_routes();
        }
        if let Some(ticket) = subscriber {
            let failure = failure.cloned().unwrap_or_else(Failure::not_a_member);
            self.settle(ticket, Err(failure));
        }
    }

    /// A pong arrived: everything up to `position` was carried out or refused, and each answer
    /// to it was sent before.
    pub(super) fn settle_through(&mut self, position: u64) {
        self.settled = self.settled.max(position);
        self.unsettled.settle_through(position);
        while let Some(first) = self.confirms.front()
            && first.position <= position
        {
            let doubtful = first.position <= self.doubtful && !first.flush;
            let outcome = if doubtful {
                Err(Failure::Disconnected)
            } else {
                Ok(Answer::Done)
            };
            let ticket = first.ticket;
            self.confirms.pop_front();
            self.settle(ticket, outcome);
        }
        if self.doubtful > 0 && position >= self.doubtful {
            let unanswered: Vec<_> = self
                .pending
                .range(..=self.doubtful)
                .map(|(position, _)| *position)
                .collect();
            self.doubt_requests(self.doubtful);
            self.doubtful = 0;
            for position in unanswered {
                if let Some(ask) = self.pending.remove(&position) {
                    self.repeat(ask);
                }
            }
        }
    }
}

fn put_frame(put: &PutValue, channel: ChannelId) -> ClientFrame<'_> {
    ClientFrame::Put {
        channel,
        put: WirePut {
            expect: put.expect.map(ValueVersion::offset),
            ttl_ms: put.ttl_ms,
            owned: put.owned,
            retain: put.retain,
            content: put.payload.content(),
            topic: put.topic.as_str(),
            payload: put.payload.bytes(),
        },
    }
}

fn setting_frame<'a>(setting: &'a Setting, room: &'a Room, channel: ChannelId) -> ClientFrame<'a> {
    match setting {
        Setting::Channel => ClientFrame::ChannelSet {
            channel,
            settings: room.settings.unwrap_or_default(),
        },
        Setting::State => ClientFrame::PresenceSet {
            channel,
            state: &room.state,
        },
        Setting::Will(topic) => match room.wills.get(topic) {
            Some(will) => ClientFrame::WillSet {
                channel,
                will: WireWill {
                    delay_ms: will.delay_ms,
                    retain: will.retain,
                    content: will.payload.content(),
                    topic,
                    payload: will.payload.bytes(),
                },
            },
            None => ClientFrame::WillClear { channel, topic },
        },
    }
}
