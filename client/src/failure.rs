use std::fmt;

use ciborium::Value;
use localhub_protocol::{Code, ContentType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Payload};

/// Why a handler could not do what a request asks for, in its own words.
///
/// The code is for programs, and the handler's own; the SDK itself uses these:
///
/// | code | when |
/// | --- | --- |
/// | `bad_payload` | the request's payload is not what the handler decodes |
/// | `cancelled` | a command was cancelled before the handler was done |
/// | `dropped` | the handler gave no answer |
/// | `incomplete` | a part of a streamed request or reply was lost on the way |
/// | `not_served` | the client does not take that request |
/// | `overloaded` | too many requests wait for the handler |
/// | `overrun` | the caller of a streamed request sent more than it was allowed to |
/// | `panicked` | the handler panicked |
///
/// ```
/// use localhub_client::Failure;
///
/// let failure = Failure::new("paper_jam", "the paper is stuck").details(&["tray 2"])?;
/// assert_eq!(failure.to_string(), "the paper is stuck (paper_jam)");
/// assert_eq!(failure.decode_details::<[String; 1]>()?, ["tray 2"]);
/// # Ok::<(), localhub_client::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    code: String,
    message: String,
    details: Value,
}

impl Failure {
    /// A failure without details: a code such as `paper_jam`, and what went wrong, for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            details: Value::Null,
        }
    }

    /// Adds particulars for programs (default: none).
    ///
    /// # Errors
    /// [`Error::Encode`] if the type cannot be written as CBOR.
    pub fn details<T: Serialize + ?Sized>(mut self, details: &T) -> Result<Self, Error> {
        self.details = Value::serialized(details).map_err(|error| Error::Encode {
            reason: error.to_string(),
        })?;
        Ok(self)
    }

    /// The code, such as `paper_jam`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The particulars as a value. None at all are `()`, or the `None` of an `Option`.
    ///
    /// # Errors
    /// [`Error::Decode`] if they are not a `T`.
    pub fn decode_details<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.details.deserialized().map_err(|error| Error::Decode {
            reason: error.to_string(),
        })
    }

    pub(crate) fn encode(&self) -> Payload {
        let text = |text: &str| Value::Text(text.to_owned());
        let map = Value::Map(vec![
            (text("code"), text(&self.code)),
            (text("message"), text(&self.message)),
            (text("details"), self.details.clone()),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&map, &mut bytes).expect("a vector takes any value");
        Payload::new(ContentType::CBOR, bytes)
    }

    /// What a handler sent as its failure. What is not in order is made the best of.
    pub(crate) fn decode(content: ContentType, payload: &[u8]) -> Self {
        let map = match content {
            ContentType::TEXT => None,
            _ => ciborium::from_reader(payload).ok(),
        };
        let mut failure = Self::new(Code::FAILED.name(), "");
        if let Some(Value::Map(entries)) = map {
            for (key, value) in entries {
                match (key.as_text(), value) {
                    (Some("code"), Value::Text(code)) => failure.code = code,
                    (Some("message"), Value::Text(message)) => failure.message = message,
                    (Some("details"), details) => failure.details = details,
                    _ => {}
                }
            }
        } else if let Ok(text) = std::str::from_utf8(payload) {
            text.clone_into(&mut failure.message);
        }
        if failure.message.is_empty() {
            "the handler does not say why".clone_into(&mut failure.message);
        }
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    /// For handlers that use `?`: a request that cannot be decoded is `bad_payload`, what another
    /// handler said is passed on, and everything else is `error`.
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(failure) => failure,
            Error::Decode { .. } => Self::new("bad_payload", error.to_string()),
            _ => Self::new("error", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let sent = Failure::new("jam", "stuck").details(&(2, "tray")).unwrap();
        let payload = sent.encode();
        let got = Failure::decode(payload.content(), payload.bytes());
        assert_eq!(got, sent);
        assert_eq!(got.decode_details::<(u8, String)>().unwrap().1, "tray");
        assert_eq!(
            Failure::new("a", "b")
                .decode_details::<Option<u8>>()
                .unwrap(),
            None
        );
    }

    #[test]
    fn a_failure_that_is_not_in_order_still_says_something() {
        let decode = |content, payload| Failure::decode(content, payload).to_string();
        let silent = "the handler does not say why (failed)";
        assert_eq!(decode(ContentType::TEXT, b"stuck"), "stuck (failed)");
        assert_eq!(decode(ContentType::CBOR, b""), silent);
        assert_eq!(decode(ContentType::CBOR, &[0xff, 0xfe]), silent);
        // {"code": 5, "message": "x"}
        let odd = b"\xa2\x64code\x05\x67message\x61x";
        assert_eq!(decode(ContentType::CBOR, odd), "x (failed)");
    }
}
