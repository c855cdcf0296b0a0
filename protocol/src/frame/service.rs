//! What is said about services and streamed requests beside the messages themselves.

use crate::cbor::{Reader, Writer};
use crate::{ClientId, FrameError, kind};

/// Lets the other side of a streamed request send more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credit {
    /// Who made the request.
    pub of: ClientId,
    /// Its position among the messages of that client.
    pub request: u64,
    /// How many more payload bytes.
    pub bytes: u64,
}

/// Who else may serve a service.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum ServeMode {
    /// Any number of clients.
    #[default]
    Shared = 0,
    /// One at a time; the others wait in a queue.
    Exclusive = 1,
    /// As exclusive, but taken from who has it.
    Takeover = 2,
}

/// Whether a client has a service that one client has at a time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum LeaseState {
    /// It waits for it.
    Queued = 0,
    /// It has it.
    Held = 1,
    /// It had it, and another took it over.
    Lost = 2,
}

impl Credit {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            of: ClientId(r.uint()?),
            request: r.uint()?,
            bytes: r.uint()?,
        })
    }

    pub(super) fn write<'w, 'b>(&self, w: &'w mut Writer<'b>) -> &'w mut Writer<'b> {
        w.array(4)
            .uint(kind::CREDIT)
            .uint(self.of.0)
            .uint(self.request)
            .uint(self.bytes)
    }
}

impl ServeMode {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        match r.uint()? {
            0 => Ok(Self::Shared),
            1 => Ok(Self::Exclusive),
            2 => Ok(Self::Takeover),
            _ => Err(FrameError::malformed("a mode of serving is 0, 1 or 2")),
        }
    }
}

impl LeaseState {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        match r.uint()? {
            0 => Ok(Self::Queued),
            1 => Ok(Self::Held),
            2 => Ok(Self::Lost),
            _ => Err(FrameError::malformed("the state of a lease is 0, 1 or 2")),
        }
    }
}
