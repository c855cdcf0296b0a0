//! The strict subset of CBOR that headers are made of.
//!
//! RFC 8949 section 4.2.1, core deterministic encoding: definite lengths and the shortest heads
//! only. One header has one encoding, so that two decoders cannot read it differently.

use crate::FrameError;

/// Reads the items of one header.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The major types that headers have (RFC 8949 section 3.1).
const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;

/// The simple values that headers have (RFC 8949 section 3.3).
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

const CUT: FrameError = FrameError::malformed("the frame ends within an item");
const OTHER_TYPE: FrameError =
    FrameError::malformed("an item has another type than its field, or is not CBOR");

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn array(&mut self) -> Result<usize, FrameError> {
        let length = self.head(ARRAY)?;
        usize::try_from(length).map_err(|_| FrameError::malformed("an array longer than memory"))
    }

    /// An array of exactly `length` items.
    pub(crate) fn array_of(&mut self, length: usize) -> Result<(), FrameError> {
        match self.array()? {
            found if found == length => Ok(()),
            _ => Err(FrameError::malformed(
                "an array has another length than its frame kind",
            )),
        }
    }

    /// An array of at most `max` items, each read by `item`.
    pub(crate) fn list<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let length = self.array()?;
        if length > max {
            return Err(FrameError::malformed("a list is longer than allowed"));
        }
        (0..length).map(|_| item(self)).collect()
    }

    pub(crate) fn uint(&mut self) -> Result<u64, FrameError> {
        self.head(UINT)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        u16::try_from(self.uint()?).map_err(|_| FrameError::malformed("a number above 65,535"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        u32::try_from(self.uint()?)
            .map_err(|_| FrameError::malformed("a number above 4,294,967,295"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, FrameError> {
        let flag = match self.peek()? {
            FALSE => false,
            TRUE => true,
            _ => return Err(OTHER_TYPE),
        };
        self.rest = &self.rest[1..];
        Ok(flag)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FrameError> {
        let text = self.string(TEXT)?;
        std::str::from_utf8(text).map_err(|_| FrameError::malformed("a text is not UTF-8"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        self.string(BYTES)
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn bytes_of<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.bytes()?
            .try_into()
            .map_err(|_| FrameError::malformed("a byte string has another length than its field"))
    }

    /// `null`, or what `item` reads.
    pub(crate) fn optional<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        if self.peek()? == NULL {
            self.rest = &self.rest[1..];
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// Whether the next item is a text string.
    pub(crate) fn at_text(&self) -> Result<bool, FrameError> {
        Ok(self.peek()? >> 5 == TEXT)
    }

    /// Whether the next item is an array.
    pub(crate) fn at_array(&self) -> Result<bool, FrameError> {
        Ok(self.peek()? >> 5 == ARRAY)
    }

    /// The end of the frame: whatever follows is an error.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FrameError::malformed("bytes after the last item"))
        }
    }

    fn peek(&self) -> Result<u8, FrameError> {
        self.rest.first().copied().ok_or(CUT)
    }

    fn string(&mut self, major: u8) -> Result<&'a [u8], FrameError> {
        let length = self.head(major)?;
        // A length is a claim: what is there decides.
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(CUT)?;
        self.rest = rest;
        Ok(string)
    }

    /// The number in the head of an item of that major type, which must be in its shortest form.
    #[inline]
    fn head(&mut self, major: u8) -> Result<u64, FrameError> {
        let (&first, rest) = self.rest.split_first().ok_or(CUT)?;
        if first >> 5 != major {
            return Err(OTHER_TYPE);
        }
        let low = first & 0x1f;
        if low < 24 {
            self.rest = rest;
            return Ok(low.into());
        }
        self.long_head(low, rest)
    }

    /// The number in 1, 2, 4 or 8 bytes behind the first byte of a head.
    fn long_head(&mut self, low: u8, rest: &'a [u8]) -> Result<u64, FrameError> {
        // With each number the highest that a shorter head would hold.
        let (value, rest, shorter) = match low {
            24 => {
                let ([a], rest) = rest.split_first_chunk().ok_or(CUT)?;
                (u64::from(*a), rest, 23)
            }
            25 => {
                let (number, rest) = rest.split_first_chunk().ok_or(CUT)?;
                (u16::from_be_bytes(*number).into(), rest, u8::MAX.into())
            }
            26 => {
                let (number, rest) = rest.split_first_chunk().ok_or(CUT)?;
                (u32::from_be_bytes(*number).into(), rest, u16::MAX.into())
            }
            27 => {
                let (number, rest) = rest.split_first_chunk().ok_or(CUT)?;
                (u64::from_be_bytes(*number), rest, u32::MAX.into())
            }
            31 => return Err(FrameError::malformed("an item of indefinite length")),
            _ => return Err(FrameError::malformed("the bytes are not CBOR")),
        };
        if value <= shorter {
            return Err(FrameError::malformed(
                "a number or length is not in its shortest form",
            ));
        }
        self.rest = rest;
        Ok(value)
    }
}

/// Writes the items of one frame.
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    pub(crate) fn array(&mut self, length: usize) -> &mut Self {
        self.head(ARRAY, length as u64)
    }

    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(if value { TRUE } else { FALSE });
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn optional<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T),
    ) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.0.push(NULL),
        }
        self
    }

    /// The head of an item, in its shortest form.
    #[inline]
    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        if value < 24 {
            self.0.push(major | value as u8);
        } else {
            self.long_head(major, value);
        }
        self
    }

    /// The head of an item whose number does not fit into the first byte.
    fn long_head(&mut self, major: u8, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            self.0.extend_from_slice(&[major | 24, value]);
        } else if let Ok(value) = u16::try_from(value) {
            let [a, b] = value.to_be_bytes();
            self.0.extend_from_slice(&[major | 25, a, b]);
        } else if let Ok(value) = u32::try_from(value) {
            let [a, b, c, d] = value.to_be_bytes();
            self.0.extend_from_slice(&[major | 26, a, b, c, d]);
        } else {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            let head = [major | 27, a, b, c, d, e, f, g, h];
            self.0.extend_from_slice(&head);
        }
    }
}
