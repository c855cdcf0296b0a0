//! The broker of localhub, the message hub for the apps on one machine.
//!
//! The binary `localhub` runs it as a daemon and shows it to operators; this library is the same
//! broker for an application that wants to bring its own: [`Broker::start`].
//!
//! [`hub`] has every rule of the broker and does no I/O; [`server`] has the sockets, the clock and the
//! tasks and knows no rule.

pub mod config;
pub mod hub;
pub mod logging;
pub mod paths;
pub mod server;

pub use server::{Broker, StartError};
