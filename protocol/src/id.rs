use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd,
            serde::Deserialize, serde::Serialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Identifies a client for as long as its session lives. Given by the broker, never given twice
    /// in one epoch.
    ClientId
}

impl ClientId {
    /// The broker itself: the sender of its own messages, the receiver of admin requests.
    pub const HUB: Self = Self(0);
}

number! {
    /// Identifies a channel for as long as it exists. Given by the broker at the first join, never
    /// given twice in one epoch.
    ChannelId
}

/// Identifies one life of a broker's state: sessions and positions of another epoch mean nothing.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Epoch(pub [u8; 16]);

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The secret with which a client comes back to its session: 256 random bits, good for one resume.
///
/// It is never shown: its `Debug` prints no part of it.
#[derive(Clone, Eq, PartialEq)]
pub struct ResumeToken(pub [u8; 32]);

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}
