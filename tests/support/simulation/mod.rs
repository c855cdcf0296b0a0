//! The simulated world: a hub, clients and the links between them, step by step from a seed.
//!
//! | file | what it is |
//! | --- | --- |
//! | `world.rs` | what happens, and in which order |
//! | `link.rs` | a connection, with the hub at one end |
//! | `client.rs` | a client that keeps to the protocol and is no more clever than that |
//! | `sdk.rs` | the SDK's core on such a connection |
//! | `app.rs`, `verbs.rs`, `outcomes.rs`, `stream.rs` | a program that uses the SDK, and what it must be told |
//! | `model.rs`, `carry_out.rs`, `absence.rs`, `kept.rs` | the hub again, worked out in the plainest way |
//! | `expected.rs`, `space.rs` | what each client must hear, and what may be lost |
//! | `counts.rs` | what happened |
//! | `heard.rs`, `filters.rs`, `ledger.rs`, `tokens.rs` | what they talk about |

mod absence;
mod app;
mod carry_out;
mod client;
mod counts;
mod expected;
mod filters;
mod heard;
mod kept;
mod ledger;
mod link;
mod model;
mod outcomes;
mod sdk;
mod space;
mod stream;
mod tokens;
mod verbs;
mod world;

use localhub_protocol::{ChannelSettings, Policy};

use crate::Rng;

pub use counts::Counts;
pub use world::Simulation;

/// The size of a run, and who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: usize,
    /// One in so many of them uses the SDK; the others keep to the protocol and no more. 0 is none.
    pub sdk_share: usize,
    /// How many channels they share.
    pub channels: usize,
    /// How many messages an outbox holds.
    pub outbox_messages: u64,
    /// How many bytes.
    pub outbox_bytes: u64,
    /// How many bytes all outboxes and retained values hold together.
    pub memory_bytes: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 12,
            sdk_share: 2,
            channels: 3,
            outbox_messages: 40,
            outbox_bytes: 12_000,
            memory_bytes: ROOMY_BYTES,
        }
    }
}

/// Memory that no run uses up.
pub const ROOMY_BYTES: u64 = 1 << 30;

const TOPICS: [&str; 5] = ["a", "a/b", "a/c", "b", "$x"];
const FILTERS: [&str; 6] = ["#", "a/#", "a/+", "b", "+", "$x"];

const POLICIES: [Policy; 5] = [
    Policy::DropOldest,
    Policy::DropNewest,
    Policy::Latest,
    Policy::Block,
    Policy::Park,
];

const WILL_DELAYS_MS: [u32; 4] = [0, 500, 5_000, 200_000];

/// What somebody has a channel keep, and how it tells of its members. Who is `frugal` has it keep nothing.
fn settings(rng: &mut Rng, frugal: bool) -> ChannelSettings {
    let ages_ms = [0, 700, 10_000, 60_000, 600_000];
    let debounces_ms = [0, 0, 300, 3_000, 20_000, 60_001];
    let keeps = !frugal && !rng.once_in(6);
    ChannelSettings {
        history_messages: if keeps { 1 + rng.below(30) } else { 0 },
        history_bytes: 600 + rng.below(8_000),
        history_age_ms: ages_ms[rng.below(5) as usize],
        debounce_ms: debounces_ms[rng.below(6) as usize],
    }
}
