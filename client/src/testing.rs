//! What several tests have in common.

use localhub_protocol::{ClientFrame, Message, Policy, Start};

/// A frame of the client as tests compare it.
pub(crate) fn in_words(frame: &ClientFrame<'_>) -> String {
    let text = |payload| std::str::from_utf8(payload).unwrap();
    match frame {
        ClientFrame::Ack { received } => format!("ack {received}"),
        ClientFrame::Ping { nonce, received } => format!("ping {nonce}, ack {received}"),
        ClientFrame::Pong { nonce, received } => format!("pong {nonce}, ack {received}"),
        ClientFrame::Close { code, .. } => format!("close {}", code.name()),
        ClientFrame::Join {
            name,
            hidden,
            state,
        } => {
            let hidden = if *hidden { " hidden" } else { "" };
            format!("join {name}{hidden} {state:?}")
        }
        ClientFrame::Leave { channel } => format!("leave {channel}"),
        ClientFrame::PresenceSet { channel, state } => format!("state {channel} {state:?}"),
        ClientFrame::PresenceWatch { channel, on } => format!("watch {channel} {on}"),
        ClientFrame::Subscribe {
            channel,
            filter,
            start,
            policy,
        } => {
            let start = match start {
                Start::Live => String::new(),
                Start::Retained => " retained".to_owned(),
                other => format!(" {other:?}"),
            };
            let policy = match policy {
                Policy::DropOldest => String::new(),
                other => format!(" {}", other.name()),
            };
            format!("subscribe {channel} {filter}{start}{policy}")
        }
        ClientFrame::Unsubscribe { channel, filter } => format!("unsubscribe {channel} {filter}"),
        ClientFrame::Snapshot { channel, filter } => format!("snapshot {channel} {filter}"),
        ClientFrame::Message(Message::Publish {
            channel,
            topic,
            payload,
            ..
        }) => {
            format!("publish {channel} {topic} {}", text(payload))
        }
        ClientFrame::Message(Message::Direct { to, payload, .. }) => {
            format!("direct {to:?} {}", text(payload))
        }
        ClientFrame::Message(Message::Request { method, .. }) => format!("request {method}"),
        other => format!("{other:?}"),
    }
}
