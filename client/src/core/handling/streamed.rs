//! What the caller of a streamed request feeds, and the parts of the reply.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use localhub_protocol::{ClientId, Code, ContentType, Credit, Message as WireMessage};

use super::HandlingId;
use crate::core::flow::{Inflow, Part};
use crate::core::{Core, End};
use crate::{Error, Payload};

/// Whether a request is a stream of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bytestream {
    No,
    Open,
    /// Nothing more is sent.
    Ended,
}

impl Core {
    /// The caller fed more.
    pub(in crate::core) fn fed(&mut self, caller: ClientId, feed: &WireMessage<'_>) {
        let WireMessage::Feed {
            request,
            more,
            content,
            payload,
        } = *feed
        else {
            return;
        };
        let key = (caller, request);
        let Some(id) = self.serving.handlings.by_key.get(&key).copied() else {
            return;
        };
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return;
        };
        handling.feed_ended |= !more;
        let payload = Bytes::copy_from_slice(payload);
        let part = Part { content, payload };
        let overrun = !part.payload.is_empty() && handling.fed.push(part).is_err();
        self.wakes.extend(handling.fed.waker.take());
        if overrun {
            self.push_failure(key, OVERRUN);
            if let Some(handling) = self.serving.handlings.open.get_mut(&id) {
                handling.at_broker = false;
            }
            self.stop_handling(id);
        } else if !more && handling.bytes == Bytestream::Ended {
            self.end_bytes(id);
        }
    }

    /// Whether a credit is for a request that this client handles.
    pub(in crate::core) fn is_handling(&self, credit: &Credit) -> bool {
        let key = (credit.of, credit.request);
        self.serving.handlings.by_key.contains_key(&key)
    }

    /// The handler may send more.
    pub(in crate::core) fn parts_allowed(&mut self, credit: &Credit) {
        let key = (credit.of, credit.request);
        if let Some(id) = self.serving.handlings.by_key.get(&key)
            && let Some(handling) = self.serving.handlings.open.get_mut(id)
        {
            handling.parts.credit = handling.parts.credit.saturating_add(credit.bytes);
            self.wakes.extend(handling.parts.waker.take());
        }
    }

    /// What the caller of a streamed request fed, or allowed, may be lost.
    pub(in crate::core) fn break_streamed_handlings(&mut self) {
        let open = self.serving.handlings.open.iter();
        let broken = open.filter(|(_, it)| it.arrived.window > 0 && it.at_broker);
        let broken: Vec<_> = broken.map(|(id, it)| (*id, it.key, it.queued)).collect();
        for (id, key, queued) in broken {
            self.push_failure(key, INCOMPLETE);
            if queued {
                self.drop_queued(id);
                continue;
            }
            if let Some(handling) = self.serving.handlings.open.get_mut(&id) {
                handling.at_broker = false;
            }
            self.stop_handling(id);
        }
    }

    /// Whether the application has made it a stream of bytes.
    pub(crate) fn is_bytes(&self, id: HandlingId) -> bool {
        let handling = self.serving.handlings.open.get(&id);
        handling.is_some_and(|handling| handling.bytes != Bytestream::No)
    }

    /// Sends a part of the reply. Ready once it is queued: `false` if nobody wants to hear it.
    pub(crate) fn poll_send_part(
        &mut self,
        id: HandlingId,
        payload: &Payload,
        cx: &Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        let bytes = payload.bytes().len();
        self.check_payload(bytes)?;
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return Poll::Ready(Ok(false));
        };
        if !handling.at_broker || handling.cancelled {
            return Poll::Ready(Ok(false));
        }
        let max = u64::from(handling.arrived.window);
        if max == 0 {
            return Poll::Ready(Err(Error::Refused {
                code: Code::BAD_REQUEST,
                detail: "the caller wants a single reply".to_owned(),
            }));
        }
        if bytes as u64 > max {
            return Poll::Ready(Err(Error::PayloadTooLarge { bytes, max }));
        }
        if handling.parts.credit < bytes as u64 {
            handling.parts.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ready!(self.poll_room(cx));
        self.push_part(id, (payload.content(), payload.bytes()));
        Poll::Ready(Ok(true))
    }

    /// Makes a streamed request a stream of bytes, and allows the caller to send.
    pub(crate) fn accept_bytes(&mut self, id: HandlingId) -> bool {
        let client = self.id();
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return false;
        };
        let window = u64::from(handling.arrived.window);
        let wanted = handling.at_broker && !handling.cancelled;
        // Of the credits between a client and itself nobody can say whose bytes they are for.
        let own = handling.key.0 == client;
        if !wanted || own || window == 0 || handling.bytes != Bytestream::No {
            return false;
        }
        handling.bytes = Bytestream::Open;
        handling.fed = Inflow::new(window);
        let (of, request) = handling.key;
        self.push_part(id, (ContentType::BYTES, &[]));
        self.push_credit(End::Handler(id), (of, request), window);
        true
    }

    /// The next bytes from the caller; `None` if no more come, an error if they are cut off.
    pub(in crate::core) fn poll_fed(
        &mut self,
        id: HandlingId,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ()>> {
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return Poll::Ready(Err(()));
        };
        let part = handling.fed.take();
        let open = handling.at_broker && !handling.cancelled;
        if let Some(bytes) = handling.fed.give_back().filter(|_| open) {
            let (of, request) = handling.key;
            self.push_credit(End::Handler(id), (of, request), bytes);
        }
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return Poll::Ready(Err(()));
        };
        match part {
            Some(part) => Poll::Ready(Ok(Some(part.payload))),
            None if handling.feed_ended => Poll::Ready(Ok(None)),
            None if !open => Poll::Ready(Err(())),
            None => {
                handling.fed.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Sends some of the bytes; none if nobody wants them.
    pub(in crate::core) fn poll_send_bytes(
        &mut self,
        id: HandlingId,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<usize> {
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return Poll::Ready(0);
        };
        if !handling.at_broker || handling.cancelled || handling.bytes != Bytestream::Open {
            return Poll::Ready(0);
        }
        let most = usize::try_from(handling.parts.credit).unwrap_or(usize::MAX);
        let most = most.min(bytes.len());
        if most == 0 {
            handling.parts.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ready!(self.poll_room(cx));
        self.push_part(id, (ContentType::BYTES, &bytes[..most]));
        Poll::Ready(most)
    }

    /// Sends no more bytes. The request is over when the caller sends no more either.
    pub(in crate::core) fn shut_down_bytes(&mut self, id: HandlingId) {
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return;
        };
        if handling.bytes != Bytestream::Open {
            return;
        }
        handling.bytes = Bytestream::Ended;
        if !handling.at_broker {
            return;
        }
        if handling.feed_ended {
            return self.end_bytes(id);
        }
        self.push_part(id, (ContentType::BYTES, &[]));
    }

    /// Both directions of a stream of bytes are over.
    fn end_bytes(&mut self, id: HandlingId) {
        if let Some(handling) = self.serving.handlings.open.get_mut(&id)
            && std::mem::replace(&mut handling.at_broker, false)
        {
            let key = handling.key;
            self.serving.handlings.by_key.remove(&key);
            self.answer(key, None, false, (ContentType::BYTES, &[]));
        }
    }

    /// A part or credit of a request was refused, without which it cannot go on.
    pub(in crate::core) fn break_handling(&mut self, id: HandlingId) {
        let handling = self.serving.handlings.open.get_mut(&id);
        if let Some(handling) = handling.filter(|it| it.at_broker) {
            let key = handling.key;
            handling.at_broker = false;
            self.push_failure(key, INCOMPLETE);
            self.stop_handling(id);
        }
    }

    fn push_part(&mut self, id: HandlingId, (content, payload): (ContentType, &[u8])) {
        let Some(key) = self.serving.handlings.open.get(&id).map(|it| it.key) else {
            return;
        };
        let position = self.answer(key, None, true, (content, payload));
        if let Some(handling) = self.serving.handlings.open.get_mut(&id) {
            let parts = &mut handling.parts;
            parts.credit = parts.credit.saturating_sub(payload.len() as u64);
        }
        self.note_piece(position, End::Handler(id));
    }
}

/// A part of a streamed request or reply is lost.
const INCOMPLETE: (&str, &str) = ("incomplete", "a part was lost on the way");

/// The caller did not wait for credit.
const OVERRUN: (&str, &str) = ("overrun", "the caller sent more than it was allowed to");
