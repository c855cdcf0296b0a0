//! The parts of a reply, and what is fed to its request.

use std::task::{Context, Poll};

use localhub_protocol::{Code, Credit};

use super::RequestId;
use crate::core::flow::{Inflow, Outflow, Part};
use crate::core::{Core, End};
use crate::message::Sender;
use crate::{Error, Reply};

/// What a streamed request has beside.
pub(super) struct Streamed {
    pub(super) parts: Inflow,
    pub(super) feed: Outflow,
    /// Who sends the parts, once one has come.
    pub(super) handler: Option<Sender>,
    /// The handler's bytes are over, as [`METHOD_STREAM`](crate::METHOD_STREAM) has it.
    pub(super) ended: bool,
    /// Nothing more is fed.
    pub(super) fed: bool,
}

impl Core {
    /// The next part of the reply; `None` if there are no more, and the outcome is there.
    pub(crate) fn poll_part(&mut self, id: RequestId, cx: &Context<'_>) -> Poll<Option<Reply>> {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return Poll::Ready(None);
        };
        let Some(streamed) = request.streamed.as_mut() else {
            return Poll::Ready(None);
        };
        let part = streamed.parts.take();
        let over = request.over;
        let (handler, position) = (streamed.handler.clone(), request.position);
        if part.is_none() && !over {
            request.waker = Some(cx.waker().clone());
        }
        if let Some(bytes) = streamed.parts.give_back().filter(|_| !over) {
            let of = self.id();
            self.push_credit(End::Caller(id), (of, position), bytes);
        }
        match (part, handler) {
            (Some(part), Some(sender)) => Poll::Ready(Some(Reply {
                sender,
                content: part.content,
                payload: part.payload,
            })),
            _ if over => Poll::Ready(None),
            _ => {
                if self.blocked {
                    self.rouse_link();
                }
                Poll::Pending
            }
        }
    }

    /// The caller may feed more.
    pub(in crate::core) fn feed_allowed(&mut self, credit: &Credit) {
        if let Some(id) = self.requests.by_position.get(&credit.request)
            && let Some(request) = self.requests.open.get_mut(id)
            && let Some(streamed) = &mut request.streamed
        {
            streamed.feed.credit = streamed.feed.credit.saturating_add(credit.bytes);
            self.wakes.extend(streamed.feed.waker.take());
        }
    }

    /// Where a request can still be fed, and how much.
    pub(in crate::core) fn feeding(&mut self, id: RequestId) -> Option<(u64, &mut Outflow)> {
        let request = self.requests.open.get_mut(&id)?;
        let streamed = request.streamed.as_mut()?;
        (!request.over && !streamed.fed).then_some((request.position, &mut streamed.feed))
    }

    /// Nothing more is fed.
    pub(in crate::core) fn fed_all(&mut self, id: RequestId) {
        if let Some(streamed) = self.streamed(id) {
            streamed.fed = true;
        }
    }

    /// The handler has said that no more bytes come.
    pub(in crate::core) fn end_parts(&mut self, id: RequestId) {
        if let Some(streamed) = self.streamed(id) {
            streamed.ended = true;
        }
    }

    pub(in crate::core) fn parts_ended(&mut self, id: RequestId) -> bool {
        self.streamed(id).is_some_and(|streamed| streamed.ended)
    }

    /// Whether a request is over, and well.
    pub(in crate::core) fn has_succeeded(&self, id: RequestId) -> bool {
        let request = self.requests.open.get(&id);
        request.is_some_and(|request| matches!(request.outcome, Some(Ok(_))))
    }

    pub(super) fn part_came(&mut self, id: RequestId, sender: &Sender, part: Part) {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return;
        };
        if let Some(deadline) = request.deadline.take() {
            self.requests.deadlines.remove(&(deadline, id));
        }
        let Some(streamed) = request.streamed.as_mut() else {
            return;
        };
        if request.over {
            return;
        }
        streamed.handler.get_or_insert_with(|| sender.clone());
        let pushed = streamed.parts.push(part);
        self.wakes.extend(request.waker.take());
        if pushed.is_err() {
            let detail = "the handler sent more than it was allowed to".to_owned();
            let code = Code::CANCELLED;
            self.end_here(id, Error::NoReply { code, detail });
        }
    }

    fn streamed(&mut self, id: RequestId) -> Option<&mut Streamed> {
        self.requests.open.get_mut(&id)?.streamed.as_deref_mut()
    }

    /// Something that was fed, or a credit, was refused, without which the request cannot go on.
    pub(in crate::core) fn break_request(&mut self, id: RequestId, code: Code) {
        let detail = "the handler does not read what is sent to it".to_owned();
        self.end_here(id, Error::NoReply { code, detail });
    }
}
