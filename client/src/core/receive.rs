//! What comes from the broker.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use localhub_protocol::{
    BrokerFrame, ClientFrame, Code, Credit, FrameError, Gap as WireGap, Message as WireMessage,
    Policy, RawFrame, Run as WireRun,
};

use super::ask::Ask;
use super::inbox::{LastTopic, Piece, is_large};
use super::room::{RoomId, Route, StreamId, Takes, WatchState};
use super::{Core, TELL_DELAY, TELL_SHARE};
use crate::message::{Origin, Sender};
use crate::{Cause, Gap};

/// How far [`Core::receive`] came.
#[derive(Debug)]
pub(crate) enum Progress {
    /// To the end.
    All,
    /// To a message for a full inbox, which may have room until then.
    Blocked { until: Instant },
    /// The broker closed the connection.
    Closed { code: Code, detail: String },
}

/// How many bytes were dealt with, or why to stop.
type Step = ControlFlow<Progress, usize>;

/// A run that is not yet through.
pub(super) struct Run {
    origin: Arc<Origin>,
    room: Option<RoomId>,
    next: u64,
    remaining: u64,
}

/// Who gets the retained values that follow.
pub(super) enum Values {
    Snapshot { request: u64, remaining: u64 },
    Stream { stream: StreamId, remaining: u64 },
}

impl Core {
    /// Takes in whole frames, and takes what it is done with out of `chunk`. Slices of it keep
    /// `pinned` bytes in memory.
    ///
    /// # Errors
    /// The broker sent what it may not send.
    pub(crate) fn receive(
        &mut self,
        chunk: &mut Bytes,
        pinned: usize,
        now: Instant,
    ) -> Result<Progress, FrameError> {
        self.blocked = false;
        self.heard_at = now;
        self.probed = false;
        while let Some((frame, _)) = RawFrame::split(chunk, usize::MAX)? {
            let step = match self.run.take() {
                Some(run) => self.forward(run, frame, chunk, pinned, now)?,
                None => self.react(frame, now)?,
            };
            match step {
                ControlFlow::Continue(bytes) => {
                    self.untold_bytes += bytes as u64;
                    chunk.advance(bytes);
                }
                ControlFlow::Break(progress) => {
                    self.told_enough(now);
                    return Ok(progress);
                }
            }
        }
        self.told_enough(now);
        Ok(Progress::All)
    }

    /// Reacts to a frame outside of runs.
    fn react(&mut self, frame: RawFrame<'_>, now: Instant) -> Result<Step, FrameError> {
        match BrokerFrame::decode(frame.body())? {
            BrokerFrame::Ack { received } => self.confirmed(received)?,
            BrokerFrame::Ping { nonce, received } => {
                self.confirmed(received)?;
                self.control(&ClientFrame::Pong {
                    nonce,
                    received: self.received,
                });
                self.note_told();
            }
            BrokerFrame::Pong { nonce, received } => {
                self.confirmed(received)?;
                self.pings_in_flight = self.pings_in_flight.saturating_sub(1);
                self.settle_through(nonce);
            }
            BrokerFrame::Close { code, detail } => {
                let detail = detail.to_owned();
                return Ok(ControlFlow::Break(Progress::Closed { code, detail }));
            }
            BrokerFrame::GoAway { delay_ms, .. } => {
                self.away = Some(Duration::from_millis(delay_ms.into()));
            }
            BrokerFrame::Gap(gap) => {
                self.received = self.received.saturating_add(gap.lost);
                self.lost_messages(&gap);
            }
            BrokerFrame::Run(run) => self.begin_run(&run)?,
            BrokerFrame::Done { request } => {
                self.received += 1;
                self.done(request);
            }
            BrokerFrame::Joined {
                request, channel, ..
            } => {
                self.received += 1;
                self.joined(request, channel);
            }
            BrokerFrame::Values {
                request,
                channel,
                offset,
                count,
                since,
            } => {
                self.received += 1;
                self.values_follow(request, channel, (offset, since), count);
            }
            BrokerFrame::Members {
                request,
                revision,
                more,
                members,
                ..
            } => {
                self.received += 1;
                self.members_told(request, revision, more, &members);
            }
            BrokerFrame::Presence {
                channel,
                revision,
                change,
                cause,
                member,
            } => {
                self.received += 1;
                self.presence_changed(channel, revision, (change, cause), &member);
            }
            BrokerFrame::Credit(credit) => {
                self.received += 1;
                self.allowed(&credit);
            }
            BrokerFrame::Cancelled {
                caller,
                request,
                cause,
            } => {
                self.received += 1;
                self.request_cancelled(caller, request, cause);
            }
            BrokerFrame::Lease {
                service,
                state,
                fence,
            } => {
                self.received += 1;
                self.lease_told(service, state, fence);
            }
            BrokerFrame::Stored { request, offset } => {
                self.received += 1;
                self.stored(request, offset);
            }
            BrokerFrame::Refusal {
                request,
                code,
                detail,
            } => {
                self.received += 1;
                self.refused(request, code, detail, now);
            }
            BrokerFrame::Message(_) => {
                return Err(FrameError::Malformed {
                    reason: "a message outside of a run",
                });
            }
            BrokerFrame::Welcome(_) => {
                return Err(FrameError::Malformed {
                    reason: "a second welcome",
                });
            }
        }
        Ok(ControlFlow::Continue(frame.wire_bytes()))
    }

    fn confirmed(&mut self, received: u64) -> Result<(), FrameError> {
        self.outgoing
            .confirm(received)
            .map_err(|_| FrameError::Malformed {
                reason: "a confirmation of messages that were never sent",
            })?;
        self.release_publishers();
        Ok(())
    }

    fn begin_run(&mut self, run: &WireRun<'_>) -> Result<(), FrameError> {
        let name = match &self.last_sender {
            Some(last) if last.id == run.sender && last.name.as_str() == run.name => {
                last.name.clone()
            }
            _ => run.name.parse().map_err(|_| FrameError::Malformed {
                reason: "a run from a client whose name is none",
            })?,
        };
        let sender = Sender {
            id: run.sender,
            name,
        };
        let room = run
            .channel
            .and_then(|channel| self.by_channel.get(&channel).copied());
        let channel = room
            .and_then(|id| self.rooms.get(&id))
            .map(|room| room.name.clone());
        self.last_sender = Some(sender.clone());
        self.run = (run.count > 0).then(|| Run {
            origin: Arc::new(Origin {
                channel,
                place: run
                    .channel
                    .zip(self.session.as_ref())
                    .map(|(channel, session)| (session.epoch, channel)),
                sender,
                retained: run.retained,
            }),
            room,
            next: run.first,
            remaining: run.count,
        });
        Ok(())
    }

    /// Passes on the first message of `chunk`, which is `frame`, and those behind it that go the
    /// same way; or says until when to wait for a full inbox.
    fn forward(
        &mut self,
        mut run: Run,
        frame: RawFrame<'_>,
        chunk: &Bytes,
        pinned: usize,
        now: Instant,
    ) -> Result<Step, FrameError> {
        let message = decode_message(frame)?;
        let route = self.route(&run, &message);
        if let Some(until) = self.wait_for(&route, now) {
            self.run = Some(run);
            self.blocked = true;
            return Ok(ControlFlow::Break(Progress::Blocked { until }));
        }
        let most = match is_of_request(&message) {
            true => 1,
            false => usize::try_from(run.remaining).unwrap_or(usize::MAX),
        };
        let most = route
            .iter()
            .fold(most, |most, id| match self.streams.get(id) {
                Some(stream) if !stream.inbox.is_full() => most.min(stream.inbox.room()),
                _ => most,
            });
        let (end, messages) = self.same_way(&run, &route, &message, frame, chunk, most)?;
        match &message {
            WireMessage::Reply { .. } => self.replied(&run.origin.sender, &message, now),
            WireMessage::Request { .. } => {
                self.request_came(&run.origin.sender, run.next, &message, now);
            }
            WireMessage::Feed { .. } => self.fed(run.origin.sender.id, &message),
            _ => {}
        }
        let piece = |frames: Bytes, pinned| Piece {
            origin: run.origin.clone(),
            frames,
            first: run.next,
            messages,
            pinned,
        };
        if run.origin.retained && matches!(self.values, Some(Values::Snapshot { .. })) {
            self.keep_value(piece(chunk.slice(..end), pinned));
        } else if !route.is_empty() {
            let piece = if is_large(end, pinned) {
                piece(chunk.slice(..end), pinned)
            } else {
                piece(Bytes::copy_from_slice(&chunk[..end]), end)
            };
            self.deliver(&route, piece);
        }
        if run.origin.retained {
            self.count_values(messages as u64);
        }
        self.received += messages as u64;
        run.next += messages as u64;
        run.remaining -= messages as u64;
        self.run = (run.remaining > 0).then_some(run);
        Ok(ControlFlow::Continue(end))
    }

    /// The messages at the front of `chunk` that have the route of the first, `most` of them: where
    /// they end, and how many they are.
    fn same_way(
        &mut self,
        run: &Run,
        route: &Route,
        first: &WireMessage<'_>,
        frame: RawFrame<'_>,
        chunk: &[u8],
        most: usize,
    ) -> Result<(usize, usize), FrameError> {
        let mut end = frame.wire_bytes();
        let mut messages = 1;
        // A frame of the same length whose bytes before the payload are the same has the same
        // header, and need not be decoded to know where it goes.
        let mut like = &chunk[..end - first.payload().len()];
        let mut like_bytes = end;
        while messages < most
            && let Some((frame, _)) = RawFrame::split(&chunk[end..], usize::MAX)?
        {
            let wire = frame.as_bytes();
            if wire.len() != like_bytes || !wire.starts_with(like) {
                let message = decode_message(frame)?;
                if is_of_request(&message) || self.route(run, &message) != *route {
                    break;
                }
                like = &wire[..wire.len() - message.payload().len()];
                like_bytes = wire.len();
            }
            end += wire.len();
            messages += 1;
        }
        Ok((end, messages))
    }

    /// The streams that get a message.
    fn route(&mut self, run: &Run, message: &WireMessage<'_>) -> Route {
        let streams = &self.streams;
        let room = run.room.and_then(|id| self.rooms.get_mut(&id));
        match (message, room) {
            (WireMessage::Publish { .. }, _) if run.origin.retained => match &self.values {
                Some(Values::Stream { stream, .. }) => Route::from([*stream]),
                _ => Route::default(),
            },
            (WireMessage::Publish { topic, .. }, Some(room)) => room.route(topic, streams),
            (WireMessage::Broadcast { .. }, Some(room)) => room.broadcast_route(streams),
            (WireMessage::Direct { .. }, _) => self
                .directs
                .get_or_insert_with(|| {
                    let directs = streams.iter().filter(|(_, s)| s.takes == Takes::Directs);
                    directs.map(|(id, _)| *id).collect()
                })
                .clone(),
            _ => Route::default(),
        }
    }

    /// Until when to wait for inboxes that are full, if at all.
    fn wait_for(&mut self, route: &Route, now: Instant) -> Option<Instant> {
        let hurry = self.tickets.waiting() > 0 || self.requests_waiting();
        route
            .iter()
            .filter_map(|id| self.streams.get_mut(id)?.inbox.wait_until(now, hurry))
            .max()
    }

    fn deliver(&mut self, route: &Route, piece: Piece) {
        if let Some((last, others)) = route.split_last() {
            for id in others {
                self.deliver_to(*id, piece.clone());
            }
            self.deliver_to(*last, piece);
        }
    }

    fn deliver_to(&mut self, id: StreamId, piece: Piece) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.ended
        {
            if let Some(cursor) = &mut stream.cursor {
                cursor.offset = cursor.offset.max(piece.first + piece.messages as u64 - 1);
            }
            stream.inbox.push(piece);
            self.wakes.extend(stream.inbox.waker.take());
        }
    }

    /// Adds a retained value to the snapshot that waits for it.
    fn keep_value(&mut self, mut piece: Piece) {
        if let Some(Values::Snapshot { request, .. }) = &self.values
            && let Some(Ask::Snapshot(snapshot)) = self.pending.get_mut(request)
        {
            snapshot
                .values
                .extend(piece.next(&mut LastTopic::default()));
        }
    }

    fn count_values(&mut self, count: u64) {
        if let Some(Values::Snapshot { remaining, .. } | Values::Stream { remaining, .. }) =
            &mut self.values
        {
            *remaining = remaining.saturating_sub(count);
            self.end_of_values();
        }
    }

    /// Puts a gap into every stream that may miss something.
    fn lost_messages(&mut self, gap: &WireGap) {
        let affected = match gap.channel {
            Some(channel) => match self.by_channel.get(&channel) {
                Some(room) => Some(*room),
                None => return,
            },
            None => None,
        };
        if gap.cause == Code::CONFLATED {
            return self.conflated_messages(affected, gap.lost);
        }
        let rooms: Vec<_> = match affected {
            Some(room) => vec![room],
            None => self.rooms.keys().copied().collect(),
        };
        let name = affected
            .and_then(|id| self.rooms.get(&id))
            .map(|room| room.name.clone());
        for stream in self.streams.values_mut() {
            if stream.live && (affected.is_none() || stream.room == affected) {
                let cause = Cause::Broker(gap.cause);
                let channel = name.clone();
                stream.inbox.push_gap(Gap {
                    channel,
                    lost: Some(gap.lost),
                    cause,
                });
                self.wakes.extend(stream.inbox.waker.take());
            }
        }
        for id in rooms {
            let watched = self.rooms.get(&id).map(|room| room.watch.state);
            if watched == Some(WatchState::On) {
                self.watch(id);
            }
        }
        if affected.is_none() {
            // Answers may be among them: whatever has none when the next pong is here has lost it.
            // What is lost is what would have come next. A stream gets the rest of its values; a snapshot is
            // asked for again.
            match &self.values {
                Some(Values::Stream { .. }) => self.count_values(gap.lost),
                _ => self.values = None,
            }
            self.doubtful = self.outgoing.written();
            self.ping_wanted = true;
            self.break_streamed_requests();
            self.break_streamed_handlings();
            self.doubt_leases();
        } else if let Some(Values::Snapshot { request, .. }) = &self.values
            && let Some(Ask::Snapshot(snapshot)) = self.pending.get(request)
            && Some(snapshot.room) == affected
        {
            let request = *request;
            self.values = None;
            if let Some(ask) = self.pending.remove(&request) {
                self.repeat(ask);
            }
        }
    }

    /// Counts messages that made way for newer ones, for the streams whose subscription wants it so.
    fn conflated_messages(&mut self, affected: Option<RoomId>, count: u64) {
        let Some(room) = affected.and_then(|id| self.rooms.get(&id)) else {
            return;
        };
        for stream in self.streams.values_mut() {
            if let Takes::Topics { filter, policy, .. } = &stream.takes
                && stream.live
                && stream.room == affected
                && (*policy == Policy::Latest || room.latest.contains(filter))
            {
                stream.conflated += count;
            }
        }
    }

    /// The other side of a streamed request may be sent more.
    fn allowed(&mut self, credit: &Credit) {
        // Of the bytes to and from this client itself nobody could say which are meant: there are none.
        if self.is_handling(credit) || credit.of != self.id() {
            self.parts_allowed(credit);
        } else {
            self.feed_allowed(credit);
        }
    }

    /// Confirms what was received, if it is much; else soon.
    fn told_enough(&mut self, now: Instant) {
        let untold = self.received - self.told;
        if untold == 0 {
            return;
        }
        let limits = self.limits();
        if untold >= limits.outbox_messages / TELL_SHARE
            || self.untold_bytes >= limits.outbox_bytes / TELL_SHARE
        {
            self.tell();
        } else {
            self.tell_at.get_or_insert(now + TELL_DELAY);
        }
    }
}

/// Whether a message is dealt with here, one by one, and goes into no inbox.
pub(super) fn is_of_request(message: &WireMessage<'_>) -> bool {
    matches!(
        message,
        WireMessage::Feed { .. } | WireMessage::Reply { .. } | WireMessage::Request { .. }
    )
}

fn decode_message(frame: RawFrame<'_>) -> Result<WireMessage<'_>, FrameError> {
    match BrokerFrame::decode(frame.body())? {
        BrokerFrame::Message(message) => Ok(message),
        _ => Err(FrameError::Malformed {
            reason: "a run with fewer messages than announced",
        }),
    }
}
