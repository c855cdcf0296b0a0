//! What the tests share: a hub in memory with puppet clients, a simulated world, and real processes.

mod counts;
mod flag;
mod nowhere;
mod pipe;
pub mod process;
mod puppet;
mod rng;
mod seeds;
pub mod simulation;
mod task;

pub use counts::{Counts, Enough, run_all};
pub use flag::Flag;
pub use nowhere::nowhere;
pub use pipe::{Pipe, frame_end};
pub use puppet::{Ask, Puppet, Seen, World, hello};
pub use rng::Rng;
pub use seeds::{named, seeds};
pub use task::Task;
