//! The hot paths of localhub as pieces of work that can be measured. `run` is the way in.
//!
//! [`work`] says what is measured, for the two benches that do: `benches/instructions.rs` counts,
//! `benches/time.rs` looks at the clock. [`world`] is all that touches the hub.

pub mod work;
pub mod world;
