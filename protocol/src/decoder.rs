use crate::FrameError;

/// The bytes of one frame, with its length prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawFrame<'a>(&'a [u8]);

impl<'a> RawFrame<'a> {
    /// Where the frame at the start of `bytes` ends; `None` if it is not there yet as a whole.
    ///
    /// The length is checked as soon as its four bytes are there, so that nobody waits, or makes
    /// room, for a frame that will not be accepted.
    ///
    /// # Errors
    /// The length is above `max`, the limit of the frame's body.
    pub fn split(bytes: &'a [u8], max: usize) -> Result<Option<(Self, &'a [u8])>, FrameError> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > max {
            return Err(FrameError::TooLarge { bytes: length, max });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let (frame, rest) = bytes.split_at(PREFIX_BYTES + length);
        Ok(Some((Self(frame), rest)))
    }

    /// The frame without its length prefix.
    pub fn body(&self) -> &'a [u8] {
        &self.0[PREFIX_BYTES..]
    }

    /// The frame with its length prefix.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// How many bytes the frame takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        self.0.len()
    }
}

/// The length prefix: `u32`, big-endian.
pub const PREFIX_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_whole_or_not_at_all() {
        let wire = [0, 0, 0, 2, 0x81, 0x02, 0, 0, 0, 1, 0x80];
        for end in 0..6 {
            assert_eq!(RawFrame::split(&wire[..end], 100), Ok(None));
        }
        let (frame, rest) = RawFrame::split(&wire, 100).unwrap().unwrap();
        assert_eq!(frame.body(), [0x81, 0x02]);
        assert_eq!(rest, &wire[6..]);
    }

    #[test]
    fn a_length_above_the_limit_is_told_at_once() {
        let wire = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            RawFrame::split(&wire, 4096),
            Err(FrameError::TooLarge {
                bytes: 0xffff_ffff,
                max: 4096
            })
        );
    }
}
