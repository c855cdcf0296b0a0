use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use localhub_protocol::limits::HEADER_BYTES_MAX;
use localhub_protocol::{BrokerFrame, Code, FrameError, PREFIX_BYTES, RawFrame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use crate::Error;
use crate::core::{Core, Progress};
use crate::endpoint::ReadBuffer;
use crate::shared::{Shared, now};

/// One connection to the broker, from the hello to its end.
pub(crate) struct Connection<S> {
    stream: S,
    /// What was read and is no whole frame yet.
    buffer: ReadBuffer,
    /// Whole frames that the core has not yet taken in.
    chunk: Bytes,
    /// Until when the core waits for a full inbox before it takes in more.
    blocked_until: Option<Instant>,
    /// What is to be written.
    batch: VecDeque<Bytes>,
    /// Nothing can be written any more. What the broker wrote before, such as the reason, can
    /// still be read.
    broken: Option<io::Error>,
    timer: Timer,
}

/// Why a connection ended, or did not come about.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The broker said so.
    Broker {
        code: Code,
        detail: String,
    },
    /// What the broker sent is not the protocol.
    Frame(FrameError),
    /// The application closed the client.
    Goodbye,
    Io(io::Error),
    /// The broker did not say anything for too long.
    Silent,
    /// No connection could be made.
    Unreachable(Error),
}

impl From<FrameError> for Loss {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What is read at a time, unless a larger frame is on its way.
const READ_BYTES: usize = 64 * 1024;

/// Less room than this is not worth a read.
const READ_BYTES_MIN: usize = 16 * 1024;

/// What is written at a time.
const WRITE_BYTES: usize = 256 * 1024;

/// Pieces that one system call writes.
const WRITE_PIECES: usize = 16;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: ReadBuffer::default(),
            chunk: Bytes::new(),
            blocked_until: None,
            batch: VecDeque::new(),
            broken: None,
            timer: Timer::default(),
        }
    }

    /// Says hello and takes in the welcome.
    ///
    /// # Errors
    /// The broker turned the client away, or what answered is no broker.
    pub(crate) async fn greet(&mut self, shared: &Shared) -> Result<(), Loss> {
        self.batch.push_back(shared.with(Core::hello).into());
        poll_fn(|cx| self.poll_write(cx)).await;
        let welcome = loop {
            if let Some((frame, _)) = RawFrame::split(self.buffer.filled(), HEADER_BYTES_MAX)? {
                let bytes = frame.wire_bytes();
                break self.take(bytes);
            }
            poll_fn(|cx| self.poll_read(cx, HEADER_BYTES_MAX)).await?;
        };
        match BrokerFrame::decode(&welcome[PREFIX_BYTES..])? {
            BrokerFrame::Welcome(welcome) => shared.with(|core| core.welcome(&welcome, now()))?,
            BrokerFrame::Close { code, detail } => {
                return Err(Loss::Broker {
                    code,
                    detail: detail.to_owned(),
                });
            }
            _ => {
                return Err(FrameError::Malformed {
                    reason: "something before a welcome",
                }
                .into());
            }
        }
        Ok(())
    }

    /// Carries frames in both directions until the connection ends, and says why it did.
    pub(crate) async fn serve(&mut self, shared: &Shared) -> Loss {
        let end = poll_fn(|cx| self.poll_serve(shared, cx)).await;
        match end {
            Ok(()) => Loss::Goodbye,
            Err(loss) => loss,
        }
    }

    /// Ready when the application is done, or with what went wrong.
    fn poll_serve(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        loop {
            let frame_max = shared.with(|core| core.frame_bytes_max());
            self.split_frames(frame_max)?;
            let turn = shared.with(|core| self.turn(core, cx))?;
            let mut moved = !self.batch.is_empty() && self.poll_write(cx).is_ready();
            if turn.said_goodbye && self.batch.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                return Poll::Ready(Ok(()));
            }
            if self.chunk.is_empty() {
                moved |= self.poll_read(cx, frame_max)?.is_ready();
            }
            moved |= self.timer.poll(turn.deadline, cx).is_ready();
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Everything that is done in one go with the core.
    fn turn(&mut self, core: &mut Core, cx: &Context<'_>) -> Result<Turn, Loss> {
        let now = now();
        core.elapse(now).map_err(|_| Loss::Silent)?;
        if !self.batch.is_empty() && core.is_overdue(now) {
            // The broker does not even read the goodbye.
            return Err(Loss::Goodbye);
        }
        self.blocked_until = None;
        if !self.chunk.is_empty() {
            let pinned = self.chunk.len().max(READ_BYTES);
            match core.receive(&mut self.chunk, pinned, now)? {
                // Let go of the buffer, which can then be read into again.
                Progress::All => self.chunk = Bytes::new(),
                Progress::Blocked { until } => self.blocked_until = Some(until),
                Progress::Closed { code, detail } => return Err(Loss::Broker { code, detail }),
            }
        }
        if self.batch.is_empty() && self.broken.is_none() {
            core.take(&mut self.batch, WRITE_BYTES, now);
        }
        let busy = !self.batch.is_empty();
        core.register_link(cx, busy);
        Ok(Turn {
            deadline: core
                .deadline(busy)
                .into_iter()
                .chain(self.blocked_until)
                .min(),
            said_goodbye: core.closing() == Some(true),
        })
    }

    /// Moves the whole frames of the buffer to the chunk, if that is empty.
    fn split_frames(&mut self, frame_max: usize) -> Result<(), FrameError> {
        if !self.chunk.is_empty() {
            return Ok(());
        }
        let mut rest = self.buffer.filled();
        while let Some((_, after)) = RawFrame::split(rest, frame_max)? {
            rest = after;
        }
        let whole = self.buffer.filled().len() - rest.len();
        if whole > 0 {
            self.chunk = self.take(whole);
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Bytes {
        let mut filled = self.buffer.take();
        let taken = filled.split_to(bytes).freeze();
        self.buffer.put_back(filled);
        taken
    }

    /// Reads once. An end of the stream is an error.
    fn poll_read(&mut self, cx: &mut Context<'_>, frame_max: usize) -> Poll<Result<(), Loss>> {
        let filled = self.buffer.filled();
        let wanted = match filled.first_chunk::<PREFIX_BYTES>() {
            Some(prefix) => {
                let frame = (u32::from_be_bytes(*prefix) as usize).min(frame_max) + PREFIX_BYTES;
                frame.saturating_sub(filled.len())
            }
            None => 0,
        };
        self.buffer
            .make_room(wanted.max(READ_BYTES_MIN), READ_BYTES);
        let read = match ready!(self.buffer.poll_read(&mut self.stream, cx, usize::MAX)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        Poll::Ready(match read {
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken.take().unwrap_or(error).into()),
        })
    }

    /// Writes the whole batch, unless the connection breaks: reading tells how it ended.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.batch.is_empty() {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
            for (piece, bytes) in pieces.iter_mut().zip(&self.batch) {
                *piece = IoSlice::new(bytes);
            }
            let count = self.batch.len().min(WRITE_PIECES);
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write_vectored(cx, &pieces[..count])) {
                Ok(0) => self.broken = Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) => self.broken = Some(error),
            }
            if self.broken.is_some() {
                self.batch.clear();
            }
        }
        Poll::Ready(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.batch.front_mut()
            && written > 0
        {
            let bytes = written.min(first.len());
            first.advance(bytes);
            written -= bytes;
            if first.is_empty() {
                self.batch.pop_front();
            }
        }
    }
}

/// What a turn with the core asks for.
struct Turn {
    deadline: Option<Instant>,
    said_goodbye: bool,
}

/// Ready when a deadline has passed. Deadlines move with every read, so one that moved into the
/// future is noticed only when the timer goes off: that costs nothing per read.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Timer {
    pub(crate) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if self.armed.is_none_or(|armed| deadline < armed) {
            let at = deadline.into();
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(at),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.armed = Some(deadline);
        }
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        ready!(sleep.as_mut().poll(cx));
        self.armed = None;
        Poll::Ready(())
    }
}
