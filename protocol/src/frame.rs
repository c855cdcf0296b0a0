//! The frames of each side.

mod broker;
mod client;
mod presence;
mod shared;

pub use broker::{BrokerFrame, Gap, Run};
pub use client::ClientFrame;
pub use presence::{Change, Member, Status};
