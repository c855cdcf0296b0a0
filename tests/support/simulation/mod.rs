//! The simulated world: a hub, clients and the links between them, step by step from a seed.
//!
//! | file | what it is |
//! | --- | --- |
//! | `world.rs` | what happens, and in which order |
//! | `link.rs`, `pipe.rs` | a connection, with the hub at one end |
//! | `client.rs` | a client that keeps to the protocol and is no more clever than that |
//! | `sdk.rs` | the SDK's core on such a connection |
//! | `app.rs`, `verbs.rs`, `outcomes.rs`, `stream.rs` | a program that uses the SDK, and what it must be told |
//! | `model.rs`, `carry_out.rs`, `expected.rs` | the hub again, worked out in the plainest way |
//! | `heard.rs`, `filters.rs`, `ledger.rs` | what they talk about |

mod app;
mod carry_out;
mod client;
mod expected;
mod filters;
mod heard;
mod ledger;
mod link;
mod model;
mod outcomes;
mod pipe;
mod sdk;
mod stream;
mod verbs;
mod world;

use localhub_protocol::{BrokerFrame, ClientId, Code, Resumed};

use heard::Heard;

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
            memory_bytes: ROOMY_BYTES,
        }
    }
}

/// Memory that no run uses up.
pub const ROOMY_BYTES: u64 = 1 << 30;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Messages that clients heard.
    pub messages: u64,
    /// Messages that streams of the SDK gave to programs.
    pub given: u64,
    /// Messages that gaps counted.
    pub lost: u64,
    /// Resumes in which nothing was lost.
    pub recovered: u64,
    /// Resumes in which something was.
    pub lossy: u64,
    /// Resumes of sessions that were gone.
    pub replaced: u64,
    /// Old connections whose bytes were not accepted any more.
    pub fenced: u64,
    /// Direct messages and snapshots that a full outbox refused.
    pub direct_refused: u64,
    /// Clients that did not answer pings.
    pub hung: u64,
    /// Hubs that an SDK did not hear of.
    pub silent: u64,
    /// Reads of an SDK that waited for a full inbox.
    pub blocked: u64,
    /// A checksum over everything heard, in order.
    pub checksum: u64,
}

impl Counts {
    fn welcome(&mut self, resumed: Option<Resumed>) {
        match resumed {
            Some(resumed) if resumed.lost.is_none() => self.replaced += 1,
            Some(resumed) if resumed.recovered => self.recovered += 1,
            Some(_) => self.lossy += 1,
            None => {}
        }
    }

    fn heard(&mut self, client: ClientId, heard: &Heard<'_>) {
        match heard.frame {
            BrokerFrame::Message(_) => self.messages += 1,
            BrokerFrame::Gap(gap) => self.lost += gap.lost,
            BrokerFrame::Refusal { code, .. } => {
                self.direct_refused += u64::from(*code == Code::OUTBOX_FULL);
            }
            _ => {}
        }
        let sum: u64 = heard.body.iter().map(|byte| u64::from(*byte)).sum();
        self.checksum = self
            .checksum
            .wrapping_mul(0x0100_0000_01b3)
            .wrapping_add(sum + client.0);
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.given += other.given;
        self.lost += other.lost;
        self.recovered += other.recovered;
        self.lossy += other.lossy;
        self.replaced += other.replaced;
        self.fenced += other.fenced;
        self.direct_refused += other.direct_refused;
        self.hung += other.hung;
        self.silent += other.silent;
        self.blocked += other.blocked;
        self.checksum ^= other.checksum;
    }
}

const TOPICS: [&str; 5] = ["a", "a/b", "a/c", "b", "$x"];
const FILTERS: [&str; 6] = ["#", "a/#", "a/+", "b", "+", "$x"];
