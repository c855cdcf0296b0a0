//! What becomes of requests when sessions, or what was said in them, are lost.

use std::time::Instant;

use bytes::Bytes;
use localhub_protocol::{ClientFrame, Code, Message as WireMessage};

use super::{RequestId, Wanted, in_millis};
use crate::Error;
use crate::core::Core;
use crate::core::anew::message_of;

/// What a lost session leaves of the requests.
pub(in crate::core) struct Left {
    /// What is to be sent again, by the position it had; a frame if it is a command.
    pub(in crate::core) again: Vec<(u64, Option<Bytes>, RequestId)>,
    /// How many may be lost that nobody waits for.
    pub(in crate::core) forgotten: u64,
}

impl Core {
    /// What the broker said to messages up to this position may be lost: commands are sent again,
    /// and the outcomes that nobody waits for are not waited for either. The others may still come;
    /// if not, their deadline ends them.
    pub(in crate::core) fn doubt_requests(&mut self, doubtful: u64) {
        let doubted: Vec<_> = self.requests.by_position.range(..=doubtful).collect();
        let doubted: Vec<_> = doubted.into_iter().map(|(at, id)| (*at, *id)).collect();
        for (position, id) in doubted {
            let Some(request) = self.requests.open.get_mut(&id) else {
                continue;
            };
            match &request.command {
                Some(frame) if !request.over && request.wanted != Wanted::NoMore => {
                    let frame = frame.clone();
                    // It may be lost again before it is written again.
                    request.sent_in = Some(request.epoch);
                    self.requests.by_position.remove(&position);
                    self.ask_again(id, &frame, self.heard_at);
                    // Else that would be one more who waits for it, and does so for ever.
                    self.outgoing
                        .push(&ClientFrame::Cancel { request: position });
                }
                _ if request.over || request.wanted == Wanted::NoMore => {
                    self.requests.by_position.remove(&position);
                    request.at_broker = false;
                    if request.wanted != Wanted::Yes {
                        self.forget_request(id);
                    }
                }
                _ => request.doubted = true,
            }
        }
    }

    /// Parts may be lost: no stream can go on without them.
    pub(in crate::core) fn break_streamed_requests(&mut self) {
        let written = self.outgoing.written();
        let open = self.requests.open.iter();
        let broken = open.filter(|(_, it)| it.streamed.is_some() && it.position <= written);
        let broken: Vec<_> = broken.map(|(id, _)| *id).collect();
        for id in broken {
            self.end_here(id, lost_track());
        }
    }

    /// Settles what a lost session leaves. Requests that the broker cannot have seen stay, and so
    /// do commands if the broker still knows them: both are to be sent again.
    pub(in crate::core) fn abandon_requests(&mut self, written: u64) -> Left {
        let epoch = self.epoch();
        let mut left = Left {
            again: Vec::new(),
            forgotten: 0,
        };
        for (position, id) in std::mem::take(&mut self.requests.by_position) {
            let Some(request) = self.requests.open.get_mut(&id) else {
                continue;
            };
            request.at_broker = false;
            if request.wanted == Wanted::NoMore || request.over {
                if request.wanted != Wanted::Yes {
                    self.forget_request(id);
                }
                continue;
            }
            if position <= written {
                request.sent_in = Some(request.epoch);
            }
            let known = request.sent_in.is_none_or(|sent| sent == epoch);
            match &request.command {
                Some(frame) if known => {
                    left.again.push((position, Some(frame.clone()), id));
                }
                // The frame is among those that were never sent.
                None if position > written => left.again.push((position, None, id)),
                _ => {
                    left.forgotten += u64::from(request.wanted == Wanted::Never);
                    self.settle_request(id, Err(lost_track()));
                }
            }
        }
        left
    }

    /// Sends a request once more, with the time that is left of it.
    pub(in crate::core) fn ask_again(&mut self, id: RequestId, frame: &Bytes, now: Instant) {
        let epoch = self.epoch();
        let Some(request) = self.requests.open.get_mut(&id) else {
            return;
        };
        let Some(mut message) = message_of(frame) else {
            return;
        };
        if let (WireMessage::Request { deadline_ms, .. }, Some(deadline)) =
            (&mut message, request.deadline)
        {
            *deadline_ms = in_millis(deadline.saturating_duration_since(now));
        }
        let position = self.outgoing.push(&ClientFrame::Message(message));
        (request.position, request.epoch, request.at_broker) = (position, epoch, true);
        self.requests.by_position.insert(position, id);
        self.wake_link();
    }

    /// The client is over.
    pub(in crate::core) fn finish_requests(&mut self, code: Option<Code>, reason: &str) {
        self.requests.by_position.clear();
        let open: Vec<_> = self.requests.open.keys().copied().collect();
        for id in open {
            let reason = reason.to_owned();
            if let Some(request) = self.requests.open.get_mut(&id) {
                request.at_broker = false;
            }
            self.settle_request(id, Err(Error::Closed { code, reason }));
        }
    }
}

/// What was sent may have been carried out.
fn lost_track() -> Error {
    Error::NoReply {
        code: Code::OUTCOME_UNKNOWN,
        detail: "the connection was lost before the reply came: the request may have been carried out or not"
            .to_owned(),
    }
}
