use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The version of a contract, as `MAJOR.MINOR`.
///
/// A new minor version only adds what an older program can pass over. A new major version changes
/// what was there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// Programs understand each other if they agree on this one.
    pub major: u16,
    /// What has been added.
    pub minor: u16,
}

impl Version {
    /// Whether programs of the two versions understand each other.
    pub fn speaks_with(self, other: Self) -> bool {
        self.major == other.major
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.');
        let numbers = parts.and_then(|(major, minor)| {
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(Self { major, minor })
        });
        numbers.ok_or_else(|| format!("{text:?} is no version such as 1.0"))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
