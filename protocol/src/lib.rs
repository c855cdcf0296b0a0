//! The wire protocol of localhub: names, frames, limits. No I/O, no clock, no runtime.
//!
//! `docs/protocol.md` has the rules in words and `docs/protocol.cddl` the shapes; this crate is the
//! same in Rust. A frame is a length prefix and one CBOR array; [`RawFrame`] finds its end,
//! [`ClientFrame`] and [`BrokerFrame`] read it, borrowing, and write it. The frames that go from
//! client to client are [`Message`]s: the broker forwards them as the bytes they came in.
//!
//! ```
//! use localhub_protocol::{ClientFrame, RawFrame};
//!
//! let mut wire = Vec::new();
//! ClientFrame::Ack { received: 7 }.encode(&mut wire);
//! assert_eq!(wire, [0, 0, 0, 3, 0x82, 2, 7]);
//!
//! let (frame, _rest) = RawFrame::split(&wire, 1024)?.expect("a whole frame");
//! assert_eq!(ClientFrame::decode(frame.body())?, ClientFrame::Ack { received: 7 });
//! # Ok::<(), localhub_protocol::FrameError>(())
//! ```

mod cbor;
mod code;
mod decoder;
mod error;
mod frame;
mod handshake;
mod id;
mod message;
mod name;
mod topic;

pub mod admin;
pub mod kind;
pub mod limits;

pub use code::Code;
pub use decoder::{PREFIX_BYTES, RawFrame};
pub use error::FrameError;
pub use frame::{
    BrokerFrame, Change, ChannelSettings, ClientFrame, Credit, Gap, LeaseState, Member, Policy,
    Put, Run, ServeMode, Start, Status, Will,
};
pub use handshake::{Hello, Resume, Resumed, Version, Welcome};
pub use id::{ChannelId, ClientId, Epoch, ResumeToken};
pub use limits::Limits;
pub use message::{ContentType, Message, Retain, Target};
pub use name::{ChannelName, ClientName, NameError, ServiceName};
pub use topic::{Topic, TopicError, TopicFilter};
