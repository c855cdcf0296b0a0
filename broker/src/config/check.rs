//! Whether every value of a configuration is one that its key allows.

use std::path::Path;

use localhub_client::endpoint::{Endpoint, EndpointError};

use super::load::{ConfigError, Origin, Origins};
use super::{Allowed, Config, KEYS, grouped};
use crate::logging;

/// Checks every value against the table, and those that must fit each other.
pub(super) fn check(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let origin = |path: &str| origins.get(path).cloned().unwrap_or_default();
    let table = toml::Table::try_from(config).map_err(|error| ConfigError::Malformed {
        origin: Origin::default(),
        reason: error.to_string(),
    })?;
    for key in KEYS {
        if let Some(value) = key.value(&table)
            && let Some(allowed) = allowed_instead(key.allowed, &value)
        {
            let key = key.path();
            let (origin, found) = (origin(&key), value.to_string());
            return Err(ConfigError::NotAllowed {
                origin,
                key,
                found,
                allowed,
            });
        }
    }
    for fit in fits(config) {
        if fit.value < fit.least {
            return Err(ConfigError::Conflict {
                origin: origin(fit.key),
                key: fit.key.into(),
                found: grouped(fit.value),
                reason: format!("but {} (raise it, or lower {})", fit.because, fit.other),
            });
        }
    }
    Ok(())
}

/// What is allowed, if the value is not.
fn allowed_instead(allowed: Allowed, value: &toml::Value) -> Option<String> {
    let text = value.as_str().unwrap_or_default();
    match allowed {
        Allowed::Directory => (!Path::new(text).is_absolute()).then(|| allowed.to_string()),
        Allowed::Endpoint => Some(match Endpoint::new(text).err()? {
            EndpointError::Invalid { reason, .. } => format!("{allowed} ({reason})"),
            EndpointError::TooLong { limit, .. } => format!("{allowed} of at most {limit} bytes"),
            _ => allowed.to_string(),
        }),
        Allowed::Flag => None,
        Allowed::LogLevel => {
            let error = logging::check_level(text).err()?;
            Some(format!("{allowed} ({error})"))
        }
        Allowed::Number { min, max } => {
            let number = value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok());
            let fits = number.is_some_and(|number| (min..=max).contains(&number));
            (!fits).then(|| allowed.to_string())
        }
    }
}

/// A value that must not be less than what another one makes necessary.
struct Fit {
    key: &'static str,
    value: u64,
    least: u64,
    because: String,
    other: &'static str,
}

fn fits(config: &Config) -> [Fit; 3] {
    let Config {
        limits, session, ..
    } = config;
    let message_bytes = config.message_bytes();
    [
        Fit {
            key: "limits.outbox_bytes",
            value: limits.outbox_bytes,
            least: message_bytes,
            because: format!("one message may have {}", grouped(message_bytes)),
            other: "limits.payload_bytes",
        },
        Fit {
            key: "limits.memory_bytes",
            value: limits.memory_bytes,
            least: limits.outbox_bytes,
            because: format!("one outbox may have {}", grouped(limits.outbox_bytes)),
            other: "limits.outbox_bytes",
        },
        Fit {
            key: "session.ttl_max_ms",
            value: session.ttl_max_ms,
            least: session.ttl_ms,
            because: format!("session.ttl_ms is {}", grouped(session.ttl_ms)),
            other: "session.ttl_ms",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::load::parse;

    fn mistake(text: &str) -> String {
        parse(text, "hub.toml".as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_told() {
        assert_eq!(
            mistake("[session]\nttl_ms = 4_000_000\n"),
            "configuration: session.ttl_max_ms is 3_600_000, but session.ttl_ms is 4_000_000 \
             (raise it, or lower session.ttl_ms)"
        );
        assert_eq!(
            mistake("[limits]\noutbox_bytes = 1_048_576\n"),
            "hub.toml, line 2: limits.outbox_bytes is 1_048_576, but one message may have 8_396_800 \
             (raise it, or lower limits.payload_bytes)"
        );
        assert_eq!(
            mistake("[limits]\nmemory_bytes = 16_777_216\n"),
            "hub.toml, line 2: limits.memory_bytes is 16_777_216, but one outbox may have 33_554_432 \
             (raise it, or lower limits.outbox_bytes)"
        );
    }
}
