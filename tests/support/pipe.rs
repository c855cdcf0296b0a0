/// One direction of a connection: bytes that were written and not yet dealt with.
///
/// The first `arrived` of them have been read by the other side, which may be in the middle of a
/// frame.
#[derive(Debug, Default)]
pub struct Pipe {
    bytes: Vec<u8>,
    /// How many bytes at the front are done with.
    done: usize,
    /// How far the other side has read.
    arrived: usize,
}

impl Pipe {
    /// How many bytes are there.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to write.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Lets some more bytes arrive; whether there were any.
    pub fn deliver(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.bytes.len() - self.arrived);
        self.arrived += bytes;
        bytes > 0
    }

    /// What has arrived.
    pub fn arrived(&self) -> &[u8] {
        &self.bytes[self.done..self.arrived]
    }

    /// Forgets the first bytes of what has arrived.
    pub fn forget(&mut self, bytes: usize) {
        self.done += bytes;
        debug_assert!(self.done <= self.arrived);
        if self.done == self.bytes.len() {
            self.bytes.clear();
        } else if self.done > self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
        } else {
            return;
        }
        self.arrived -= self.done;
        self.done = 0;
    }
}

/// The end of the first frame, prefix included, if it is whole.
pub fn frame_end(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<4>()?;
    let end = 4 + u32::from_be_bytes(*prefix) as usize;
    (bytes.len() >= end).then_some(end)
}
