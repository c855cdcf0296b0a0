use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::ready;
use std::time::{Duration, Instant};

use localhub_protocol::Code;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;
use crate::connection::{Connection, Loss, Timer};
use crate::core::{CLOSED_HERE, Core};
use crate::endpoint::ConnectError;
use crate::error::describe;
use crate::shared::{Shared, now};

#[cfg(test)]
mod tests;

/// How connections are made.
pub(crate) trait Connect: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Makes a connection, or says why there is none.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Stream, Error>> + Send;

    /// Whether a broker that is stopping is likely to be followed by another at once.
    fn starts_brokers(&self) -> bool {
        false
    }
}

/// When and how often connections are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) reconnect: bool,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) connect_timeout: Duration,
}

/// Keeps a client connected.
pub(crate) struct Link<C> {
    shared: Arc<Shared>,
    connector: C,
    policy: Policy,
    /// Attempts that failed since a connection held.
    failures: u32,
    /// Until when a name that is taken may be held by a connection of our own, which the broker
    /// has yet to notice is gone.
    ghost_until: Option<Instant>,
}

/// What follows a loss.
enum Verdict {
    End { code: Option<Code>, reason: String },
    Retry { after: Duration },
}

/// For how long the broker may think that a lost connection stands: it pings twice before it
/// gives up, and a ping interval is at most this.
const GHOST_PATIENCE: Duration = Duration::from_secs(60);

/// How long the first connection waits before it tries the successor of a broker that stops.
const SUCCESSOR_DELAY: Duration = Duration::from_millis(50);

impl<C: Connect> Link<C> {
    pub(crate) fn new(shared: Arc<Shared>, connector: C, policy: Policy) -> Self {
        Self {
            shared,
            connector,
            policy,
            failures: 0,
            ghost_until: None,
        }
    }

    /// Makes the first connection.
    pub(crate) async fn start(&mut self) -> Result<Connection<C::Stream>, Error> {
        let endpoint = self.shared.endpoint().clone();
        let timeout = self.policy.connect_timeout;
        let first = tokio::time::timeout(timeout, async {
            loop {
                match self.attempt().await {
                    Err(Loss::Broker {
                        code: Code::SHUTTING_DOWN,
                        ..
                    }) if self.connector.starts_brokers() => {
                        tokio::time::sleep(SUCCESSOR_DELAY).await;
                    }
                    other => return other,
                }
            }
        });
        let loss = match first.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(loss)) => loss,
            Err(_) => return Err(Error::TimedOut { endpoint }),
        };
        Err(match loss {
            Loss::Broker { code, detail } => Error::Closed {
                code: Some(code),
                reason: describe(code, &detail),
            },
            Loss::Frame(source) => Error::Protocol { endpoint, source },
            Loss::Io(source) => Error::Connect(ConnectError::Io { endpoint, source }),
            Loss::Silent => Error::TimedOut { endpoint },
            Loss::Goodbye => Error::Closed {
                code: None,
                reason: CLOSED_HERE.to_owned(),
            },
            Loss::Unreachable(error) => error,
        })
    }

    /// Carries frames until the client is over, over as many connections as it takes.
    pub(crate) async fn run(mut self, mut connection: Connection<C::Stream>) {
        loop {
            let began = now();
            let loss = connection.serve(&self.shared).await;
            drop(connection);
            let lasted = now() - began;
            // One that ends at once is no better than one that does not come about.
            if lasted >= self.policy.backoff.1 {
                self.failures = 0;
            }
            self.ghost_until = Some(now() + GHOST_PATIENCE);
            match self.reconnect(loss).await {
                Some(next) => connection = next,
                None => return,
            }
        }
    }

    /// Makes another connection; `None` if the client is over.
    async fn reconnect(&mut self, mut loss: Loss) -> Option<Connection<C::Stream>> {
        loop {
            let after = match self.judge(&loss) {
                Verdict::End { code, reason } => {
                    tracing::debug!(%reason, "closed");
                    self.shared.with(|core| core.finish(code, reason));
                    return None;
                }
                Verdict::Retry { after } => after,
            };
            let reason = loss.to_string();
            tracing::debug!(%reason, retry_ms = after.as_millis(), "disconnected");
            self.shared.with(|core| core.lost(reason, after));
            let shared = self.shared.clone();
            tokio::select! {
                biased;
                () = poll_fn(|cx| shared.with(|core| core.poll_closing(cx))) => {
                    self.shared.with(|core| core.finish(None, CLOSED_HERE.to_owned()));
                    return None;
                }
                () = expire_requests(&shared) => unreachable!("requests expire for ever"),
                next = self.retry(after) => match next {
                    Ok(connection) => return Some(connection),
                    Err(again) => loss = again,
                },
            }
        }
    }

    async fn retry(&mut self, after: Duration) -> Result<Connection<C::Stream>, Loss> {
        tokio::time::sleep(after).await;
        match tokio::time::timeout(self.policy.connect_timeout, self.attempt()).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Loss::Silent),
        }
    }

    async fn attempt(&mut self) -> Result<Connection<C::Stream>, Loss> {
        let stream = self.connector.connect().await.map_err(Loss::Unreachable)?;
        let mut connection = Connection::new(stream);
        connection.greet(&self.shared).await?;
        let (client, name) = self.shared.with(|core| (core.id(), core.name().cloned()));
        tracing::debug!(%client, ?name, "connected");
        Ok(connection)
    }

    /// What follows a loss.
    fn judge(&mut self, loss: &Loss) -> Verdict {
        let code = match loss {
            Loss::Goodbye => {
                return Verdict::End {
                    code: None,
                    reason: CLOSED_HERE.to_owned(),
                };
            }
            Loss::Broker { code, .. } => Some(*code),
            Loss::Frame(_) | Loss::Io(_) | Loss::Silent | Loss::Unreachable(_) => None,
        };
        let ours = code == Some(Code::NAME_TAKEN) && self.ghost_until.is_some_and(|at| now() < at);
        if !self.policy.reconnect || code.is_some_and(is_final) && !ours {
            return Verdict::End {
                code,
                reason: loss.to_string(),
            };
        }
        let away = self.shared.with(Core::take_away).unwrap_or_default();
        if code == Some(Code::BAD_TOKEN) {
            self.shared.with(Core::forget_token);
            return Verdict::Retry { after: away };
        }
        if matches!(loss, Loss::Frame(_)) || code == Some(Code::BAD_POSITION) {
            // What would be sent again on a resume would be wrong again.
            self.shared.with(Core::forget_token);
        }
        let (min, max) = self.policy.backoff;
        let bound = min.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures += 1;
        Verdict::Retry {
            after: away.saturating_add(bound.mul_f64(fastrand::f64())),
        }
    }
}

impl<C> Drop for Link<C> {
    /// Whatever ends the link, such as the end of its runtime, ends the client: nobody waits for ever.
    fn drop(&mut self) {
        let reason = "the runtime that kept its connection is gone".to_owned();
        self.shared.with(|core| core.finish(None, reason));
    }
}

/// Ends the requests whose time is over while there is no connection.
async fn expire_requests(shared: &Shared) {
    let mut timer = Timer::default();
    poll_fn(|cx| {
        loop {
            let deadline = shared.with(|core| {
                core.expire_requests(now());
                core.register_link(cx, true);
                core.requests_deadline()
            });
            ready!(timer.poll(deadline, cx));
        }
    })
    .await
}

/// Whether another connection would meet the same end.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::BAD_CLIENT_NAME
            | Code::FRAME_TOO_LARGE
            | Code::GOODBYE
            | Code::KICKED
            | Code::MALFORMED_FRAME
            | Code::NAME_TAKEN
            | Code::OUT_OF_ORDER
            | Code::SUPERSEDED
            | Code::UNKNOWN_KIND
            | Code::USER_NOT_ALLOWED
            | Code::VERSION_MISMATCH
    )
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broker { code, detail } => f.write_str(&describe(*code, detail)),
            Self::Frame(error) => write!(f, "the broker sent a {error}"),
            Self::Goodbye => f.write_str(CLOSED_HERE),
            Self::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                f.write_str("the broker is gone")
            }
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Silent => f.write_str("the broker does not answer"),
            Self::Unreachable(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}
