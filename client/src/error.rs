use std::io;
use std::path::PathBuf;

use localhub_protocol::{Code, FrameError, NameError, TopicError};

use crate::endpoint::{ConnectError, Endpoint, EndpointError};
use crate::{Cause, Failure};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program that should serve as the broker did not start, or ended at once.
    #[error("the broker did not start with `{} serve` (run that yourself to see why)", .program.display())]
    Autostart {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a client, channel or service name.
    #[error("{name:?} is not a name")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// The text is not a topic or topic filter.
    #[error("{topic:?} is not a topic or topic filter")]
    BadTopic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        source: TopicError,
    },
    /// The client has ended and does not connect again: it was closed, or the broker closed it for a
    /// reason that another connection would not change.
    #[error("the client is closed: {reason}")]
    Closed {
        /// The broker's code, if the broker closed it.
        code: Option<Code>,
        /// Why, in words.
        reason: String,
    },
    /// There is no way to the broker, though it may be running.
    #[error(transparent)]
    Connect(ConnectError),
    /// The payload is not what [`Message::decode`](crate::Message::decode) or an answer should be.
    #[error("the payload cannot be decoded: {reason}")]
    Decode {
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no connection and no room to keep more for the next one, or the session ended
    /// before the broker confirmed this. In the second case it may or may not have been carried out.
    #[error("the connection to the broker is lost (it comes back by itself; try again then)")]
    Disconnected,
    /// The value cannot be written as a payload or presence state.
    #[error("the value cannot be encoded: {reason}")]
    Encode {
        /// What is wrong with it.
        reason: String,
    },
    /// The place where the broker should listen cannot be determined or trusted.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The handler of a request says that it went wrong.
    #[error("{0}")]
    Failed(Failure),
    /// There is no reply to a request, and there will be none: see
    /// [`Request::send`](crate::Request::send) for the codes.
    #[error("no reply ({}): {}", code.name(), if detail.is_empty() { code.description() } else { detail })]
    NoReply {
        /// Why.
        code: Code,
        /// Why, in words; may be empty.
        detail: String,
    },
    /// Nobody listens at the endpoint.
    #[error("no broker is running at {endpoint} (start one with `localhub serve`)")]
    NotRunning {
        /// Where the broker should listen.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The payload is larger than the broker allows. Nothing was sent.
    #[error("the payload has {bytes} bytes, the broker allows {max}")]
    PayloadTooLarge {
        /// The size of the payload.
        bytes: usize,
        /// The broker's limit.
        max: u64,
    },
    /// What answers at the endpoint does not speak this protocol.
    #[error(
        "{endpoint} does not answer as a localhub broker (is another program listening there?)"
    )]
    Protocol {
        /// Where it listens.
        endpoint: Endpoint,
        /// What is wrong with its answer.
        source: FrameError,
    },
    /// The broker refused the request.
    #[error("refused: {}", describe(*code, detail))]
    Refused {
        /// Why.
        code: Code,
        /// What is wrong, with its particulars; may be empty.
        detail: String,
    },
    /// The presence state is larger than the protocol allows. Nothing was sent.
    #[error("the presence state has {bytes} bytes, the limit is {max}")]
    StateTooLarge {
        /// The size of the encoded state.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There was no connection in time.
    #[error(
        "the broker at {endpoint} did not answer in time (see what it does with `localhub status`)"
    )]
    TimedOut {
        /// Where it listens.
        endpoint: Endpoint,
    },
}

impl Error {
    /// The code of [`Refused`](Self::Refused), [`NoReply`](Self::NoReply) and
    /// [`Closed`](Self::Closed), and [`Code::FAILED`] of [`Failed`](Self::Failed).
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::NoReply { code, .. } | Self::Refused { code, .. } => Some(*code),
            Self::Closed { code, .. } => *code,
            Self::Failed(_) => Some(Code::FAILED),
            _ => None,
        }
    }
}

/// Unconfirmed messages that the broker refused, or that a session took with it.
///
/// Whatever waits for the broker's answer gets an [`Error`] instead.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// What is wrong, with its particulars; may be empty.
    pub detail: String,
    /// How many messages: one for a refusal.
    pub messages: u64,
}

/// A code and its particulars as one text. Some particulars only say what the code says.
pub(crate) fn describe(code: Code, detail: &str) -> String {
    match detail {
        "" => code.to_string(),
        _ if detail == code.description() => code.to_string(),
        _ => format!("{code}: {detail}"),
    }
}
