use crate::cbor::{Reader, Writer};
use crate::{ClientId, FrameError};

/// One member of a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member<'a> {
    /// The member's session.
    pub client: ClientId,
    /// The member's name.
    pub name: &'a str,
    /// Whether it has a connection.
    pub status: Status,
    /// Its presence state.
    pub state: &'a [u8],
}

/// Whether a member has a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Status {
    /// It has.
    Online = 0,
    /// It lost it, and its session waits for it to come back.
    Away = 1,
    /// It has one, but does not read what is sent to it, or answer.
    Stalled = 2,
}

/// What changed in a channel's presence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Change {
    /// The member joined.
    Joined = 0,
    /// The member left.
    Left = 1,
    /// The member set another state.
    Updated = 2,
    /// The member lost its connection.
    Away = 3,
    /// The member came back, or goes on.
    Back = 4,
    /// The member does not read or answer any more, but is still connected.
    Stalled = 5,
}

impl<'a> Member<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        r.array_of(4)?;
        Ok(Self {
            client: ClientId(r.uint()?),
            name: r.text()?,
            status: match r.uint()? {
                0 => Status::Online,
                1 => Status::Away,
                2 => Status::Stalled,
                _ => return Err(FrameError::malformed("a member's status is 0 to 2")),
            },
            state: r.bytes()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        w.array(4)
            .uint(self.client.0)
            .text(self.name)
            .uint(self.status as u64)
            .bytes(self.state);
    }
}

impl Change {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match r.uint()? {
            0 => Self::Joined,
            1 => Self::Left,
            2 => Self::Updated,
            3 => Self::Away,
            4 => Self::Back,
            5 => Self::Stalled,
            _ => return Err(FrameError::malformed("a presence change is 0 to 5")),
        })
    }
}
