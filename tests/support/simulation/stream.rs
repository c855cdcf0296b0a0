use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use localhub_client::{Cursor, Message, Messages, Policy, StartAt};
use localhub_protocol::{ChannelId, ClientId, Start};
use tokio_stream::Stream as _;

use super::heard::{Sent, Values};
use crate::Flag;

/// A stream of messages that an application reads, and what it must find there.
pub(super) struct Stream {
    /// Its number among the streams of its program.
    pub(super) key: u64,
    pub(super) takes: Takes,
    /// `None` while the application waits for it.
    pub(super) messages: Option<Messages>,
    /// What is on its way to the application.
    expected: VecDeque<Expect>,
    /// Whether its subscription stands.
    pub(super) live: bool,
    /// Nothing more comes.
    pub(super) ended: bool,
    /// How far a stream that begins with history has come, and in which channel.
    at: Option<(ChannelId, u64)>,
    /// The last message that it gave.
    pub(super) last: Option<Place>,
    /// How many messages made way for newer ones.
    pub(super) conflated: u64,
    /// The answer to its subscription may be lost, and then it says once more that nobody knows what is missing.
    may_repeat: bool,
    /// A gap of unknown size may have counted messages that came too fast behind it.
    unsure: bool,
    flag: Arc<Flag>,
    waker: Waker,
}

/// What a stream takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Takes {
    Broadcasts,
    Directs,
    /// What a filter matches; with `everything`, broadcasts too.
    Topics {
        filter: Rc<str>,
        number: usize,
        start: StartAt,
        /// The channel of the cursor that it starts at.
        origin: Option<ChannelId>,
        policy: Policy,
        everything: bool,
    },
}

/// A message that a stream gave: where to go on from, and the channel that this is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) cursor: Cursor,
    pub(super) channel: ChannelId,
}

/// What a subscription begins with, as it shows on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Live,
    Retained,
    History,
}

impl Kind {
    pub(super) fn of(start: Start) -> Self {
        match start {
            Start::Live => Self::Live,
            Start::Retained => Self::Retained,
            Start::Last(_) | Start::After(_) => Self::History,
        }
    }

    fn of_stream(start: &StartAt) -> Self {
        match start {
            StartAt::Now => Self::Live,
            StartAt::Retained => Self::Retained,
            StartAt::Last(_) | StartAt::After(_) => Self::History,
        }
    }
}

impl Takes {
    /// Whether it asks for messages that the filter matches, with a beginning of that kind.
    pub(super) fn asks(&self, of: &str, kind: Kind) -> bool {
        matches!(self, Self::Topics { filter, start, .. }
            if **filter == *of && Kind::of_stream(start) == kind)
    }

    /// Whether two streams could not be told apart from outside.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        match other {
            Self::Topics { filter, start, .. } => self.asks(filter, Kind::of_stream(start)),
            other => self == other,
        }
    }

    fn has_history(&self) -> bool {
        matches!(self, Self::Topics { start, .. } if Kind::of_stream(start) == Kind::History)
    }

    /// Whether messages may make way for newer ones.
    pub(super) fn wants_latest(&self) -> bool {
        matches!(
            self,
            Self::Topics {
                policy: Policy::Latest,
                ..
            }
        )
    }
}

#[derive(Debug)]
enum Expect {
    /// Lost messages; nobody knows how many if the session was lost.
    Gap(Option<u64>),
    Message(Rc<Sent>, bool),
}

impl Stream {
    pub(super) fn new(key: u64, takes: Takes, messages: Option<Messages>) -> Self {
        let flag = Flag::new();
        let at = match &takes {
            Takes::Topics {
                start: StartAt::After(cursor),
                origin,
                ..
            } => origin.map(|channel| (channel, cursor.offset())),
            _ => None,
        };
        Self {
            key,
            at,
            last: None,
            conflated: 0,
            may_repeat: false,
            live: messages.is_some(),
            takes,
            messages,
            expected: VecDeque::new(),
            ended: false,
            unsure: false,
            waker: flag.waker(),
            flag,
        }
    }

    pub(super) fn expect_message(&mut self, sent: &Rc<Sent>, retained: bool) {
        if !self.ended {
            self.expected
                .push_back(Expect::Message(sent.clone(), retained));
            if let Some((_, offset)) = &mut self.at {
                assert!(
                    sent.offset > *offset,
                    "{:?} goes back to {sent:?}",
                    self.takes
                );
                *offset = sent.offset;
            }
        }
    }

    /// The SDK asks for the subscription in a channel. What the stream had come from another one is not there.
    pub(super) fn asks(&mut self, channel: ChannelId) {
        if self.live || self.ended || !self.takes.has_history() {
            return;
        }
        let fresh = matches!(
            self.takes,
            Takes::Topics {
                start: StartAt::Last(_),
                ..
            }
        );
        match self.at {
            Some((of, _)) if of == channel => {}
            None if fresh => {}
            _ => {
                self.expected.push_back(Expect::Gap(None));
                self.at = None;
            }
        }
    }

    /// The subscription stands, and values follow.
    pub(super) fn begins(&mut self, values: &Values) {
        self.live = true;
        if !self.takes.has_history() {
            return;
        }
        let asked = self.at.map_or(0, |(_, offset)| offset);
        if self.at.is_some() && values.since > asked {
            self.expected.push_back(Expect::Gap(None));
        }
        let offset = if values.count == 0 {
            values.offset
        } else {
            asked
        };
        self.at = Some((values.asked.channel, offset));
    }

    /// Answers may be lost.
    pub(super) fn upset(&mut self) {
        let after = matches!(
            self.takes,
            Takes::Topics {
                start: StartAt::After(_),
                ..
            }
        );
        self.may_repeat |= after && !self.live && self.at.is_none();
    }

    pub(super) fn expect_gap(&mut self, lost: Option<u64>) {
        if self.live && !self.ended {
            self.expected.push_back(Expect::Gap(lost));
        }
    }

    /// The session is lost, and with it the subscription.
    pub(super) fn lose_session(&mut self) {
        // The history may have what came meanwhile; if not, that is told when it answers.
        if !self.takes.has_history() {
            self.expect_gap(None);
        }
        if matches!(self.takes, Takes::Topics { .. }) {
            self.live = false;
        }
    }

    pub(super) fn end(&mut self) {
        (self.live, self.ended) = (false, true);
    }

    /// Reads what there is, and holds it against what there must be. `small` if the inbox is, so
    /// that messages may be missing that came too fast. `false` at the end of the stream.
    pub(super) fn read(&mut self, client: ClientId, small: bool, seen: &mut u64) -> bool {
        let Some(messages) = &mut self.messages else {
            return true;
        };
        if !self.flag.lower() {
            return true;
        }
        let cx = &mut Context::from_waker(&self.waker);
        loop {
            match Pin::new(&mut *messages).poll_next(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => {
                    assert!(
                        self.ended && self.expected.is_empty(),
                        "{client}: {:?} ended before {:?}",
                        self.takes,
                        self.expected
                    );
                    return false;
                }
                Poll::Ready(Some(Ok(message))) => {
                    *seen += 1;
                    let mut expected = self.expected.pop_front();
                    while self.unsure && expected.as_ref().is_some_and(|it| !it.is(&message)) {
                        expected = self.expected.pop_front();
                    }
                    self.unsure = false;
                    assert!(
                        expected
                            .as_ref()
                            .is_some_and(|expected| expected.is(&message)),
                        "{client}: {:?} had to give {expected:?}, and gave {message:?}",
                        self.takes
                    );
                    if let Some(Expect::Message(sent, _)) = &expected {
                        self.last = message.cursor().zip(sent.channel).map(Place::new);
                    }
                }
                Poll::Ready(Some(Err(gap)))
                    if gap.lost.is_none()
                        && !self
                            .expected
                            .iter()
                            .any(|it| matches!(it, Expect::Gap(None)))
                        && std::mem::take(&mut self.may_repeat) => {}
                Poll::Ready(Some(Err(gap))) => {
                    let before = self.expected.len();
                    self.unsure = small && gap.lost.is_none();
                    assert!(
                        cross_out(&mut self.expected, gap.lost, small),
                        "{client}: {:?} gave {gap:?}, with {before} expected and {:?} left",
                        self.takes,
                        self.expected
                    );
                }
            }
        }
    }

    /// What must still come.
    pub(super) fn is_drained(&self) -> bool {
        self.expected.is_empty()
    }

    /// What must still come, for people.
    pub(super) fn rest(&self) -> String {
        format!("{:?} of {:?}", self.expected, self.takes)
    }
}

impl Place {
    fn new((cursor, channel): (Cursor, ChannelId)) -> Self {
        Self { cursor, channel }
    }
}

impl Expect {
    fn is(&self, message: &Message) -> bool {
        let Self::Message(sent, retained) = self else {
            return false;
        };
        message.sender().id == sent.sender
            && message.offset() == sent.offset
            && message.topic() == sent.topic.as_deref()
            && message.is_retained() == *retained
            && message.channel().is_some() == sent.channel.is_some()
            && message.payload()[..] == *sent.payload()
    }
}

/// Takes out what a gap counts: gaps that met, and messages only if they `may_drop`. A gap of unknown
/// size has one of unknown size among them.
fn cross_out(expected: &mut VecDeque<Expect>, lost: Option<u64>, may_drop: bool) -> bool {
    let Some(mut left) = lost else {
        // All gaps that follow one of unknown size were told with it.
        while let Some(first) = expected.pop_front() {
            match first {
                Expect::Gap(None) => {
                    while let Some(Expect::Gap(_)) = expected.front() {
                        expected.pop_front();
                    }
                    return true;
                }
                Expect::Gap(Some(_)) => {}
                Expect::Message(..) if may_drop => {}
                Expect::Message(..) => return false,
            }
        }
        return false;
    };
    while left > 0 {
        match expected.pop_front() {
            Some(Expect::Gap(Some(lost))) if lost <= left => left -= lost,
            Some(Expect::Message(..)) if may_drop => left -= 1,
            _ => return false,
        }
    }
    true
}
