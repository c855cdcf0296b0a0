//! What happens when a session is lost and a new one begins.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use localhub_protocol::{ChannelId, ClientFrame, Message, PREFIX_BYTES};

use super::ask::Ask;
use super::outgoing::Abandoned;
use super::receive::is_of_request;
use super::requests::RequestId;
use super::room::{Later, Room, RoomId, Takes, WatchState};
use super::{Confirm, Core, Failure, Ticket};
use crate::{Cause, Gap, Refused};

/// A message that no connection was handed, and who waits for it.
struct Unsent {
    frame: Bytes,
    confirm: Option<Ticket>,
    admin: Option<Ticket>,
    request: Option<RequestId>,
}

impl Core {
    /// Carries what the application wants over into a new session.
    ///
    /// Of the messages on their way, those that no connection was handed go out in the new session.
    /// The others may have been carried out, so they are not repeated: whoever waits for one is
    /// told, and the rest is reported.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        let abandoned = self.outgoing.abandon();
        let channels = std::mem::take(&mut self.by_channel);
        (self.received, self.settled, self.doubtful) = (0, 0, 0);
        self.values = None;
        self.abandon_handlings();
        self.unsettled.clear();
        self.gap_everywhere();
        for room in self.rooms.values_mut() {
            room.channel = None;
            room.latest.clear();
            room.watch.incoming.clear();
            room.watch.state = WatchState::Off;
        }

        let (again, mut lost) = self.settle_abandoned(&abandoned);
        let mut others = Vec::new();
        for (_, again) in again {
            match again {
                Again::Ask(ask) => self.ask_anew(ask),
                Again::Send(unsent) => match room_of(&unsent.frame, &channels) {
                    Some(Some(id)) if self.rooms.contains_key(&id) => self.send_later(id, unsent),
                    Some(_) => {
                        // The channel was left meanwhile, before this could be sent.
                        lost += u64::from(unsent.confirm.is_none());
                        self.fail(unsent.confirm);
                    }
                    None => others.push(unsent),
                },
            }
        }
        let rooms: Vec<_> = self.rooms.keys().copied().collect();
        rooms.into_iter().for_each(|room| self.rejoin(room));
        self.serve_anew();
        others
            .into_iter()
            .for_each(|unsent| self.send_again(&unsent, now));
        if let Some(closing) = &mut self.closing {
            closing.position = self.outgoing.queued();
        }
        if lost > 0 {
            let detail = "the session ended before the broker confirmed them".to_owned();
            self.report(
                Refused {
                    cause: Cause::SessionLost,
                    detail,
                    messages: lost,
                },
                now,
            );
        }
    }

    /// Tells those who wait for what may have been carried out. Gives back, by position, what is to
    /// be done again, and how many messages may be lost that nobody was told of.
    fn settle_abandoned(&mut self, abandoned: &Abandoned) -> (BTreeMap<u64, Again>, u64) {
        let in_doubt = abandoned.confirmed + 1..=abandoned.written;
        let mut told = 0;
        let mut again: BTreeMap<u64, Again> = abandoned
            .never_sent
            .iter()
            .filter(|(_, frame)| message_of(frame).is_some())
            .map(|(at, frame)| {
                let frame = frame.clone();
                (
                    *at,
                    Again::Send(Unsent {
                        frame,
                        confirm: None,
                        admin: None,
                        request: None,
                    }),
                )
            })
            .collect();
        for Confirm {
            position,
            ticket,
            flush,
        } in std::mem::take(&mut self.confirms)
        {
            match again.get_mut(&position) {
                Some(Again::Send(unsent)) if !flush => unsent.confirm = Some(ticket),
                _ => {
                    told += u64::from(!flush && in_doubt.contains(&position));
                    self.settle(ticket, Err(Failure::Disconnected));
                }
            }
        }
        for (position, ask) in std::mem::take(&mut self.pending) {
            match (ask, again.get_mut(&position)) {
                (ask @ Ask::Put(_), _) if position <= abandoned.written => self.repeat(ask),
                (Ask::Admin(ticket), Some(Again::Send(unsent))) => unsent.admin = Some(ticket),
                (ask, _) => {
                    again.insert(position, Again::Ask(ask));
                }
            }
        }
        let left = self.abandon_requests(abandoned.written);
        for (position, frame, id) in left.again {
            match (frame, again.get_mut(&position)) {
                (None, Some(Again::Send(unsent))) => unsent.request = Some(id),
                (None, _) => {}
                (Some(frame), _) => {
                    let (confirm, admin, request) = (None, None, Some(id));
                    let unsent = Unsent {
                        frame,
                        confirm,
                        admin,
                        request,
                    };
                    again.insert(position, Again::Send(unsent));
                }
            }
        }
        (again, abandoned.in_doubt - told + left.forgotten)
    }

    /// Does again what a request of the lost session was to do, unless joining does it anyway.
    fn ask_anew(&mut self, ask: Ask) {
        match ask {
            Ask::Join(_) | Ask::Serve(_) | Ask::Subscribe { .. } | Ask::Watch(_) => {}
            // No connection was handed it.
            Ask::Put(put) => self.ask(put.room, Ask::Put(put)),
            ask => self.repeat(ask),
        }
    }

    fn send_later(&mut self, room: RoomId, unsent: Unsent) {
        let Some(room) = self.rooms.get_mut(&room) else {
            return;
        };
        self.later_bytes += unsent.frame.len();
        let (frame, confirm) = (unsent.frame, unsent.confirm);
        room.later.push_back(Later::Message { frame, confirm });
    }

    fn send_again(&mut self, unsent: &Unsent, now: Instant) {
        if let Some(request) = unsent.request {
            return self.ask_again(request, &unsent.frame, now);
        }
        let Some(message) = message_of(&unsent.frame) else {
            return;
        };
        // Nobody waits for that request any more, or for anything that belongs to one of the lost
        // session.
        if is_of_request(&message) && unsent.admin.is_none() {
            return;
        }
        let position = self.outgoing.push(&ClientFrame::Message(message));
        if let Some(ticket) = unsent.confirm {
            self.confirms.push_back(Confirm {
                position,
                ticket,
                flush: false,
            });
        }
        if let Some(ticket) = unsent.admin {
            self.pending.insert(position, Ask::Admin(ticket));
        }
    }

    fn fail(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.settle(ticket, Err(Failure::Disconnected));
        }
    }

    /// Puts a gap of unknown size into every stream that was live.
    fn gap_everywhere(&mut self) {
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.live && !stream.ended)
        {
            let room = stream.room.and_then(|id| self.rooms.get(&id));
            let channel = room.map(|room| room.name.clone());
            // The history may have what came meanwhile; if not, that is told when it answers.
            if !stream.takes.has_history() {
                stream.inbox.push_gap(Gap {
                    channel,
                    lost: None,
                    cause: Cause::SessionLost,
                });
                self.wakes.extend(stream.inbox.waker.take());
            }
            stream.live = !matches!(stream.takes, Takes::Topics { .. });
        }
        self.rooms.values_mut().for_each(Room::forget_routes);
    }
}

/// What a lost session leaves to be done.
enum Again {
    Ask(Ask),
    Send(Unsent),
}

/// The message in a frame, if it is one.
pub(super) fn message_of(frame: &Bytes) -> Option<Message<'_>> {
    match ClientFrame::decode(frame.get(PREFIX_BYTES..)?) {
        Ok(ClientFrame::Message(message)) => Some(message),
        _ => None,
    }
}

/// The room that a message is for, `Some(None)` if that is gone; `None` if it is for no channel.
fn room_of(frame: &Bytes, channels: &BTreeMap<ChannelId, RoomId>) -> Option<Option<RoomId>> {
    match message_of(frame)? {
        Message::Publish { channel, .. } | Message::Broadcast { channel, .. } => {
            Some(channels.get(&channel).copied())
        }
        _ => None,
    }
}
