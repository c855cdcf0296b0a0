//! What the programs of the demo say to each other, and what they report to the demo.
//!
//! They talk to each other through the hub. To the demo, which draws the screen, each reports what
//! it sees as one JSON value a line on its standard output.

use localhub_client::Change;
use serde::{Deserialize, Serialize};

use super::readings::Reading;
pub(super) use crate::cli::shared::clock::now_ns;

/// The programs, each a process of its own and one client of the hub.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Calls the roll and tells the sidecar how often to read.
    Controller,
    /// Subscribes to all readings.
    Monitor,
    /// Watches who is there.
    Observer,
    /// Publishes this machine's readings.
    Sidecar,
}

impl Role {
    /// The role as one word: the name of its client.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Monitor => "monitor",
            Self::Observer => "observer",
            Self::Sidecar => "sidecar",
        }
    }
}

/// The payload of every message of the demo.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Envelope<T> {
    /// When it was sent, by [`now_ns`].
    pub(super) sent_ns: u64,
    /// What it says.
    pub(super) content: T,
}

/// What the sidecar publishes.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sample {
    /// Counts the samples of one sidecar, from 1, so that a missing one would be seen.
    pub(super) number: u64,
    /// The reading.
    pub(super) reading: Reading,
}

/// What the programs say in directs and broadcasts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Word {
    /// The answer to the roll call of that number.
    Here(u64),
    /// To the sidecar: read every so many milliseconds.
    Interval(u64),
    /// To all: who is there?
    RollCall(u64),
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(number) => write!(f, "here ({number})"),
            Self::Interval(ms) => write!(f, "read every {ms} ms"),
            Self::RollCall(number) => write!(f, "roll call {number}"),
        }
    }
}

/// What a member shows of itself as its presence state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct State {
    /// Its process.
    pub(super) pid: u32,
    /// How often it reads, in milliseconds, if it does.
    pub(super) interval_ms: Option<u64>,
}

/// What a program reports.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It cannot go on.
    Failed { reason: String },
    /// The hub told it of lost messages, or it found a number missing.
    Lost { what: String },
    /// A change of presence, or (`change: None`) a member that was there before.
    Presence {
        id: u64,
        name: String,
        change: Option<Turn>,
        state: State,
        seen_ns: u64,
    },
    /// It is in the channel and listens.
    Ready,
    /// A reading came.
    Reading {
        topic: String,
        reading: Reading,
        latency_ns: u64,
    },
    /// A direct or broadcast came.
    Received {
        way: Way,
        from: String,
        word: Word,
        latency_ns: u64,
    },
    /// It sent a direct or broadcast; `refused` says why the hub did not take it.
    Sent {
        way: Way,
        to: String,
        word: Word,
        refused: Option<String>,
    },
}

/// How a word goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    Broadcast,
    Direct,
}

/// A change of presence.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Turn {
    Away,
    Back,
    Joined,
    Left,
    Stalled,
    Updated,
}

impl From<Change> for Turn {
    fn from(change: Change) -> Self {
        match change {
            Change::Away => Self::Away,
            Change::Back => Self::Back,
            Change::Joined => Self::Joined,
            Change::Left => Self::Left,
            Change::Stalled => Self::Stalled,
            Change::Updated => Self::Updated,
        }
    }
}
