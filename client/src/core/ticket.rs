use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use localhub_protocol::{Code, ContentType};

use crate::{Error, Member, Snapshot, ValueVersion};

/// Identifies something that the application waits for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ticket(u64);

/// What the application waits for, until it fetches the outcome or stops waiting.
#[derive(Default)]
pub(super) struct Tickets {
    issued: u64,
    waiting: usize,
    open: BTreeMap<Ticket, State>,
}

enum State {
    Waiting(Option<Waker>),
    Settled(Outcome),
}

pub(crate) type Outcome = Result<Answer, Failure>;

/// A good end.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Members(Vec<Member>),
    Reply {
        content: ContentType,
        payload: Bytes,
    },
    Stored(ValueVersion),
    Values(Snapshot),
}

/// A bad end, as a value that many can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    Closed { code: Option<Code>, reason: String },
    Disconnected,
    Refused { code: Code, detail: String },
}

impl Failure {
    /// What happens to those who act on a channel that they left.
    pub(super) fn not_a_member() -> Self {
        Self::Refused {
            code: Code::NOT_A_MEMBER,
            detail: String::new(),
        }
    }

    /// What happens to those who expect a value of another life of a channel.
    pub(super) fn of_another_life() -> Self {
        Self::Refused {
            code: Code::VERSION_CONFLICT,
            detail: "it was that of a value of another life of the channel".to_owned(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed { code, reason } => Self::Closed { code, reason },
            Failure::Disconnected => Self::Disconnected,
            Failure::Refused { code, detail } => Self::Refused { code, detail },
        }
    }
}

impl Tickets {
    pub(super) fn issue(&mut self) -> Ticket {
        self.issued += 1;
        self.waiting += 1;
        let ticket = Ticket(self.issued);
        self.open.insert(ticket, State::Waiting(None));
        ticket
    }

    /// Settles a ticket. If nobody waits for it any more, nothing happens.
    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome, wakes: &mut Vec<Waker>) {
        let Some(state) = self.open.get_mut(&ticket) else {
            return;
        };
        if let State::Waiting(waker) = std::mem::replace(state, State::Settled(outcome)) {
            self.waiting -= 1;
            wakes.extend(waker);
        }
    }

    /// Settles all with the same failure.
    pub(super) fn fail_all(&mut self, failure: &Failure, wakes: &mut Vec<Waker>) {
        let open: Vec<_> = self.open.keys().copied().collect();
        for ticket in open {
            if let Some(State::Waiting(_)) = self.open.get(&ticket) {
                self.settle(ticket, Err(failure.clone()), wakes);
            }
        }
    }

    pub(super) fn poll(&mut self, ticket: Ticket, cx: &Context<'_>) -> Poll<Outcome> {
        match self.open.get_mut(&ticket) {
            Some(State::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(State::Settled(_)) => match self.open.remove(&ticket) {
                Some(State::Settled(outcome)) => Poll::Ready(outcome),
                _ => unreachable!("looked at it above"),
            },
            None => panic!("a ticket was used after its outcome was fetched"),
        }
    }

    /// The application does not wait any more.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        if let Some(State::Waiting(_)) = self.open.remove(&ticket) {
            self.waiting -= 1;
        }
    }

    /// How many have no outcome yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}
