use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use localhub_client::{Message, Messages};
use localhub_protocol::ClientId;
use tokio_stream::Stream as _;

use super::heard::Sent;

/// Whether something has been woken, and is to be polled again. What is never woken is never polled:
/// a wake that is forgotten shows as something that never happens.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// One that is up.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    /// Takes the flag down; whether it was up.
    pub(super) fn lower(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
        retained: bool,
        everything: bool,
    },
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
        Self {
            key,
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
        }
    }

    pub(super) fn expect_gap(&mut self, lost: Option<u64>) {
        if self.live && !self.ended {
            self.expected.push_back(Expect::Gap(lost));
        }
    }

    /// The session is lost, and with it the subscription.
    pub(super) fn lose_session(&mut self) {
        self.expect_gap(None);
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
                }
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
