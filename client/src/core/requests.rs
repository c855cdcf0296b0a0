//! Requests that the application makes: each has one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use localhub_protocol::limits::METHOD_BYTES_MAX;
use localhub_protocol::{
    ClientFrame, ClientId, Code, ContentType, Epoch, Message as WireMessage, Target,
};

use super::Core;
use super::flow::{Inflow, Outflow, Part};
use crate::message::Sender;
use crate::{Cause, Error, Failure, Refused, Reply};

mod lost;
mod streamed;

use streamed::Streamed;

/// The requests that have no outcome yet, or whose outcome was not yet fetched.
#[derive(Default)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Request>,
    /// Those that the broker has yet to say the outcome of.
    by_position: BTreeMap<u64, RequestId>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    /// How many somebody waits for, those that are streamed not counted.
    waiting: usize,
}

impl Requests {
    /// How much is remembered, by what it is.
    pub(super) fn holds(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("requests", self.open.len()),
            ("positions", self.by_position.len()),
            ("deadlines", self.deadlines.len()),
            ("waiting", self.waiting),
        ]
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RequestId(u64);

/// A request as the application makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) to: Target<'a>,
    pub(crate) timeout: Duration,
    pub(crate) command: Option<[u8; 16]>,
    /// How many bytes of parts may wait here; 0 wants a single reply.
    pub(crate) window: u32,
    pub(crate) method: &'a str,
    pub(crate) content: ContentType,
    pub(crate) payload: &'a [u8],
    /// Whether somebody waits for the outcome.
    pub(crate) wanted: bool,
}

struct Request {
    position: u64,
    deadline: Option<Instant>,
    /// The frame of a command, which is sent again in a new session.
    command: Option<Bytes>,
    /// The broker's epoch when it was queued.
    epoch: Epoch,
    /// An epoch in which it may have been carried out already.
    sent_in: Option<Epoch>,
    /// The broker will say the outcome.
    at_broker: bool,
    /// Or has said it, and that was lost on its way.
    doubted: bool,
    wanted: Wanted,
    /// It is counted as waited for.
    counted: bool,
    /// It has its outcome, which may be fetched already.
    over: bool,
    outcome: Option<Result<Reply, Error>>,
    waker: Option<Waker>,
    streamed: Option<Box<Streamed>>,
}

/// Who waits for an outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    Yes,
    /// Nobody did from the beginning on.
    Never,
    /// Nobody does any more: it is cancelled.
    NoMore,
}

/// While there is a connection the broker keeps the deadlines. If it says nothing for so long after
/// one, what it said is lost.
const GRACE: Duration = Duration::from_secs(5);

/// What a deadline is at most.
const DEADLINE_MAX: Duration = Duration::from_secs(60 * 60);

impl Core {
    /// Queues a request. Ready once it is queued, or cannot be.
    pub(crate) fn poll_ask(
        &mut self,
        asking: &Asking<'_>,
        now: Instant,
        cx: &Context<'_>,
    ) -> Poll<Result<RequestId, Error>> {
        self.check_payload(asking.payload.len())?;
        if asking.method.len() > METHOD_BYTES_MAX {
            return Poll::Ready(Err(Error::Refused {
                code: Code::BAD_REQUEST,
                detail: "a method has at most 255 bytes".to_owned(),
            }));
        }
        if !self.has_room() && !self.connected {
            return Poll::Ready(Err(Error::Disconnected));
        }
        ready!(self.poll_room(cx));
        let wait = asking.timeout.min(DEADLINE_MAX);
        let frame = ClientFrame::Message(WireMessage::Request {
            to: asking.to,
            deadline_ms: in_millis(wait),
            command: asking.command,
            window: asking.window,
            method: asking.method,
            content: asking.content,
            payload: asking.payload,
        });
        let command = asking.command.map(|_| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            Bytes::from(bytes)
        });
        let streamed = (asking.window > 0).then(|| {
            Box::new(Streamed {
                parts: Inflow::new(asking.window.into()),
                feed: Outflow::default(),
                handler: None,
                ended: false,
                fed: false,
            })
        });
        let position = self.outgoing.push(&frame);
        let id = RequestId(self.next_id());
        let deadline = now + wait;
        self.requests.by_position.insert(position, id);
        self.requests.deadlines.insert((deadline, id));
        let counted = asking.wanted && asking.window == 0;
        self.requests.waiting += usize::from(counted);
        self.requests.open.insert(
            id,
            Request {
                counted,
                position,
                deadline: Some(deadline),
                command,
                epoch: self.epoch(),
                sent_in: None,
                at_broker: true,
                doubted: false,
                wanted: if asking.wanted {
                    Wanted::Yes
                } else {
                    Wanted::Never
                },
                over: false,
                outcome: None,
                waker: None,
                streamed,
            },
        );
        self.wake_link();
        if !self.connected {
            // Nobody but the link keeps its deadline now.
            self.rouse_link();
        }
        Poll::Ready(Ok(id))
    }

    /// The outcome of a request, once.
    pub(crate) fn poll_reply(
        &mut self,
        id: RequestId,
        cx: &Context<'_>,
    ) -> Poll<Result<Reply, Error>> {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return Poll::Pending;
        };
        if let Some(outcome) = request.outcome.take() {
            return Poll::Ready(outcome);
        }
        request.waker = Some(cx.waker().clone());
        if self.blocked {
            // Somebody waits for what comes behind a full inbox.
            self.rouse_link();
        }
        Poll::Pending
    }

    /// Ready when the request is over, whether its outcome was taken or not.
    pub(crate) fn poll_over(&mut self, id: RequestId, cx: &Context<'_>) -> Poll<()> {
        match self.requests.open.get_mut(&id) {
            Some(request) if !request.over => {
                request.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The application does not want the outcome any more.
    pub(crate) fn drop_request(&mut self, id: RequestId) {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return;
        };
        if request.wanted == Wanted::Never {
            return;
        }
        request.wanted = Wanted::NoMore;
        self.requests.waiting -= usize::from(std::mem::take(&mut request.counted));
        request.waker = None;
        request.streamed = None;
        if !request.over {
            self.cancel_request(id);
        }
        if self.requests.open.get(&id).is_some_and(|it| !it.at_broker) {
            self.forget_request(id);
        }
    }

    /// Whether somebody waits for the outcome of a request.
    pub(super) fn requests_waiting(&self) -> bool {
        self.requests.waiting > 0
    }

    /// A reply, or a part of one.
    pub(super) fn request_replied(
        &mut self,
        sender: &Sender,
        reply: &WireMessage<'_>,
        now: Instant,
    ) {
        let WireMessage::Reply {
            request: position,
            error,
            more,
            content,
            payload,
            ..
        } = *reply
        else {
            return;
        };
        let Some(id) = self.requests.by_position.get(&position).copied() else {
            return;
        };
        let payload = Bytes::copy_from_slice(payload);
        if more {
            return self.part_came(id, sender, Part { content, payload });
        }
        self.requests.by_position.remove(&position);
        let outcome = match error {
            None => Ok(Reply {
                sender: sender.clone(),
                content,
                payload,
            }),
            Some(code) if sender.id == ClientId::HUB => Err(Error::NoReply {
                code,
                detail: String::from_utf8_lossy(&payload).into_owned(),
            }),
            Some(_) => Err(Error::Failed(Failure::decode(content, &payload))),
        };
        self.request_over(id, outcome, now);
    }

    /// Whether the refused message was a request.
    pub(super) fn request_refused(
        &mut self,
        position: u64,
        code: Code,
        detail: &str,
        now: Instant,
    ) -> bool {
        let Some(id) = self.requests.by_position.remove(&position) else {
            return false;
        };
        let detail = detail.to_owned();
        self.request_over(id, Err(Error::Refused { code, detail }), now);
        true
    }

    /// Ends the requests whose time is over, as far as the broker does not do it.
    pub(crate) fn expire_requests(&mut self, now: Instant) {
        while let Some(at) = self.requests_deadline()
            && at <= now
            && let Some((_, id)) = self.requests.deadlines.pop_first()
        {
            self.end_here(id, no_reply(Code::DEADLINE));
        }
    }

    /// When [`Core::expire_requests`] has something to do.
    pub(crate) fn requests_deadline(&self) -> Option<Instant> {
        let (deadline, _) = self.requests.deadlines.first()?;
        Some(
            *deadline
                + if self.connected {
                    GRACE
                } else {
                    Duration::ZERO
                },
        )
    }

    /// Waits until there is room to send.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() || self.end.is_some() {
            return Poll::Ready(());
        }
        self.publishers.add(cx, &mut self.wakes);
        if self.pings_in_flight == 0 {
            self.ping_wanted = true;
        }
        self.wake_link();
        Poll::Pending
    }

    pub(super) fn check_payload(&self, bytes: usize) -> Result<(), Error> {
        self.open()?;
        let max = self.limits().payload_bytes;
        if bytes as u64 > max {
            return Err(Error::PayloadTooLarge { bytes, max });
        }
        Ok(())
    }

    pub(crate) fn epoch(&self) -> Epoch {
        let session = self.session.as_ref();
        session.map_or(Epoch([0; 16]), |session| session.epoch)
    }

    /// The broker has said the outcome.
    fn request_over(&mut self, id: RequestId, outcome: Result<Reply, Error>, now: Instant) {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return;
        };
        request.at_broker = false;
        if let (Wanted::Never, Err(error)) = (request.wanted, &outcome)
            && let Some(code) = error.code()
        {
            let refused = Refused {
                cause: Cause::Broker(code),
                detail: error.to_string(),
                messages: 1,
            };
            self.report(refused, now);
        }
        self.settle_request(id, outcome);
    }

    /// Ends a request without the broker, which is told to end it as well.
    fn end_here(&mut self, id: RequestId, error: Error) {
        let open = self.requests.open.get(&id);
        if open.is_some_and(|request| !request.over) {
            // A command goes on when nobody waits for it any more.
            if open.is_some_and(|request| request.command.is_none()) {
                self.cancel_request(id);
            }
            self.settle_request(id, Err(error));
        }
    }

    fn cancel_request(&mut self, id: RequestId) {
        if let Some(request) = self.requests.open.get_mut(&id)
            && request.at_broker
        {
            if let Some(deadline) = request.deadline.take() {
                self.requests.deadlines.remove(&(deadline, id));
            }
            let position = request.position;
            if request.doubted {
                // To what is over the broker says nothing.
                request.at_broker = false;
                self.requests.by_position.remove(&position);
            }
            self.outgoing
                .push(&ClientFrame::Cancel { request: position });
            self.wake_link();
        }
    }

    /// Gives a request its outcome, if it has none.
    fn settle_request(&mut self, id: RequestId, outcome: Result<Reply, Error>) {
        let Some(request) = self.requests.open.get_mut(&id) else {
            return;
        };
        if let Some(deadline) = request.deadline.take() {
            self.requests.deadlines.remove(&(deadline, id));
        }
        if !request.over {
            request.over = true;
            self.requests.waiting -= usize::from(std::mem::take(&mut request.counted));
            request.outcome = Some(outcome);
        }
        self.wakes.extend(request.waker.take());
        if let Some(streamed) = &mut request.streamed {
            self.wakes.extend(streamed.feed.waker.take());
        }
        if request.wanted != Wanted::Yes && !request.at_broker {
            self.forget_request(id);
        }
    }

    fn forget_request(&mut self, id: RequestId) {
        if let Some(request) = self.requests.open.remove(&id)
            && let Some(deadline) = request.deadline
        {
            self.requests.deadlines.remove(&(deadline, id));
        }
    }
}

/// An outcome that the broker has said, or would have.
fn no_reply(code: Code) -> Error {
    let detail = String::new();
    Error::NoReply { code, detail }
}

/// Whole milliseconds, at least one: none at all would be as long as there is.
fn in_millis(wait: Duration) -> u32 {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).unwrap_or(u32::MAX).max(1)
}
