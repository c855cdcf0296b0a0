use std::ops::Range;

use bytes::Bytes;
use localhub_protocol::BrokerFrame;

/// Bytes on their way into one write: headers and small frames copied together, large ones shared.
#[derive(Debug, Default)]
pub struct Batch {
    copied: Vec<u8>,
    pieces: Vec<Piece>,
    len: usize,
}

#[derive(Debug)]
enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// Frames below this are copied: one more slice in a vectored write costs about as much.
const SHARE_BYTES_MIN: usize = 1024;

/// What a short message takes with its header.
const USUAL_BYTES: usize = 128;

/// More is not made room for in advance.
const EXPECTED_BYTES_MAX: usize = 128 * 1024;

impl Batch {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Copied(range) => &self.copied[range.clone()],
            Piece::Shared(bytes) => &bytes[..],
        })
    }

    /// Forgets the bytes and keeps room for a usual batch.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.copied.shrink_to(SHARE_BYTES_MIN);
        self.pieces.clear();
        self.len = 0;
    }

    /// Gives back the room of an empty batch: a connection that waits needs none.
    pub fn release(&mut self) {
        debug_assert!(self.is_empty());
        *self = Self::default();
    }

    /// Appends encoded frames, and takes them out of `frames`.
    pub(super) fn control(&mut self, frames: &mut Vec<u8>) {
        if !frames.is_empty() {
            let start = self.copied.len();
            // Not to be kept with the room for a welcome.
            self.copied.append(&mut std::mem::take(frames));
            self.cover(start);
        }
    }

    /// Appends a frame of the broker.
    pub(super) fn frame(&mut self, frame: &BrokerFrame<'_>) {
        self.make_room();
        let start = self.copied.len();
        frame.encode(&mut self.copied);
        self.cover(start);
    }

    /// Appends bytes that others may hold as well.
    pub(super) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() >= SHARE_BYTES_MIN {
            self.len += bytes.len();
            self.pieces.push(Piece::Shared(bytes.clone()));
        } else if !bytes.is_empty() {
            self.make_room();
            let start = self.copied.len();
            self.copied.extend_from_slice(bytes);
            self.cover(start);
        }
    }

    /// Gets ready for about so many frames to be copied, so that it need not grow by steps.
    pub(super) fn expect(&mut self, frames: usize) {
        let room = frames.saturating_mul(USUAL_BYTES).min(EXPECTED_BYTES_MAX);
        if self.copied.capacity() - self.copied.len() < room {
            self.copied.reserve(room.max(SHARE_BYTES_MIN));
        }
    }

    /// Small batches are the most frequent ones.
    fn make_room(&mut self) {
        if self.copied.capacity() == 0 {
            self.expect(1);
        }
    }

    /// Makes what was copied from `start` on part of the batch.
    fn cover(&mut self, start: usize) {
        let end = self.copied.len();
        self.len += end - start;
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) if range.end == start => range.end = end,
            _ => self.pieces.push(Piece::Copied(start..end)),
        }
    }
}
