//! The configuration as a file that explains itself.

use std::fmt::Write as _;

use super::{Allowed, Config, KEYS, Key, Loaded, Origin, SECTIONS, grouped};
use crate::logging::escaped;
use crate::paths;

/// Comments break off here, so that they can be read in a narrow window.
const COLUMNS: usize = 96;

impl Loaded {
    /// The whole configuration as a valid configuration file. A comment above each key says what it
    /// does, what it may be, its default, and where the value comes from.
    pub fn to_toml(&self) -> String {
        let table = table(&self.config);
        let defaults = table_of_defaults();
        let mut text = String::new();
        let mut section = None;
        for key in KEYS {
            if key.section != section {
                section = key.section;
                let (name, doc) = SECTIONS
                    .iter()
                    .find(|(name, _)| Some(*name) == section)
                    .expect("it is a section");
                let _ = writeln!(text, "{}[{name}]", comment(&doc.concat()));
            }
            text += &comment(&key.doc.concat());
            text += &comment(&self.particulars(key, &defaults));
            match (key.value(&table), unset(key, &self.config)) {
                (Some(value), _) => {
                    let _ = writeln!(text, "{} = {}", key.name, shown(&value));
                }
                (None, Some(found)) => {
                    let _ = writeln!(text, "# {} = {}", key.name, toml::Value::String(found));
                }
                (None, None) => {
                    let _ = writeln!(text, "# {} = ..", key.name);
                }
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// Where the value of a key comes from; [`Origin::Default`] if there is no such key.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or_default()
    }

    fn particulars(&self, key: &Key, defaults: &toml::Table) -> String {
        let mut text = match key.allowed {
            Allowed::Number { min, max } => {
                format!("From {} to {}, default ", grouped(min), grouped(max))
            }
            _ => "Default: ".into(),
        };
        match (key.value(defaults), key.allowed) {
            (Some(value), _) => text += &shown(&value),
            (None, Allowed::Directory) => text += "the state folder of this user",
            (None, _) => text += "a private place of this user",
        }
        match self.origin(&key.path()) {
            Origin::Default => text.push('.'),
            origin => {
                let _ = write!(text, ". Set by {}.", escaped(&origin.to_string()));
            }
        }
        text
    }
}

fn table(config: &Config) -> toml::Table {
    toml::Table::try_from(config).expect("a checked configuration is valid TOML")
}

fn table_of_defaults() -> toml::Table {
    table(&Config::default())
}

/// What is used if a key without a fixed default is not set.
fn unset(key: &Key, config: &Config) -> Option<String> {
    match key.allowed {
        Allowed::Directory => paths::state_dir()?.into_os_string().into_string().ok(),
        Allowed::Endpoint => Some(config.resolve_endpoint().ok()?.to_string()),
        _ => None,
    }
}

fn shown(value: &toml::Value) -> String {
    match value.as_integer().map(u64::try_from) {
        Some(Ok(number)) => grouped(number),
        _ => value.to_string(),
    }
}

fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut length = 1;
    for word in text.split_whitespace() {
        let columns = word.chars().count();
        if length + 1 + columns > COLUMNS {
            lines += "\n#";
            length = 1;
        }
        lines.push(' ');
        lines += word;
        length += 1 + columns;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::super::load::parse;
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let (config, origins) = parse(text, "hub.toml".as_ref()).unwrap();
        Loaded {
            config,
            file: Some("hub.toml".into()),
            origins,
        }
    }

    #[test]
    fn what_is_printed_is_a_file_that_means_the_same() {
        let defaults = loaded("");
        assert_eq!(
            parse(&defaults.to_toml(), "x".as_ref()).unwrap().0,
            defaults.config
        );

        let (pipe, folder) = match cfg!(windows) {
            true => (r"\\.\pipe\it's", r"C:\logs"),
            false => ("/run/it's\u{202e}\"quoted\"", "/var/log"),
        };
        let changed = Loaded {
            config: Config {
                endpoint: Some(pipe.into()),
                ..changed_config(folder)
            },
            ..loaded("")
        };
        assert_eq!(
            parse(&changed.to_toml(), "x".as_ref()).unwrap().0,
            changed.config
        );
    }

    fn changed_config(folder: &str) -> Config {
        let mut config = Config::default();
        config.limits.channels = 5;
        config.log.directory = Some(folder.into());
        config.log.level = "warn,localhub::server=trace".into();
        config.log.stderr = false;
        config
    }

    #[test]
    fn a_key_is_explained_above_it() {
        let text = loaded("[session]\nttl_ms = 5000\n").to_toml();
        let expected = "\
[session]
# How long a session waits for its client to come back, if the client does not say, in
# milliseconds.
# From 0 to 604_800_000, default 120_000. Set by hub.toml, line 2.
ttl_ms = 5_000

# The longest that a client may ask for, in milliseconds.
# From 0 to 604_800_000, default 3_600_000.
ttl_max_ms = 3_600_000
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn no_line_is_long() {
        for line in loaded("")
            .to_toml()
            .lines()
            .filter(|line| line.starts_with("# "))
        {
            assert!(line.len() <= COLUMNS || !line.contains(' '), "{line}");
        }
    }
}
