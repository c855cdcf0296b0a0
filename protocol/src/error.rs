use crate::Code;

/// Why bytes are not a frame that may stand where they stand. The connection is closed with
/// [`FrameError::code`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes are not deterministic CBOR of the shape that the kind asks for.
    #[error("malformed frame: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// The kind is known, but this side may not send it, or not now.
    #[error("a frame of kind {kind} may not be sent by this side at this time")]
    OutOfOrder {
        /// The kind.
        kind: u64,
    },
    /// The frame is larger than what may be sent.
    #[error("a frame of {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// The length that the prefix claims.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// No frame of this protocol version has that kind.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u64,
    },
}

impl FrameError {
    pub(crate) const fn malformed(reason: &'static str) -> Self {
        Self::Malformed { reason }
    }

    /// The code that the connection is closed with.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::MALFORMED_FRAME,
            Self::OutOfOrder { .. } => Code::OUT_OF_ORDER,
            Self::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            Self::UnknownKind { .. } => Code::UNKNOWN_KIND,
        }
    }
}
