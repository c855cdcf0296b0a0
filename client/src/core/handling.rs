//! Requests that this client handles: each is answered once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use localhub_protocol::{ClientFrame, ClientId, Code, ContentType, Message as WireMessage, Target};

use super::Core;
use super::flow::{Inflow, Outflow};
use super::serving::{NOT_SERVED, PostId};
use super::wakers::Wakers;
use crate::message::Sender;
use crate::{Error, Failure, Payload};

mod streamed;

use streamed::Bytestream;

/// The requests that have arrived and are not done with.
#[derive(Default)]
pub(super) struct Handlings {
    open: BTreeMap<HandlingId, Handling>,
    /// Those that the broker waits for an answer to, by caller and position.
    by_key: BTreeMap<(ClientId, u64), HandlingId>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct HandlingId(u64);

/// A request, as the application sees it.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) caller: Sender,
    pub(crate) service: Option<Box<str>>,
    pub(crate) method: Box<str>,
    pub(crate) content: ContentType,
    pub(crate) payload: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) command: Option<[u8; 16]>,
    pub(crate) window: u32,
}

struct Handling {
    arrived: Arc<Arrived>,
    post: PostId,
    key: (ClientId, u64),
    queued: bool,
    /// The broker waits for an answer.
    at_broker: bool,
    cancelled: bool,
    cancel_wakers: Wakers,
    fed: Inflow,
    /// The caller feeds nothing more.
    feed_ended: bool,
    parts: Outflow,
    /// The application has it as a stream of bytes, and sends no more.
    bytes: Bytestream,
}

/// What a handler says.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    Reply(&'a Payload),
    Fail(&'a Failure),
}

/// A deadline that is not given.
const DEADLINE_MAX: Duration = Duration::from_secs(60 * 60);

impl Core {
    /// A request arrived.
    pub(super) fn request_came(
        &mut self,
        caller: &Sender,
        position: u64,
        request: &WireMessage<'_>,
        now: Instant,
    ) {
        let WireMessage::Request {
            to,
            deadline_ms,
            command,
            window,
            method,
            content,
            payload,
        } = *request
        else {
            return;
        };
        let service = match to {
            Target::Service(name) => Some(name),
            Target::Id(_) | Target::Name(_) => None,
        };
        let key = (caller.id, position);
        let Some(post) = self.post_of(service) else {
            return self.push_failure(key, NOT_SERVED);
        };
        let wait = match deadline_ms {
            0 => DEADLINE_MAX,
            ms => Duration::from_millis(ms.into()).min(DEADLINE_MAX),
        };
        let id = HandlingId(self.next_id());
        if let Err(failure) = self.queue_handling(post, id, payload.len()) {
            return self.push_failure(key, failure);
        }
        let arrived = Arrived {
            caller: caller.clone(),
            service: service.map(Into::into),
            method: method.into(),
            content,
            payload: Bytes::copy_from_slice(payload),
            deadline: now + wait,
            command,
            window,
        };
        let handling = Handling {
            arrived: Arc::new(arrived),
            post,
            key,
            queued: true,
            at_broker: true,
            cancelled: false,
            cancel_wakers: Wakers::default(),
            fed: Inflow::default(),
            feed_ended: false,
            parts: Outflow {
                credit: window.into(),
                ..Outflow::default()
            },
            bytes: Bytestream::No,
        };
        self.serving.handlings.by_key.insert(key, id);
        self.serving.handlings.open.insert(id, handling);
    }

    /// A request is over before it was answered.
    pub(super) fn request_cancelled(&mut self, caller: ClientId, request: u64, cause: Code) {
        let key = (caller, request);
        let Some(id) = self.serving.handlings.by_key.get(&key).copied() else {
            return;
        };
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return;
        };
        let command = handling.arrived.command.is_some();
        if command && cause != Code::CANCELLED {
            return;
        }
        if handling.queued {
            let (post, bytes) = (handling.post, handling.arrived.payload.len());
            self.unqueue_handling(post, id, bytes);
            // What becomes of a command only its handler can say.
            if command {
                self.push_failure(key, CANCELLED);
            }
            self.serving.handlings.forget(id);
            return;
        }
        handling.at_broker = command;
        self.stop_handling(id);
    }

    /// The session in which the requests arrived is gone, and their callers were told so. A command
    /// that was begun goes on, though nobody hears of it any more.
    pub(super) fn abandon_handlings(&mut self) {
        self.serving.handlings.by_key.clear();
        let open: Vec<_> = self.serving.handlings.open.keys().copied().collect();
        for id in open {
            let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
                continue;
            };
            handling.at_broker = false;
            if handling.queued {
                self.drop_queued(id);
            } else if handling.arrived.command.is_none() {
                self.stop_handling(id);
            }
        }
    }

    pub(super) fn finish_handlings(&mut self) {
        self.serving.handlings.by_key.clear();
        let open: Vec<_> = self.serving.handlings.open.keys().copied().collect();
        for id in open {
            if let Some(handling) = self.serving.handlings.open.get_mut(&id) {
                handling.at_broker = false;
            }
            self.stop_handling(id);
        }
    }

    /// Answers a request that was not handed out.
    pub(super) fn refuse_handling(&mut self, id: HandlingId, failure: (&str, &str)) {
        if let Some(handling) = self.serving.handlings.open.get(&id) {
            let (key, waits) = (handling.key, handling.at_broker);
            self.serving.handlings.forget(id);
            if waits {
                self.push_failure(key, failure);
            }
        }
    }

    pub(crate) fn arrived(&self, id: HandlingId) -> Arc<Arrived> {
        self.serving.handlings.open[&id].arrived.clone()
    }

    pub(crate) fn is_cancelled(&self, id: HandlingId) -> bool {
        let handling = self.serving.handlings.open.get(&id);
        handling.is_none_or(|handling| handling.cancelled)
    }

    pub(crate) fn poll_cancelled(&mut self, id: HandlingId, cx: &Context<'_>) -> Poll<()> {
        match self.serving.handlings.open.get_mut(&id) {
            Some(handling) if !handling.cancelled => {
                handling.cancel_wakers.add(cx, &mut self.wakes);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Answers a request, if anybody still wants to hear it. Ready once the answer is queued.
    pub(crate) fn poll_answer(
        &mut self,
        id: HandlingId,
        said: &Said<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let handling = self.serving.handlings.open.get(&id);
        let Some(key) = handling.filter(|it| it.at_broker).map(|it| it.key) else {
            return Poll::Ready(Ok(()));
        };
        let failure;
        let (error, payload) = match said {
            Said::Reply(payload) => (None, *payload),
            Said::Fail(said) => {
                failure = said.encode();
                (Some(Code::FAILED), &failure)
            }
        };
        self.check_payload(payload.bytes().len())?;
        ready!(self.poll_room(cx));
        self.answer(key, error, false, (payload.content(), payload.bytes()));
        if let Some(handling) = self.serving.handlings.open.get_mut(&id) {
            handling.at_broker = false;
        }
        self.serving.handlings.by_key.remove(&key);
        Poll::Ready(Ok(()))
    }

    /// The application lets go of a request; if it has not answered, the failure is its answer.
    pub(crate) fn drop_handling(&mut self, id: HandlingId, failure: (&str, &str)) {
        let Some(handling) = self.serving.handlings.open.get(&id) else {
            return;
        };
        let failure = if handling.cancelled {
            CANCELLED
        } else {
            failure
        };
        let waits = handling.at_broker && self.end.is_none();
        let key = handling.key;
        self.serving.handlings.forget(id);
        if waits {
            self.push_failure(key, failure);
        }
    }

    fn push_failure(&mut self, key: (ClientId, u64), (code, message): (&str, &str)) {
        let payload = Failure::new(code, message).encode();
        let payload = (payload.content(), payload.bytes());
        self.answer(key, Some(Code::FAILED), false, payload);
        self.serving.handlings.by_key.remove(&key);
    }

    fn answer(
        &mut self,
        (to, request): (ClientId, u64),
        error: Option<Code>,
        more: bool,
        (content, payload): (ContentType, &[u8]),
    ) -> u64 {
        let reply = WireMessage::Reply {
            to,
            request,
            error,
            more,
            content,
            payload,
        };
        let position = self.outgoing.push(&ClientFrame::Message(reply));
        self.wake_link();
        position
    }

    fn drop_queued(&mut self, id: HandlingId) {
        if let Some(handling) = self.serving.handlings.open.get(&id) {
            let (post, bytes) = (handling.post, handling.arrived.payload.len());
            self.unqueue_handling(post, id, bytes);
            self.serving.handlings.forget(id);
        }
    }

    /// Tells the application that nobody wants the answer any more.
    fn stop_handling(&mut self, id: HandlingId) {
        let Some(handling) = self.serving.handlings.open.get_mut(&id) else {
            return;
        };
        handling.cancelled = true;
        if !handling.at_broker {
            self.serving.handlings.by_key.remove(&handling.key);
        }
        handling.cancel_wakers.wake(&mut self.wakes);
        let wakers: [&mut Option<Waker>; 2] = [&mut handling.fed.waker, &mut handling.parts.waker];
        self.wakes
            .extend(wakers.into_iter().filter_map(Option::take));
    }
}

impl Handlings {
    /// The application has it now; gives the bytes of its payload.
    pub(super) fn hand_out(&mut self, id: HandlingId) -> usize {
        self.open.get_mut(&id).map_or(0, |handling| {
            handling.queued = false;
            handling.arrived.payload.len()
        })
    }

    /// How many are remembered, and how many of them the broker waits for.
    pub(super) fn holds(&self) -> [usize; 2] {
        [self.open.len(), self.by_key.len()]
    }

    fn forget(&mut self, id: HandlingId) {
        if let Some(handling) = self.open.remove(&id)
            && self.by_key.get(&handling.key) == Some(&id)
        {
            self.by_key.remove(&handling.key);
        }
    }
}

/// The code of a failure, and what it says: the caller has cancelled a command.
const CANCELLED: (&str, &str) = (
    "cancelled",
    "the handler stopped because the caller cancelled",
);

/// The application let go of a request without an answer.
pub(crate) const DROPPED: (&str, &str) = ("dropped", "the handler gave no answer");

/// The application panicked.
pub(crate) const PANICKED: (&str, &str) = ("panicked", "the handler panicked");
