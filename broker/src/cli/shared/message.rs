//! Messages, gaps and presence, as the verbs that listen show them to programs.

use localhub_client::{Change, Code, Cursor, Gap, Member, Message, PresenceEvent, Status};
use serde::Serialize;

use super::content::PayloadFields;

/// A message.
#[derive(Serialize)]
pub(crate) struct MessageObject<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    channel: Option<&'a str>,
    topic: Option<&'a str>,
    sender: Who<'a>,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    retained: bool,
    cleared: bool,
    bytes: usize,
    content: &'static str,
    #[serde(flatten)]
    payload: PayloadFields,
}

/// A gap.
#[derive(Serialize)]
pub(crate) struct GapObject<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    channel: Option<&'a str>,
    lost: Option<u64>,
    cause: String,
}

/// A change of presence.
#[derive(Serialize)]
pub(crate) struct PresenceObject<'a> {
    event: &'static str,
    cause: Option<&'static str>,
    time: &'a str,
    channel: &'a str,
    member: MemberObject<'a>,
    revision: u64,
}

#[derive(Serialize)]
struct MemberObject<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    status: &'static str,
    state: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Who<'a> {
    id: u64,
    name: &'a str,
}

impl<'a> MessageObject<'a> {
    pub(crate) fn new(message: &'a Message, time: Option<&'a str>) -> Self {
        Self {
            event: if message.is_broadcast() {
                "broadcast"
            } else {
                "publish"
            },
            time,
            channel: message.channel().map(|channel| channel.as_str()),
            topic: message.topic(),
            sender: Who {
                id: message.sender().id.0,
                name: message.sender().name.as_str(),
            },
            offset: message.offset(),
            cursor: message.cursor(),
            retained: message.is_retained(),
            cleared: message.is_cleared(),
            bytes: message.payload().len(),
            content: message.content().name(),
            payload: PayloadFields::new(message.content(), message.payload()),
        }
    }
}

impl<'a> GapObject<'a> {
    pub(crate) fn new(gap: &'a Gap, time: Option<&'a str>) -> Self {
        Self {
            event: "gap",
            time,
            channel: gap.channel.as_ref().map(|channel| channel.as_str()),
            lost: gap.lost,
            cause: gap.cause.to_string(),
        }
    }
}

impl<'a> PresenceObject<'a> {
    pub(crate) fn new(channel: &'a str, event: &'a PresenceEvent, time: &'a str) -> Self {
        let Member {
            id,
            name,
            status,
            state,
            ..
        } = &event.member;
        let status = match status {
            Status::Online => "online",
            Status::Away => "away",
            Status::Stalled => "stalled",
        };
        Self {
            event: change(event.change),
            cause: event.cause.map(Code::name),
            time,
            channel,
            member: MemberObject {
                who: Who {
                    id: id.0,
                    name: name.as_str(),
                },
                status,
                state: super::content::json_of_cbor(state),
            },
            revision: event.revision,
        }
    }
}

/// A change of presence in one word.
pub(crate) fn change(change: Change) -> &'static str {
    match change {
        Change::Joined => "joined",
        Change::Left => "left",
        Change::Updated => "updated",
        Change::Away => "away",
        Change::Back => "back",
        Change::Stalled => "stalled",
    }
}
