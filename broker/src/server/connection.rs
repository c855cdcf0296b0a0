use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use localhub_protocol::limits::HELLO_BYTES_MAX;
use localhub_protocol::{
    BrokerFrame, ClientFrame, Code, Hello, PREFIX_BYTES, RawFrame, ResumeToken,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::identity::ProcessWatch;
use super::socket::Readiness;
use super::{Counted, Shared};
use crate::hub::{Batch, Close, Departure, Identity, Pace, Peer, Wakes};

/// How much is read at once: a good part of what a socket's buffer holds. Half of it means more wakes, twice of it
/// no fewer, and more than a processor's own cache.
const READ_BYTES: usize = 128 * 1024;

/// Less than this is copied out of the buffer that it was read into.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// Less than this share of the buffer is copied, too: what keeps a part of it would keep all of it.
const COPY_SHARE: usize = 4;

/// How much of an outbox goes into one write: a few times what a socket's buffer takes.
const WRITE_BYTES: usize = 256 * 1024;

/// How many slices one write has; systems take up to 1024, and few batches have more.
const WRITE_SLICES: usize = 64;

/// How long a connection that is told to end may take to read why.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// After this many pings without a sign of life, a client counts as hung.
const PINGS_MAX: u32 = 2;

/// A ping that has not been answered when the next one is due makes a client count as stalled.
const PINGS_UNANSWERED: u32 = 1;

/// When the broker stops, its clients are asked to come back in one of so many slots of this length.
const RETURN_SLOTS: u64 = 16;
const RETURN_SLOT: Duration = Duration::from_millis(25);

/// A client that reads nothing for so long, although something waits for it, is not waited for.
const STANDSTILL: Duration = Duration::from_secs(1);

/// What is still read of a client whose connection is over: more than the buffer of a socket holds. A child of a dead
/// process that has the connection and goes on writing is not listened to.
const LAST_WORDS_MAX: usize = 1024 * 1024;

/// How long after a lost connection its process may take to be seen dead. A process that is killed
/// loses its sockets first.
const DEATH_MAX: Duration = Duration::from_millis(50);

/// Serves one client until its connection ends.
///
/// Most connections wait most of the time, so what a task keeps room for is what it needs then: all else is boxed.
pub(super) fn serve<S>(stream: S, identity: Identity, counted: Counted) -> impl Future<Output = ()>
where
    S: AsyncWrite + Readiness + Unpin,
{
    // Not in the block below, which would keep room for all that is passed on here.
    let opening = Box::pin(open(stream, identity, counted.clone()));
    async move {
        let _counted = counted;
        if let Some(mut connection) = opening.await {
            let ending = connection.run().await;
            Box::pin(connection.finish(ending)).await;
        }
    }
}

/// Lets a client in, or turns it away.
async fn open<S>(
    mut stream: S,
    identity: Identity,
    shared: Arc<Shared>,
) -> Option<Box<Connection<S>>>
where
    S: AsyncWrite + Readiness + Unpin,
{
    let mut wakes = Wakes::default();
    let mut buffer = Vec::new();
    let pid = identity.pid;
    let stranger = identity.clone();
    let peer = greet(&mut stream, identity, &shared, &mut buffer, &mut wakes);
    let peer = peer.await;
    wakes.fire();
    if wakes.takes_alarm() {
        // A newcomer may have taken the name of a session, which has ended.
        shared.alarm.notify_one();
    }
    match peer {
        Ok(peer) => {
            debug!(client = %peer.name(), id = %peer.client(), pid, "attached");
            let process = pid.and_then(|pid| shared.processes.watch(pid));
            let connection = Connection::new(stream, peer, pid, process, buffer, shared, wakes);
            Some(Box::new(connection))
        }
        Err(ending) => {
            turn_away(stream, ending, stranger, &shared).await;
            None
        }
    }
}

/// How a connection came to its end.
enum Ending {
    /// The client's process is dead, whatever a child of it does with the connection.
    Died,
    /// The client closed it, or it broke.
    Lost,
    /// The client said goodbye.
    Goodbye,
    /// The client is told why.
    Closed(Close),
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<Close> for Ending {
    fn from(close: Close) -> Self {
        Self::Closed(close)
    }
}

/// Reads the hello and finds the client its place. What was read behind the hello stays in `buffer`.
async fn greet<S: Readiness>(
    stream: &mut S,
    identity: Identity,
    shared: &Shared,
    buffer: &mut Vec<u8>,
    wakes: &mut Wakes,
) -> Result<Peer, Ending> {
    let deadline = Instant::now() + shared.hello_timeout;
    let length = loop {
        match RawFrame::split(buffer, HELLO_BYTES_MAX) {
            Ok(Some((frame, _))) => break frame.wire_bytes(),
            Ok(None) => {}
            Err(error) => return Err(Close::from(error).into()),
        }
        let room = HELLO_BYTES_MAX + PREFIX_BYTES - buffer.len();
        let hello = timeout_at(deadline, read(stream, buffer, room));
        let read = tokio::select! {
            read = hello => read,
            () = shared.stopping() => return Err(Close::from(Code::SHUTTING_DOWN).into()),
        };
        match read {
            Err(_) => return Err(Close::from(Code::HELLO_TIMEOUT).into()),
            Ok(Ok(0)) => return Err(Ending::Lost),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    };
    let behind = buffer.split_off(length);
    let frame = std::mem::replace(buffer, behind);
    let hello: Hello<'_> = match ClientFrame::decode(&frame[PREFIX_BYTES..]) {
        Ok(ClientFrame::Hello(hello)) => hello,
        Ok(_) => {
            return Err(Close::new(Code::OUT_OF_ORDER, "the first frame must be a hello").into());
        }
        Err(error) => return Err(Close::from(error).into()),
    };
    let mut token = ResumeToken([0; 32]);
    if let Err(error) = getrandom::fill(&mut token.0) {
        warn!(%error, "the system gave no randomness");
        return Err(Ending::Lost);
    }
    let now = shared.clock.now();
    Ok(shared.hub.attach(&hello, identity, token, now, wakes)?)
}

/// Tells a client that was not let in why.
async fn turn_away<S: AsyncWrite + Unpin>(
    mut stream: S,
    ending: Ending,
    identity: Identity,
    shared: &Shared,
) {
    let Ending::Closed(close) = ending else {
        return;
    };
    match close.code {
        // It is no fault of the client's, and nothing to look into.
        Code::SHUTTING_DOWN => debug!(pid = identity.pid, "turned away: the broker is stopping"),
        _ => shared.refused(&close, None, identity.pid),
    }
    shared
        .hub
        .note_turned_away(&close, identity, shared.clock.now());
    let mut frame = Vec::new();
    BrokerFrame::Close {
        code: close.code,
        detail: &close.detail,
    }
    .encode(&mut frame);
    let farewell = async {
        stream.write_all(&frame).await?;
        stream.shutdown().await
    };
    // A client that does not even read this is not waited for.
    let _ = timeout(FAREWELL_MAX, farewell).await;
}

/// One client's connection: the socket, what was read of it and what is to be written.
struct Connection<S> {
    stream: S,
    peer: Peer,
    pid: Option<u32>,
    /// Tells when the client's process is dead.
    process: Option<Arc<ProcessWatch>>,
    shared: Arc<Shared>,
    /// What was read and not carried out yet: at most a part of a frame.
    buffer: Vec<u8>,
    wakes: Wakes,
    batch: Batch,
    /// How much of the batch is written.
    written: usize,
    /// Since when the client has been silent.
    heard: Instant,
    pings: u32,
    /// Whether it took something that was written to it since its silence was looked at last.
    took: bool,
    /// Whether frames that were read wait until the client has read answers.
    held: bool,
    /// While set, nothing is read: outboxes that this client filled are full.
    stall: Option<Box<Stall>>,
    /// Since when the system takes nothing that is written, because the client does not read.
    blocked: Option<Instant>,
    /// When to look at that.
    patience: Option<Pin<Box<Sleep>>>,
}

/// A wait for outboxes to drain.
struct Stall {
    since: Instant,
    /// Until some of them need not be waited for any more.
    until: Pin<Box<Sleep>>,
}

impl<S: AsyncWrite + Readiness + Unpin> Connection<S> {
    fn new(
        stream: S,
        peer: Peer,
        pid: Option<u32>,
        process: Option<Arc<ProcessWatch>>,
        buffer: Vec<u8>,
        shared: Arc<Shared>,
        wakes: Wakes,
    ) -> Self {
        Self {
            stream,
            peer,
            pid,
            process,
            shared,
            buffer,
            wakes,
            batch: Batch::default(),
            written: 0,
            heard: Instant::now(),
            pings: 0,
            took: false,
            held: false,
            stall: None,
            blocked: None,
            patience: None,
        }
    }

    /// Reads, carries out and writes, until there is a reason to stop.
    async fn run(&mut self) -> Ending {
        let process = self.process.clone();
        let mut death = pin!(async {
            match &process {
                Some(process) => process.exited().await,
                None => std::future::pending().await,
            }
        });
        let mut silence = pin!(sleep_until(self.heard + self.ping()));
        // A client need not wait for the welcome: frames may have come with the hello.
        if let Err(ending) = self.carry_out() {
            return ending;
        }
        let ending = poll_fn(|cx| {
            if death.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Died);
            }
            match self.poll_turns(silence.as_mut(), cx) {
                Ok(()) => Poll::Pending,
                Err(ending) => Poll::Ready(ending),
            }
        });
        match ending.await {
            ending @ (Ending::Died | Ending::Lost) => Box::pin(self.last_words(ending)).await,
            // Its session is to go on, unless it has said otherwise while nothing was read.
            Ending::Closed(close) if goes_on(close.code) => {
                Box::pin(self.last_words(Ending::Closed(close))).await
            }
            ending => ending,
        }
    }

    /// How long a client may be silent before it is asked whether it is there.
    fn ping(&self) -> Duration {
        self.shared.hub.settings().ping
    }

    /// Goes on until there is nothing to read and nothing to write, or neither can be done now.
    ///
    /// The runtime has a budget for each turn of a task: a client that never stops does not keep others waiting,
    /// and what is looked at first here is looked at once a turn.
    fn poll_turns(
        &mut self,
        mut silence: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Result<(), Ending> {
        while silence.as_mut().poll(cx).is_ready() {
            let next = self.look_at_silence()?;
            silence.as_mut().reset(next);
        }
        while let Some(timer) = &mut self.patience
            && timer.as_mut().poll(cx).is_ready()
        {
            self.look_at_standstill();
        }
        loop {
            let received = self.poll_receive(cx)?;
            let sent = self.poll_send(cx)?;
            self.note_pace();
            if !received && !sent {
                return Ok(());
            }
        }
    }

    /// Asks a client that has said nothing for a while whether it is there; when to look again.
    fn look_at_silence(&mut self) -> Result<Instant, Ending> {
        let ping = self.ping();
        if self.heard.elapsed() < ping {
            return Ok(self.heard + ping);
        }
        let took = std::mem::take(&mut self.took);
        if self.stall.is_some() || took && self.peer.is_crowded() {
            // It waits for others, or is on its way to what it was asked.
            self.pings = 0;
            return Ok(Instant::now() + ping);
        }
        if self.pings == PINGS_MAX {
            return Err(Ending::Closed(Code::PING_TIMEOUT.into()));
        }
        self.pings += 1;
        self.peer.probe(self.pings.into());
        Ok(Instant::now() + ping)
    }

    /// Reads once and carries out what that completes, unless publishers have to wait; whether there was
    /// something.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if self.stall.is_some() {
            if self.poll_relief(cx).is_pending() {
                return Ok(false);
            }
            self.stall = None;
        } else if self.peer.is_owed() {
            return Ok(false);
        } else if !std::mem::take(&mut self.held) {
            match poll_read(&mut self.stream, cx, &mut self.buffer, READ_BYTES)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => return Err(Ending::Lost),
                Poll::Ready(_) => {}
            }
            self.heard = Instant::now();
            self.pings = 0;
        }
        self.carry_out()?;
        release(&mut self.buffer);
        Ok(true)
    }

    /// Writes once, if something waits; whether the system took it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if self.batch.is_empty() {
            self.peer.take(&mut self.batch, WRITE_BYTES);
        }
        if self.batch.is_empty() {
            if let Some(code) = self.peer.closing() {
                return Err(Ending::Closed(code.into()));
            }
            self.batch.release();
            return Ok(self.peer.poll_ready(cx).is_ready());
        }
        if let Poll::Ready(bytes) = self.poll_write(cx)? {
            self.blocked = None;
            self.took = true;
            self.note_written(bytes);
            return Ok(true);
        }
        if self.blocked.is_none() {
            let now = Instant::now();
            self.blocked = Some(now);
            if self.patience.is_none() {
                let mut timer = Box::pin(sleep_until(now + STANDSTILL));
                // It is looked at when it wakes this task, which it has to know.
                let _ = timer.as_mut().poll(cx);
                self.patience = Some(timer);
            }
        }
        // A client that does not read can be told to go all the same.
        match self.peer.poll_fenced(cx) {
            Poll::Ready(()) => self
                .peer
                .closing()
                .map_or(Ok(false), |code| Err(Ending::Closed(code.into()))),
            Poll::Pending => Ok(false),
        }
    }

    /// Nobody waits for a client that has read nothing for a while.
    fn look_at_standstill(&mut self) {
        match (self.blocked, &mut self.patience) {
            (Some(since), Some(timer)) if since.elapsed() < STANDSTILL => {
                timer.as_mut().reset(since + STANDSTILL);
            }
            (blocked, patience) => {
                *patience = None;
                if blocked.is_some() {
                    self.peer.stands_still();
                }
            }
        }
    }

    /// Lets others know if the client has begun or ceased to read and answer; names it to operators.
    fn note_pace(&mut self) {
        let silent = self.pings > PINGS_UNANSWERED;
        let changed = self.peer.note_pace(silent, &mut self.wakes);
        self.wakes.fire();
        let (client, pid) = (self.peer.name(), self.pid);
        match changed {
            None => {}
            Some(Pace::Stalled { queued_bytes }) => self.shared.complain(|left_out| {
                warn!(
                    client,
                    pid, queued_bytes, silent, left_out, "a client has stalled"
                );
            }),
            Some(Pace::Recovered { lost }) => self.shared.complain(|left_out| {
                info!(client, pid, lost, left_out, "a client goes on");
            }),
        }
    }

    /// Carries out what a client had said before it went: it lies in the system's buffer, and no more than that.
    /// A write may fail before it was read, and the last of it may be a goodbye.
    async fn last_words(&mut self, ending: Ending) -> Ending {
        let mut bytes = 0;
        loop {
            if let Err(ending) = self.carry_out_at_once() {
                return ending;
            }
            if bytes >= LAST_WORDS_MAX {
                return ending;
            }
            let read = poll_fn(|cx| {
                Poll::Ready(poll_read(
                    &mut self.stream,
                    cx,
                    &mut self.buffer,
                    READ_BYTES,
                ))
            });
            match read.await {
                Poll::Ready(Ok(read @ 1..)) => bytes += read,
                _ => return ending,
            }
            if let Err(ending) = self.carry_out() {
                return ending;
            }
        }
    }

    /// Carries out what a stall held up, however full outboxes are: a wait slows down whoever publishes, and a client
    /// that is gone publishes no more. What does not fit becomes gaps.
    fn carry_out_at_once(&mut self) -> Result<(), Ending> {
        while self.stall.take().is_some() {
            // So that the next stall, if there is one, means that something was carried out.
            self.wakes.wait_for_nobody();
            self.carry_out()?;
        }
        Ok(())
    }

    /// Ready when nobody need be waited for any more.
    fn poll_relief(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(stall) = &mut self.stall {
            if self.wakes.poll_relief(cx).is_ready() {
                break;
            }
            ready!(stall.until.as_mut().poll(cx));
            self.wakes.give_up(stall.since.elapsed());
            let next = stall.since + self.wakes.patience();
            stall.until.as_mut().reset(next);
        }
        Poll::Ready(())
    }

    /// Writes what it can of the batch; zero bytes is an error.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut skip = self.written;
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let mut count = 0;
        for piece in self.batch.pieces() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            slices[count] = IoSlice::new(&piece[skip..]);
            skip = 0;
            count += 1;
            if count == WRITE_SLICES {
                break;
            }
        }
        match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            result => Poll::Ready(result),
        }
    }

    fn note_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.batch.len() {
            self.batch.clear();
            self.written = 0;
        }
    }

    /// Carries out the whole frames that were read, unless publishers have to wait.
    fn carry_out(&mut self) -> Result<(), Ending> {
        let mut filled = take(&mut self.buffer);
        let carried_out = self.carry_out_of(&mut filled);
        if !filled.is_empty() {
            // The same memory, if nobody keeps a part of it: a large frame comes in many reads.
            self.buffer = filled.into();
        }
        carried_out
    }

    fn carry_out_of(&mut self, filled: &mut BytesMut) -> Result<(), Ending> {
        let pinned = filled.capacity();
        while !filled.is_empty() {
            let before = filled.len();
            let now = self.shared.clock.now();
            let turn = self.peer.receive(filled, pinned, now, &mut self.wakes);
            self.wakes.fire();
            if self.wakes.takes_alarm() {
                self.shared.alarm.notify_one();
            }
            let turn = turn?;
            if turn.stop {
                info!(client = %self.peer.name(), "asked to stop");
                self.shared.stop_asked.notify_one();
            }
            if turn.goodbye {
                return Err(Ending::Goodbye);
            }
            if self.wakes.is_stalled() {
                let since = Instant::now();
                let until = Box::pin(sleep_until(since + self.wakes.patience()));
                self.stall = Some(Box::new(Stall { since, until }));
                break;
            }
            if self.peer.is_flooded() {
                self.held = true;
                break;
            }
            if filled.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Says goodbye, and tells the hub what becomes of the session.
    async fn finish(mut self: Box<Self>, ending: Ending) {
        let pid = self.pid;
        let ending = match ending {
            Ending::Lost if died(self.process.as_deref()).await => Ending::Died,
            ending => ending,
        };
        let departure = match &ending {
            Ending::Goodbye => Departure::Final(Code::GOODBYE),
            Ending::Died => Departure::Final(Code::PROCESS_DIED),
            Ending::Lost => Departure::Lost(Code::CONNECTION_LOST),
            Ending::Closed(close) => match close.code {
                // A hung client may wake up, and a slow one may catch up; one that breaks the rules has nothing
                // to come back for.
                code if goes_on(code) => Departure::Lost(code),
                code => Departure::Final(code),
            },
        };
        if let Ending::Closed(close) = &ending {
            match close.code {
                Code::SHUTTING_DOWN => {
                    // Clients that come back all at once would only wait for each other.
                    let slot = (self.peer.client().0 % RETURN_SLOTS) as u32;
                    self.peer.go_away(close.code, RETURN_SLOT * slot);
                }
                Code::KICKED => {}
                _ => self.shared.refused(close, Some(self.peer.name()), pid),
            }
            self.peer.say_goodbye(close);
            // Who does not read is not waited for: what is sent to it fills its outbox.
            let patience = match close.code {
                Code::SLOW_CONSUMER => Duration::ZERO,
                _ => FAREWELL_MAX,
            };
            let _ = timeout(patience, self.farewell()).await;
        }
        let reason = match &ending {
            Ending::Died => "died",
            Ending::Lost => "lost",
            Ending::Goodbye => "goodbye",
            Ending::Closed(close) => close.code.name(),
        };
        let detail = match &ending {
            Ending::Closed(close) => close.detail.as_str(),
            _ => "",
        };
        self.peer.ends(reason, detail);
        debug!(client = %self.peer.name(), id = %self.peer.client(), pid, reason, "detached");
        let now = self.shared.clock.now();
        let (client, generation) = (self.peer.client(), self.peer.generation());
        let waits = self
            .shared
            .hub
            .detach(self.peer, departure, now, &mut self.wakes);
        self.wakes.fire();
        self.shared.alarm.notify_one();
        if let (Some(ttl), Some(process)) = (waits, self.process) {
            self.shared.watch_over(client, generation, ttl, process);
        }
    }

    /// Writes what is left, and the reason for the end.
    async fn farewell(&mut self) -> io::Result<()> {
        loop {
            if self.batch.is_empty() {
                self.peer.take(&mut self.batch, WRITE_BYTES);
                if self.batch.is_empty() {
                    break;
                }
            }
            let bytes = poll_fn(|cx| self.poll_write(cx)).await?;
            self.note_written(bytes);
        }
        self.stream.shutdown().await
    }
}

/// Whether the session goes on when its connection is closed for that reason.
const fn goes_on(code: Code) -> bool {
    matches!(code, Code::PING_TIMEOUT | Code::SLOW_CONSUMER)
}

/// Whether the process is dead, whose connection was lost: its session cannot come back.
async fn died(process: Option<&ProcessWatch>) -> bool {
    match process {
        Some(process) => timeout(DEATH_MAX, process.exited()).await.is_ok(),
        None => false,
    }
}

async fn read<S: Readiness>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    room: usize,
) -> io::Result<usize> {
    poll_fn(|cx| poll_read(stream, cx, buffer, room)).await
}

/// Reads to the end of `buffer`, for which it makes `room`. A frame that is longer makes more as it comes in, and
/// not as it claims to be.
fn poll_read<S: Readiness>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut Vec<u8>,
    room: usize,
) -> Poll<io::Result<usize>> {
    // Nobody needs a buffer to wait.
    if stream.poll_readable(cx)?.is_pending() {
        release(buffer);
        return Poll::Pending;
    }
    if buffer.capacity() == 0 {
        *buffer = SPARE.take();
    }
    buffer.reserve(room);
    let read = stream.poll_read_into(cx, buffer);
    release(buffer);
    read
}

thread_local! {
    /// A buffer that nobody reads into now: short messages, of whichever client, come through this one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes what was read: copied if it is little, or little of the buffer, which then can be read into again.
fn take(buffer: &mut Vec<u8>) -> BytesMut {
    if buffer.len() < COPY_BYTES_MAX || buffer.len() < buffer.capacity() / COPY_SHARE {
        let copied = BytesMut::from(&buffer[..]);
        buffer.clear();
        release(buffer);
        return copied;
    }
    BytesMut::from(Bytes::from(std::mem::take(buffer)))
}

/// Gives back the room of a buffer that holds nothing.
fn release(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        let spare = std::mem::take(buffer);
        // Not one that was made for a hello or a large frame.
        if (READ_BYTES..=2 * READ_BYTES).contains(&spare.capacity()) {
            SPARE.set(spare);
        }
    }
}

#[cfg(test)]
mod tests;
