//! Frames as they pass by: where they begin, and what kind they are.

/// Follows the frames of a broker through pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The first bytes of the frame that passes by: its length, and its body as far as it is kept.
    head: Vec<u8>,
    /// How much of the frame is still to come behind the head.
    rest: usize,
    /// How many counted messages have begun.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The code of the close that came.
    pub(crate) closed: Option<u16>,
    first_is_over: bool,
}

/// As much of a body as it takes to know its kind, and the code of a close.
const HEAD_BYTES: usize = 8;

/// A welcome is kept whole; it is shorter than this.
const WELCOME_BYTES_MAX: usize = 8_192;

impl Frames {
    /// Follows a piece; the body of the first frame, when it is complete.
    pub(crate) fn follow(&mut self, mut piece: &[u8]) -> Option<Vec<u8>> {
        let mut welcome = None;
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let skipped = self.rest.min(piece.len());
            self.rest -= skipped;
            piece = &piece[skipped..];
            if piece.is_empty() {
                break;
            }
            self.head.push(piece[0]);
            piece = &piece[1..];
            let Some(length) = self.head.first_chunk::<4>() else {
                continue;
            };
            let length = u32::from_be_bytes(*length) as usize;
            let most = if self.first_is_over {
                HEAD_BYTES
            } else {
                WELCOME_BYTES_MAX
            };
            let kept = self.head.len() - 4;
            if kept < length.min(most) {
                continue;
            }
            let body = self.head.split_off(4);
            self.head.clear();
            self.rest = length - kept;
            self.begins(&body);
            if !self.first_is_over {
                self.first_is_over = true;
                welcome = Some(body);
            }
        }
        welcome
    }

    fn begins(&mut self, body: &[u8]) {
        let kind = match body {
            [_, 0x18, kind, ..] => *kind,
            [_, kind, ..] => *kind,
            _ => return,
        };
        self.messages += u64::from(kind >= 16);
        // A close is `[5, code, text]`, and its code has one byte.
        if let [_, CLOSE, 0x18, code, ..] = body {
            self.closed = Some(u16::from(*code));
        }
    }
}

/// The kind of a close.
const CLOSE: u8 = 5;
