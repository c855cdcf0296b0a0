use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use localhub_protocol::ContentType;
use serde::de::DeserializeOwned;

use crate::core::{Arrived, DROPPED, HandlingId, PANICKED, Said};
use crate::shared::Handle;
use crate::{ByteStream, CommandId, Error, Failure, Payload, Sender, message};

/// A request that this client is to handle.
///
/// It is answered once, with [`reply`](Self::reply) or [`fail`](Self::fail). One that is dropped
/// without an answer fails with the code `dropped`.
pub struct Incoming {
    pub(crate) handling: Arc<Handling>,
}

/// What an [`Incoming`] and its parts have in common. The last one dropped is done with the
/// request.
pub(crate) struct Handling {
    pub(crate) handle: Arc<Handle>,
    pub(crate) id: HandlingId,
    pub(crate) arrived: Arc<Arrived>,
}

impl Incoming {
    pub(crate) fn new(handle: &Arc<Handle>, id: HandlingId) -> Self {
        let arrived = handle.shared.with(|core| core.arrived(id));
        let handle = handle.clone();
        Self {
            handling: Arc::new(Handling {
                handle,
                id,
                arrived,
            }),
        }
    }

    /// Who asks.
    pub fn caller(&self) -> &Sender {
        &self.arrived().caller
    }

    /// The service that it was made to; `None` if it was made to this client itself.
    pub fn service(&self) -> Option<&str> {
        self.arrived().service.as_deref()
    }

    /// What is asked for.
    pub fn method(&self) -> &str {
        &self.arrived().method
    }

    /// What the caller says the payload is.
    pub fn content(&self) -> ContentType {
        self.arrived().content
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.arrived().payload
    }

    /// The payload as text, if it is UTF-8, whatever the caller says it is.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.payload()).ok()
    }

    /// The payload as a value: CBOR or JSON, as the caller says; text is read as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is something else, or not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        message::decode(self.content(), self.payload())
    }

    /// Until when the caller waits, counted from when the request arrived here. Of a streamed
    /// request, until when it waits for the first part.
    pub fn deadline(&self) -> Instant {
        self.arrived().deadline
    }

    /// The id, if the request is a command: its outcome is kept, and no other handler gets it.
    pub fn command_id(&self) -> Option<CommandId> {
        self.arrived().command.map(CommandId)
    }

    /// How many bytes of parts the caller takes without having read them; 0 if it wants a single
    /// reply.
    pub fn window(&self) -> u32 {
        self.arrived().window
    }

    /// Whether nobody waits for the answer any more: the caller has cancelled, its time is over, or
    /// a session has ended. Of a command only if its caller has cancelled.
    pub fn is_cancelled(&self) -> bool {
        let id = self.handling.id;
        let shared = &self.handling.handle.shared;
        shared.with(|core| core.is_cancelled(id))
    }

    /// Waits until nobody waits for the answer any more; as [`is_cancelled`](Self::is_cancelled).
    pub async fn cancelled(&self) {
        let id = self.handling.id;
        let shared = &self.handling.handle.shared;
        poll_fn(|cx| shared.with(|core| core.poll_cancelled(id, cx))).await;
    }

    /// Answers with a success, and waits until the answer is queued. If nobody waits for it any
    /// more, nothing happens.
    ///
    /// # Errors
    /// [`Error::PayloadTooLarge`]: the request then fails with the code `dropped`.
    /// [`Error::Closed`].
    pub async fn reply(self, payload: impl Into<Payload>) -> Result<(), Error> {
        self.handling.answer(&Said::Reply(&payload.into())).await
    }

    /// Answers that it went wrong; otherwise as [`reply`](Self::reply).
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub async fn fail(self, failure: Failure) -> Result<(), Error> {
        self.handling.answer(&Said::Fail(&failure)).await
    }

    /// For the parts of the reply, if the caller wants them; [`reply`](Self::reply) or
    /// [`fail`](Self::fail) is the end.
    pub fn parts(&self) -> PartSender {
        PartSender {
            handling: self.handling.clone(),
        }
    }

    /// Accepts a request of [`Client::open_stream`](crate::Client::open_stream), which then is a
    /// stream of bytes in both directions.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Code::BAD_REQUEST`](crate::Code::BAD_REQUEST) if the caller wants
    /// a single reply or is this client itself, with
    /// [`Code::UNKNOWN_REQUEST`](crate::Code::UNKNOWN_REQUEST) if it does not wait any more.
    pub fn accept_stream(self) -> Result<ByteStream, Error> {
        let handling = self.handling;
        let shared = &handling.handle.shared;
        let accepted = shared.with(|core| core.accept_bytes(handling.id));
        if accepted {
            return Ok(ByteStream::accepted(handling));
        }
        let gone = shared.with(|core| core.is_cancelled(handling.id));
        let (code, detail) = match gone {
            true => (localhub_protocol::Code::UNKNOWN_REQUEST, ""),
            false => (
                localhub_protocol::Code::BAD_REQUEST,
                "the caller has not opened a stream, or is this client itself",
            ),
        };
        let detail = detail.to_owned();
        Err(Error::Refused { code, detail })
    }

    fn arrived(&self) -> &Arrived {
        &self.handling.arrived
    }
}

impl fmt::Debug for Incoming {
    /// All but the payload, which is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("service", &self.service())
            .field("method", &self.method())
            .field("caller", &self.caller().name.as_str())
            .field("content", &self.content())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

impl Handling {
    pub(crate) async fn answer(&self, said: &Said<'_>) -> Result<(), Error> {
        // A loop that only answers must leave the link a chance to run.
        tokio::task::consume_budget().await;
        let shared = &self.handle.shared;
        poll_fn(|cx| shared.with(|core| core.poll_answer(self.id, said, cx))).await
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let failure = match std::thread::panicking() {
            true => PANICKED,
            false => DROPPED,
        };
        let shared = &self.handle.shared;
        shared.with(|core| core.drop_handling(self.id, failure));
    }
}

/// Sends the parts of a reply: see [`Incoming::parts`].
pub struct PartSender {
    handling: Arc<Handling>,
}

impl PartSender {
    /// Sends a part, once the caller has room for it: parts take as long as the caller takes to
    /// read them.
    ///
    /// # Errors
    /// [`Error::PayloadTooLarge`] if the part is larger than the caller's window;
    /// [`Error::Refused`] with [`Code::BAD_REQUEST`](crate::Code::BAD_REQUEST) if the caller wants
    /// a single reply, with [`Code::UNKNOWN_REQUEST`](crate::Code::UNKNOWN_REQUEST) if it does not
    /// wait any more, or was answered already; [`Error::Closed`].
    pub async fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Error> {
        // A loop that only sends must leave the link a chance to run.
        tokio::task::consume_budget().await;
        let (payload, id) = (payload.into(), self.handling.id);
        let shared = &self.handling.handle.shared;
        let sent = poll_fn(|cx| shared.with(|core| core.poll_send_part(id, &payload, cx))).await?;
        if sent {
            return Ok(());
        }
        Err(Error::Refused {
            code: localhub_protocol::Code::UNKNOWN_REQUEST,
            detail: String::new(),
        })
    }
}

impl fmt::Debug for PartSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartSender").finish_non_exhaustive()
    }
}
