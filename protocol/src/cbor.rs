//! The strict subset of CBOR that headers are made of.
//!
//! RFC 8949 section 4.2.1, core deterministic encoding: definite lengths and the shortest heads
//! only. One header has one encoding, so that two decoders cannot read it differently.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::FrameError;

/// Reads the items of one header.
pub(crate) struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(Decoder::new(body))
    }

    pub(crate) fn array(&mut self) -> Result<usize, FrameError> {
        let start = self.0.position();
        let length = self
            .0
            .array()?
            .ok_or(FrameError::malformed("an array of indefinite length"))?;
        self.shortest(start, length, 0)?;
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
        let start = self.0.position();
        let value = self.0.u64()?;
        self.shortest(start, value, 0)?;
        Ok(value)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        u16::try_from(self.uint()?).map_err(|_| FrameError::malformed("a number above 65,535"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        u32::try_from(self.uint()?)
            .map_err(|_| FrameError::malformed("a number above 4,294,967,295"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, FrameError> {
        Ok(self.0.bool()?)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FrameError> {
        let start = self.0.position();
        let text = self.0.str()?;
        self.shortest(start, text.len() as u64, text.len())?;
        Ok(text)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let start = self.0.position();
        let bytes = self.0.bytes()?;
        self.shortest(start, bytes.len() as u64, bytes.len())?;
        Ok(bytes)
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
        if self.0.datatype()? == Type::Null {
            self.0.null()?;
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// Whether the next item is a text string.
    pub(crate) fn at_text(&self) -> Result<bool, FrameError> {
        Ok(self.0.datatype()? == Type::String)
    }

    /// Whether the next item is an array.
    pub(crate) fn at_array(&self) -> Result<bool, FrameError> {
        Ok(matches!(self.0.datatype()?, Type::Array | Type::ArrayIndef))
    }

    /// The end of the frame: whatever follows is an error.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.0.position() == self.0.input().len() {
            Ok(())
        } else {
            Err(FrameError::malformed("bytes after the last item"))
        }
    }

    /// The head of the item from `start` on must be the shortest that holds `value`.
    fn shortest(&self, start: usize, value: u64, content: usize) -> Result<(), FrameError> {
        if self.0.position() - start - content == head_bytes(value) {
            Ok(())
        } else {
            Err(FrameError::malformed(
                "a number or length is not in its shortest form",
            ))
        }
    }
}

/// How many bytes the head of an item takes that counts or holds `value`.
pub(crate) const fn head_bytes(value: u64) -> usize {
    match value {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Writes the items of one frame. Writing to memory cannot fail.
pub(crate) struct Writer<'a>(Encoder<Memory<'a>>);

/// A buffer as `minicbor` wants it.
struct Memory<'a>(&'a mut Vec<u8>);

impl minicbor::encode::Write for Memory<'_> {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What an encoding step ends with: it cannot fail, so there is nothing to see.
fn done<T>(_: T) {}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(Encoder::new(Memory(buffer)))
    }

    pub(crate) fn array(&mut self, length: usize) -> &mut Self {
        done(self.0.array(length as u64));
        self
    }

    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        done(self.0.u64(value));
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        done(self.0.bool(value));
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        done(self.0.str(text));
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        done(self.0.bytes(bytes));
        self
    }

    pub(crate) fn optional<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T),
    ) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => done(self.0.null()),
        }
        self
    }
}
