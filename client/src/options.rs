use std::path::PathBuf;
use std::time::Duration;

use crate::autostart::Connector;
use crate::core::{Core, InboxLimits, Settings};
use crate::link::{Connect, Link, Policy};
use crate::shared::{Shared, now};
use crate::{Client, Endpoint, Error};

/// How a client connects and how much it keeps.
///
/// ```no_run
/// use std::time::Duration;
/// use localhub_client::Options;
///
/// # async fn example() -> Result<(), localhub_client::Error> {
/// let client = Options::new()
///     .name("build-watcher")
///     .session_ttl(Duration::from_secs(600))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `connect` is called"]
pub struct Options {
    name: Option<String>,
    endpoint: Option<Endpoint>,
    autostart: Option<PathBuf>,
    session_ttl: Option<Duration>,
    resume: bool,
    reconnect: bool,
    backoff: (Duration, Duration),
    connect_timeout: Duration,
    inbox_messages: usize,
    inbox_bytes: usize,
    unconfirmed_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            endpoint: None,
            autostart: None,
            session_ttl: None,
            resume: true,
            reconnect: true,
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
            connect_timeout: Duration::from_secs(5),
            inbox_messages: 16_384,
            inbox_bytes: 64 * 1024 * 1024,
            unconfirmed_bytes: 8 * 1024 * 1024,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The client's name: 1 to 64 bytes of `[a-z0-9._-]` (default: none; the broker gives one, such as
    /// `client-17`).
    ///
    /// Checked by [`connect`](Self::connect). If another connected client has the name, that fails
    /// with [`Error::Closed`] and [`Code::NAME_TAKEN`](crate::Code::NAME_TAKEN).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where the broker listens (default: [`Endpoint::discover`]).
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// The program to run as `PROGRAM serve` when nobody listens at the endpoint, at the first
    /// connection and later (default: none).
    ///
    /// The program outlives this one. Any number of clients may do this at once: the broker's lock
    /// file lets exactly one of their brokers live, and all connect to that one.
    pub fn autostart(mut self, program: impl Into<PathBuf>) -> Self {
        self.autostart = Some(program.into());
        self
    }

    /// How long the broker keeps the session when the connection is lost (default: what the broker
    /// has configured, usually two minutes).
    ///
    /// The broker's own limit is the most it gives, and zero is no time at all. After that time other members see this client leave,
    /// and the next connection starts a new session.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = Some(ttl);
        self
    }

    /// Whether a connection that was lost comes back to its session (default: true).
    ///
    /// Without it every reconnect starts a new session: what was sent to this client meanwhile is a
    /// [`Gap`](crate::Gap) of unknown size, and other members see it leave and join.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Whether a lost connection is made anew (default: true).
    ///
    /// Without it the first loss ends the client: streams end, and everything else fails with
    /// [`Error::Closed`].
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How long to wait between attempts to reconnect (default: 50 ms to 5 s).
    ///
    /// The bound starts at `min` and doubles with each failure up to `max`; each wait is a random
    /// time below the bound, so that many clients do not come back in the same moment. A `max`
    /// below `min` counts as `min`.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max.max(min));
        self
    }

    /// How long the first connection may take as a whole, autostart and handshake included
    /// (default: 5 s). Then [`connect`](Self::connect) fails with [`Error::TimedOut`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many messages may wait in each stream to be read (default: 16,384; at least 1).
    ///
    /// When a stream is full the client stops reading from the broker until half of it is read, for
    /// 100 ms at most, and not while a request of the application waits for its answer. Then the
    /// oldest messages of that stream make room, and a [`Gap`](crate::Gap) in their place tells how
    /// many. A stream that lets this happen is not waited for again before it is half empty.
    pub fn inbox_messages(mut self, messages: usize) -> Self {
        self.inbox_messages = messages.max(1);
        self
    }

    /// How many bytes of messages may wait in each stream to be read (default: 64 MiB).
    ///
    /// As [`inbox_messages`](Self::inbox_messages), for large messages. One message more than that is
    /// always accepted, so that the largest fits.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.inbox_bytes = bytes.max(1);
        self
    }

    /// How many bytes may wait to be sent, or to be confirmed by the broker (default: 8 MiB).
    ///
    /// Above it [`publish`](crate::Channel::publish) waits while there is a connection, and fails with
    /// [`Error::Disconnected`] while there is none. One message more than that is always accepted, so
    /// that the largest fits.
    pub fn unconfirmed_bytes(mut self, bytes: usize) -> Self {
        self.unconfirmed_bytes = bytes.max(1);
        self
    }

    /// Connects, and keeps the connection in a task of the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if nobody listens and no [`autostart`](Self::autostart) is set,
    /// [`Error::Closed`] if the broker turns the client away, [`Error::BadName`] before anything is
    /// sent; [`Error::TimedOut`], [`Error::Connect`], [`Error::Endpoint`], [`Error::Protocol`],
    /// [`Error::Autostart`] as they say.
    ///
    /// # Panics
    /// If called outside of a tokio runtime with time and I/O enabled.
    pub async fn connect(self) -> Result<Client, Error> {
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Endpoint::discover()?,
        };
        let connector = Connector::new(endpoint.clone(), self.autostart.clone());
        self.connect_with(endpoint, connector).await
    }

    pub(crate) async fn connect_with(
        self,
        endpoint: Endpoint,
        connector: impl Connect,
    ) -> Result<Client, Error> {
        let policy = Policy {
            reconnect: self.reconnect,
            backoff: self.backoff,
            connect_timeout: self.connect_timeout,
        };
        let shared = Shared::new(Core::new(self.settings()?, now()), endpoint);
        let mut link = Link::new(shared.clone(), connector, policy);
        let connection = link.start().await?;
        tokio::spawn(link.run(connection));
        Ok(Client::new(shared))
    }

    /// What the core is told.
    pub(crate) fn settings(self) -> Result<Settings, Error> {
        let name = match self.name {
            Some(name) => match name.parse() {
                Ok(name) => Some(name),
                Err(source) => return Err(Error::BadName { name, source }),
            },
            None => None,
        };
        Ok(Settings {
            name,
            session_ttl: self.session_ttl,
            resume: self.resume,
            inbox: InboxLimits {
                messages: self.inbox_messages,
                bytes: self.inbox_bytes,
            },
            unconfirmed_bytes: self.unconfirmed_bytes,
        })
    }
}
