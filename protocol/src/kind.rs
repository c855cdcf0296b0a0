//! The kinds of frames: the first item of every frame.
//!
//! Kinds below 16 are control: they are not counted. Kinds from 16 on are messages: both sides
//! count them since the session began, and the n-th one has position n (protocol.md 5).

/// The first frame of a connection, by the client.
pub const HELLO: u64 = 0;
/// The broker's answer to it.
pub const WELCOME: u64 = 1;
/// Confirms messages.
pub const ACK: u64 = 2;
/// Asks for a pong.
pub const PING: u64 = 3;
/// Answers a ping.
pub const PONG: u64 = 4;
/// Ends the connection.
pub const CLOSE: u64 = 5;
/// The broker will soon close the connection.
pub const GOAWAY: u64 = 6;
/// Stands where messages were lost.
pub const GAP: u64 = 7;
/// Says who sent the messages that follow, and where.
pub const RUN: u64 = 8;

/// The first kind that is counted.
pub const FIRST_COUNTED: u64 = 16;

/// A message to the members whose filter matches its topic.
pub const PUBLISH: u64 = 16;
/// A message to every other member of a channel.
pub const BROADCAST: u64 = 17;
/// A message to one client.
pub const DIRECT: u64 = 18;
/// A message that wants a reply.
pub const REQUEST: u64 = 19;
/// The reply to a request.
pub const REPLY: u64 = 20;

/// More of a streamed request.
pub const FEED: u64 = 21;

/// Enters a channel.
pub const JOIN: u64 = 32;
/// Leaves it.
pub const LEAVE: u64 = 33;
/// Sets the client's own presence state.
pub const PRESENCE_SET: u64 = 34;
/// Starts or stops presence changes.
pub const PRESENCE_WATCH: u64 = 35;
/// Adds a subscription.
pub const SUBSCRIBE: u64 = 36;
/// Ends it.
pub const UNSUBSCRIBE: u64 = 37;
/// Asks for retained values.
pub const SNAPSHOT: u64 = 38;
/// Says what a channel keeps, and how it tells of its members.
pub const CHANNEL_SET: u64 = 39;
/// Leaves a message to be published if the client is lost.
pub const WILL_SET: u64 = 40;
/// Takes it back.
pub const WILL_CLEAR: u64 = 41;

/// Ends the wait for a request's outcome.
pub const CANCEL: u64 = 42;
/// Lets the other side of a streamed request send more.
pub const CREDIT: u64 = 43;
/// Offers a service.
pub const SERVE: u64 = 44;
/// Does not offer it any more.
pub const UNSERVE: u64 = 45;
/// Sets or deletes a retained value under conditions.
pub const PUT: u64 = 46;

/// The request with that position was carried out.
pub const DONE: u64 = 48;
/// The join was carried out.
pub const JOINED: u64 = 49;
/// Retained values follow.
pub const VALUES: u64 = 50;
/// Who is in a channel.
pub const MEMBERS: u64 = 51;
/// One presence change.
pub const PRESENCE: u64 = 52;
/// The message with that position was refused.
pub const REFUSAL: u64 = 53;

/// A request is over before it was replied to.
pub const CANCELLED: u64 = 54;
/// Who has an exclusive service.
pub const LEASE: u64 = 55;
/// The value was set or deleted.
pub const STORED: u64 = 56;

/// Whether frames of this kind are messages, which have a position.
pub const fn is_counted(kind: u64) -> bool {
    kind >= FIRST_COUNTED
}
