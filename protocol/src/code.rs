use std::fmt;

/// Why a request was refused or a connection closed, as a number on the wire.
///
/// Codes below 100 refuse one request; the connection goes on. Codes from 100 close the
/// connection. A code this version does not know still says which of the two it is. A code is
/// never given a second meaning.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal, $description:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $constant: Self = Self($number);)*

            /// Every code of this version, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// The code as one word, for logs and programs: `unknown` if this version does not know it.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => $name,)*
                    _ => "unknown",
                }
            }

            /// The code in words, as the end of a sentence.
            pub const fn description(self) -> &'static str {
                match self.0 {
                    $($number => $description,)*
                    _ => "a reason that this version does not know",
                }
            }
        }
    };
}

codes! {
    /// The sender is not a member of the channel.
    NOT_A_MEMBER = 1, "not_a_member", "not a member of that channel (join it first)";
    /// The receiver has too much waiting already.
    OUTBOX_FULL = 2, "outbox_full", "the receiver has too many unread messages (try again later)";
    /// Nobody goes by that id or name.
    UNKNOWN_CLIENT = 3, "unknown_client", "no such client is connected";
    /// The payload is larger than the broker's limit.
    PAYLOAD_TOO_LARGE = 4, "payload_too_large", "the payload is larger than the broker allows";
    /// The text is not a channel name.
    BAD_CHANNEL_NAME = 5, "bad_channel_name", "that is not a channel name";
    /// The text is not a topic.
    BAD_TOPIC = 6, "bad_topic", "that is not a topic";
    /// The text is not a topic filter.
    BAD_FILTER = 7, "bad_filter", "that is not a topic filter";
    /// A limit of the broker on how many of something there may be is reached.
    LIMIT_REACHED = 8, "limit_reached", "a limit of the broker is reached";
    /// The policy does not allow it.
    NOT_ALLOWED = 9, "not_allowed", "the broker's policy does not allow that";
    /// The broker does not offer this feature.
    NOT_SUPPORTED = 10, "not_supported", "this broker does not support that";
    /// The presence state is too large.
    STATE_TOO_LARGE = 11, "state_too_large", "a member's presence state has at most 4 KiB";
    /// The session holds no such subscription.
    NOT_SUBSCRIBED = 12, "not_subscribed", "no such subscription";
    /// The channel keeps as many retained values, or bytes of them, as it may.
    RETAINED_FULL = 13, "retained_full", "the channel keeps as many retained values as it may";
    /// The request is not one that the broker knows, or its arguments do not fit.
    BAD_REQUEST = 14, "bad_request", "the broker does not know that request, or not with these arguments";
    /// There is no channel of that name.
    UNKNOWN_CHANNEL = 15, "unknown_channel", "no such channel";
    /// The channel has not come to that offset: it is of another channel, or of another epoch.
    UNKNOWN_OFFSET = 16, "unknown_offset", "the channel never came to that offset";
    /// The text is not a service name.
    BAD_SERVICE_NAME = 17, "bad_service_name", "that is not a service name";
    /// Nobody who is there serves it.
    NO_SUCH_SERVICE = 18, "no_such_service", "nobody serves that now (start it, or try again later)";
    /// The client does not serve that.
    NOT_SERVING = 19, "not_serving", "the client does not serve that";
    /// The request is over, or was never made to this client.
    UNKNOWN_REQUEST = 20, "unknown_request", "the request is over, or was never made to this client";
    /// The handler says that it went wrong; the payload says how.
    FAILED = 21, "failed", "the handler says that it went wrong";
    /// There was no reply in time.
    DEADLINE = 22, "deadline", "there was no reply in time";
    /// The caller cancelled the request.
    CANCELLED = 23, "cancelled", "the caller cancelled the request";
    /// The session at the other end of the request has ended.
    PEER_GONE = 24, "peer_gone", "the client at the other end is gone";
    /// The command id was used for another command.
    ID_REUSE = 25, "id_reuse", "that command id was used for another command (use a new one for each)";
    /// The command is older than those that the broker still knows.
    STALE_COMMAND = 26, "stale_command", "the broker does not know any more whether that command was carried out (find out)";
    /// The handler was lost while it may have carried out the command.
    OUTCOME_UNKNOWN = 27, "outcome_unknown", "the handler was lost and may have carried out the command (find out)";
    /// The handler was lost before it got the command.
    NOT_EXECUTED = 28, "not_executed", "the handler was lost before it got the command (send it again)";
    /// The value has another version.
    VERSION_CONFLICT = 29, "version_conflict", "the value has another version (read it again)";

    /// The client said goodbye: its session is over.
    GOODBYE = 100, "goodbye", "the client ended its session";
    /// The bytes are not a frame of this protocol.
    MALFORMED_FRAME = 101, "malformed_frame", "the bytes are not a frame of this protocol";
    /// The frame is larger than the broker's limit.
    FRAME_TOO_LARGE = 102, "frame_too_large", "the frame is larger than allowed";
    /// The frame kind is not one of this protocol version.
    UNKNOWN_KIND = 103, "unknown_kind", "the frame kind is unknown in this protocol version";
    /// The frame is known, but not at this time or not from this side.
    OUT_OF_ORDER = 104, "out_of_order", "that frame may not be sent by this side at this time";
    /// The two sides have no protocol version in common.
    VERSION_MISMATCH = 105, "version_mismatch", "client and broker have no protocol version in common (update the older one)";
    /// No `Hello` came in time.
    HELLO_TIMEOUT = 106, "hello_timeout", "no hello came in time";
    /// Another connected client has that name.
    NAME_TAKEN = 107, "name_taken", "another connected client has that name (choose another, or kick it)";
    /// The text is not a client name.
    BAD_CLIENT_NAME = 108, "bad_client_name", "that is not a client name";
    /// A newer connection took the session over.
    SUPERSEDED = 109, "superseded", "a newer connection took the session over";
    /// An operator closed the connection and ended the session.
    KICKED = 110, "kicked", "an operator ended the session";
    /// The broker stops.
    SHUTTING_DOWN = 111, "shutting_down", "the broker is stopping";
    /// The client did not answer pings.
    PING_TIMEOUT = 112, "ping_timeout", "the client did not answer in time";
    /// The client read too slowly.
    SLOW_CONSUMER = 113, "slow_consumer", "the client read too slowly";
    /// The broker has as many connections or sessions as it may.
    TOO_MANY_CONNECTIONS = 114, "too_many_connections", "the broker has as many connections as it may";
    /// The user may not connect.
    USER_NOT_ALLOWED = 115, "user_not_allowed", "this user may not connect to this broker";
    /// The resume token is wrong, spent or of another user.
    BAD_TOKEN = 116, "bad_token", "the resume token is wrong or was used before";
    /// The client confirmed messages that it was never sent.
    BAD_POSITION = 117, "bad_position", "a position was confirmed that was never sent";
    /// The client's process is dead.
    PROCESS_DIED = 118, "process_died", "the client's process died";
    /// The connection broke.
    CONNECTION_LOST = 119, "connection_lost", "the connection was lost";
    /// Nobody came back to the session in time.
    SESSION_EXPIRED = 120, "session_expired", "the client did not come back in time";
    /// A newer message of the same topic took its place.
    CONFLATED = 121, "conflated", "a newer message of the topic took its place";
}

impl Code {
    /// Whether the connection ends with this code.
    pub const fn closes(self) -> bool {
        self.0 >= 100
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.description())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_names_are_unique() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn a_code_of_a_newer_broker_still_says_whether_it_closes() {
        assert!(!Code(99).closes());
        assert!(Code(4_000).closes());
        assert_eq!(Code(4_000).name(), "unknown");
    }
}
