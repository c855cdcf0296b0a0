//! What every process of a run has to agree on: who plays which part, and how things are called.

use std::time::Duration;

/// How many clients there are.
pub(crate) const CLIENTS: u64 = 10;

/// It is never harmed and sends nothing: it hears every channel in full, if anybody does.
pub(crate) const AUDITOR: u64 = 0;

/// The channels that carry messages.
pub(crate) const CHANNELS: u64 = 5;

/// In channels from this one on there are broadcasts, too; whoever is in one hears everything.
pub(crate) const FIRST_MIXED: u64 = 3;

/// Everybody is in the lobby from first to last, and nobody sends anything there: it is for presence.
pub(crate) const LOBBY: &str = "lobby";

/// The topics of a channel: two groups of four.
pub(crate) const TOPICS: u64 = 8;

/// The filter of a stream that hears publishes and broadcasts.
pub(crate) const EVERYTHING: u64 = 9;

/// The filters of the other streams; the first takes every topic.
pub(crate) const FILTERS: [&str; 4] = ["#", "a/#", "+/1", "b/2"];

/// What may wait for one client, in messages: little, so that things are lost.
pub(crate) const OUTBOX_MESSAGES: u64 = 400;

/// The same in bytes: more than the messages usually come to.
pub(crate) const OUTBOX_BYTES: u64 = 24 << 20;

/// What the broker may keep for all clients together: enough for all of them.
pub(crate) const MEMORY_BYTES: u64 = 512 << 20;

/// The largest payload.
pub(crate) const PAYLOAD_BYTES: usize = 1 << 20;

/// The services that several clients serve.
pub(crate) const SERVICES: u64 = 3;

/// The service that one client has at a time.
pub(crate) const SOLE: u64 = 3;

/// From this number on, places of requests are clients, by name.
pub(crate) const BY_CLIENT: u64 = 16;

/// From this number on, places of requests are sessions.
pub(crate) const BY_SESSION: u64 = 1 << 62;

/// The channel whose values everybody changes and follows.
pub(crate) const BOARD: &str = "board";

/// Topics of the board below this number are counters that anybody changes.
pub(crate) const COUNTERS: u64 = 3;

/// From this number on, topics of the board are of one client each, which owns the value.
pub(crate) const MINE: u64 = 100;

/// From this number on, topics of the board are of one client each, and their values have a time.
pub(crate) const BRIEF: u64 = 200;

/// The broker's configuration.
pub(crate) fn configuration() -> String {
    format!(
        "[limits]\npayload_bytes = {PAYLOAD_BYTES}\noutbox_messages = {OUTBOX_MESSAGES}\n\
         outbox_bytes = {OUTBOX_BYTES}\nmemory_bytes = {MEMORY_BYTES}\n\
         [timing]\nping_interval_ms = 1000\n"
    )
}

/// How long the session of a client outlives a lost connection.
pub(crate) fn session_ttl(client: u64) -> Duration {
    match client {
        // So that sessions end while there is no connection.
        4 | 5 => Duration::from_millis(700),
        _ => Duration::from_secs(60),
    }
}

/// How much a stream of the client holds.
pub(crate) fn inbox_messages(client: u64) -> usize {
    match client {
        // So that something is lost in the client, too.
        6 => 24,
        _ => 100_000,
    }
}

/// Whether the connections of a client can be cut. The others are seen to die by their process.
pub(crate) fn is_proxied(client: u64) -> bool {
    client > 2
}

/// Whether the client looks at who is in the lobby.
pub(crate) fn is_watcher(client: u64) -> bool {
    client == AUDITOR || client == 3
}

/// The service that the client serves with others; the auditor serves none.
pub(crate) fn served_by(client: u64) -> u64 {
    client % SERVICES
}

/// Whether the client wants to have the service that one has at a time.
pub(crate) fn is_competitor(client: u64) -> bool {
    matches!(client, 2 | 7 | 8)
}

/// The name of a service.
pub(crate) fn service_name(service: u64) -> String {
    match service {
        SOLE => "sole".to_owned(),
        shared => format!("work-{shared}"),
    }
}

/// The name of a client.
pub(crate) fn client_name(client: u64) -> String {
    format!("c{client}")
}

/// The name of a channel.
pub(crate) fn channel_name(channel: u64) -> String {
    format!("room/{channel}")
}

/// The text of a topic.
pub(crate) fn topic_name(topic: u64) -> String {
    let group = if topic < 4 { 'a' } else { 'b' };
    format!("{group}/{}", topic % 4)
}

/// The text of a topic of the board.
pub(crate) fn board_topic(topic: u64) -> String {
    match topic {
        BRIEF.. => format!("brief/{}", topic - BRIEF),
        MINE.. => format!("mine/{}", topic - MINE),
        counter => format!("count/{counter}"),
    }
}

/// The number of a topic of the board.
pub(crate) fn board_topic_number(text: &str) -> Option<u64> {
    let (group, number) = text.split_once('/')?;
    let first = match group {
        "count" => 0,
        "mine" => MINE,
        "brief" => BRIEF,
        _ => return None,
    };
    Some(first + number.parse::<u64>().ok()?)
}

/// Whether a stream takes a topic, said without the code that is tested. Broadcasts have none.
pub(crate) fn takes(filter: u64, topic: Option<u64>) -> bool {
    match (filter, topic) {
        (EVERYTHING, _) => true,
        (_, None) => false,
        (0, _) => true,
        (1, Some(topic)) => topic < 4,
        (2, Some(topic)) => topic % 4 == 1,
        (3, Some(topic)) => topic == 6,
        _ => false,
    }
}

/// One life of a client's process: the client, and how often it was started before.
pub(crate) fn sender(client: u64, life: u64) -> u64 {
    client << 32 | life
}

/// Whose life it is.
pub(crate) fn client_of(sender: u64) -> u64 {
    sender >> 32
}
