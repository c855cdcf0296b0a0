use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::coop::poll_proceed;

/// A connected socket, which asks for news of room to write only while there is none.
///
/// [`tokio::net::UnixStream`] always does, and is woken once more for each message that it sends: when the other
/// side has read it. That costs a message there and back a fifth of its time on one processor, and an idle broker
/// half of its wakes.
#[derive(Debug)]
pub struct Stream {
    /// None if it could not be watched again.
    socket: Option<AsyncFd<UnixStream>>,
    /// There was no room: news of it comes.
    writing: bool,
    /// Writes since then that found room at once.
    easy: u32,
    /// Who waits for something to read.
    reader: Option<Waker>,
}

/// After so many writes that found room at once, news of it ends.
const EASY_MAX: u32 = 1_024;

impl Stream {
    /// Takes over a connected socket. Needs a runtime of tokio.
    ///
    /// # Errors
    /// The system's, such as too many sockets that are watched.
    pub fn new(socket: tokio::net::UnixStream) -> io::Result<Self> {
        let socket = watched(socket.into_std()?, Interest::READABLE)?;
        Ok(Self {
            socket: Some(socket),
            writing: false,
            easy: 0,
            reader: None,
        })
    }

    /// Ready when a read may give something.
    ///
    /// # Errors
    /// The socket is of no use any more, or the runtime is shutting down.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.socket()?.poll_read_ready(cx).map_ok(drop);
        if ready.is_pending() {
            self.remember(cx);
        }
        ready
    }

    /// Reads once, to the end of `buffer` and as much as it has room for without growing. 0 is the end of the stream.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(guard) = self.socket()?.poll_read_ready(cx) else {
                self.remember(cx);
                return Poll::Pending;
            };
            let mut guard = guard?;
            let room = buffer.capacity() - buffer.len();
            let flags = RecvFlags::empty();
            match recv(guard.get_inner(), spare_capacity(buffer), flags) {
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
                Ok((read, _)) => {
                    // Less than there was room for: it was all, and there is news of what comes next.
                    if 0 < read && read < room {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    fn socket(&self) -> io::Result<&AsyncFd<UnixStream>> {
        let gone = || io::ErrorKind::NotConnected.into();
        self.socket.as_ref().ok_or_else(gone)
    }

    fn remember(&mut self, cx: &Context<'_>) {
        if !matches!(&self.reader, Some(known) if known.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.writing {
            let proceed = ready!(poll_proceed(cx));
            let written = write(self.socket()?.get_ref());
            if !is_full(&written) {
                proceed.made_progress();
                return Poll::Ready(written);
            }
            self.watch(true)?;
        }
        loop {
            let mut guard = ready!(self.socket()?.poll_write_ready(cx))?;
            let written = write(guard.get_inner());
            if is_full(&written) {
                guard.clear_ready();
                self.easy = 0;
                continue;
            }
            self.easy += 1;
            if self.easy == EASY_MAX {
                self.watch(false)?;
            }
            return Poll::Ready(written);
        }
    }

    /// Begins or ends to ask for news of room to write.
    fn watch(&mut self, writing: bool) -> io::Result<()> {
        let Some(socket) = self.socket.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let interest = match writing {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        self.socket = Some(watched(socket.into_inner(), interest)?);
        (self.writing, self.easy) = (writing, 0);
        // Whoever waits for something to read has to ask again.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types that may change their descriptor"
)]
fn watched(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

fn is_full(written: &io::Result<usize>) -> bool {
    matches!(written, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for Stream {
    /// Zeroes the buffer first where it is nothing yet: see [`ReadBuffer`](super::ReadBuffer).
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Poll::Ready(guard) = self.socket()?.poll_read_ready(cx) else {
                self.remember(cx);
                return Poll::Pending;
            };
            let mut guard = guard?;
            let room = buffer.initialize_unfilled();
            match guard.get_inner().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(read) => {
                    // Less than there was room for: it was all, and there is news of what comes next.
                    if 0 < read && read < room.len() {
                        guard.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut socket| socket.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket()?.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn pair() -> (Stream, Stream) {
        let (one, other) = tokio::net::UnixStream::pair().unwrap();
        (Stream::new(one).unwrap(), Stream::new(other).unwrap())
    }

    #[tokio::test]
    async fn bytes_go_both_ways_however_many_and_in_pieces() {
        const BYTES: usize = 3_000_000;
        let (one, other) = pair();
        let echo = tokio::spawn(async move {
            let (mut reads, mut writes) = tokio::io::split(other);
            tokio::io::copy(&mut reads, &mut writes).await.unwrap();
            writes.shutdown().await.unwrap();
        });
        let (mut reads, mut writes) = tokio::io::split(one);
        let sent: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move {
                // Large and small ones: the socket runs full, and then there is room again for long.
                let (large, small) = sent.split_at(BYTES - 5_000);
                writes.write_all(large).await.unwrap();
                for piece in small.chunks(7) {
                    writes.write_all(piece).await.unwrap();
                }
                writes.shutdown().await.unwrap();
            }
        });
        let mut received = Vec::new();
        let all = timeout(LONG, reads.read_to_end(&mut received)).await;
        all.expect("nobody waits for ever").unwrap();
        assert!(received == sent, "{} bytes", received.len());
        sending.await.unwrap();
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_to_read_is_not_forgotten_when_the_socket_is_full_and_when_it_is_not() {
        let (one, mut other) = pair();
        let (mut reads, mut writes) = tokio::io::split(one);
        let reading = tokio::spawn(async move {
            for expected in 0..2 {
                let read = timeout(LONG, reads.read_u8()).await.expect("it comes");
                assert_eq!(read.unwrap(), expected);
            }
        });
        tokio::task::yield_now().await;
        let full = vec![0; 1 << 20];
        let writing = tokio::spawn(async move {
            writes.write_all(&full).await.unwrap();
            for _ in 0..2 * EASY_MAX {
                writes.write_all(&[0]).await.unwrap();
            }
            writes
        });
        tokio::task::yield_now().await;
        other.write_u8(0).await.unwrap();
        let mut all = vec![0; (1 << 20) + 2 * EASY_MAX as usize];
        other.read_exact(&mut all).await.unwrap();
        let writes = writing.await.unwrap();
        other.write_u8(1).await.unwrap();
        reading.await.unwrap();
        drop(writes);
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0, "the end");
    }

    #[tokio::test]
    async fn what_cannot_be_written_fails() {
        let (mut one, other) = pair();
        drop(other);
        let error = one.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(one.is_write_vectored());
    }
}
