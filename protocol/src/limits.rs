//! Every limit of the wire, in one place, each with its reason.
//!
//! What a broker may be configured to is a field of [`Limits`] and is told in the `Welcome`;
//! what can never change is a constant.

/// A `Hello` has at most this many bytes, its length prefix not counted.
///
/// Whoever is not yet known gets no more memory than this.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;

/// What a frame may have beside its payload: the largest header is a join with its state.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The smallest payload limit that a broker may be configured to: every client may count on 1 MiB.
pub const PAYLOAD_BYTES_MAX_FLOOR: usize = 1024 * 1024;

/// The largest payload limit that a broker may be configured to: 1 GiB keeps lengths well below `u32`.
pub const PAYLOAD_BYTES_MAX_CEILING: usize = 1024 * 1024 * 1024;

/// A channel name has at most this many bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// A client name has at most this many bytes: it is repeated in every run header.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

/// A topic or topic filter has at most this many bytes.
pub const TOPIC_BYTES_MAX: usize = 255;

/// A topic or topic filter has at most this many levels: the cost of a match grows with them.
pub const TOPIC_LEVELS_MAX: usize = 16;

/// The presence state of one member has at most this many bytes: every joiner is sent all of them.
pub const PRESENCE_STATE_BYTES_MAX: usize = 4 * 1024;

/// The text that goes with a refusal or close has at most this many bytes.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// The features of a `Hello` or `Welcome` are at most this many.
pub const FEATURES_MAX: usize = 32;

/// One `Members` frame lists at most this many members; a larger channel takes several frames.
///
/// So many of the largest states fit into a frame, whatever payload limit the broker is configured to.
pub const MEMBERS_PER_FRAME_MAX: usize = 128;

/// The wills of one member of a channel are at most this many: they are all published at one moment.
pub const WILLS_MAX: usize = 16;

/// The method of a request has at most this many bytes: it is a name and not an argument.
pub const METHOD_BYTES_MAX: usize = 255;

/// The description of a service has at most this many bytes: operators are shown all of them.
pub const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;

/// What a broker allows its clients, as its `Welcome` tells them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The payload of one message, in bytes (default: 8 MiB).
    pub payload_bytes: u64,
    /// What may wait in a session's outbox, confirmed by the client or not, in bytes (default: 32 MiB).
    pub outbox_bytes: u64,
    /// What may wait in a session's outbox, in messages (default: 262,144).
    pub outbox_messages: u64,
    /// The channels that one session may be in (default: 1,024).
    pub channels: u64,
    /// The subscriptions that one session may hold, over all channels (default: 4,096).
    pub subscriptions: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 8 * 1024 * 1024,
            // Four messages of the largest size, so that one of them cannot fill the outbox alone.
            outbox_bytes: 32 * 1024 * 1024,
            // A quarter of a million small messages: half a second of what one app can print.
            outbox_messages: 262_144,
            channels: 1_024,
            subscriptions: 4_096,
        }
    }
}

impl Limits {
    /// The largest frame, in bytes, its length prefix not counted.
    pub const fn frame_bytes(&self) -> usize {
        self.payload_bytes as usize + HEADER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerFrame, ChannelId, ClientId, Member, PREFIX_BYTES, Status};

    #[test]
    fn the_largest_frames_fit_the_smallest_limit() {
        let limits = Limits {
            payload_bytes: PAYLOAD_BYTES_MAX_FLOOR as u64,
            ..Limits::default()
        };
        let name = "n".repeat(CLIENT_NAME_BYTES_MAX);
        let member = Member {
            client: ClientId(u64::MAX),
            name: &name,
            status: Status::Away,
            state: &[0; PRESENCE_STATE_BYTES_MAX],
        };
        let mut frame = Vec::new();
        BrokerFrame::Members {
            request: u64::MAX,
            channel: ChannelId(u64::MAX),
            revision: u64::MAX,
            more: true,
            members: vec![member; MEMBERS_PER_FRAME_MAX],
        }
        .encode(&mut frame);
        assert!(
            frame.len() - PREFIX_BYTES <= limits.frame_bytes(),
            "{} bytes",
            frame.len()
        );
    }
}
