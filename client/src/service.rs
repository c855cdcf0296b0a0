use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use localhub_protocol::ServeMode;
use tokio_stream::Stream;

use crate::core::PostId;
use crate::run::run;
use crate::shared::{Handle, Shared};
use crate::{Failure, Incoming, Payload};

/// How a service is served.
///
/// ```
/// use localhub_client::{Payload, Serve};
///
/// let description = Payload::cbor(&serde_json::json!({ "methods": ["print", "status"] }))?;
/// let serve = Serve::new().description(description).exclusive();
/// # Ok::<(), localhub_client::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is given to `serve_with`"]
pub struct Serve {
    pub(crate) mode: ServeMode,
    pub(crate) description: Payload,
}

impl Default for Serve {
    fn default() -> Self {
        Self::new()
    }
}

impl Serve {
    /// Any number of clients serve it, and nothing says what it offers.
    pub fn new() -> Self {
        Self {
            mode: ServeMode::Shared,
            description: Payload::default(),
        }
    }

    /// What the service offers, for people and programs: a CBOR map, as [`Payload::cbor`] makes it,
    /// of at most 4,096 bytes (default: nothing).
    pub fn description(mut self, description: impl Into<Payload>) -> Self {
        self.description = description.into();
        self
    }

    /// One client at a time serves it, which has a [`Lease`] of it; the others wait in a queue
    /// (default: any number of clients serve it).
    pub fn exclusive(mut self) -> Self {
        self.mode = ServeMode::Exclusive;
        self
    }

    /// As [`exclusive`](Self::exclusive), but the service is taken from who has it, once. In a new
    /// session this client waits in the queue like others.
    pub fn takeover(mut self) -> Self {
        self.mode = ServeMode::Takeover;
        self
    }
}

/// Whether a client has an exclusive service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Lease {
    /// It has it.
    Held {
        /// The number of the lease, higher than those of all leases before it: what the holder of
        /// an old one does late can be told from what the new one does. A broker that is started
        /// anew counts from the beginning.
        fence: u64,
    },
    /// Another client took it over, and this one does not serve it any more.
    Lost,
    /// It waits for it.
    Queued,
}

/// A service of this client, and the requests to it as they come.
///
/// The stream ends if the service was taken over or cannot be served in a new session, which
/// [`Client::refusals`](crate::Client::refusals) tells, and if the client is closed. A dropped one
/// does not serve any more; the requests that it has given out can still be answered.
///
/// At most 1,024 requests wait here, and as many bytes as
/// [`Options::inbox_bytes`](crate::Options::inbox_bytes); the next fail with the code `overloaded`.
pub struct Service {
    post: Post,
    name: String,
}

impl Service {
    pub(crate) fn new(handle: &Arc<Handle>, post: PostId, name: &str) -> Self {
        Self {
            post: Post::new(handle, post),
            name: name.to_owned(),
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next request; `None` at the end.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.post.next().await
    }

    /// The lease, if the service is exclusive.
    pub fn lease(&self) -> Option<Lease> {
        let shared = &self.post.handle.shared;
        shared.with(|core| core.lease(self.post.id))
    }

    /// The changes of the lease from now on.
    pub fn lease_changes(&self) -> LeaseChanges {
        let shared = self.post.handle.shared.clone();
        let mut changes = LeaseChanges {
            shared,
            post: self.post.id,
            seen: 0,
        };
        let cx = &Context::from_waker(std::task::Waker::noop());
        let LeaseChanges { shared, post, seen } = &mut changes;
        // What it is now is no change.
        let _ = shared.with(|core| core.poll_lease(*post, seen, cx));
        changes
    }

    /// Handles the requests in tasks of the current tokio runtime, at most `concurrency` of them at
    /// a time (at least 1), until the stream ends.
    ///
    /// What a task returns is the answer. If it panics, the caller gets a failure with the code
    /// `panicked`, and the others go on. When nobody waits for the answer any more, the task is
    /// dropped where it waits; see [`Incoming::is_cancelled`]. If this future is dropped, all tasks
    /// are, and their requests fail.
    ///
    /// ```no_run
    /// use localhub_client::{Failure, Payload};
    ///
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// let mut printer = client.serve("printer").await?;
    /// printer
    ///     .run(4, |request| async move {
    ///         match request.method() {
    ///             "print" => Ok(Payload::from("printed")),
    ///             other => Err(Failure::new("unknown_method", other)),
    ///         }
    ///     })
    ///     .await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<H, F>(&mut self, concurrency: usize, handler: H)
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Payload, Failure>> + Send + 'static,
    {
        run(&self.post, concurrency, pending(), handler).await;
    }
}

impl Service {
    /// Serves it no longer. The stream ends when what was on its way has arrived, so that who takes all of it
    /// leaves no request behind.
    pub fn stop(&self) {
        self.post.stop();
    }

    /// As [`run`](Self::run), until `stop` is ready: then the service is not served any longer, what has arrived
    /// is handled, and this ends.
    ///
    /// ```no_run
    /// use localhub_client::Payload;
    ///
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// let mut printer = client.serve("printer").await?;
    /// let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    /// printer
    ///     .run_until(interrupted, 4, |_| async { Ok(Payload::from("printed")) })
    ///     .await;
    /// client.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_until<S, H, F>(&mut self, stop: S, concurrency: usize, handler: H)
    where
        S: Future<Output = ()>,
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Payload, Failure>> + Send + 'static,
    {
        run(&self.post, concurrency, stop, handler).await;
    }
}

impl Stream for Service {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.post.poll_next(cx)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("lease", &self.lease())
            .finish_non_exhaustive()
    }
}

/// The changes of a service's lease: see [`Service::lease_changes`].
///
/// Whoever reads slowly gets the latest and misses those between. The stream ends after
/// [`Lease::Lost`], at once if the service is shared, and when it is dropped.
pub struct LeaseChanges {
    shared: Arc<Shared>,
    post: PostId,
    /// The number of the lease that was read last.
    seen: u64,
}

impl LeaseChanges {
    /// The next change; `None` at the end.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Lease> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for LeaseChanges {
    type Item = Lease;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        let Self { shared, post, seen } = &mut *self;
        shared.with(|core| core.poll_lease(*post, seen, cx))
    }
}

impl fmt::Debug for LeaseChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseChanges").finish_non_exhaustive()
    }
}

/// The requests to this client itself as they come: see
/// [`Client::requests`](crate::Client::requests).
///
/// As many may wait as for a [`Service`].
pub struct Requests {
    post: Post,
}

impl Requests {
    pub(crate) fn new(handle: &Arc<Handle>, post: Option<PostId>) -> Self {
        Self {
            post: Post {
                handle: handle.clone(),
                id: post.unwrap_or(PostId::NONE),
            },
        }
    }

    /// The next request; `None` when the client is closed.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.post.next().await
    }

    /// Handles the requests in tasks, as [`Service::run`] does.
    pub async fn run<H, F>(&mut self, concurrency: usize, handler: H)
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Payload, Failure>> + Send + 'static,
    {
        run(&self.post, concurrency, pending(), handler).await;
    }
}

impl Stream for Requests {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.post.poll_next(cx)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// Where requests arrive. A dropped one takes no more.
pub(crate) struct Post {
    handle: Arc<Handle>,
    id: PostId,
}

impl Post {
    pub(crate) fn new(handle: &Arc<Handle>, id: PostId) -> Self {
        let handle = handle.clone();
        Self { handle, id }
    }

    pub(crate) async fn next(&self) -> Option<Incoming> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn stop(&self) {
        self.handle.shared.with(|core| core.stop_serving(self.id));
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Incoming>> {
        let shared = &self.handle.shared;
        let polled = shared.with(|core| core.poll_post(self.id, cx));
        polled.map(|next| next.map(|id| Incoming::new(&self.handle, id)))
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.handle.shared.with(|core| core.close_post(self.id));
    }
}

/// What the broker keeps of a description.
pub(crate) fn description(serve: &Serve) -> Bytes {
    Bytes::copy_from_slice(serve.description.bytes())
}
