use crate::FrameError;
use crate::cbor::{Reader, Writer};
use crate::message::{ContentType, Retain};

/// A retained value to be set or deleted, and under which conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Put<'a> {
    /// The version that the value must have now, 0 for none; `None` if it may have any.
    pub expect: Option<u64>,
    /// After how many milliseconds it is deleted again; 0 for never.
    pub ttl_ms: u32,
    /// Whether it is deleted when this client is gone.
    pub owned: bool,
    /// [`Retain::Set`] or [`Retain::Clear`].
    pub retain: Retain,
    /// What the payload is.
    pub content: ContentType,
    /// The topic, not yet checked.
    pub topic: &'a str,
    /// The value.
    pub payload: &'a [u8],
}

impl<'a> Put<'a> {
    pub(super) const ITEMS: usize = 7;

    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        Ok(Self {
            expect: r.optional(Reader::uint)?,
            ttl_ms: r.u32()?,
            owned: r.bool()?,
            retain: match Retain::read(r)? {
                Retain::No => return Err(FrameError::malformed("a put sets or clears")),
                retain => retain,
            },
            content: ContentType(r.u16()?),
            topic: r.text()?,
            payload: r.bytes()?,
        })
    }

    pub(super) fn write<'w, 'b>(&self, w: &'w mut Writer<'b>) -> &'w mut Writer<'b> {
        w.optional(self.expect, |w, version| {
            w.uint(version);
        })
        .uint(self.ttl_ms.into())
        .bool(self.owned)
        .uint(self.retain as u64)
        .uint(self.content.0.into())
        .text(self.topic)
        .bytes(self.payload)
    }
}
