//! What the tests share: a hub in memory with puppet clients, a simulated world, and real processes.

pub mod process;
mod puppet;
mod rng;
mod seeds;
pub mod simulation;

pub use puppet::{Ask, Puppet, Seen, World, hello};
pub use rng::Rng;
pub use seeds::{named, seeds};
