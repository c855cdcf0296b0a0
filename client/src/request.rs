use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{ClientId, ClientName, Code, ContentType, NameError, ServiceName, Target};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::core::{Asking, RequestId, STREAM_WINDOW};
use crate::shared::{Handle, now};
use crate::{ByteStream, CommandId, Error, Payload, Recipient, Sender, message};

/// Whom a request is for. Text alone is the name of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum To {
    /// One client.
    Client(Recipient),
    /// One of those who serve it.
    Service(String),
}

impl To {
    /// The client with that id or name.
    pub fn client(client: impl Into<Recipient>) -> Self {
        Self::Client(client.into())
    }

    /// One of those who serve a service.
    pub fn service(name: impl Into<String>) -> Self {
        Self::Service(name.into())
    }

    /// The receiver for the broker, if the name is one.
    pub(crate) fn target(&self) -> Result<Target<'_>, Error> {
        let bad = |name: &str, source: NameError| Error::BadName {
            name: name.to_owned(),
            source,
        };
        Ok(match self {
            Self::Client(Recipient::Id(id)) => Target::Id(*id),
            Self::Client(Recipient::Name(name)) => {
                let checked = name.parse::<ClientName>();
                checked.map_err(|source| bad(name, source))?;
                Target::Name(name)
            }
            Self::Service(name) => {
                let checked = name.parse::<ServiceName>();
                checked.map_err(|source| bad(name, source))?;
                Target::Service(name)
            }
        })
    }
}

impl From<&str> for To {
    fn from(service: &str) -> Self {
        Self::service(service)
    }
}

impl From<&ServiceName> for To {
    fn from(service: &ServiceName) -> Self {
        Self::service(service.as_str())
    }
}

impl From<Recipient> for To {
    fn from(client: Recipient) -> Self {
        Self::Client(client)
    }
}

impl From<ClientId> for To {
    fn from(client: ClientId) -> Self {
        Self::client(client)
    }
}

impl From<&ClientName> for To {
    fn from(client: &ClientName) -> Self {
        Self::client(client)
    }
}

impl From<&Sender> for To {
    fn from(client: &Sender) -> Self {
        Self::client(client)
    }
}

/// How long a request waits between attempts to find a handler: at first, and at last.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A request that is being made: see [`Client::request`](crate::Client::request).
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    handle: Arc<Handle>,
    to: To,
    method: String,
    payload: Payload,
    timeout: Duration,
    command: Option<CommandId>,
    patient: bool,
}

impl Request {
    pub(crate) fn new(handle: &Arc<Handle>, to: To, method: String) -> Self {
        Self {
            handle: handle.clone(),
            to,
            method,
            payload: Payload::default(),
            timeout: Duration::from_secs(30),
            command: None,
            patient: false,
        }
    }

    /// The arguments of the method (default: no bytes).
    pub fn payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// How long to wait for the reply, or for its first part (default: 30 s; at most an hour, which
    /// longer times count as).
    ///
    /// Then the request ends with [`Code::DEADLINE`](crate::Code::DEADLINE), and the handler is
    /// told, whether there is a connection or not.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for somebody to serve the service, or for the client to come, as long as the timeout lets it
    /// (default: fails at once). For programs that are started in any order.
    ///
    /// The broker is asked again, up to four times a second. It is of no use to [`forget`](Self::forget) and
    /// [`stream`](Self::stream).
    pub fn wait_for_handler(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Makes the request a command with a new id: it is carried out once at most (default: it is
    /// none).
    ///
    /// If the session is lost, it is sent again by itself, and its outcome is fetched. After
    /// [`Code::DEADLINE`](crate::Code::DEADLINE) the command goes on, and who sends it again with
    /// the same id gets its outcome.
    pub fn command(self) -> Self {
        self.command_id(CommandId::new())
    }

    /// Makes the request a command with an id of the application's own, or sends a command again.
    ///
    /// Another command needs another id. A later id must be higher: see [`CommandId`]. A broker that
    /// was started anew knows nothing of earlier commands: what is sent again to it is carried out
    /// again.
    pub fn command_id(mut self, id: impl Into<CommandId>) -> Self {
        self.command = Some(id.into());
        self
    }

    /// Sends the request and waits for the reply. If the future is dropped, the request is
    /// cancelled.
    ///
    /// # Errors
    /// * [`Error::Failed`]: the handler says that it went wrong.
    /// * [`Error::Refused`]: it was not sent to any handler; with the code
    ///   [`NO_SUCH_SERVICE`](crate::Code::NO_SUCH_SERVICE), [`UNKNOWN_CLIENT`](crate::Code::UNKNOWN_CLIENT),
    ///   [`OUTBOX_FULL`](crate::Code::OUTBOX_FULL) or [`LIMIT_REACHED`](crate::Code::LIMIT_REACHED); for
    ///   commands [`ID_REUSE`](crate::Code::ID_REUSE) and [`STALE_COMMAND`](crate::Code::STALE_COMMAND),
    ///   which does not say whether it was carried out.
    /// * [`Error::NoReply`]: there is no reply; with the code [`DEADLINE`](crate::Code::DEADLINE),
    ///   [`PEER_GONE`](crate::Code::PEER_GONE), [`OUTBOX_FULL`](crate::Code::OUTBOX_FULL) if the reply did not fit
    ///   into what waits for this client, or [`OUTCOME_UNKNOWN`](crate::Code::OUTCOME_UNKNOWN) if the session
    ///   was lost; for commands [`NOT_EXECUTED`](crate::Code::NOT_EXECUTED) as well. But for the last, it may
    ///   have been carried out.
    /// * [`Error::PayloadTooLarge`], [`Error::BadName`], and [`Error::Disconnected`] if there is neither a connection
    ///   nor room to wait for one: nothing was sent.
    /// * [`Error::Closed`].
    pub async fn send(self) -> Result<Reply, Error> {
        self.until_handled(async |request| {
            let asked = request.ask(0, true).await?;
            poll_fn(|cx| asked.poll_reply(cx)).await
        })
        .await
    }

    /// Opens a stream of bytes to the handler, who accepts it with
    /// [`Incoming::accept_stream`](crate::Incoming::accept_stream): as
    /// [`Client::open_stream`](crate::Client::open_stream), with a method and payload of the application's own
    /// that say what the stream is for. The timeout is for the handler to accept.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Error::Refused`] with
    /// [`Code::NOT_SUPPORTED`](crate::Code::NOT_SUPPORTED) if the handler replies in another way. A command cannot
    /// be a stream: [`Code::BAD_REQUEST`](crate::Code::BAD_REQUEST).
    pub async fn open(self) -> Result<ByteStream, Error> {
        self.refuse_command()?;
        self.until_handled(async |request| {
            ByteStream::open(request.ask(STREAM_WINDOW, true).await?).await
        })
        .await
    }

    /// Tries until there is a handler, if that was asked for.
    async fn until_handled<T>(
        mut self,
        attempt: impl AsyncFn(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = PAUSE_MIN;
        loop {
            let tried = attempt(&self).await;
            let absent = matches!(
                tried,
                Err(Error::Refused {
                    code: Code::NO_SUCH_SERVICE | Code::UNKNOWN_CLIENT,
                    ..
                })
            );
            let left = deadline.saturating_duration_since(Instant::now());
            if !absent || !self.patient || left <= pause {
                return tried;
            }
            tokio::time::sleep(pause).await;
            self.timeout = left - pause;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn refuse_command(&self) -> Result<(), Error> {
        match self.command {
            None => Ok(()),
            Some(_) => Err(Error::Refused {
                code: Code::BAD_REQUEST,
                detail: "a command has a single reply".to_owned(),
            }),
        }
    }

    /// Sends the request and does not wait for the reply, nor for the broker. A refusal or failure
    /// goes to [`Client::refusals`](crate::Client::refusals).
    ///
    /// # Errors
    /// Those of [`send`](Self::send) that mean that nothing was sent.
    pub async fn forget(self) -> Result<(), Error> {
        self.ask(0, false).await.map(drop)
    }

    /// Sends the request and takes the reply in parts, of which `window` bytes may wait here (at
    /// least 1; no part can be larger).
    ///
    /// The timeout is for the first part; then the request lives as long as both sessions.
    ///
    /// ```no_run
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// let mut parts = client.request("logs", "tail").stream(64 * 1024).await?;
    /// while let Some(part) = parts.next().await {
    ///     println!("{:?}", part?.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`send`](Self::send) that mean that nothing was sent. The others come out of the
    /// stream. A command cannot be streamed: [`Error::Refused`] with
    /// [`Code::BAD_REQUEST`](crate::Code::BAD_REQUEST).
    pub async fn stream(self, window: u32) -> Result<Parts, Error> {
        self.refuse_command()?;
        let asked = self.ask(window.max(1), true).await?;
        Ok(Parts {
            asked,
            reply: None,
            over: false,
        })
    }

    /// Queues the request.
    async fn ask(&self, window: u32, wanted: bool) -> Result<Asked, Error> {
        // A loop that only asks must leave the link a chance to run.
        tokio::task::consume_budget().await;
        let asking = Asking {
            to: self.to.target()?,
            timeout: self.timeout,
            command: self.command.map(|id| id.0),
            window,
            method: &self.method,
            content: self.payload.content(),
            payload: self.payload.bytes(),
            wanted,
        };
        let shared = &self.handle.shared;
        let id = poll_fn(|cx| shared.with(|core| core.poll_ask(&asking, now(), cx))).await?;
        Ok(Asked {
            handle: self.handle.clone(),
            id,
        })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("to", &self.to)
            .field("method", &self.method)
            .field("payload", &self.payload)
            .field("timeout", &self.timeout)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// A request that was queued. A dropped one is cancelled, unless it is over.
pub(crate) struct Asked {
    pub(crate) handle: Arc<Handle>,
    pub(crate) id: RequestId,
}

impl Asked {
    pub(crate) fn poll_reply(&self, cx: &Context<'_>) -> Poll<Result<Reply, Error>> {
        let shared = &self.handle.shared;
        shared.with(|core| core.poll_reply(self.id, cx))
    }

    pub(crate) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let shared = &self.handle.shared;
        shared.with(|core| core.poll_over(self.id, cx))
    }

    pub(crate) fn poll_part(&self, cx: &Context<'_>) -> Poll<Option<Reply>> {
        let shared = &self.handle.shared;
        shared.with(|core| core.poll_part(self.id, cx))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.handle.shared.with(|core| core.drop_request(self.id));
    }
}

/// What a handler replied, or a part of it.
#[derive(Clone)]
pub struct Reply {
    pub(crate) sender: Sender,
    pub(crate) content: ContentType,
    pub(crate) payload: Bytes,
}

impl Reply {
    /// The handler.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// What the handler says the payload is.
    pub fn content(&self) -> ContentType {
        self.content
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload as text, if it is UTF-8, whatever the handler says it is.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }

    /// The payload as a value: CBOR or JSON, as the handler says; text is read as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is something else, or not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        message::decode(self.content, &self.payload)
    }
}

impl fmt::Debug for Reply {
    /// All but the payload, which is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("sender", &self.sender.name.as_str())
            .field("content", &self.content)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The parts of a reply as they come: see [`Request::stream`].
///
/// After the last part, or an error, the stream is at its end. A dropped one cancels the request.
pub struct Parts {
    asked: Asked,
    reply: Option<Reply>,
    over: bool,
}

impl Parts {
    /// The next part, or why there are no more; `None` at the end.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Result<Reply, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// What the handler said when it was done, beside the parts; `None` before the end of the
    /// stream, and if it ended with an error.
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }
}

impl Stream for Parts {
    type Item = Result<Reply, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A loop that always finds a part must leave others a chance to run.
        let proceed = ready!(tokio::task::coop::poll_proceed(cx));
        if self.over {
            return Poll::Ready(None);
        }
        let next = match ready!(self.asked.poll_part(cx)) {
            Some(part) => Some(Ok(part)),
            None => {
                let outcome = ready!(self.asked.poll_reply(cx));
                self.over = true;
                match outcome {
                    Ok(reply) => {
                        self.reply = Some(reply);
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        };
        proceed.made_progress();
        Poll::Ready(next)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
