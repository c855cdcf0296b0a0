use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use localhub_protocol::{ClientFrame, ClientId, Code, ContentType, Credit};

use super::{Core, End};

/// A part of a streamed request or of its reply.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) content: ContentType,
    pub(crate) payload: Bytes,
}

/// The direction of a streamed request that comes in.
///
/// The other side may send `allowed` bytes more. What is in `parts`, what was taken and not yet
/// allowed again, and `allowed` are `window` bytes together.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    parts: VecDeque<Part>,
    window: u64,
    allowed: u64,
    taken: u64,
    pub(super) waker: Option<Waker>,
}

/// The direction that goes out.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    /// How many bytes may be sent now.
    pub(super) credit: u64,
    pub(super) waker: Option<Waker>,
}

/// The other side sent more than it was allowed to.
#[derive(Debug)]
pub(super) struct Overrun;

/// So many parts may wait, however short they are.
const PARTS_MAX: usize = 65_536;

/// A pong is asked for after so many, so that they can be forgotten.
const UNSETTLED_MAX: usize = 64;

impl Core {
    /// Allows the other side of the request `request` of the client `of` to send more.
    pub(super) fn push_credit(&mut self, end: End, (of, request): (ClientId, u64), bytes: u64) {
        let credit = Credit { of, request, bytes };
        let position = self.outgoing.push(&ClientFrame::Credit(credit));
        self.note_piece(position, end);
        self.wake_link();
    }

    /// Something was sent to the other side of a streamed request, which cannot go on if it is
    /// refused.
    pub(super) fn note_piece(&mut self, position: u64, end: End) {
        self.ping_wanted |= self.unsettled.push(position, end);
    }

    /// Whether the refused message was sent to the other side of a streamed request.
    pub(super) fn piece_refused(&mut self, position: u64, code: Code) -> bool {
        let end = self.unsettled.find(position);
        match end {
            Some(End::Caller(id)) => self.break_request(id, code),
            Some(End::Handler(id)) => self.break_handling(id),
            None => {}
        }
        end.is_some()
    }
}

impl Inflow {
    pub(super) fn new(window: u64) -> Self {
        Self {
            window,
            allowed: window,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, part: Part) -> Result<(), Overrun> {
        let rest = self.allowed.checked_sub(part.payload.len() as u64);
        self.allowed = rest.ok_or(Overrun)?;
        if self.parts.len() >= PARTS_MAX {
            return Err(Overrun);
        }
        self.parts.push_back(part);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.taken += part.payload.len() as u64;
        Some(part)
    }

    /// The bytes that the other side is to be allowed now. It is told rarely while there is more to
    /// read, and of everything when there is not: a part may need the whole window.
    pub(super) fn give_back(&mut self) -> Option<u64> {
        if self.taken == 0 || self.taken < self.window / 2 && !self.parts.is_empty() {
            return None;
        }
        self.allowed += self.taken;
        Some(std::mem::take(&mut self.taken))
    }
}

/// What was sent to the other sides of streamed requests and may still be refused, by position.
#[derive(Debug, Default)]
pub(super) struct Unsettled(VecDeque<(u64, End)>);

impl Unsettled {
    /// Something was sent; says whether a pong is needed to know what became of it.
    pub(super) fn push(&mut self, position: u64, end: End) -> bool {
        self.0.push_back((position, end));
        self.0.len().is_multiple_of(UNSETTLED_MAX)
    }

    /// Where it was sent.
    pub(super) fn find(&self, position: u64) -> Option<End> {
        let at = self.0.binary_search_by_key(&position, |(at, _)| *at);
        at.ok().map(|at| self.0[at].1)
    }

    /// Everything up to there was carried out, or its refusal is known.
    pub(super) fn settle_through(&mut self, position: u64) {
        while self.0.front().is_some_and(|(first, _)| *first <= position) {
            self.0.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
