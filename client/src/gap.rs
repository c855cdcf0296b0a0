use std::fmt;

use localhub_protocol::{ChannelName, Code};

/// Messages that were lost, in the place where they are missing.
///
/// The broker counts what it drops for a client by channel, not by filter: every stream of the
/// channel is told, though the lost messages may have been for another one of them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel they were lost from; `None` for direct messages, and if nobody knows.
    pub channel: Option<ChannelName>,
    /// How many; `None` if nobody knows, because the session that counted them is gone.
    pub lost: Option<u64>,
    /// Why. Of gaps that met and became one, the cause that lost most.
    pub cause: Cause,
}

/// Why messages were lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The broker dropped or refused them.
    Broker(Code),
    /// The stream was read too slowly: its inbox was full, see
    /// [`Options::inbox_messages`](crate::Options::inbox_messages).
    InboxFull,
    /// The channel's history did not reach so far back.
    NotKept,
    /// The session ended while there was no connection: it was away for too long, or the broker was
    /// started anew.
    SessionLost,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(code) => fmt::Display::fmt(code, f),
            Self::InboxFull => f.pad("this stream was read too slowly"),
            Self::NotKept => f.pad("the channel's history does not reach so far back"),
            Self::SessionLost => f.pad("the session ended while there was no connection"),
        }
    }
}

impl Gap {
    /// Makes this gap one with another that follows it at once.
    pub(crate) fn merge(&mut self, next: Self) {
        // Unknown counts as most.
        let size = |gap: &Self| gap.lost.unwrap_or(u64::MAX);
        if size(&next) > size(self) {
            self.cause = next.cause;
        }
        self.lost = self
            .lost
            .zip(next.lost)
            .map(|(lost, more)| lost.saturating_add(more));
        if self.channel != next.channel {
            self.channel = None;
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost {
            Some(1) => f.write_str("1 message")?,
            Some(lost) => write!(f, "{lost} messages")?,
            None => f.write_str("an unknown number of messages")?,
        }
        match &self.channel {
            Some(channel) => write!(f, " of channel {channel}")?,
            None => f.write_str(" to this client")?,
        }
        let verb = if self.lost == Some(1) { "was" } else { "were" };
        write!(f, " {verb} lost: {}", self.cause)
    }
}

impl std::error::Error for Gap {}
