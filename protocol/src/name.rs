use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{CHANNEL_NAME_BYTES_MAX, CLIENT_NAME_BYTES_MAX};

/// The name of a channel: 1 to 255 bytes, segments of `[a-z0-9._-]` separated by `/`.
///
/// A `ChannelName` that exists is valid, so no code past the decoder checks names again.
/// Clones share one allocation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelName(Arc<str>);

/// The name of a client: 1 to 64 bytes of `[a-z0-9._-]`, not digits alone: where a client is asked for
/// by name or id, those are an id.
///
/// At one time, one connected client has a name. A name never authorises anything.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientName(Arc<str>);

/// The name of a service: 1 to 64 bytes of `[a-z0-9._-]`, not digits alone, as a client name is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceName(Arc<str>);

impl FromStr for ChannelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(NameError::TooLong {
                bytes: text.len(),
                max: CHANNEL_NAME_BYTES_MAX,
            });
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(text.into()))
    }
}

impl ClientName {
    const HUB: &str = "hub";

    /// The broker's own name, which it gives to no client.
    pub fn hub() -> Self {
        Self(Self::HUB.into())
    }
}

impl FromStr for ClientName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_single(text).map(|()| Self(text.into()))
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_single(text).map(|()| Self(text.into()))
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text!(ChannelName);
text!(ClientName);
text!(ServiceName);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty, or two slashes meet, or it starts or ends with one.
    #[error("a name or a part of it between slashes is empty")]
    EmptySegment,
    /// A character that names do not have.
    #[error("a name cannot contain {found:?} (use a-z 0-9 . _ -)")]
    Forbidden {
        /// The first such character.
        found: char,
    },
    /// A client or service name of digits alone, which would be taken for an id.
    #[error("such a name cannot be digits alone (that is how an id looks)")]
    OnlyDigits,
    /// More bytes than a name of this kind has.
    #[error("the name has {bytes} bytes, the limit is {max}")]
    TooLong {
        /// The length found.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// Whether a text is the name of a client or service.
fn check_single(text: &str) -> Result<(), NameError> {
    if text.len() > CLIENT_NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: text.len(),
            max: CLIENT_NAME_BYTES_MAX,
        });
    }
    check_segment(text)?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameError::OnlyDigits);
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::EmptySegment);
    }
    let forbidden = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    match segment.chars().find(forbidden) {
        Some(found) => Err(NameError::Forbidden { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_wrong_with_it() {
        assert_eq!("".parse::<ChannelName>(), Err(NameError::EmptySegment));
        assert_eq!("a//b".parse::<ChannelName>(), Err(NameError::EmptySegment));
        assert_eq!(
            "Room".parse::<ChannelName>(),
            Err(NameError::Forbidden { found: 'R' })
        );
        assert_eq!(
            "x".repeat(256).parse::<ChannelName>(),
            Err(NameError::TooLong {
                bytes: 256,
                max: 255
            })
        );
        assert_eq!(
            "build/web-1".parse::<ChannelName>().unwrap().as_str(),
            "build/web-1"
        );
    }

    #[test]
    fn a_client_name_has_one_segment() {
        assert_eq!(
            "a/b".parse::<ClientName>(),
            Err(NameError::Forbidden { found: '/' })
        );
        assert_eq!("".parse::<ClientName>(), Err(NameError::EmptySegment));
        assert_eq!(
            "sysmon.2".parse::<ClientName>().unwrap().as_str(),
            "sysmon.2"
        );
        assert!("x".repeat(65).parse::<ClientName>().is_err());
        assert_eq!("17".parse::<ClientName>(), Err(NameError::OnlyDigits));
    }
}
