use localhub_protocol::{Code, FrameError, NameError, TopicError};

/// Why the hub did not do what a message asked for. The client is told, and the connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The text is not a channel name.
    #[error("{0}")]
    BadChannelName(NameError),
    /// The text is not a topic filter.
    #[error("{0}")]
    BadFilter(TopicError),
    /// An admin request that the broker does not know, or with other arguments than it takes.
    #[error("the broker does not know that request, or not with these arguments")]
    BadRequest,
    /// The text is not a service name.
    #[error("{0}")]
    BadServiceName(NameError),
    /// The text is not a topic.
    #[error("{0}")]
    BadTopic(TopicError),
    /// The command id was used for another command.
    #[error("that command id was used for another command (use a new one for each)")]
    IdReuse,
    /// The arguments do not go together, or not with what is there.
    #[error("{what}")]
    Impossible {
        /// Why.
        what: &'static str,
    },
    /// There may be no more of something.
    #[error("{what}: the limit is {limit}")]
    LimitReached {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// Nobody who is there serves it.
    #[error("nobody serves that now (start it, or try again later)")]
    NoSuchService,
    /// The sender is not a member of the channel.
    #[error("not a member of that channel (join it first)")]
    NotAMember,
    /// The client does not serve that.
    #[error("the client does not serve that")]
    NotServing,
    /// The session holds no such subscription.
    #[error("no such subscription")]
    NotSubscribed,
    /// The receiver has too much waiting already.
    #[error("the receiver has too many unread messages (try again later)")]
    OutboxFull,
    /// The payload is larger than allowed.
    #[error("the payload has {bytes} bytes, the limit is {max}")]
    PayloadTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The channel, or the hub, keeps as many retained values as it may.
    #[error("the channel keeps as many retained values as it may (clear some)")]
    RetainedFull,
    /// The command is older than those that the hub still knows.
    #[error("the broker does not know any more whether that command was carried out (find out)")]
    StaleCommand,
    /// The presence state is too large.
    #[error("the presence state has {bytes} bytes, the limit is {max}")]
    StateTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// There is no such channel.
    #[error("no such channel")]
    UnknownChannel,
    /// The channel has not come to that offset.
    #[error(
        "the channel is at offset {offset} and never came to {after} (start from what it keeps)"
    )]
    UnknownOffset {
        /// The offset to start after.
        after: u64,
        /// Where the channel is.
        offset: u64,
    },
    /// Nobody goes by that id or name.
    #[error("no such client is connected")]
    UnknownClient,
    /// The request is over, or was never made to this client.
    #[error("the request is over, or was never made to this client")]
    UnknownRequest,
    /// The value has another version.
    #[error("it has version {version}, and not {expected}")]
    VersionConflict {
        /// The version that it should have, 0 for none.
        expected: u64,
        /// The version that it has, 0 for none.
        version: u64,
    },
}

impl Refusal {
    /// The refusal as a number on the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::BadChannelName(_) => Code::BAD_CHANNEL_NAME,
            Self::BadFilter(_) => Code::BAD_FILTER,
            Self::BadRequest => Code::BAD_REQUEST,
            Self::BadServiceName(_) => Code::BAD_SERVICE_NAME,
            Self::BadTopic(_) => Code::BAD_TOPIC,
            Self::IdReuse => Code::ID_REUSE,
            Self::Impossible { .. } => Code::BAD_REQUEST,
            Self::NoSuchService => Code::NO_SUCH_SERVICE,
            Self::NotServing => Code::NOT_SERVING,
            Self::StaleCommand => Code::STALE_COMMAND,
            Self::UnknownRequest => Code::UNKNOWN_REQUEST,
            Self::VersionConflict { .. } => Code::VERSION_CONFLICT,
            Self::LimitReached { .. } => Code::LIMIT_REACHED,
            Self::NotAMember => Code::NOT_A_MEMBER,
            Self::NotSubscribed => Code::NOT_SUBSCRIBED,
            Self::OutboxFull => Code::OUTBOX_FULL,
            Self::PayloadTooLarge { .. } => Code::PAYLOAD_TOO_LARGE,
            Self::RetainedFull => Code::RETAINED_FULL,
            Self::StateTooLarge { .. } => Code::STATE_TOO_LARGE,
            Self::UnknownChannel => Code::UNKNOWN_CHANNEL,
            Self::UnknownOffset { .. } => Code::UNKNOWN_OFFSET,
            Self::UnknownClient => Code::UNKNOWN_CLIENT,
        }
    }
}

/// Why a connection must end: the client is told the code and the detail, and nothing more is read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}{}{detail}", .code.name(), if .detail.is_empty() { "" } else { ": " })]
pub struct Close {
    /// The close code.
    pub code: Code,
    /// The particulars; empty where the code says it all.
    pub detail: String,
}

impl Close {
    /// A close with particulars.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

impl From<Code> for Close {
    fn from(code: Code) -> Self {
        Self {
            code,
            detail: String::new(),
        }
    }
}

impl From<FrameError> for Close {
    fn from(error: FrameError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
