use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use localhub_protocol::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::{DROPPED, End, Read};
use crate::incoming::Handling;
use crate::request::Asked;
use crate::shared::Shared;
use crate::{Error, Sender};

/// The method of the requests that [`Client::open_stream`](crate::Client::open_stream) makes.
pub const METHOD_STREAM: &str = "stream";

/// A stream of bytes between two clients, in both directions.
///
/// It is what a TCP connection is, through the broker: [`AsyncRead`] and [`AsyncWrite`], with 256
/// KiB on their way in each direction at most, so that a slow reader stops the writer and nobody
/// else. What is read is in pieces of at most 64 KiB.
///
/// * A shutdown ends one direction: the other side reads the end after all bytes, and may go on writing.
/// * A stream that is dropped before both sides have shut down is cut off: the other side reads what has arrived,
///   then [`ConnectionReset`](io::ErrorKind::ConnectionReset), or the end if there was one, and its writes fail
///   with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
/// * So it is if either session ends. A connection that is lost and resumed costs nothing. The side that opened
///   the stream finds why as the source of the error, an [`Error`].
///
/// Bytes that are written are on their way; nothing needs to be flushed.
pub struct ByteStream {
    /// What was received and not yet read.
    rest: Bytes,
    peer: Sender,
    held: Held,
}

/// What keeps the stream alive.
enum Held {
    Caller(Asked),
    Handler(Arc<Handling>),
}

impl ByteStream {
    /// Waits until a handler accepts.
    pub(crate) async fn open(asked: Asked) -> Result<Self, Error> {
        match poll_fn(|cx| asked.poll_part(cx)).await {
            Some(part) if part.payload.is_empty() => {
                return Ok(Self {
                    rest: Bytes::new(),
                    peer: part.sender,
                    held: Held::Caller(asked),
                });
            }
            Some(_) => {}
            None => {
                poll_fn(|cx| asked.poll_reply(cx)).await?;
            }
        }
        Err(Error::Refused {
            code: Code::NOT_SUPPORTED,
            detail: "the handler does not take streams of bytes".to_owned(),
        })
    }

    pub(crate) fn accepted(handling: Arc<Handling>) -> Self {
        Self {
            rest: Bytes::new(),
            peer: handling.arrived.caller.clone(),
            held: Held::Handler(handling),
        }
    }

    /// The client at the other end.
    pub fn peer(&self) -> &Sender {
        &self.peer
    }

    /// Waits until the stream is over: both directions have ended, or it was cut off. For who only writes, and
    /// has to know when nobody reads any more.
    ///
    /// Nothing is lost if the future is dropped. Not to be awaited while another task reads.
    pub async fn closed(&self) {
        poll_fn(|cx| match &self.held {
            Held::Caller(asked) => asked.poll_over(cx),
            Held::Handler(handling) => {
                let shared = &handling.handle.shared;
                shared.with(|core| core.poll_cancelled(handling.id, cx))
            }
        })
        .await;
    }

    /// The error of a read from a stream that was cut off.
    fn reset(&self, cx: &Context<'_>) -> io::Error {
        let why = match &self.held {
            Held::Caller(asked) => match asked.poll_reply(cx) {
                Poll::Ready(Err(Error::Failed(failure))) if failure.code() == DROPPED.0 => None,
                Poll::Ready(Err(error)) => Some(error),
                _ => None,
            },
            Held::Handler(_) => None,
        };
        io::Error::new(io::ErrorKind::ConnectionReset, CutOff(why))
    }

    fn end(&self) -> (End, &Shared) {
        match &self.held {
            Held::Caller(asked) => (End::Caller(asked.id), &asked.handle.shared),
            Held::Handler(handling) => (End::Handler(handling.id), &handling.handle.shared),
        }
    }
}

/// Why a stream was cut off, if that is known.
#[derive(Debug)]
struct CutOff(Option<Error>);

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, "connection reset: {error}"),
            None => f.write_str("connection reset: the other side let go, or its session ended"),
        }
    }
}

impl std::error::Error for CutOff {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A loop that always finds bytes must leave others a chance to run.
        let proceed = ready!(tokio::task::coop::poll_proceed(cx));
        if self.rest.is_empty() {
            let (end, shared) = self.end();
            match ready!(shared.with(|core| core.poll_read_bytes(end, cx))) {
                Read::Bytes(bytes) => self.rest = bytes,
                Read::Over => {}
                Read::CutOff => return Poll::Ready(Err(self.reset(cx))),
            }
        }
        let fits = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..fits]);
        self.rest.advance(fits);
        proceed.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let proceed = ready!(tokio::task::coop::poll_proceed(cx));
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (end, shared) = self.end();
        let written = ready!(shared.with(|core| core.poll_write_bytes(end, bytes, cx)));
        proceed.made_progress();
        Poll::Ready(match written {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            written => Ok(written),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (end, shared) = self.end();
        shared.with(|core| core.shut_down(end));
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("peer", &self.peer.name.as_str())
            .finish_non_exhaustive()
    }
}
