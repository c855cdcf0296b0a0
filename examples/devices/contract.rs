//! What a kiosk and the device controller say to each other, the same in CBOR and in JSON.
//!
//! Every message has `protocolVersion`, `kind` and `timestampMs`; the kind says what else is in it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use localhub_client::{ContentType, Error, Payload};
use localhub_examples::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version of this contract.
pub(crate) const VERSION: Version = Version { major: 1, minor: 0 };

/// The service that takes commands, by the method `command`, and gives snapshots, by `snapshot`.
pub(crate) const SERVICE: &str = "devices";

/// The channel with the last states, at `device/TYPE/ID/state`, and the events, at
/// `device/TYPE/ID/event`.
pub(crate) const CHANNEL: &str = "devices";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) protocol_version: Version,
    pub(crate) timestamp_ms: u64,
    #[serde(flatten)]
    pub(crate) body: Body,
}

#[derive(Deserialize, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Body {
    /// Asks for something to be done, once. The id is that of the hub's command.
    Command {
        command_id: String,
        device_id: String,
        action: Action,
    },
    /// What became of a command.
    Response {
        command_id: String,
        device_id: String,
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Something happened. An event may come more than once, with the same id.
    Event {
        event_id: String,
        device_id: String,
        event: String,
    },
    /// The state of a device, kept by the channel.
    State(Device),
    /// Asks for the devices of some types; for all if it names none.
    SnapshotRequest { device_types: Vec<DeviceType> },
    /// The devices as of one moment.
    Snapshot { devices: Vec<Device> },
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize, Serialize)]
#[serde(
    tag = "name",
    content = "arguments",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Action {
    TakePicture,
    Print { text: String, pages: u32 },
    Charge { amount_cents: u32 },
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "status", rename_all = "UPPERCASE")]
pub(crate) enum Outcome {
    /// It is done.
    Ok { result: Value },
    /// It was not begun: there is something wrong with the command.
    Rejected { error: Problem },
    /// It was tried, and went wrong.
    Failed { error: Problem },
}

/// What is wrong: a code for programs, a message for people, and particulars.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) details: Value,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub(crate) device_id: String,
    pub(crate) device_type: DeviceType,
    pub(crate) busy: bool,
    /// How many commands it has carried out.
    pub(crate) done: u32,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DeviceType {
    Camera,
    Payment,
    Printer,
    /// One of a newer version.
    #[serde(other)]
    #[value(skip)]
    Unknown,
}

impl Message {
    /// A message of this moment.
    pub(crate) fn new(body: Body) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the contract asks for the time")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            protocol_version: VERSION,
            timestamp_ms: since.unwrap_or_default().as_millis() as u64,
            body,
        }
    }

    /// Reads a message, if its version is one that we understand; fields that we do not know are
    /// passed over.
    pub(crate) fn read(value: Value) -> Result<Self, Problem> {
        let bad = |error: serde_json::Error| Problem::new("bad_payload", error.to_string());
        let version = value["protocolVersion"].clone();
        let version: Version = serde_json::from_value(version).map_err(bad)?;
        if !VERSION.speaks_with(version) {
            let message = format!("version {version} does not go with {VERSION}");
            let details = json!({ "supported": VERSION, "received": version });
            return Err(Problem::new("version_mismatch", message).details(details));
        }
        serde_json::from_value(value).map_err(bad)
    }

    /// The message in the format of the one it answers, or else in CBOR.
    pub(crate) fn payload(&self, format: ContentType) -> Result<Payload, Error> {
        match format {
            ContentType::JSON | ContentType::TEXT => Payload::json(self),
            _ => Payload::cbor(self),
        }
    }
}

impl Problem {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            details: Value::Null,
        }
    }

    pub(crate) fn details(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.details {
            Value::Null => Ok(()),
            details => write!(f, " {details}"),
        }
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Camera => "camera",
            Self::Payment => "payment",
            Self::Printer => "printer",
            Self::Unknown => "unknown",
        })
    }
}
