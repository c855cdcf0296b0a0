//! What can be set. One table has every key, with its default, what it may be and what it does; the
//! structs, the checks, the text of errors and `localhub config` all come from it.
//!
//! A value comes from the first of these that has one: the command line, the environment, the
//! configuration file, the default.

mod check;
mod load;
mod print;

use std::fmt;
use std::path::PathBuf;

use localhub_client::Endpoint;
use localhub_client::endpoint::EndpointError;
use localhub_protocol::limits::{
    HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX_CEILING, PAYLOAD_BYTES_MAX_FLOOR,
};
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Environment, Flags, Loaded, Origin};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $Type:ty = $default:expr, $allowed:expr;
            )+
        }
    )+) => {
        /// Everything that can be set.
        #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            /// Where the broker listens: the path of a socket, or the name of a pipe on Windows.
            ///
            /// Default: what [`Endpoint::discover`] finds.
            pub endpoint: Option<String>,
            $(
                $(#[doc = $section_doc])+
                pub $section: $Section,
            )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $Section {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\nDefault: `", stringify!($default), "`.")]
                    pub $key: $Type,
                )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($key: $default,)+ }
                }
            }
        )+

        /// The sections of a configuration file, with what they are about.
        const SECTIONS: &[(&str, &[&str])] = &[$((stringify!($section), &[$($section_doc),+])),+];

        /// Every key, in the order of `localhub config`.
        const KEYS: &[Key] = &[
            Key {
                section: None,
                name: "endpoint",
                doc: &[" Where the broker listens: the path of a socket, or the name of a pipe on Windows."],
                allowed: Allowed::Endpoint,
            },
            $($(Key {
                section: Some(stringify!($section)),
                name: stringify!($key),
                doc: &[$($doc),+],
                allowed: $allowed,
            },)+)+
        ];
    };
}

sections! {
    /// How much there may be of everything.
    limits: LimitsConfig {
        /// The payload of one message, in bytes.
        payload_bytes: u64 = 8 * MIB,
            number(PAYLOAD_BYTES_MAX_FLOOR as u64, PAYLOAD_BYTES_MAX_CEILING as u64);
        /// What may wait for one client, in bytes: messages that it has not yet confirmed.
        /// At least one message of the largest size must fit.
        outbox_bytes: u64 = 32 * MIB, number(MIB, 16 * GIB);
        /// What may wait for one client, in messages.
        outbox_messages: u64 = 262_144, number(16, 16 * MIB);
        /// What may wait for all clients together, and be retained by all channels, in bytes.
        memory_bytes: u64 = GIB, number(16 * MIB, TIB);
        /// Connections at one time; 0 is as many as open files are allowed, less 128.
        connections: u64 = 0, number(0, 1_000_000);
        /// Channels at one time.
        channels: u64 = 65_536, number(1, 1_000_000);
        /// Channels that one client may be in.
        channels_per_session: u64 = 1_024, number(1, 65_536);
        /// Subscriptions that one client may hold, over all channels.
        subscriptions_per_session: u64 = 4_096, number(1, 1_000_000);
        /// Topics of one channel that may have a retained value.
        retained_topics_per_channel: u64 = 16_384, number(0, 1_000_000);
        /// The retained values of one channel together, in bytes.
        retained_bytes_per_channel: u64 = 16 * MIB, number(0, 16 * GIB);
        /// The messages that the history of one channel may have.
        history_messages_per_channel: u64 = 65_536, number(0, 16 * MIB);
        /// The history of one channel, in bytes.
        history_bytes_per_channel: u64 = 16 * MIB, number(0, 16 * GIB);
        /// How long messages may stay in a history, in milliseconds.
        history_age_ms: u64 = DAY_MS, number(0, 7 * DAY_MS);
    }

    /// What outlives a lost connection.
    session: SessionConfig {
        /// How long a session waits for its client to come back, if the client does not say, in milliseconds.
        ttl_ms: u64 = 2 * MINUTE_MS, number(0, 7 * DAY_MS);
        /// The longest that a client may ask for, in milliseconds.
        ttl_max_ms: u64 = HOUR_MS, number(0, 7 * DAY_MS);
    }

    /// How long things may take.
    timing: TimingConfig {
        /// How long a new connection may take for its first frame, in milliseconds.
        hello_timeout_ms: u64 = 5_000, number(100, MINUTE_MS);
        /// How long a client may be silent before the broker pings it, in milliseconds; after two pings
        /// without a sign of life its connection is closed.
        ping_interval_ms: u64 = 15_000, number(100, HOUR_MS);
        /// How long clients may take for what waits for them when the broker stops, in milliseconds.
        stop_grace_ms: u64 = 5_000, number(0, MINUTE_MS);
    }

    /// How the process runs.
    runtime: RuntimeConfig {
        /// Threads that serve clients; 0 is one for each processor. With 1, nothing is handed between threads.
        worker_threads: u64 = 0, number(0, 1_024);
    }

    /// What is written down.
    log: LogConfig {
        /// What to log: off, error, warn, info, debug or trace, and exceptions by module such as
        /// "info,localhub::server=debug".
        level: String = "info".into(), Allowed::LogLevel;
        /// The folder of the log files: one a day, readable by this user only.
        directory: Option<PathBuf> = None, Allowed::Directory;
        /// How many log files to keep; older ones are removed.
        files: u64 = 7, number(1, 3_650);
        /// Whether warnings and errors go to stderr as well.
        stderr: bool = true, Allowed::Flag;
    }
}

const fn number(min: u64, max: u64) -> Allowed {
    Allowed::Number { min, max }
}

/// One key of a configuration file.
struct Key {
    section: Option<&'static str>,
    name: &'static str,
    doc: &'static [&'static str],
    allowed: Allowed,
}

impl Key {
    fn path(&self) -> String {
        match self.section {
            Some(section) => format!("{section}.{}", self.name),
            None => self.name.into(),
        }
    }

    fn named(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path() == path)
    }

    /// What the key is set to, if it is set.
    fn value(&self, config: &toml::Table) -> Option<toml::Value> {
        let section = match self.section {
            Some(section) => config.get(section)?.as_table()?,
            None => config,
        };
        section.get(self.name).cloned()
    }
}

/// What a value may be.
#[derive(Clone, Copy)]
enum Allowed {
    Directory,
    Endpoint,
    Flag,
    LogLevel,
    Number { min: u64, max: u64 },
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("the absolute path of a folder"),
            Self::Endpoint if cfg!(windows) => f.write_str(r"the name of a pipe, \\.\pipe\NAME"),
            Self::Endpoint => f.write_str("the absolute path of a socket"),
            Self::Flag => f.write_str("true or false"),
            Self::LogLevel => f.write_str("a level or a list of target=level"),
            Self::Number { min, max } => {
                write!(
                    f,
                    "a whole number from {} to {}",
                    grouped(*min),
                    grouped(*max)
                )
            }
        }
    }
}

/// A number as it may stand in a configuration file, easy on the eye: `8_388_608`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join("_")
}

impl Config {
    /// Where the broker listens: what is set, else what [`Endpoint::discover`] finds.
    ///
    /// # Errors
    /// What is set is no endpoint, or the system did not say who we are.
    pub fn resolve_endpoint(&self) -> Result<Endpoint, EndpointError> {
        self.endpoint
            .as_ref()
            .map_or_else(Endpoint::discover, Endpoint::new)
    }

    /// Checks every value, for a configuration that did not come from [`Loaded`].
    ///
    /// # Errors
    /// The first value that is not allowed, with what is.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::check(self, &load::Origins::default())
    }

    /// The bytes of the largest message, its header counted.
    const fn message_bytes(&self) -> u64 {
        self.limits.payload_bytes + HEADER_BYTES_MAX as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        Config::default().check().unwrap();
    }

    #[test]
    fn the_defaults_are_those_of_the_protocol() {
        let ours = Config::default().limits;
        let theirs = localhub_protocol::Limits::default();
        assert_eq!(ours.payload_bytes, theirs.payload_bytes);
        assert_eq!(ours.outbox_bytes, theirs.outbox_bytes);
        assert_eq!(ours.outbox_messages, theirs.outbox_messages);
        assert_eq!(ours.channels_per_session, theirs.channels);
        assert_eq!(ours.subscriptions_per_session, theirs.subscriptions);
    }

    #[test]
    fn every_key_has_a_range_that_holds_at_both_ends() {
        for key in KEYS {
            let Allowed::Number { min, max } = key.allowed else {
                continue;
            };
            let section = key.section.expect("numbers are in sections");
            let read = |number: u64| {
                let text = format!("[{section}]\n{} = {number}\n", key.name);
                // Keys that must fit each other are another test's.
                match load::parse(&text, "test.toml".as_ref()) {
                    Err(ConfigError::Conflict { .. }) | Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                }
            };
            assert_eq!(read(min), None);
            assert_eq!(read(max), None);
            let outside = [min.checked_sub(1), max.checked_add(1)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>();
            for number in outside {
                let expected = format!(
                    "test.toml, line 2: {} is {number}, allowed is a whole number from {} to {}",
                    key.path(),
                    grouped(min),
                    grouped(max)
                );
                assert_eq!(read(number), Some(expected));
            }
        }
    }

    #[test]
    fn times_fit_the_wire() {
        for key in KEYS.iter().filter(|key| key.name.ends_with("_ms")) {
            let Allowed::Number { max, .. } = key.allowed else {
                panic!("{}", key.path())
            };
            assert!(u32::try_from(max).is_ok(), "{}", key.path());
        }
    }

    #[test]
    fn every_key_of_the_table_is_one_of_the_structs() {
        let mut config = Config {
            endpoint: Some("/x".into()),
            ..Config::default()
        };
        config.log.directory = Some("/x".into());
        let table = toml::Table::try_from(&config).unwrap();
        let mut paths = Vec::new();
        for (name, value) in &table {
            match value.as_table() {
                Some(section) => paths.extend(section.keys().map(|key| format!("{name}.{key}"))),
                None => paths.push(name.clone()),
            }
        }
        paths.sort();
        let mut keys: Vec<_> = KEYS.iter().map(Key::path).collect();
        keys.sort();
        assert_eq!(paths, keys);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1_000"),
            (8 * MIB, "8_388_608"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
