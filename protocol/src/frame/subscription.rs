use crate::FrameError;
use crate::cbor::{Reader, Writer};

/// What a subscription begins with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Start {
    /// What is published from now on, and nothing from before.
    Live,
    /// The last value of each topic that matches and has one.
    #[default]
    Retained,
    /// The last messages of the channel's history that match, so many of them at most.
    Last(u64),
    /// The messages of the channel's history that match and have a higher offset.
    After(u64),
}

/// What becomes of a subscription's messages when its client reads too slowly.
///
/// A client with several subscriptions that match gets a message once, under the policy that gives up least:
/// `Park`, `Block`, `DropOldest`, `DropNewest`, `Latest`, in that order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Policy {
    /// The oldest that wait make room for newer ones.
    #[default]
    DropOldest = 0,
    /// What does not fit any more is itself dropped.
    DropNewest = 1,
    /// At most one message of each topic waits: a newer one takes the place of an older one.
    Latest = 2,
    /// Publishers wait longer before the oldest are dropped.
    Block = 3,
    /// The connection is closed, and the session waits for its client with what it holds.
    Park = 4,
}

impl Start {
    /// The items of a `Start` on the wire.
    pub(super) const ITEMS: usize = 2;

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match (r.uint()?, r.uint()?) {
            (0, 0) => Self::Live,
            (1, 0) => Self::Retained,
            (2, count) => Self::Last(count),
            (3, offset) => Self::After(offset),
            (0 | 1, _) => return Err(FrameError::malformed("that start has no argument but 0")),
            _ => return Err(FrameError::malformed("a start is 0 to 3")),
        })
    }

    pub(super) fn write<'w, 'b>(self, w: &'w mut Writer<'b>) -> &'w mut Writer<'b> {
        let (start, argument) = match self {
            Self::Live => (0, 0),
            Self::Retained => (1, 0),
            Self::Last(count) => (2, count),
            Self::After(offset) => (3, offset),
        };
        w.uint(start).uint(argument)
    }
}

impl Policy {
    /// Every policy, with its name, by ascending number.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::DropOldest, "drop_oldest"),
        (Self::DropNewest, "drop_newest"),
        (Self::Latest, "latest"),
        (Self::Block, "block"),
        (Self::Park, "park"),
    ];

    /// The policy as one word.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        let number = r.uint()?;
        let found = usize::try_from(number).ok().and_then(|n| Self::ALL.get(n));
        found
            .map(|(policy, _)| *policy)
            .ok_or(FrameError::malformed("a policy is 0 to 4"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_stand_at_their_numbers() {
        for (number, (policy, _)) in Policy::ALL.iter().enumerate() {
            assert_eq!(*policy as usize, number);
        }
    }
}
