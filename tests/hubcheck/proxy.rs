//! A socket between a client and the broker, where connections can be cut and hindered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use localhub_protocol::{BrokerFrame, Epoch, Resumed};
use localhub_tests::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::record::{Event, NONE, Recorder, ended, now, welcome};
use crate::wire::Frames;

/// What is done to the connection that stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Order {
    /// Nothing.
    #[default]
    Pass,
    /// It passes on a few bytes at a time.
    Trickle,
    /// It passes on nothing from the broker.
    Hold,
    /// It ends, in the middle of what is on its way.
    Cut,
    /// It ends for the client only; what the client last wrote arrives after it has come back.
    Zombie,
}

/// The way of one client to the broker.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: u64,
    broker: PathBuf,
    recorder: Arc<Recorder>,
    orders: watch::Sender<Order>,
    /// How many welcomes passed by.
    welcomes: watch::Sender<u64>,
    /// How many connections of all clients the broker has.
    open: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    refuse_until: u64,
    /// How many connections there were, and which of them was welcomed last.
    connections: u64,
    current: u64,
    /// When the broker last got something over that one, so that it cannot have been away.
    heard_at: u64,
    messages: u64,
    bytes: u64,
    /// The epoch of the welcome before, and how it was.
    before: Option<(Epoch, u64)>,
    /// The client has spoken since, so that it got that welcome.
    spoke: bool,
}

/// How long it takes a broker at most to end a connection that was replaced.
const FENCE_PATIENCE: Duration = Duration::from_secs(20);

/// How long it takes at most to pass on what a client wrote before it went.
const REST_PATIENCE: Duration = Duration::from_secs(1);

impl Proxy {
    /// Listens at `path` for the client.
    pub(crate) fn start(
        client: u64,
        path: &Path,
        broker: &Path,
        recorder: &Arc<Recorder>,
        open: &Arc<AtomicU64>,
        seed: u64,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let shared = Arc::new(Shared {
            client,
            broker: broker.to_owned(),
            recorder: recorder.clone(),
            orders: watch::Sender::new(Order::Pass),
            welcomes: watch::Sender::new(0),
            open: open.clone(),
            state: Mutex::new(State {
                rng: Rng::new(seed),
                refuse_until: 0,
                connections: 0,
                current: 0,
                heard_at: 0,
                messages: 0,
                bytes: 0,
                before: None,
                spoke: false,
            }),
        });
        let accepting = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, for a moment.
                    tokio::task::yield_now().await;
                    continue;
                };
                if accepting.with(|state| now() >= state.refuse_until) {
                    let shared = accepting.clone();
                    tokio::spawn(async move {
                        shared.open.fetch_add(1, Ordering::Relaxed);
                        shared.carry(stream).await;
                        shared.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        });
        Ok(Self { shared, task })
    }

    /// Does something to the connection, and lets no new one through for a while.
    pub(crate) fn order(&self, order: Order, refuse: Duration) {
        self.shared.with(|state| {
            state.refuse_until = now() + u64::try_from(refuse.as_nanos()).unwrap_or(u64::MAX);
        });
        self.shared.orders.send_replace(order);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries one connection to its end.
    async fn carry(&self, client: UnixStream) {
        let Ok(hub) = UnixStream::connect(&self.broker).await else {
            return;
        };
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut hub_reads, mut hub_writes) = hub.into_split();
        let mut orders = self.orders.subscribe();
        // What was ordered before was for another connection.
        if matches!(*orders.borrow_and_update(), Order::Cut | Order::Zombie) {
            self.orders.send_replace(Order::Pass);
            orders.mark_unchanged();
        }
        let connection = self.with(|state| {
            state.connections += 1;
            state.connections
        });
        let (mut frames, mut unsent) = (Frames::default(), Vec::with_capacity(64 * 1024));
        let cut = async {
            let cuts = |order: &Order| matches!(order, Order::Cut | Order::Zombie);
            orders.wait_for(cuts).await.map(|order| *order)
        };
        let order = tokio::select! {
            biased;
            order = cut => order.unwrap_or(Order::Cut),
            () = self.up(connection, &mut client_reads, &mut hub_writes, &mut unsent) => Order::Pass,
            client_went = self.down(connection, &mut hub_reads, &mut client_writes, &mut frames) => {
                if client_went {
                    // What it wrote before arrives, as over any socket: its goodbye, too.
                    let rest = self.rest(connection, &mut client_reads, &mut hub_writes, &mut unsent);
                    // It may go on writing, where nobody hears it.
                    let _ = tokio::time::timeout(REST_PATIENCE, rest).await;
                }
                Order::Pass
            }
        };
        if order == Order::Pass {
            return;
        }
        // Whatever was being written is cut where it was; something else is begun and not ended.
        let mut up = unsent;
        up.extend(part(&mut client_reads).await);
        let down = part(&mut hub_reads).await;
        let (ups, downs) = self.with(|state| {
            let mut some = |bytes: &[u8]| state.rng.below(bytes.len() as u64 + 1) as usize;
            (some(&up), some(&down))
        });
        self.follow(connection, &mut frames, &down);
        // The other side may be gone already.
        let _ = client_writes.try_write(&down[..downs]);
        let sent = hub_writes.try_write(&up[..ups]).unwrap_or(0);
        drop((client_reads, client_writes));
        if order == Order::Zombie {
            self.linger(hub_reads, hub_writes, &up[sent..], frames)
                .await;
        }
    }

    /// Passes on what the client sends. If this is dropped, `unsent` is what was taken and not
    /// passed on.
    async fn up(
        &self,
        connection: u64,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        unsent: &mut Vec<u8>,
    ) {
        loop {
            if !matches!(from.read_buf(unsent).await, Ok(1..)) {
                return;
            }
            self.with(|state| {
                if state.current == connection {
                    state.heard_at = now();
                    state.spoke = true;
                }
            });
            if self.pass_on(unsent, to).await.is_err() {
                return;
            }
        }
    }

    /// Passes on what the client has sent, when nothing more can be sent to it.
    async fn rest(
        &self,
        connection: u64,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        unsent: &mut Vec<u8>,
    ) {
        if self.pass_on(unsent, to).await.is_ok() {
            self.up(connection, from, to, unsent).await;
        }
    }

    /// Passes on what the broker sends; says whether it was the client that ended that.
    async fn down(
        &self,
        connection: u64,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        frames: &mut Frames,
    ) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let mut orders = self.orders.subscribe();
        loop {
            if orders
                .wait_for(|order| *order != Order::Hold)
                .await
                .is_err()
            {
                return false;
            }
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return false;
            };
            self.follow(connection, frames, &buffer[..read]);
            if self
                .pass_on(&mut buffer[..read].to_vec(), to)
                .await
                .is_err()
            {
                return true;
            }
        }
    }

    /// Writes all of it, and takes out of it what is written.
    async fn pass_on(&self, bytes: &mut Vec<u8>, to: &mut OwnedWriteHalf) -> io::Result<()> {
        while !bytes.is_empty() {
            let trickle = *self.orders.borrow() == Order::Trickle;
            let most = match trickle {
                true => self.with(|state| 1 + state.rng.below(97) as usize),
                false => bytes.len(),
            };
            let written = to.write(&bytes[..most.min(bytes.len())]).await?;
            bytes.drain(..written);
            if trickle {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Looks at what the broker sends.
    fn follow(&self, connection: u64, frames: &mut Frames, bytes: &[u8]) {
        let before = (frames.messages, frames.bytes);
        let first = frames.follow(bytes);
        self.with(|state| {
            state.messages += frames.messages - before.0;
            state.bytes += frames.bytes - before.1;
        });
        if let Some(body) = first
            && let Ok(BrokerFrame::Welcome(welcome)) = BrokerFrame::decode(&body)
        {
            self.welcomed(connection, welcome.epoch, welcome.resumed);
        }
    }

    fn welcomed(&self, connection: u64, epoch: Epoch, resumed: Option<Resumed>) {
        let (how, lost, replayed) = match resumed {
            None => (welcome::FRESH, 0, 0),
            Some(resumed) => match resumed.lost {
                None => (welcome::ANEW, 0, 0),
                Some(lost) if resumed.recovered && lost == 0 => {
                    (welcome::RECOVERED, 0, resumed.replayed)
                }
                Some(lost) => (welcome::LOST, lost, resumed.replayed),
            },
        };
        let event = self.with(|state| {
            let away_ns = now().saturating_sub(state.heard_at);
            (state.current, state.heard_at) = (connection, now());
            // A welcome to a new session that is lost leaves the client with an older token. One to
            // the same session need not arrive: the token that was presented stays good.
            let got = |how| state.spoke || matches!(how, welcome::RECOVERED | welcome::LOST);
            let before = state
                .before
                .filter(|(of, how)| *of == epoch && got(*how))
                .map(|(_, how)| how);
            (state.before, state.spoke) = (Some((epoch, how)), false);
            Event::Welcomed {
                client: self.client,
                how,
                away_ns,
                lost,
                replayed,
                messages: std::mem::take(&mut state.messages),
                bytes: std::mem::take(&mut state.bytes),
                before: before.unwrap_or(NONE),
            }
        });
        self.recorder.note(event);
        self.welcomes.send_modify(|welcomes| *welcomes += 1);
    }

    /// Keeps the broker's side of a connection that the client has lost: when the client has come
    /// back over another one, the broker must end this, whatever still comes over it.
    async fn linger(
        &self,
        mut hub_reads: OwnedReadHalf,
        hub_writes: OwnedWriteHalf,
        late: &[u8],
        mut frames: Frames,
    ) {
        let mut welcomes = self.welcomes.subscribe();
        welcomes.mark_unchanged();
        let mut buffer = vec![0; 64 * 1024];
        let mut replaced = false;
        let watch = async {
            loop {
                tokio::select! {
                    // A broker that was killed has ended this before another can have said welcome.
                    biased;
                    read = hub_reads.read(&mut buffer) => match read {
                        Ok(read @ 1..) => { frames.follow(&buffer[..read]); }
                        Ok(0) => return ended::WHOLE,
                        Err(_) => return ended::RESET,
                    },
                    changed = welcomes.changed(), if !replaced => {
                        replaced = changed.is_ok();
                        // It may be too late even to write.
                        let _ = hub_writes.try_write(late);
                    }
                }
            }
        };
        let ended = tokio::time::timeout(FENCE_PATIENCE, watch).await;
        if replaced {
            self.recorder.note(Event::Fenced {
                client: self.client,
                told: frames.closed.map_or(0, u64::from),
                ended: ended.unwrap_or(ended::NOT),
            });
        }
    }
}

/// What comes next, if it comes soon.
async fn part(from: &mut OwnedReadHalf) -> Vec<u8> {
    let mut buffer = vec![0; 16 * 1024];
    let read = tokio::time::timeout(Duration::from_millis(20), from.read(&mut buffer)).await;
    let read = read.map_or(0, |read| read.unwrap_or(0));
    buffer.truncate(read);
    buffer
}
