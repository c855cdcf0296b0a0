//! The frames of each side.

mod broker;
mod client;
mod presence;
mod shared;
mod subscription;

pub use broker::{BrokerFrame, Gap, Run};
pub use client::{ChannelSettings, ClientFrame, Will};
pub use presence::{Change, Member, Status};
pub use subscription::{Policy, Start};
