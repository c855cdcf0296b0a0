//! What the application asks for.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use localhub_protocol::{
    ChannelId, ChannelName, ChannelSettings, ClientFrame, ClientId, ContentType, Message, Policy,
    Retain, Target, Topic, TopicFilter,
};

use super::ask::{Ask, PendingPut, PendingSnapshot, PutValue, Setting};
use super::inbox::{Entry, Inbox};
use super::room::{Later, Room, RoomId, Stream, StreamId, Takes};
use super::{Answer, CLOSE_PATIENCE, Closing, Confirm, Core, Failure, Outcome, Ticket};
use crate::{Error, Refused, StartAt, Will};

/// A message that the application sends, to a channel whose id only the core knows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outbound<'a> {
    Broadcast {
        room: RoomId,
        content: ContentType,
        payload: &'a [u8],
    },
    Direct {
        to: Target<'a>,
        content: ContentType,
        payload: &'a [u8],
    },
    Publish {
        room: RoomId,
        retain: Retain,
        content: ContentType,
        topic: &'a str,
        payload: &'a [u8],
    },
}

/// How long the broker may take to answer an operator. It answers at once.
const ADMIN_DEADLINE_MS: u32 = 30_000;

impl Core {
    /// Joins a channel, or finds the membership that there is.
    pub(crate) fn join(
        &mut self,
        name: ChannelName,
        hidden: bool,
        state: Option<Bytes>,
    ) -> Result<(RoomId, Ticket), Failure> {
        self.open()?;
        if let Some(id) = self.by_name.get(&name).copied() {
            if let Some(state) = state {
                return Ok((id, self.set_state_of(id, state)?));
            }
            let ticket = self.tickets.issue();
            match self.rooms.get_mut(&id) {
                Some(room) if room.channel.is_none() => room.joiners.push(ticket),
                _ => self.settle(ticket, Ok(Answer::Done)),
            }
            return Ok((id, ticket));
        }
        let ticket = self.tickets.issue();
        let id = RoomId(self.next_id());
        let mut room = Room::new(name.clone(), hidden, state.unwrap_or_default());
        room.joiners.push(ticket);
        self.rooms.insert(id, room);
        self.by_name.insert(name, id);
        self.rejoin(id);
        Ok((id, ticket))
    }

    /// Leaves a channel. Its streams end at once.
    pub(crate) fn leave(&mut self, id: RoomId) -> Result<Ticket, Failure> {
        let room = self.member_of(id)?;
        let name = room.name.clone();
        let streams = room.streams.clone();
        let watchers = std::mem::take(&mut room.watch.watchers);
        let waiting = std::mem::take(&mut room.watch.waiting);
        self.by_name.remove(&name);
        streams
            .into_iter()
            .for_each(|stream| self.end_stream(stream, None));
        watchers
            .into_iter()
            .for_each(|watcher| self.end_watcher(watcher));
        for ticket in waiting {
            self.settle(ticket, Err(Failure::not_a_member()));
        }
        let ticket = self.tickets.issue();
        self.ask(id, Ask::Leave(id, ticket));
        Ok(ticket)
    }

    /// Replaces the presence state in a channel.
    pub(crate) fn set_state_of(&mut self, id: RoomId, state: Bytes) -> Result<Ticket, Failure> {
        self.member_of(id)?.state = state;
        Ok(self.set(id, Setting::State))
    }

    /// Says what a channel keeps, and how it tells of its members.
    pub(crate) fn set_channel(
        &mut self,
        id: RoomId,
        settings: ChannelSettings,
    ) -> Result<Ticket, Failure> {
        self.member_of(id)?.settings = Some(settings);
        Ok(self.set(id, Setting::Channel))
    }

    /// Leaves a will for a topic, or takes it back.
    pub(crate) fn set_will(
        &mut self,
        id: RoomId,
        topic: &str,
        will: Option<Will>,
    ) -> Result<Ticket, Error> {
        let bytes = will.as_ref().map_or(0, |will| will.payload.bytes().len());
        self.check_payload(bytes)?;
        let wills = &mut self.member_of(id)?.wills;
        match will {
            Some(will) => wills.insert(topic.into(), will),
            None => wills.remove(topic),
        };
        Ok(self.set(id, Setting::Will(topic.into())))
    }

    fn set(&mut self, id: RoomId, setting: Setting) -> Ticket {
        let ticket = self.tickets.issue();
        self.ask(id, Ask::Set(id, setting, Some(ticket)));
        ticket
    }

    /// Sets or deletes a retained value.
    pub(crate) fn put(&mut self, room: RoomId, put: PutValue) -> Result<Ticket, Error> {
        self.check_payload(put.payload.bytes().len())?;
        self.member_of(room)?;
        if !self.connected && !self.has_room() {
            return Err(Error::Disconnected);
        }
        let ticket = self.tickets.issue();
        let place = None;
        let pending = PendingPut {
            room,
            put,
            ticket,
            place,
        };
        self.ask(room, Ask::Put(Box::new(pending)));
        Ok(ticket)
    }

    /// Asks for the retained values that match a filter.
    pub(crate) fn snapshot(&mut self, id: RoomId, filter: TopicFilter) -> Result<Ticket, Failure> {
        self.member_of(id)?;
        let ticket = self.tickets.issue();
        let snapshot = PendingSnapshot {
            room: id,
            filter,
            ticket,
            offset: 0,
            place: None,
            values: Vec::new(),
        };
        self.ask(id, Ask::Snapshot(Box::new(snapshot)));
        Ok(ticket)
    }

    /// Opens a stream. With a ticket, it is settled when the subscription stands; without one it
    /// stands already.
    pub(crate) fn open_stream(
        &mut self,
        room: Option<RoomId>,
        takes: Takes,
    ) -> Result<(StreamId, Option<Ticket>), Failure> {
        self.open()?;
        let id = StreamId(self.next_id());
        let channel = match room {
            Some(room) => self.member_of(room)?.channel,
            None => None,
        };
        let (live, ticket) = match &takes {
            Takes::Broadcasts | Takes::Directs => (true, None),
            Takes::Topics {
                filter,
                start,
                policy,
                ..
            } => {
                let stands = *start == StartAt::Now
                    && room.is_some_and(|room| self.stands(room, filter, *policy));
                (stands, (!stands).then(|| self.tickets.issue()))
            }
        };
        let cursor = match &takes {
            Takes::Topics {
                start: StartAt::After(cursor),
                ..
            } => Some(*cursor),
            _ => None,
        };
        let inbox = Inbox::new(self.settings.inbox);
        let stream = Stream {
            room,
            takes,
            inbox,
            live,
            subscriber: ticket,
            may_stand: false,
            tells_restarts: false,
            cursor,
            conflated: 0,
            ended: false,
        };
        self.streams.insert(id, stream);
        self.directs = None;
        if let Some(room) = room
            && let Some(found) = self.rooms.get_mut(&room)
        {
            found.streams.push(id);
            found.forget_routes();
            // Without a membership, joining subscribes.
            if !live && channel.is_some() {
                self.ask(room, Ask::Subscribe { room, stream: id });
            }
        }
        Ok((id, ticket))
    }

    /// Forgets a stream, and ends its subscription if no other stream holds it.
    pub(crate) fn close_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.directs = None;
        if self.blocked {
            self.rouse_link();
        }
        let Some(room) = stream.room.and_then(|id| self.rooms.get_mut(&id)) else {
            return;
        };
        room.streams.retain(|other| *other != id);
        room.forget_routes();
        if let (Some(room), false, Takes::Topics { filter, .. }) =
            (stream.room, stream.ended, &stream.takes)
        {
            self.let_go(room, filter);
        }
    }

    /// A stream does not need its subscription any more, which the broker may hold. If another
    /// stream has the same filter it takes the subscription over; else the subscription ends.
    pub(super) fn let_go(&mut self, id: RoomId, filter: &TopicFilter) {
        let Some(room) = self.rooms.get(&id) else {
            return;
        };
        let Some(channel) = room.channel else {
            return;
        };
        let mut held = false;
        for id in &room.streams {
            if let Some(stream) = self.streams.get_mut(id)
                && stream.takes.is_of(filter)
            {
                stream.may_stand = true;
                held = true;
            }
        }
        if !held {
            if let Some(room) = self.rooms.get_mut(&id) {
                room.latest.retain(|of| of != filter);
            }
            self.unsubscribe(channel, filter);
        }
    }

    fn unsubscribe(&mut self, channel: ChannelId, filter: &TopicFilter) {
        let filter = filter.as_str();
        let position = self
            .outgoing
            .push(&ClientFrame::Unsubscribe { channel, filter });
        self.pending.insert(position, Ask::Unsubscribe);
        self.wake_link();
    }

    /// Whether a subscription to the filter stands, and has that policy.
    fn stands(&self, room: RoomId, filter: &TopicFilter, policy: Policy) -> bool {
        let streams = self.rooms.get(&room).map_or(&[][..], |room| &room.streams);
        let mut streams = streams.iter().filter_map(|id| self.streams.get(id));
        streams.any(|stream| {
            let same = |of: &Policy| *of == policy;
            stream.live
                && stream.takes.is_of(filter)
                && matches!(&stream.takes, Takes::Topics { policy, .. } if same(policy))
        })
    }

    /// From now on a gap tells that the subscription has to be asked for again.
    pub(crate) fn tell_restarts(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.tells_restarts = true;
        }
    }

    /// How many messages made way for newer ones of their topic in a stream that wants it so.
    pub(crate) fn conflated(&self, id: StreamId) -> u64 {
        let stream = self.streams.get(&id);
        let wants = stream.is_some_and(|stream| {
            let Takes::Topics { policy, .. } = &stream.takes else {
                return false;
            };
            *policy == Policy::Latest
        });
        if wants { self.made_way(id) } else { 0 }
    }

    /// The same for any stream: its subscription is also that of others with the same filter.
    pub(crate) fn made_way(&self, id: StreamId) -> u64 {
        self.streams.get(&id).map_or(0, |stream| stream.conflated)
    }

    /// Ready with the next entries in `batch`, which is empty; it stays so at the end.
    pub(crate) fn poll_stream(
        &mut self,
        id: StreamId,
        batch: &mut VecDeque<Entry>,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(());
        };
        if stream.inbox.take(batch) {
            if self.blocked && stream.inbox.has_drained() {
                self.rouse_link();
            }
            return Poll::Ready(());
        }
        if stream.ended || self.end.is_some() {
            return Poll::Ready(());
        }
        stream.inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queues a message. Ready once it is queued, or cannot be; with a ticket if `confirm`, which is
    /// settled when it is carried out or refused.
    pub(crate) fn poll_send(
        &mut self,
        outbound: &Outbound<'_>,
        confirm: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Ticket>, Error>> {
        if let Err(error) = self.check(outbound) {
            return Poll::Ready(Err(error));
        }
        if !self.has_room() {
            if !self.connected {
                return Poll::Ready(Err(Error::Disconnected));
            }
            self.publishers.add(cx, &mut self.wakes);
            if self.pings_in_flight == 0 {
                self.ping_wanted = true;
            }
            self.wake_link();
            return Poll::Pending;
        }
        let ticket = confirm.then(|| self.tickets.issue());
        self.send(outbound, ticket);
        Poll::Ready(Ok(ticket))
    }

    /// What is wrong with a message, as far as this can be known here.
    fn check(&mut self, outbound: &Outbound<'_>) -> Result<(), Error> {
        self.open()?;
        let max = self.limits().payload_bytes;
        let (Outbound::Broadcast { payload, .. }
        | Outbound::Direct { payload, .. }
        | Outbound::Publish { payload, .. }) = *outbound;
        if payload.len() as u64 > max {
            return Err(Error::PayloadTooLarge {
                bytes: payload.len(),
                max,
            });
        }
        match *outbound {
            Outbound::Direct { .. } => {}
            Outbound::Broadcast { room, .. } => {
                self.member_of(room)?;
            }
            Outbound::Publish { room, topic, .. } => {
                let room = self.member_of(room)?;
                if room.checked_topic != topic {
                    Topic::check(topic).map_err(|source| Error::BadTopic {
                        topic: topic.to_owned(),
                        source,
                    })?;
                    topic.clone_into(&mut room.checked_topic);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, outbound: &Outbound<'_>, ticket: Option<Ticket>) {
        let (message, room) = match *outbound {
            Outbound::Broadcast {
                room,
                content,
                payload,
            } => {
                let channel = self.channel_of(room);
                let id = channel.unwrap_or_default();
                let message = Message::Broadcast {
                    channel: id,
                    content,
                    payload,
                };
                (message, channel.is_none().then_some(room))
            }
            Outbound::Publish {
                room,
                retain,
                content,
                topic,
                payload,
            } => {
                let channel = self.channel_of(room);
                let id = channel.unwrap_or_default();
                let message = Message::Publish {
                    channel: id,
                    retain,
                    content,
                    topic,
                    payload,
                };
                (message, channel.is_none().then_some(room))
            }
            Outbound::Direct {
                to,
                content,
                payload,
            } => (
                Message::Direct {
                    to,
                    content,
                    payload,
                },
                None,
            ),
        };
        if let Some(room) = room.and_then(|id| self.rooms.get_mut(&id)) {
            let mut frame = Vec::new();
            ClientFrame::Message(message).encode(&mut frame);
            self.later_bytes += frame.len();
            room.later.push_back(Later::Message {
                frame: frame.into(),
                confirm: ticket,
            });
            return;
        }
        let position = self.outgoing.push(&ClientFrame::Message(message));
        if let Some(ticket) = ticket {
            self.confirms.push_back(Confirm {
                position,
                ticket,
                flush: false,
            });
            self.ping_wanted = true;
        }
        self.wake_link();
    }

    /// Asks the broker itself.
    pub(crate) fn admin(&mut self, method: &str, arguments: &[u8]) -> Result<Ticket, Failure> {
        self.open()?;
        let position = self.outgoing.push(&ClientFrame::Message(Message::Request {
            to: Target::Id(ClientId::HUB),
            deadline_ms: ADMIN_DEADLINE_MS,
            command: None,
            window: 0,
            method,
            content: ContentType::CBOR,
            payload: arguments,
        }));
        let ticket = self.tickets.issue();
        self.pending.insert(position, Ask::Admin(ticket));
        self.wake_link();
        Ok(ticket)
    }

    /// Waits for everything sent before.
    pub(crate) fn flush(&mut self) -> Result<Ticket, Failure> {
        self.open()?;
        Ok(self.flush_now())
    }

    fn flush_now(&mut self) -> Ticket {
        let ticket = self.tickets.issue();
        if self.later_bytes > 0 {
            self.later_flushes.push(ticket);
        } else if self.settled >= self.outgoing.queued() {
            self.settle(ticket, Ok(Answer::Done));
        } else {
            self.flush_queued(ticket);
        }
        ticket
    }

    fn flush_queued(&mut self, ticket: Ticket) {
        let position = self.outgoing.queued();
        self.confirms.push_back(Confirm {
            position,
            ticket,
            flush: true,
        });
        self.ping_wanted = true;
        self.wake_link();
    }

    /// To be called when messages that waited for a membership do not wait any more.
    pub(super) fn waited_enough(&mut self) {
        if self.later_bytes > 0 {
            return;
        }
        for ticket in std::mem::take(&mut self.later_flushes) {
            self.flush_queued(ticket);
        }
        if let Some(closing) = &mut self.closing {
            closing.position = self.outgoing.queued();
            self.ping_wanted = true;
        }
    }

    /// Ends the client once everything sent before is settled, or soon anyway.
    pub(crate) fn close(&mut self, now: Instant) -> Result<Ticket, Failure> {
        self.open()?;
        let ticket = self.flush_now();
        let (position, until) = (self.outgoing.queued(), now + CLOSE_PATIENCE);
        self.closing = Some(Closing {
            position,
            until,
            said: false,
        });
        self.rouse_link();
        Ok(ticket)
    }

    pub(crate) fn listen_to_refusals(&mut self) -> StreamId {
        let id = StreamId(self.next_id());
        self.refusals.listen(id);
        id
    }

    pub(crate) fn poll_refusals(
        &mut self,
        id: StreamId,
        cx: &Context<'_>,
    ) -> Poll<Option<Refused>> {
        self.refusals.poll(id, self.end.is_some(), cx)
    }

    pub(crate) fn close_refusals(&mut self, id: StreamId) {
        self.refusals.forget(id);
    }

    pub(crate) fn poll_ticket(&mut self, ticket: Ticket, cx: &Context<'_>) -> Poll<Outcome> {
        let polled = self.tickets.poll(ticket, cx);
        if polled.is_pending() && self.blocked {
            // Somebody waits for what comes behind a full inbox.
            self.rouse_link();
        }
        polled
    }

    pub(crate) fn forget_ticket(&mut self, ticket: Ticket) {
        self.tickets.forget(ticket);
    }

    /// The room, if the client is a member or is to be one again.
    pub(super) fn member_of(&mut self, id: RoomId) -> Result<&mut Room, Failure> {
        self.open()?;
        match self.rooms.get_mut(&id) {
            Some(room) if self.by_name.get(&room.name) == Some(&id) => Ok(room),
            _ => Err(Failure::not_a_member()),
        }
    }

    fn channel_of(&self, room: RoomId) -> Option<ChannelId> {
        self.rooms.get(&room)?.channel
    }

    /// Whether the client can still be asked for something.
    pub(super) fn open(&self) -> Result<(), Failure> {
        match (&self.end, &self.closing) {
            (Some(end), _) => Err(end.clone()),
            (None, Some(_)) => Err(Failure::Closed {
                code: None,
                reason: CLOSED_HERE.to_owned(),
            }),
            (None, None) => Ok(()),
        }
    }
}

/// Why a client is closed that was asked to.
pub(crate) const CLOSED_HERE: &str = "this program closed it";
