//! The client SDK of localhub, the message hub for the apps on one machine.
//!
//! A [`Client`] has one connection to the broker and keeps it alive: a connection that is lost
//! comes back, with the same session, and whatever was sent meanwhile arrives once and in order.
//! What could not be kept shows up as a [`Gap`] in the streams, exactly where it is missing.
//!
//! ```no_run
//! use localhub_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("printer-monitor").await?;
//! let kiosk = client.join("kiosk").await?;
//!
//! let mut states = kiosk.subscribe("device/+/state").await?;
//! kiosk.retain("device/printer/state", "ready").await?;
//!
//! while let Some(state) = states.next().await {
//!     match state {
//!         Ok(message) => println!("{:?}: {:?}", message.topic(), message.text()),
//!         Err(gap) => eprintln!("{gap}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Beside channels there are requests: a [`Service`] handles them, and [`Client::request`] makes
//! them, each with exactly one outcome.
//!
//! ```no_run
//! # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
//! let reply = client.request("printer", "print").payload("two pages").send().await?;
//! println!("{} says {:?}", reply.sender().name, reply.text());
//! # Ok(())
//! # }
//! ```

mod autostart;
mod byte_stream;
mod channel;
mod client;
mod command;
mod connection;
mod core;
mod error;
mod failure;
mod gap;
mod incoming;
mod link;
mod live_map;
mod message;
mod options;
mod presence;
mod put;
mod request;
mod run;
mod service;
mod shared;
mod state;
mod stream;
#[cfg(test)]
mod testing;

pub mod endpoint;
#[doc(hidden)]
pub mod simulation;

pub use byte_stream::{ByteStream, METHOD_STREAM};
pub use channel::{Channel, Join, Snapshot, StartAt, Subscribe, Will};
pub use client::{Client, Recipient};
pub use command::{CommandId, CommandIdError};
pub use endpoint::Endpoint;
pub use error::{Error, Refused};
pub use failure::Failure;
pub use gap::{Cause, Gap};
pub use incoming::{Incoming, PartSender};
pub use live_map::{LiveMap, MapChange};
pub use message::{Cursor, CursorError, Message, Payload, Sender};
pub use options::Options;
pub use presence::{Member, Presence, PresenceEvent};
pub use put::{Put, ValueVersion};
pub use request::{Parts, Reply, Request, To};
pub use service::{Lease, LeaseChanges, Requests, Serve, Service};
pub use state::{ConnectionState, ConnectionStates};
pub use stream::{Messages, Refusals};

pub use localhub_protocol::{
    Change, ChannelName, ChannelSettings, ClientId, ClientName, Code, ContentType, FrameError,
    Limits, NameError, Policy, Resumed, ServiceName, Status, Topic, TopicError, TopicFilter, admin,
};
