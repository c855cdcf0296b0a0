//! What the tests share: a hub in memory with puppet clients, and a seeded generator.

mod puppet;
mod rng;
pub mod simulation;

pub use puppet::{Puppet, Seen, World, hello};
pub use rng::Rng;
