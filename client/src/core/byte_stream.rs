//! Streams of bytes: a streamed request whose parts are bytes in both directions.
//!
//! The first part of the reply is empty: the handler has accepted. The second empty part ends the
//! handler's bytes, and `more` = false those of the caller. Who has ended its own direction may
//! still read the other. The handler replies when both have ended.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use localhub_protocol::{ClientFrame, ContentType, Message as WireMessage};

use super::Core;
use super::handling::HandlingId;
use super::requests::RequestId;

/// One end of a stream of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Caller(RequestId),
    Handler(HandlingId),
}

/// What a read comes to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Read {
    Bytes(Bytes),
    /// The other side sends no more.
    Over,
    /// The other side is gone, or let go of the stream.
    CutOff,
}

/// Bytes that may be on their way without being read, in each direction.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// What one message of a stream carries at most.
const PIECE_BYTES_MAX: usize = 64 * 1024;

impl Core {
    pub(crate) fn poll_read_bytes(&mut self, end: End, cx: &Context<'_>) -> Poll<Read> {
        let id = match end {
            End::Caller(id) => id,
            End::Handler(id) => {
                let read = ready!(self.poll_fed(id, cx));
                return Poll::Ready(match read {
                    Ok(Some(bytes)) => Read::Bytes(bytes),
                    Ok(None) => Read::Over,
                    Err(()) => Read::CutOff,
                });
            }
        };
        if self.parts_ended(id) {
            return Poll::Ready(Read::Over);
        }
        match ready!(self.poll_part(id, cx)) {
            Some(part) if part.payload.is_empty() => {
                self.end_parts(id);
                Poll::Ready(Read::Over)
            }
            Some(part) => Poll::Ready(Read::Bytes(part.payload)),
            None if self.has_succeeded(id) => Poll::Ready(Read::Over),
            None => Poll::Ready(Read::CutOff),
        }
    }

    /// Sends some of the bytes, and says how many; none if nobody reads them any more.
    pub(crate) fn poll_write_bytes(
        &mut self,
        end: End,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<usize> {
        let max = usize::try_from(self.limits().payload_bytes).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(PIECE_BYTES_MAX).min(max)];
        if self.open().is_err() {
            return Poll::Ready(0);
        }
        let id = match end {
            End::Caller(id) => id,
            End::Handler(id) => return self.poll_send_bytes(id, bytes, cx),
        };
        let Some((position, feed)) = self.feeding(id) else {
            return Poll::Ready(0);
        };
        let most = usize::try_from(feed.credit).unwrap_or(usize::MAX);
        let most = most.min(bytes.len());
        if most == 0 {
            feed.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ready!(self.poll_room(cx));
        self.feed(id, position, &bytes[..most], true);
        Poll::Ready(most)
    }

    /// Sends no more bytes.
    pub(crate) fn shut_down(&mut self, end: End) {
        match end {
            End::Handler(id) => self.shut_down_bytes(id),
            End::Caller(id) => {
                if let Some((position, _)) = self.feeding(id) {
                    self.feed(id, position, &[], false);
                    self.fed_all(id);
                }
            }
        }
    }

    fn feed(&mut self, id: RequestId, request: u64, payload: &[u8], more: bool) {
        let feed = WireMessage::Feed {
            request,
            more,
            content: ContentType::BYTES,
            payload,
        };
        let position = self.outgoing.push(&ClientFrame::Message(feed));
        if let Some((_, feed)) = self.feeding(id) {
            feed.credit = feed.credit.saturating_sub(payload.len() as u64);
        }
        self.note_piece(position, End::Caller(id));
        self.wake_link();
    }
}
