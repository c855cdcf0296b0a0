//! The broker as a process: sockets, tasks, and the one clock. No rule of the hub is here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use localhub_client::endpoint::{Endpoint, EndpointError};
use localhub_protocol::{BrokerFrame, ClientId, Code, Epoch, Limits};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::config::Config;
use crate::hub::{About, Close, Hub, Settings, Wakes};
use clock::Clock;
use identity::ProcessWatch;
use processes::Processes;
use socket::{BindError, Listener, Stream};

mod clock;
mod connection;
pub mod identity;
mod processes;
pub mod socket;

/// A broker that listens at its endpoint, in tasks of the current tokio runtime.
///
/// ```no_run
/// # async fn run() -> Result<(), localhub::StartError> {
/// let broker = localhub::Broker::start(&localhub::config::Config::default()).await?;
/// println!("listening at {}", broker.endpoint());
/// broker.stop().await;
/// # Ok(()) }
/// ```
///
/// Dropped without [`Broker::stop`], it closes every connection at once.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    tasks: [AbortHandle; 2],
    connections: Arc<Mutex<JoinSet<()>>>,
    stop_grace: Duration,
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The endpoint is not one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It cannot listen there; [`BindError::InUse`] names the broker that is there already.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gave no random numbers, and without them no session could be kept safe.
    #[error("the system gave no random numbers")]
    Randomness(#[source] getrandom::Error),
}

/// What the broker's tasks share.
#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    clock: Clock,
    hello_timeout: Duration,
    connections_max: u64,
    connections: AtomicU64,
    /// An operator asked the broker to stop.
    stop_asked: Notify,
    /// Whether the broker stops: who has not said hello yet need not.
    stopping: watch::Sender<bool>,
    /// The hub may have something to do earlier than it last said.
    alarm: Notify,
    complaints: Mutex<Complaints>,
    processes: Processes,
    vigils: Mutex<Vigils>,
}

/// Who is to see the death of a process that has no connection, one at most for each session.
#[derive(Debug, Default)]
struct Vigils {
    /// With the connection that the session had.
    by_client: HashMap<ClientId, (u64, AbortHandle)>,
    /// So many may there be before those whose session does not wait any more are sorted out.
    room: usize,
}

/// So few are not worth a look.
const VIGILS_MIN: usize = 64;

/// Keeps a client that connects again and again from filling the log.
#[derive(Debug, Default)]
struct Complaints {
    since: Option<Instant>,
    written: u64,
    left_out: u64,
}

/// How often the listener looks whether its socket is still there. Cleaners of temporary folders
/// delete what they take for old.
const SOCKET_CHECK: Duration = Duration::from_secs(10);

/// How long to wait when the system has no descriptors or memory left: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Descriptors kept back for files, pipes and whatever else the process opens.
const SPARE_DESCRIPTORS: u64 = 128;

/// Lines about refused connections in each [`COMPLAINTS_WINDOW`].
const COMPLAINTS_MAX: u64 = 10;
const COMPLAINTS_WINDOW: Duration = Duration::from_secs(5);

impl Broker {
    /// Listens at the configured endpoint and serves clients from now on.
    ///
    /// # Errors
    /// Another broker is there, the endpoint cannot be trusted, or the system refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let endpoint = match &config.endpoint {
            Some(text) => Endpoint::new(text)?,
            None => Endpoint::discover()?,
        };
        let descriptors = socket::raise_nofile();
        let listener = Listener::bind(&endpoint)?;
        let mut epoch = Epoch([0; 16]);
        getrandom::fill(&mut epoch.0).map_err(StartError::Randomness)?;
        let connections_max = match config.limits.connections {
            0 => descriptors.saturating_sub(SPARE_DESCRIPTORS),
            configured => configured,
        };
        let hub = Hub::new(settings(config, &endpoint, epoch, connections_max));
        let hello_timeout = Duration::from_millis(config.timing.hello_timeout_ms);
        let shared = Arc::new(Shared::new(hub, hello_timeout, connections_max));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let accept = tokio::spawn(accept(listener, shared.clone(), connections.clone()));
        let expire = tokio::spawn(expire(shared.clone()));
        info!(%endpoint, epoch = %epoch, connections_max, "listening");
        Ok(Self {
            shared,
            endpoint,
            tasks: [accept.abort_handle(), expire.abort_handle()],
            connections,
            stop_grace: Duration::from_millis(config.timing.stop_grace_ms),
        })
    }

    /// Where the broker listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The rules and the state behind it, for what an application wants to see of its own broker.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// Says where to ask how many log lines were dropped, for operators to see.
    pub fn set_log_lines_lost(&self, count: Arc<dyn Fn() -> u64 + Send + Sync>) {
        self.shared.hub.ask_for_lost_lines(count);
    }

    /// The time since the broker started, as its hub counts it.
    pub fn uptime(&self) -> Duration {
        self.shared.clock.now()
    }

    /// Returns when an operator has asked the broker to stop; the caller then calls [`Broker::stop`].
    pub async fn stopped(&mut self) {
        self.shared.stop_asked.notified().await;
    }

    /// Lets nobody in any more, writes what waits to every client, says goodbye, and gives up the
    /// endpoint. What is not done within the configured grace is cut off.
    pub async fn stop(self) {
        info!("stopping");
        let mut wakes = Wakes::default();
        self.shared.hub.stop(&mut wakes);
        wakes.fire();
        self.shared.stopping.send_replace(true);
        let mut connections = std::mem::take(&mut *self.connections.lock());
        let farewells = async { while connections.join_next().await.is_some() {} };
        if timeout(self.stop_grace, farewells).await.is_err() {
            warn!(
                connections = connections.len(),
                "cut off clients that did not read"
            );
            connections.shutdown().await;
        }
        // The listener goes last: whoever connects meanwhile is told that the broker is stopping.
        self.end_tasks().await;
        info!("stopped");
    }

    async fn end_tasks(&self) {
        self.shared.end_vigils();
        for task in &self.tasks {
            task.abort();
        }
        while !self.tasks.iter().all(AbortHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        let mut late = std::mem::take(&mut *self.connections.lock());
        late.shutdown().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.end_vigils();
        for task in &self.tasks {
            task.abort();
        }
        self.connections.lock().abort_all();
    }
}

impl Shared {
    fn new(hub: Arc<Hub>, hello_timeout: Duration, connections_max: u64) -> Self {
        Self {
            hub,
            clock: Clock::start(),
            hello_timeout,
            connections_max,
            connections: AtomicU64::new(0),
            stop_asked: Notify::new(),
            stopping: watch::Sender::new(false),
            alarm: Notify::new(),
            complaints: Mutex::default(),
            processes: Processes::default(),
            vigils: Mutex::default(),
        }
    }

    /// Ends a session that waits for its client, if the client's process dies in that time.
    fn watch_over(
        self: &Arc<Self>,
        client: ClientId,
        generation: u64,
        ttl: Duration,
        process: Arc<ProcessWatch>,
    ) {
        let shared = self.clone();
        // It ends under the same lock, so it is known before.
        let mut vigils = self.vigils.lock();
        let vigil = tokio::spawn(async move {
            if timeout(ttl, process.exited()).await.is_ok() {
                let mut wakes = Wakes::default();
                let now = shared.clock.now();
                shared.hub.bury(client, generation, now, &mut wakes);
                wakes.fire();
                shared.alarm.notify_one();
            }
            let mut vigils = shared.vigils.lock();
            let known = vigils.by_client.get(&client);
            if known.is_some_and(|(of, _)| *of == generation) {
                vigils.by_client.remove(&client);
            }
        });
        let known = (generation, vigil.abort_handle());
        if let Some((_, earlier)) = vigils.by_client.insert(client, known) {
            earlier.abort();
        }
        let Vigils { by_client, room } = &mut *vigils;
        if by_client.len() > (*room).max(VIGILS_MIN) {
            by_client.retain(|client, (generation, vigil)| {
                let waits = self.hub.is_away(*client, *generation);
                if !waits {
                    vigil.abort();
                }
                waits
            });
            *room = 2 * by_client.len();
        }
    }

    fn end_vigils(&self) {
        let mut vigils = self.vigils.lock();
        let all = vigils.by_client.drain();
        all.for_each(|(_, (_, vigil))| vigil.abort());
    }

    /// Returns when the broker stops.
    async fn stopping(&self) {
        // The sender lives as long as this, so there is always an answer.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    /// Counts a connection that was closed for cause, and logs it unless there are too many.
    fn refused(&self, close: &Close, client: Option<&str>, pid: Option<u32>) {
        self.hub
            .counters
            .connections_refused
            .fetch_add(1, Ordering::Relaxed);
        self.complain(|left_out| {
            warn!(
                client,
                pid,
                code = close.code.name(),
                detail = %close.detail,
                left_out,
                "closed a connection"
            );
        });
    }

    /// Writes a log line that clients can cause, at most so many in a while.
    fn complain(&self, write: impl FnOnce(u64)) {
        let left_out = {
            let mut complaints = self.complaints.lock();
            let now = Instant::now();
            if complaints
                .since
                .is_none_or(|since| now - since > COMPLAINTS_WINDOW)
            {
                complaints.since = Some(now);
                complaints.written = 0;
            }
            if complaints.written == COMPLAINTS_MAX {
                complaints.left_out += 1;
                return;
            }
            complaints.written += 1;
            std::mem::take(&mut complaints.left_out)
        };
        write(left_out);
    }
}

/// Lets clients in, for as long as the task lives.
async fn accept(mut listener: Listener, shared: Arc<Shared>, connections: Arc<Mutex<JoinSet<()>>>) {
    let mut pause = BACKOFF.0;
    let mut check = tokio::time::interval(SOCKET_CHECK);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = check.tick() => {
                if !listener.still_ours() {
                    match listener.rebind() {
                        Ok(()) => warn!("the socket was deleted, and is there again"),
                        Err(error) => warn!(%error, "the socket was deleted, and cannot be made again"),
                    }
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, identity)) => {
                pause = BACKOFF.0;
                let mut connections = connections.lock();
                // Those that ended free their place here.
                while connections.try_join_next().is_some() {}
                if shared.connections.load(Ordering::Relaxed) >= shared.connections_max {
                    connections.spawn(turn_away(stream, identity.pid, shared.clone()));
                    continue;
                }
                let counted = Counted::new(shared.clone());
                connections.spawn(connection::serve(stream, identity, counted));
            }
            Err(error) => {
                let wants_pause = error.wants_pause();
                shared
                    .hub
                    .counters
                    .connections_refused
                    .fetch_add(1, Ordering::Relaxed);
                shared.complain(|left_out| {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, source, left_out, "could not let a client in");
                });
                if wants_pause {
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }
}

/// A connection that counts towards the limit while it lives.
struct Counted(Arc<Shared>);

impl std::ops::Deref for Counted {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a client that there is no room.
async fn turn_away(mut stream: Stream, pid: Option<u32>, shared: Arc<Shared>) {
    let detail = format!("the limit is {} connections", shared.connections_max);
    let close = Close::new(Code::TOO_MANY_CONNECTIONS, detail);
    shared.refused(&close, None, pid);
    let mut frame = Vec::new();
    BrokerFrame::Close {
        code: close.code,
        detail: &close.detail,
    }
    .encode(&mut frame);
    // Whoever does not read this sees the end of the connection all the same.
    let _ = timeout(Duration::from_secs(1), stream.write_all(&frame)).await;
}

/// Ends sessions whose clients did not come back in time.
async fn expire(shared: Arc<Shared>) {
    loop {
        let mut wakes = Wakes::default();
        let next = shared.hub.expire(shared.clock.now(), &mut wakes);
        wakes.fire();
        match next {
            Some(next) => {
                tokio::select! {
                    () = sleep_until(shared.clock.at(next)) => {}
                    () = shared.alarm.notified() => {}
                }
            }
            None => shared.alarm.notified().await,
        }
    }
}

fn settings(config: &Config, endpoint: &Endpoint, epoch: Epoch, connections_max: u64) -> Settings {
    let limits = &config.limits;
    Settings {
        limits: Limits {
            payload_bytes: limits.payload_bytes,
            outbox_bytes: limits.outbox_bytes,
            outbox_messages: limits.outbox_messages,
            channels: limits.channels_per_session,
            subscriptions: limits.subscriptions_per_session,
        },
        memory_bytes: limits.memory_bytes,
        // Each connection has a session, and as many again may be parked.
        sessions: connections_max.saturating_mul(2),
        channels: limits.channels,
        retained_topics: limits.retained_topics_per_channel,
        retained_bytes: limits.retained_bytes_per_channel,
        history_messages: limits.history_messages_per_channel,
        history_bytes: limits.history_bytes_per_channel,
        history_age: Duration::from_millis(limits.history_age_ms),
        ttl: Duration::from_millis(config.session.ttl_ms),
        ttl_max: Duration::from_millis(config.session.ttl_max_ms),
        ping: Duration::from_millis(config.timing.ping_interval_ms),
        epoch,
        about: About {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            endpoint: endpoint.to_string(),
        },
    }
}
