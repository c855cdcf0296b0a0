//! What operators ask the broker: requests to [`ClientId::HUB`], each method with one type of
//! arguments and one of answer, both CBOR maps with text keys.
//!
//! Lists come in pages: `after` is the key of the last entry of the page before. An answer may have
//! more fields in a newer minor version; readers pass over what they do not know.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ClientId;

/// The broker as a whole. No arguments; answers with [`HubView`].
pub const STATUS: &str = "status";
/// The clients. Arguments [`Page`]; answers with [`Clients`].
pub const CLIENTS: &str = "clients";
/// One client. Arguments [`Named`]; answers with [`ClientView`].
pub const CLIENT: &str = "client";
/// The sessions that wait for their client to come back. Arguments [`Page`]; answers with [`Sessions`].
pub const SESSIONS: &str = "sessions";
/// The connections and sessions that ended lately, the newest first. Arguments [`Page`]; answers with
/// [`Closed`].
pub const CLOSED: &str = "closed";
/// The channels. Arguments [`Page`]; answers with [`Channels`].
pub const CHANNELS: &str = "channels";
/// One channel. Arguments [`Named`]; answers with [`ChannelView`].
pub const CHANNEL: &str = "channel";
/// The services. Arguments [`Page`]; answers with [`Services`].
pub const SERVICES: &str = "services";
/// Ends a client's session. Arguments [`Named`]; answers with the [`ClientView`] it had.
pub const KICK: &str = "kick";
/// Stops the broker. No arguments; answers with the [`HubView`] it had.
pub const STOP: &str = "stop";

/// One page of a list.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Page {
    /// The key of the last entry of the page before: a client id or a number in decimal, or the name of a
    /// channel or service.
    pub after: Option<String>,
    /// How many entries at most; the broker gives at most 1,000.
    pub limit: Option<u32>,
}

/// A client by name or id in decimal, or a channel by name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// A page of clients, by ascending id.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Clients {
    /// The clients.
    pub clients: Vec<ClientView>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A page of sessions without a connection, by ascending id.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A session that waits for its client to come back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionView {
    /// The client that it belongs to.
    pub client: ClientView,
    /// Why it waits: `connection_lost`, `ping_timeout` or `slow_consumer`.
    pub cause: String,
    /// After how long it ends if nobody comes, in milliseconds.
    pub expires_ms: u64,
    /// How many messages may wait for the client before the oldest are lost.
    pub window_messages: u64,
    /// How many bytes.
    pub window_bytes: u64,
}

/// A page of ends, the newest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Closed {
    /// The ends.
    pub closed: Vec<ClosedView>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// The end of a connection, or of a session that nobody came back to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClosedView {
    /// The how manieth end it was since the broker began; the key of the list.
    pub number: u64,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// Why: `goodbye`, `lost`, `died`, `expired`, or the name of a close code.
    pub reason: String,
    /// The particulars; empty where the reason says it all.
    pub detail: String,
    /// Whether the session goes on and waits for the client.
    pub parked: bool,
    /// The session; `None` if the client was not let in.
    pub id: Option<ClientId>,
    /// The client's name; `None` if it was not let in.
    pub name: Option<String>,
    /// The process, if the system told.
    pub pid: Option<u32>,
    /// The program's file, if the system told.
    pub executable: Option<String>,
    /// The user.
    pub user: String,
    /// How long the session had existed, in milliseconds.
    pub age_ms: u64,
    /// Messages from it.
    pub messages_in: u64,
    /// Messages queued for it.
    pub messages_out: u64,
    /// Messages that were dropped for it and told as gaps.
    pub messages_lost: u64,
    /// Messages of it that were refused.
    pub refused: u64,
}

/// A page of channels, by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Channels {
    /// The channels.
    pub channels: Vec<ChannelSummary>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// The broker as a whole.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HubView {
    /// The broker's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub endpoint: String,
    /// This life of its state, in hexadecimal.
    pub epoch: String,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Sessions with a connection.
    pub connected: u64,
    /// Sessions that wait for their client to come back.
    pub parked: u64,
    /// Channels.
    pub channels: u64,
    /// Messages from clients since the start.
    pub messages_in: u64,
    /// Messages queued for clients since the start; a broadcast to three counts three.
    pub messages_out: u64,
    /// Messages that were dropped and told as gaps.
    pub messages_lost: u64,
    /// Bytes that wait in outboxes now.
    pub queued_bytes: u64,
    /// Bytes of retained values, histories and wills now.
    pub retained_bytes: u64,
    /// Requests between clients that have no outcome yet.
    pub requests: u64,
    /// Commands that the hub knows, with or without outcome.
    pub commands: u64,
    /// What they take, in bytes.
    pub command_bytes: u64,
    /// What may wait and be retained in the whole hub, in bytes.
    pub memory_limit_bytes: u64,
    /// Connections that were turned away or closed for cause since the start.
    pub connections_refused: u64,
    /// Log lines that were dropped because the log could not keep up.
    pub log_lines_lost: u64,
}

/// A page of services, by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Services {
    /// The services.
    pub services: Vec<ServiceView>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// One service, and how it has done since somebody serves it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceView {
    /// The name.
    pub name: String,
    /// Whether any number of clients serve it, or one at a time.
    pub shared: bool,
    /// Who serves it, or waits to, in this order.
    pub servers: Vec<ServerView>,
    /// Requests without outcome.
    pub in_flight: u64,
    /// Requests so far.
    pub requests: u64,
    /// Those that ended otherwise than with a success.
    pub failed: u64,
    /// Requests per second, lately.
    pub per_second: u64,
    /// Half of the requests took no longer, in microseconds; to within half as much again.
    pub p50_us: Option<u64>,
    /// 99 of 100 requests took no longer.
    pub p99_us: Option<u64>,
}

/// A client that serves a service, or waits to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServerView {
    /// The session.
    pub id: ClientId,
    /// The name.
    pub name: String,
    /// `online` or `away`.
    pub state: String,
    /// Requests of all services that it has not replied to.
    pub in_flight: u64,
    /// The number of its lease; 0 if the service is shared, or another has it.
    pub fence: u64,
    /// What it says it offers, as the CBOR it gave.
    #[serde(with = "as_bytes")]
    pub description: Vec<u8>,
}

/// One client: a session, with or without a connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClientView {
    /// The session.
    pub id: ClientId,
    /// The name.
    pub name: String,
    /// `online`, `away` or `stalled`.
    pub state: String,
    /// The process, if the system tells.
    pub pid: Option<u32>,
    /// The program's file, if the system tells. For display only.
    pub executable: Option<String>,
    /// The user: a number on Unix, a SID on Windows.
    pub user: String,
    /// How long the session exists, in milliseconds.
    pub age_ms: u64,
    /// How long it has been away, in milliseconds.
    pub away_ms: Option<u64>,
    /// The channels it is in, by name.
    pub channels: Vec<String>,
    /// How many subscriptions it holds.
    pub subscriptions: u64,
    /// Messages from it.
    pub messages_in: u64,
    /// Their bytes on the wire.
    pub bytes_in: u64,
    /// Messages queued for it.
    pub messages_out: u64,
    /// Their bytes on the wire.
    pub bytes_out: u64,
    /// Messages that wait in its outbox or are not yet confirmed.
    pub queued_messages: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Messages that were dropped for it and told as gaps.
    pub messages_lost: u64,
    /// Messages that made way for newer ones of their topic, and were told as gaps.
    pub messages_conflated: u64,
    /// How many gaps it was or will be told of.
    pub gaps: u64,
    /// The position of the last message that it has confirmed.
    pub confirmed: u64,
    /// The position of the last message that was sent over its connection.
    pub sent: u64,
    /// The position of the last message queued for it.
    pub queued: u64,
    /// Messages of it that were refused.
    pub refused: u64,
    /// The last refusal, in one word.
    pub last_refusal: Option<String>,
    /// What it is subscribed to, by channel. Only the method `client` tells; elsewhere it is empty.
    pub memberships: Vec<MembershipView>,
}

/// One channel in a list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChannelSummary {
    /// The name.
    pub name: String,
    /// How many members it has.
    pub members: u64,
    /// How many subscriptions its members hold.
    pub subscriptions: u64,
    /// Its offset: how many messages it has carried.
    pub offset: u64,
    /// How many topics have a retained value.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// How many messages the history has.
    pub history: u64,
    /// Their bytes.
    pub history_bytes: u64,
}

/// One channel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChannelView {
    /// The numbers.
    pub summary: ChannelSummary,
    /// What it keeps, and how it tells of its members.
    pub settings: SettingsView,
    /// The members, by ascending id.
    pub members: Vec<MemberView>,
    /// The topics that have a retained value, by name.
    pub retained: Vec<RetainedView>,
}

/// The settings of a channel, as a member made them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SettingsView {
    /// The messages that the history has at most; 0 if the channel has none.
    pub history_messages: u64,
    /// Their bytes.
    pub history_bytes: u64,
    /// How long they stay, in milliseconds.
    pub history_age_ms: u64,
    /// How long a member may be without connection before it is told to be away, in milliseconds.
    pub debounce_ms: u64,
}

/// One member of a channel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemberView {
    /// The session.
    pub id: ClientId,
    /// The name.
    pub name: String,
    /// `online`, `away` or `stalled`.
    pub state: String,
    /// Whether it is left out of presence.
    pub hidden: bool,
    /// Its subscriptions in this channel.
    pub filters: Vec<SubscriptionView>,
    /// Its presence state, as the CBOR it set.
    #[serde(with = "as_bytes")]
    pub presence: Vec<u8>,
}

/// One subscription.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SubscriptionView {
    /// The topic filter.
    pub filter: String,
    /// What becomes of messages that its client reads too slowly: `drop_oldest`, `drop_newest`,
    /// `latest`, `block` or `park`.
    pub policy: String,
}

/// The subscriptions of one client in one channel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MembershipView {
    /// The channel, by name.
    pub channel: String,
    /// The subscriptions.
    pub filters: Vec<SubscriptionView>,
}

/// One retained value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RetainedView {
    /// The topic.
    pub topic: String,
    /// Its payload's size in bytes.
    pub bytes: u64,
    /// The content type as a number.
    pub content: u16,
    /// Who published it, by name.
    pub sender: String,
    /// Its channel offset.
    pub offset: u64,
}

/// Encodes arguments or an answer.
///
/// # Panics
/// The value's own `Serialize` fails; that of the types of this module never does.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("plain data can be written to memory");
    bytes
}

/// Decodes arguments or an answer.
///
/// # Errors
/// The bytes are not what the method takes or gives, or more than that; the text says what is wrong.
pub fn decode<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, String> {
    let value = ciborium::from_reader(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err("bytes after the CBOR item".to_owned())
    }
}

/// A byte vector as a CBOR byte string, which serde alone would make an array of numbers.
mod as_bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_one_item_and_nothing_more() {
        let page = Page {
            after: None,
            limit: Some(10),
        };
        let mut bytes = encode(&page);
        assert_eq!(decode(&bytes), Ok(page));
        bytes.push(0);
        assert!(decode::<Page>(&bytes).is_err());
        assert!(decode::<Page>(&[]).is_err());
    }
}
