//! The vectors as they are in the files; `protocol/vectors/README.md` explains them.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A valid frame.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Valid {
    pub(crate) name: String,
    pub(crate) sender: Sender,
    #[serde(rename = "hex", deserialize_with = "hex")]
    pub(crate) wire: Vec<u8>,
    pub(crate) frame: Value,
}

/// Bytes that a reader does not accept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mistake {
    pub(crate) name: String,
    pub(crate) sender: Sender,
    #[serde(rename = "hex", deserialize_with = "hex")]
    pub(crate) wire: Vec<u8>,
    pub(crate) limit: Option<usize>,
    pub(crate) code: u16,
    pub(crate) why: String,
    pub(crate) cddl: Cddl,
}

/// The payload of an admin request or of its reply.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) name: String,
    pub(crate) shape: String,
    #[serde(rename = "hex", deserialize_with = "hex")]
    pub(crate) payload: Vec<u8>,
    pub(crate) value: Value,
}

/// One frame of the session in `session.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    pub(crate) sender: Sender,
    pub(crate) note: String,
    #[serde(rename = "hex", deserialize_with = "hex")]
    pub(crate) wire: Vec<u8>,
    pub(crate) frame: Value,
}

/// `names.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    #[serde(rename = "about")]
    _about: String,
    pub(crate) channel_names: Vec<Text>,
    pub(crate) client_names: Vec<Text>,
    pub(crate) topics: Vec<Text>,
    pub(crate) filters: Vec<Text>,
    pub(crate) matches: Vec<Match>,
}

/// A text that is a name of its kind, or is not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) valid: bool,
    #[serde(default)]
    pub(crate) why: String,
}

/// Whether a filter matches a topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Match {
    pub(crate) filter: String,
    pub(crate) topic: String,
    pub(crate) matches: bool,
}

/// Who may send a frame, or makes a mistake.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sender {
    Both,
    Broker,
    Client,
}

impl Sender {
    pub(crate) fn is_client(self) -> bool {
        self != Self::Broker
    }

    pub(crate) fn is_broker(self) -> bool {
        self != Self::Client
    }
}

/// Whether the CDDL says that a mistake is one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(crate) enum Cddl {
    /// The mistake is in the encoding of the frame, not in its shape.
    #[serde(rename = "cannot see")]
    CannotSee,
    #[serde(rename = "rejects")]
    Rejects,
}

pub(crate) fn valid() -> Vec<Valid> {
    read::<Vectors<Valid>>(include_str!("../../vectors/frames.json")).vectors
}

pub(crate) fn mistakes() -> Vec<Mistake> {
    read::<Vectors<Mistake>>(include_str!("../../vectors/mistakes.json")).vectors
}

pub(crate) fn admin() -> Vec<Admin> {
    read::<Vectors<Admin>>(include_str!("../../vectors/admin.json")).vectors
}

pub(crate) fn session() -> Vec<Said> {
    read::<Vectors<Said>>(include_str!("../../vectors/session.json")).vectors
}

pub(crate) fn names() -> Names {
    read(include_str!("../../vectors/names.json"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors<T> {
    #[serde(rename = "about")]
    _about: String,
    vectors: Vec<T>,
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(file).unwrap_or_else(|error| panic!("a file of vectors: {error}"))
}

fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    bytes_of(&text).ok_or_else(|| serde::de::Error::custom(format!("no hexadecimal: {text}")))
}

/// The bytes that a hexadecimal text stands for.
pub(crate) fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Bytes in hexadecimal.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
