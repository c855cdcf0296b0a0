//! What the bench and its worker processes say to each other: one JSON value a line, orders on a worker's
//! standard input, words on its standard output.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::tally::Told;

/// What a worker does: the first line that it reads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Task {
    pub(super) job: Job,
    /// Where the broker listens.
    pub(super) endpoint: String,
    /// Frames made in advance, instead of the SDK.
    pub(super) raw: bool,
    /// How many clients this process is.
    pub(super) clients: u64,
    /// How many there are before them with the same job, in other processes.
    pub(super) before: u64,
    /// How many clients have this job in all processes.
    pub(super) all_clients: u64,
    /// The channel that the clients meet in: each run has its own.
    pub(super) channel: String,
    /// The payload of a message.
    pub(super) size_bytes: usize,
    /// How long it goes on.
    pub(super) length_ns: u64,
    /// What makes a round trip, of who makes them and who answers.
    pub(super) way: Option<Way>,
    /// How often it happens in a second, in all processes together; `None` is as fast as possible.
    pub(super) rate: Option<u64>,
}

/// What makes a round trip.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// A request to a service, and its reply
    Request,
    /// The same, as a command: carried out once at most
    Command,
    /// A direct message there and one back, to compare
    Direct,
    /// A request to the broker itself
    Status,
}

/// What the clients of a worker do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Job {
    /// Answer requests and direct messages.
    Answer,
    /// Connect, say hello, say goodbye, again and again.
    Connect,
    /// Be there, subscribed, and do nothing.
    Idle,
    /// Publish a message, wait for the answer, publish the next.
    Ping,
    /// Answer pings.
    Pong,
    /// Publish.
    Publish,
    /// Ask, wait for the reply, ask again.
    Request,
    /// Lose all connections, come back, count what was missed.
    Resume,
    /// Count what is published.
    Subscribe,
}

/// What a worker is told, in this order; those that mean nothing to its job are passed over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Begin, at that moment of the shared clock.
    Go { at_ns: u64 },
    /// Come back, now that so many messages were published while the connections were lost.
    Return { missed: u64 },
    /// Finish. A subscriber does once it has accounted for so many messages.
    Finish { expected: u64 },
}

/// What a worker says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// That is what it did. It ends.
    Done(Told),
    /// It cannot go on. It ends.
    Failed { reason: String },
    /// All its clients are prepared.
    Ready,
    /// All its sessions are open, or cut, whatever its job is.
    Settled,
}
