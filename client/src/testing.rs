//! What several tests have in common.

use localhub_protocol::{ClientFrame, ClientId, Message, Policy, Start, Target};

use crate::Failure;

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
        ClientFrame::Put { channel, put } => match put.expect {
            Some(version) => format!("put {channel} {} if it is {version}", put.topic),
            None => format!("put {channel} {}, whatever there is", put.topic),
        },
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
        ClientFrame::Message(Message::Request {
            to: Target::Id(ClientId::HUB),
            method,
            ..
        }) => format!("request {method}"),
        ClientFrame::Message(Message::Request {
            to,
            deadline_ms,
            command,
            window,
            method,
            payload,
            ..
        }) => {
            let to = match to {
                Target::Id(id) => id.to_string(),
                Target::Name(name) | Target::Service(name) => (*name).to_owned(),
            };
            let command = command.map_or(String::new(), |id| format!(" command {}", id[15]));
            let window = match window {
                0 => String::new(),
                window => format!(" window {window}"),
            };
            let payload = text(payload);
            format!("request {to} {method} {deadline_ms} ms{command}{window} {payload}")
                .trim_end()
                .to_owned()
        }
        ClientFrame::Message(Message::Reply {
            to,
            request,
            error,
            more,
            payload,
            content,
        }) => {
            let payload = match error {
                Some(_) => Failure::decode(*content, payload).to_string(),
                None => text(payload).to_owned(),
            };
            let word = if *more { "part" } else { "reply" };
            format!("{word} {to}/{request} {payload}")
                .trim_end()
                .to_owned()
        }
        ClientFrame::Message(Message::Feed {
            request,
            more,
            payload,
            ..
        }) => match more {
            true => format!("feed {request} {}", text(payload)),
            false => format!("feed {request} end"),
        },
        ClientFrame::Cancel { request } => format!("cancel {request}"),
        ClientFrame::Credit(credit) => {
            format!("credit {}/{} {}", credit.of, credit.request, credit.bytes)
        }
        ClientFrame::Serve {
            service,
            mode,
            description,
        } => format!("serve {service} {mode:?} {} bytes", description.len()),
        ClientFrame::Unserve { service } => format!("unserve {service}"),
        other => format!("{other:?}"),
    }
}
