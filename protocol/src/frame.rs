//! The frames of each side.

mod broker;
mod client;
mod presence;
mod put;
mod service;
mod shared;
mod subscription;

pub use broker::{BrokerFrame, Gap, Run};
pub use client::{ChannelSettings, ClientFrame, Will};
pub use presence::{Change, Member, Status};
pub use put::Put;
pub use service::{Credit, LeaseState, ServeMode};
pub use subscription::{Policy, Start};
