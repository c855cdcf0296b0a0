use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// What was read from a stream, and room for more.
///
/// The room is zeroed when it is made and not at each read into it: safe code gives the system no
/// memory that is nothing yet.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    /// What was read, then the room.
    bytes: BytesMut,
    filled: usize,
}

impl ReadBuffer {
    /// What was read.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Whether nothing was read that was not taken.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// How many bytes of room there are.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.filled
    }

    /// Makes room for about `usual` bytes, if there are less than `least`.
    pub fn make_room(&mut self, least: usize, usual: usize) {
        if self.room() < least {
            self.bytes.truncate(self.filled);
            self.bytes.reserve(usual.max(least));
            self.bytes.resize(self.bytes.capacity(), 0);
        }
    }

    /// Reads once, at most `max` bytes and what there is room for. 0 is the end of the stream.
    ///
    /// # Errors
    /// The stream's.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let most = self.room().min(max);
        let mut room = ReadBuf::new(&mut self.bytes[self.filled..][..most]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.filled += read;
        Poll::Ready(Ok(read))
    }

    /// Takes what was read.
    pub fn take(&mut self) -> BytesMut {
        self.bytes.split_to(std::mem::take(&mut self.filled))
    }

    /// Puts the end of what was taken back.
    pub fn put_back(&mut self, rest: BytesMut) {
        debug_assert!(self.is_empty(), "it was taken");
        if !rest.is_empty() {
            self.filled = rest.len();
            let room = std::mem::replace(&mut self.bytes, rest);
            self.bytes.unsplit(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut ReadBuffer, mut bytes: &[u8]) -> usize {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(read) = buffer.poll_read(&mut bytes, cx, usize::MAX) else {
            panic!("a slice is always ready");
        };
        read.unwrap()
    }

    #[test]
    fn what_is_not_used_yet_stays_in_front_of_what_comes() {
        let mut buffer = ReadBuffer::default();
        assert_eq!(read(&mut buffer, b"abc"), 0, "there is no room");
        buffer.make_room(4, 8);
        assert_eq!(read(&mut buffer, b"abcdef"), 6);
        let mut taken = buffer.take();
        assert_eq!(
            (&taken.split_to(4)[..], buffer.is_empty()),
            (&b"abcd"[..], true)
        );
        buffer.put_back(taken);
        assert_eq!(buffer.filled(), b"ef");
        buffer.make_room(64, 8);
        assert!(buffer.room() >= 64);
        assert_eq!(read(&mut buffer, b"gh"), 2);
        assert_eq!(buffer.take(), "efgh");
    }
}
