use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX};

/// A label of a message inside a channel, such as `device/printer/state`.
///
/// 1 to 255 bytes of UTF-8, at most 16 levels separated by `/`, no level empty, no `+`, no `#`, no
/// control characters. Case matters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Topic(Arc<str>);

/// A pattern of topics, by the rules of MQTT 5 section 4.7: `+` stands for one level, a final `#` for
/// any number of further levels, none included. A topic that starts with `$` is matched only
/// by a filter that starts with the same level.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicFilter(Arc<str>);

impl Topic {
    /// Whether the text is a topic; the same check as parsing, without an allocation.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn check(text: &str) -> Result<(), TopicError> {
        check_levels(text, |_, level| match level.find(['+', '#']) {
            Some(at) => Err(TopicError::Wildcard {
                found: char::from(level.as_bytes()[at]),
            }),
            None => Ok(()),
        })
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TopicFilter {
    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the filter matches the topic.
    pub fn matches(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        if topic.starts_with('$') && self.0.split('/').next() != levels.clone().next() {
            return false;
        }
        for pattern in self.0.split('/') {
            if pattern == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if pattern == "+" || pattern == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for TopicFilter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check_levels(text, |last, level| match level {
            "+" => Ok(()),
            "#" if last => Ok(()),
            "#" => Err(TopicError::HashNotLast),
            _ => match level.find(['+', '#']) {
                Some(at) => Err(TopicError::Wildcard {
                    found: char::from(level.as_bytes()[at]),
                }),
                None => Ok(()),
            },
        })?;
        Ok(Self(text.into()))
    }
}

macro_rules! text {
    ($name:ident) => {
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

text!(Topic);
text!(TopicFilter);

/// Why a text is not a topic or topic filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// A control character.
    #[error("a topic cannot contain the control character {found:?}")]
    Control {
        /// The first such character.
        found: char,
    },
    /// The text is empty, or two slashes meet, or it starts or ends with one.
    #[error("a topic or a level of it between slashes is empty")]
    EmptyLevel,
    /// `#` before the last level.
    #[error("'#' may only be the last level of a topic filter")]
    HashNotLast,
    /// More bytes than a topic has.
    #[error("the topic has {bytes} bytes, the limit is 255")]
    TooLong {
        /// The length found.
        bytes: usize,
    },
    /// More levels than a topic has.
    #[error("the topic has {levels} levels, the limit is 16")]
    TooManyLevels {
        /// How many there are.
        levels: usize,
    },
    /// `+` or `#` where it has no meaning.
    #[error("{found:?} may only be a whole level of a topic filter, never part of a topic")]
    Wildcard {
        /// Which one.
        found: char,
    },
}

fn check_levels(
    text: &str,
    check: impl Fn(bool, &str) -> Result<(), TopicError>,
) -> Result<(), TopicError> {
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(TopicError::Control { found });
    }
    let mut levels = text.split('/').peekable();
    let mut count = 0;
    while let Some(level) = levels.next() {
        if level.is_empty() {
            return Err(TopicError::EmptyLevel);
        }
        check(levels.peek().is_none(), level)?;
        count += 1;
    }
    if count > TOPIC_LEVELS_MAX {
        return Err(TopicError::TooManyLevels { levels: count });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_by_the_rules_of_mqtt() {
        for (filter, topic, expected) in [
            ("device/+/state", "device/printer/state", true),
            ("device/+/state", "device/printer/tray/state", false),
            ("device/+/state", "device/state", false),
            ("device/#", "device", true),
            ("device/#", "device/printer/state", true),
            ("device/#", "devices/printer", false),
            ("#", "device", true),
            ("#", "$hub/clients", false),
            ("+/clients", "$hub/clients", false),
            ("$hub/#", "$hub/clients", true),
            ("+", "device", true),
            ("+", "device/printer", false),
            ("+/+", "device/printer", true),
            ("device/printer", "device/printer", true),
            ("Device", "device", false),
        ] {
            assert_eq!(
                filter.parse::<TopicFilter>().unwrap().matches(topic),
                expected,
                "{filter} {topic}"
            );
        }
    }

    #[test]
    fn a_topic_says_what_is_wrong_with_it() {
        assert_eq!("".parse::<Topic>(), Err(TopicError::EmptyLevel));
        assert_eq!("/a".parse::<Topic>(), Err(TopicError::EmptyLevel));
        assert_eq!(
            "a/+".parse::<Topic>(),
            Err(TopicError::Wildcard { found: '+' })
        );
        assert_eq!(
            "a\n".parse::<Topic>(),
            Err(TopicError::Control { found: '\n' })
        );
        assert_eq!(
            "x".repeat(256).parse::<Topic>(),
            Err(TopicError::TooLong { bytes: 256 })
        );
        assert_eq!(
            "a/".repeat(16).parse::<Topic>().unwrap_err(),
            TopicError::EmptyLevel,
            "the empty level is named before their number"
        );
        assert_eq!(
            ["a"; 17].join("/").parse::<Topic>(),
            Err(TopicError::TooManyLevels { levels: 17 })
        );
        assert!("Gerät/Größe 1".parse::<Topic>().is_ok());
    }

    #[test]
    fn a_filter_says_what_is_wrong_with_it() {
        assert_eq!("a/#/b".parse::<TopicFilter>(), Err(TopicError::HashNotLast));
        assert_eq!(
            "a+/b".parse::<TopicFilter>(),
            Err(TopicError::Wildcard { found: '+' })
        );
        assert_eq!(
            "a/b#".parse::<TopicFilter>(),
            Err(TopicError::Wildcard { found: '#' })
        );
        assert!("+/a/#".parse::<TopicFilter>().is_ok());
    }
}
