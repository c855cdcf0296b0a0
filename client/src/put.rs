use std::fmt;
use std::time::Duration;

use localhub_protocol::{ChannelId, Epoch};

use crate::{Cursor, Message};

/// Under which conditions a value is set: see [`Channel::put`](crate::Channel::put).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "pass it to `Channel::put`"]
pub struct Put {
    pub(crate) expect: Option<ValueVersion>,
    pub(crate) ttl_ms: u32,
    pub(crate) owned: bool,
}

/// Which value a topic of a channel has, or that it has none.
///
/// It is the offset of the message that set the value, in one life of the channel. The numbers begin anew with
/// the channel and with the broker. So a version is that of no value in another life, whatever the numbers are:
/// a [`Put`] that expects it is refused there. Only one that was made from a bare number fits any life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValueVersion {
    place: Option<(Epoch, ChannelId)>,
    offset: u64,
}

impl Put {
    /// Whatever value there is, and for as long as nobody changes it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the value has this version. It is what [`Channel::put`](crate::Channel::put) gave, that of a
    /// [`Message`], that of [`LiveMap::version`](crate::LiveMap::version), or the offset alone.
    pub fn expect_version(mut self, version: impl Into<ValueVersion>) -> Self {
        self.expect = Some(version.into());
        self
    }

    /// Only if there is no value.
    pub fn expect_none(self) -> Self {
        self.expect_version(ValueVersion::NONE)
    }

    /// The broker deletes the value after this time, at most 49 days, if it is not set again.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        // 0 would be for ever.
        self.ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// The broker deletes the value when this client leaves the channel or its session ends; not while it is
    /// away.
    pub fn owned(mut self) -> Self {
        self.owned = true;
        self
    }
}

impl ValueVersion {
    /// There is no value.
    pub const NONE: Self = Self {
        place: None,
        offset: 0,
    };

    pub(crate) fn new(place: Option<(Epoch, ChannelId)>, offset: u64) -> Self {
        Self { place, offset }
    }

    /// The offset of the message that set the value; 0 if there is none.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Whether a value in that place may have it.
    pub(crate) fn may_be_in(self, place: Option<(Epoch, ChannelId)>) -> bool {
        self.place.is_none() || self.place == place
    }
}

/// The offset alone: such as people pass on.
impl fmt::Display for ValueVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offset.fmt(f)
    }
}

/// That of the value that the message set.
impl From<&Message> for ValueVersion {
    fn from(message: &Message) -> Self {
        Self::new(message.origin.place, message.offset)
    }
}

/// That of the value that the message with this cursor set.
impl From<Cursor> for ValueVersion {
    fn from(cursor: Cursor) -> Self {
        Self::new(Some((cursor.epoch, cursor.channel)), cursor.offset)
    }
}

/// A bare offset, of whatever life of the channel: it may be that of another value if there is another broker by now.
impl From<u64> for ValueVersion {
    fn from(offset: u64) -> Self {
        Self::new(None, offset)
    }
}
