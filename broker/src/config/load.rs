//! From files, variables and flags to a configuration, and back to the place of a mistake.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use localhub_client::endpoint::{ENDPOINT_VARIABLE, Endpoint};
use toml::de::{DeTable, DeValue};

use super::check::check;
use super::{Config, KEYS, Key, SECTIONS};
use crate::paths;

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "LOCALHUB_CONFIG";
/// The variable that says what to log.
const LOG_VARIABLE: &str = "LOCALHUB_LOG";

/// What the command line sets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// The configuration file, which must exist.
    pub config: Option<PathBuf>,
    /// [`Config::endpoint`].
    pub endpoint: Option<String>,
    /// [`LogConfig::level`](super::LogConfig::level).
    pub log: Option<String>,
}

/// What the environment sets. An empty variable sets nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Environment {
    /// `LOCALHUB_CONFIG`: the configuration file, which must exist.
    pub config: Option<OsString>,
    /// `LOCALHUB_ENDPOINT`.
    pub endpoint: Option<OsString>,
    /// `LOCALHUB_LOG`: what to log.
    pub log: Option<OsString>,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        // An elevated program does not believe this variable, and finds a default endpoint.
        let ignored = || Endpoint::discover().is_ok_and(|found| found.is_default());
        Self {
            config: variable(CONFIG_VARIABLE),
            endpoint: variable(ENDPOINT_VARIABLE).filter(|_| !ignored()),
            log: variable(LOG_VARIABLE),
        }
    }
}

/// A configuration, and where each value of it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; every value is allowed.
    pub config: Config,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    pub(super) origins: Origins,
}

/// Where the values that are not defaults come from, by the path of the key.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Where a value comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// It is the default.
    #[default]
    Default,
    /// A variable of the environment.
    Environment(&'static str),
    /// The configuration file.
    File {
        /// Which one.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("configuration"),
            Self::Environment(name) => write!(f, "${name}"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two values do not fit each other.
    #[error("{origin}: {key} is {found}, {reason}")]
    Conflict {
        /// Where the first value comes from.
        origin: Origin,
        /// Its key.
        key: String,
        /// What it is.
        found: String,
        /// What it does not fit, and what to do.
        reason: String,
    },
    /// The text is no TOML, or has a key that there is not, or a value of another type.
    #[error("{origin}: {reason}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The value is not one that the key allows.
    #[error("{origin}: {key} is {found}, allowed is {allowed}")]
    NotAllowed {
        /// Where it comes from.
        origin: Origin,
        /// The key.
        key: String,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Loaded {
    /// Puts a configuration together: defaults, then the file, then the environment, then flags.
    ///
    /// The file is that of the flag, else of the variable, else [`paths::config_file`] if it
    /// exists.
    ///
    /// # Errors
    /// A file that was asked for cannot be read, or something in it or elsewhere is not allowed.
    pub fn new(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        let asked_for = flags
            .config
            .clone()
            .or_else(|| environment.config.clone().map(Into::into));
        let usual = || paths::config_file().filter(|path| path.exists());
        let file = asked_for.or_else(usual);
        let (mut config, mut origins) = match &file {
            Some(path) => read(path)?,
            None => Default::default(),
        };
        let mut set = |key: &str, origin: Origin| origins.insert(key.to_owned(), origin);
        if let Some(endpoint) = &environment.endpoint {
            config.endpoint = Some(text(endpoint, ENDPOINT_VARIABLE)?);
            set("endpoint", Origin::Environment(ENDPOINT_VARIABLE));
        }
        if let Some(level) = &environment.log {
            config.log.level = text(level, LOG_VARIABLE)?;
            set("log.level", Origin::Environment(LOG_VARIABLE));
        }
        if let Some(endpoint) = &flags.endpoint {
            config.endpoint = Some(endpoint.clone());
            set("endpoint", Origin::Flag("--endpoint"));
        }
        if let Some(level) = &flags.log {
            config.log.level.clone_from(level);
            set("log.level", Origin::Flag("--log"));
        }
        check(&config, &origins)?;
        Ok(Self {
            config,
            file,
            origins,
        })
    }
}

fn text(value: &OsString, variable: &'static str) -> Result<String, ConfigError> {
    value
        .clone()
        .into_string()
        .map_err(|_| ConfigError::Malformed {
            origin: Origin::Environment(variable),
            reason: "the value is not UTF-8".into(),
        })
}

fn read(path: &Path) -> Result<(Config, Origins), ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    parse(&text, path)
}

/// Reads and checks the text of a configuration file.
pub(super) fn parse(text: &str, path: &Path) -> Result<(Config, Origins), ConfigError> {
    let origin = |at: usize| Origin::File {
        path: path.into(),
        line: 1 + text.as_bytes()[..at.min(text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
    };
    let malformed = |at: usize, reason: String| {
        let reason = reason.replace('\n', ", ");
        ConfigError::Malformed {
            origin: origin(at),
            reason,
        }
    };
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);

    let document =
        DeTable::parse(text).map_err(|error| malformed(start(&error), error.message().into()))?;
    let entries = entries(document.get_ref());
    let config: Config = toml::from_str(text).map_err(|error| {
        let at = start(&error);
        let entry = entries.iter().find(|(_, span)| span.contains(&at));
        let reason = match entry.map(|(path, _)| (path, Key::named(path))) {
            Some((path, Some(key))) => {
                format!("{path}: {} (allowed is {})", error.message(), key.allowed)
            }
            Some((path, None)) => format!("there is no key {path}{}", suggestion(path)),
            None => error.message().into(),
        };
        malformed(at, reason)
    })?;
    let origins = entries
        .into_iter()
        .map(|(path, span)| (path, origin(span.start)))
        .collect();
    check(&config, &origins)?;
    Ok((config, origins))
}

/// The keys of a document with where they stand, from the start of the key to the end of the value.
fn entries(document: &DeTable<'_>) -> Vec<(String, Range<usize>)> {
    let mut entries = Vec::new();
    for (name, value) in document {
        match value.get_ref() {
            DeValue::Table(section)
                if SECTIONS.iter().any(|(known, _)| known == name.get_ref()) =>
            {
                entries.extend(section.iter().map(|(key, value)| {
                    let path = format!("{}.{}", name.get_ref(), key.get_ref());
                    (path, key.span().start..value.span().end)
                }));
            }
            _ => entries.push((
                name.get_ref().to_string(),
                name.span().start..value.span().end,
            )),
        }
    }
    entries
}

/// What there is instead of an unknown key.
fn suggestion(path: &str) -> String {
    let (section, names): (_, Vec<_>) = match path.split_once('.') {
        Some((section, _)) => (
            format!("in [{section}]"),
            KEYS.iter()
                .filter(|key| key.section == Some(section))
                .map(|key| key.name)
                .collect(),
        ),
        None => (
            "outside of sections".into(),
            KEYS.iter()
                .filter(|key| key.section.is_none())
                .map(|key| key.name)
                .collect(),
        ),
    };
    let sections: Vec<_> = SECTIONS
        .iter()
        .map(|(name, _)| format!("[{name}]"))
        .collect();
    match path.contains('.') {
        true => format!("; {section} there are {}", names.join(", ")),
        false => format!(
            "; {section} there is {}, sections are {}",
            names.join(", "),
            sections.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        parse(text, "hub.toml".as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse("", "hub.toml".as_ref()).unwrap(), Default::default());
    }

    #[test]
    fn a_mistake_says_where_it_is_and_what_is_allowed() {
        for (text, expected) in [
            (
                "# a comment\n\n[session]\nttl = 5\n",
                "hub.toml, line 4: there is no key session.ttl; in [session] there are ttl_ms, ttl_max_ms",
            ),
            (
                "endpont = \"/x\"\n",
                "hub.toml, line 1: there is no key endpont; outside of sections there is endpoint, \
                 sections are [limits] [session] [timing] [runtime] [log]",
            ),
            (
                "[limit]\nchannels = 5\n",
                "hub.toml, line 1: there is no key limit; outside of sections there is endpoint, \
                 sections are [limits] [session] [timing] [runtime] [log]",
            ),
            (
                "[limits]\nchannels = 5\npayload_bytes = \"8 MiB\"\n",
                "hub.toml, line 3: limits.payload_bytes: invalid type: string \"8 MiB\", expected u64 \
                 (allowed is a whole number from 1_048_576 to 1_073_741_824)",
            ),
            (
                "[limits]\nchannels = -5\n",
                "hub.toml, line 2: limits.channels: invalid value: integer `-5`, expected u64 \
                 (allowed is a whole number from 1 to 1_000_000)",
            ),
            (
                "[log]\nstderr = 1\n",
                "hub.toml, line 2: log.stderr: invalid type: integer `1`, expected a boolean \
                 (allowed is true or false)",
            ),
            (
                "[log]\ndirectory = \"logs\"\n",
                "hub.toml, line 2: log.directory is \"logs\", allowed is the absolute path of a folder",
            ),
            (
                "[log]\nlevel = \"inof\"\n",
                "hub.toml, line 2: log.level is \"inof\", allowed is a level or a list of target=level \
                 (\"inof\" is neither; levels are off, error, warn, info, debug, trace)",
            ),
        ] {
            assert_eq!(mistake(text), expected);
        }
    }

    #[test]
    fn text_that_is_no_toml_is_told_with_its_line() {
        assert!(mistake("[limits]\nchannels =\n").starts_with("hub.toml, line 2: "));
        assert!(
            mistake("[limits]\nchannels = 1\nchannels = 2\n").starts_with("hub.toml, line 3: ")
        );
        for text in [
            "\u{1b}[2J",
            "a = \"",
            "[[limits]]",
            "limits = 5",
            "limits.channels.x = 5",
        ] {
            let mistake = mistake(text);
            assert!(!mistake.contains('\n'), "{mistake}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_endpoint_that_is_none_is_told() {
        assert_eq!(
            mistake("endpoint = \"hub.sock\"\n"),
            "hub.toml, line 1: endpoint is \"hub.sock\", allowed is the absolute path of a socket \
             (the path of a socket must be absolute, so that every program finds the same one)"
        );
    }

    #[test]
    fn flags_come_before_the_environment_and_that_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hub.toml");
        let path = |name: &str| match cfg!(windows) {
            true => format!(r"\\.\pipe\{name}"),
            false => format!("/run/{name}"),
        };
        let content = format!(
            "endpoint = '{}'\n[log]\nlevel = 'warn'\nfiles = 3\n",
            path("file")
        );
        fs::write(&file, content).unwrap();

        let mut flags = Flags {
            config: Some(file),
            ..Flags::default()
        };
        let mut environment = Environment::default();
        let load = |flags: &Flags, environment: &Environment| {
            let loaded = Loaded::new(flags, environment).unwrap();
            assert_eq!(loaded.config.log.files, 3);
            (loaded.config.endpoint.unwrap(), loaded.config.log.level)
        };
        assert_eq!(load(&flags, &environment), (path("file"), "warn".into()));

        environment.endpoint = Some(path("environment").into());
        environment.log = Some("debug".into());
        assert_eq!(
            load(&flags, &environment),
            (path("environment"), "debug".into())
        );

        flags.endpoint = Some(path("flag"));
        flags.log = Some("trace".into());
        assert_eq!(load(&flags, &environment), (path("flag"), "trace".into()));
    }

    #[test]
    fn the_file_of_the_flag_comes_before_that_of_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let environment = Environment {
            config: Some(write("environment.toml", "[log]\nfiles = 2\n").into()),
            ..Environment::default()
        };
        let files = |flags: &Flags| Loaded::new(flags, &environment).unwrap().config.log.files;
        assert_eq!(files(&Flags::default()), 2);
        let flags = Flags {
            config: Some(write("flag.toml", "[log]\nfiles = 3\n")),
            ..Flags::default()
        };
        assert_eq!(files(&flags), 3);
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let flags = Flags {
            config: Some("/nowhere/hub.toml".into()),
            ..Flags::default()
        };
        let error = Loaded::new(&flags, &Environment::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the configuration file /nowhere/hub.toml"
        );
    }

    #[test]
    fn a_mistake_in_the_environment_or_a_flag_is_told_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flags = Flags {
            config: Some(file.path().into()),
            ..Flags::default()
        };
        let environment = Environment {
            log: Some("loud".into()),
            ..Environment::default()
        };
        let error = Loaded::new(&flags, &environment).unwrap_err().to_string();
        assert!(
            error.starts_with("$LOCALHUB_LOG: log.level is \"loud\", allowed is "),
            "{error}"
        );

        let flags = Flags {
            log: Some("louder".into()),
            ..flags
        };
        let error = Loaded::new(&flags, &environment).unwrap_err().to_string();
        assert!(
            error.starts_with("--log: log.level is \"louder\", allowed is "),
            "{error}"
        );
    }
}
