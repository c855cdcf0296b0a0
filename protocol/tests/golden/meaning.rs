//! From the readable frame of a vector to the frame it stands for.
//!
//! Byte strings are `{"hex": ".."}`. Bytes are leaked: frames borrow them, and a test is soon over.

use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ChannelSettings, ClientFrame, ClientId, Code, ContentType,
    Credit, Epoch, Gap, Hello, LeaseState, Limits, Member, Message, Policy, Put, Resume,
    ResumeToken, Resumed, Retain, Run, ServeMode, Start, Status, Target, Version, Welcome, Will,
};
use serde_json::Value;

use crate::vectors::bytes_of;

/// The name of the kind, and the frame's fields.
pub(crate) fn kind(frame: &Value) -> (&str, Fields<'_>) {
    let mut kinds = frame.as_object().expect("a frame is an object").iter();
    match (kinds.next(), kinds.next()) {
        (Some((kind, fields)), None) => (kind, Fields(fields)),
        _ => panic!("a frame has one kind: {frame}"),
    }
}

pub(crate) fn client_frame(frame: &Value) -> ClientFrame<'_> {
    let (kind, f) = kind(frame);
    match kind {
        "hello" => ClientFrame::Hello(hello(f)),
        "ack" => ClientFrame::Ack {
            received: f.number("received"),
        },
        "ping" => ClientFrame::Ping {
            nonce: f.number("nonce"),
            received: f.number("received"),
        },
        "pong" => ClientFrame::Pong {
            nonce: f.number("nonce"),
            received: f.number("received"),
        },
        "close" => ClientFrame::Close {
            code: f.code("code"),
            detail: f.text("detail"),
        },
        "join" => ClientFrame::Join {
            name: f.text("name"),
            hidden: f.flag("hidden"),
            state: f.bytes("state"),
        },
        "leave" => ClientFrame::Leave {
            channel: f.channel(),
        },
        "presence_set" => ClientFrame::PresenceSet {
            channel: f.channel(),
            state: f.bytes("state"),
        },
        "presence_watch" => ClientFrame::PresenceWatch {
            channel: f.channel(),
            on: f.flag("on"),
        },
        "subscribe" => ClientFrame::Subscribe {
            channel: f.channel(),
            filter: f.text("filter"),
            start: start(f),
            policy: {
                let name = f.text("policy");
                let mut known = Policy::ALL.iter();
                known.find(|(_, known)| *known == name).expect("a policy").0
            },
        },
        "unsubscribe" => ClientFrame::Unsubscribe {
            channel: f.channel(),
            filter: f.text("filter"),
        },
        "snapshot" => ClientFrame::Snapshot {
            channel: f.channel(),
            filter: f.text("filter"),
        },
        "channel_set" => ClientFrame::ChannelSet {
            channel: f.channel(),
            settings: ChannelSettings {
                history_messages: f.number("history_messages"),
                history_bytes: f.number("history_bytes"),
                history_age_ms: f.number("history_age_ms"),
                debounce_ms: f.number("debounce_ms"),
            },
        },
        "will_set" => ClientFrame::WillSet {
            channel: f.channel(),
            will: Will {
                delay_ms: f.number("delay_ms"),
                retain: retain(f),
                content: ContentType(f.number("content")),
                topic: f.text("topic"),
                payload: f.bytes("payload"),
            },
        },
        "will_clear" => ClientFrame::WillClear {
            channel: f.channel(),
            topic: f.text("topic"),
        },
        "cancel" => ClientFrame::Cancel {
            request: f.number("request"),
        },
        "credit" => ClientFrame::Credit(credit(f)),
        "serve" => ClientFrame::Serve {
            service: f.text("service"),
            mode: match f.text("mode") {
                "shared" => ServeMode::Shared,
                "exclusive" => ServeMode::Exclusive,
                "takeover" => ServeMode::Takeover,
                other => panic!("no mode: {other}"),
            },
            description: f.bytes("description"),
        },
        "unserve" => ClientFrame::Unserve {
            service: f.text("service"),
        },
        "put" => ClientFrame::Put {
            channel: f.channel(),
            put: Put {
                expect: f.optional("expect", |f, name| f.number(name)),
                ttl_ms: f.number("ttl_ms"),
                owned: f.flag("owned"),
                retain: retain(f),
                content: ContentType(f.number("content")),
                topic: f.text("topic"),
                payload: f.bytes("payload"),
            },
        },
        _ => ClientFrame::Message(message(kind, f)),
    }
}

fn credit(f: Fields<'_>) -> Credit {
    Credit {
        of: ClientId(f.number("of")),
        request: f.number("request"),
        bytes: f.number("bytes"),
    }
}

fn start(f: Fields<'_>) -> Start {
    match f.text("start") {
        "live" => Start::Live,
        "retained" => Start::Retained,
        "last" => Start::Last(f.number("argument")),
        "after" => Start::After(f.number("argument")),
        other => panic!("no start: {other}"),
    }
}

fn retain(f: Fields<'_>) -> Retain {
    match f.text("retain") {
        "no" => Retain::No,
        "set" => Retain::Set,
        "clear" => Retain::Clear,
        other => panic!("no retain: {other}"),
    }
}

pub(crate) fn broker_frame(frame: &Value) -> BrokerFrame<'_> {
    let (kind, f) = kind(frame);
    match kind {
        "welcome" => BrokerFrame::Welcome(welcome(f)),
        "ack" => BrokerFrame::Ack {
            received: f.number("received"),
        },
        "ping" => BrokerFrame::Ping {
            nonce: f.number("nonce"),
            received: f.number("received"),
        },
        "pong" => BrokerFrame::Pong {
            nonce: f.number("nonce"),
            received: f.number("received"),
        },
        "close" => BrokerFrame::Close {
            code: f.code("code"),
            detail: f.text("detail"),
        },
        "goaway" => BrokerFrame::GoAway {
            code: f.code("code"),
            delay_ms: f.number("delay_ms"),
        },
        "gap" => BrokerFrame::Gap(Gap {
            channel: f.optional("channel", |f, name| ChannelId(f.number(name))),
            lost: f.number("lost"),
            cause: f.code("cause"),
        }),
        "run" => BrokerFrame::Run(Run {
            channel: f.optional("channel", |f, name| ChannelId(f.number(name))),
            sender: ClientId(f.number("sender")),
            name: f.text("name"),
            first: f.number("first"),
            count: f.number("count"),
            retained: f.flag("retained"),
        }),
        "done" => BrokerFrame::Done {
            request: f.number("request"),
        },
        "joined" => BrokerFrame::Joined {
            request: f.number("request"),
            channel: f.channel(),
            offset: f.number("offset"),
        },
        "values" => BrokerFrame::Values {
            request: f.number("request"),
            channel: f.channel(),
            offset: f.number("offset"),
            count: f.number("count"),
            since: f.number("since"),
        },
        "members" => BrokerFrame::Members {
            request: f.number("request"),
            channel: f.channel(),
            revision: f.number("revision"),
            more: f.flag("more"),
            members: f.list("members", member),
        },
        "presence" => BrokerFrame::Presence {
            channel: f.channel(),
            revision: f.number("revision"),
            change: match f.text("change") {
                "joined" => Change::Joined,
                "left" => Change::Left,
                "updated" => Change::Updated,
                "away" => Change::Away,
                "back" => Change::Back,
                "stalled" => Change::Stalled,
                other => panic!("no presence change: {other}"),
            },
            cause: f.optional("cause", |f, name| f.code(name)),
            member: member(f.within("member")),
        },
        "refusal" => BrokerFrame::Refusal {
            request: f.number("request"),
            code: f.code("code"),
            detail: f.text("detail"),
        },
        "credit" => BrokerFrame::Credit(credit(f)),
        "cancelled" => BrokerFrame::Cancelled {
            caller: ClientId(f.number("caller")),
            request: f.number("request"),
            cause: f.code("cause"),
        },
        "lease" => BrokerFrame::Lease {
            service: f.text("service"),
            state: match f.text("state") {
                "queued" => LeaseState::Queued,
                "held" => LeaseState::Held,
                "lost" => LeaseState::Lost,
                other => panic!("no state of a lease: {other}"),
            },
            fence: f.number("fence"),
        },
        "stored" => BrokerFrame::Stored {
            request: f.number("request"),
            offset: f.number("offset"),
        },
        _ => BrokerFrame::Message(message(kind, f)),
    }
}

fn message<'a>(kind: &str, f: Fields<'a>) -> Message<'a> {
    let content = ContentType(f.number("content"));
    let payload = f.bytes("payload");
    match kind {
        "publish" => Message::Publish {
            channel: f.channel(),
            retain: retain(f),
            content,
            topic: f.text("topic"),
            payload,
        },
        "broadcast" => Message::Broadcast {
            channel: f.channel(),
            content,
            payload,
        },
        "direct" => Message::Direct {
            to: f.target(),
            content,
            payload,
        },
        "request" => Message::Request {
            to: f.target(),
            deadline_ms: f.number("deadline_ms"),
            command: f.optional("command", |f, name| f.array(name)),
            window: f.number("window"),
            method: f.text("method"),
            content,
            payload,
        },
        "reply" => Message::Reply {
            to: ClientId(f.number("to")),
            request: f.number("request"),
            error: f.optional("error", |f, name| f.code(name)),
            more: f.flag("more"),
            content,
            payload,
        },
        "feed" => Message::Feed {
            request: f.number("request"),
            more: f.flag("more"),
            content,
            payload,
        },
        other => panic!("no kind: {other}"),
    }
}

fn hello(f: Fields<'_>) -> Hello<'_> {
    Hello {
        versions: (f.version("lowest"), f.version("highest")),
        features: f.list("features", Fields::as_text),
        name: f.optional("name", |f, name| f.text(name)),
        resume: f.optional("resume", |f, name| {
            let f = f.within(name);
            Resume {
                epoch: Epoch(f.array("epoch")),
                client: ClientId(f.number("client")),
                token: ResumeToken(f.array("token")),
                received: f.number("received"),
            }
        }),
        ttl_ms: f.optional("ttl_ms", |f, name| f.number(name)),
    }
}

fn welcome(f: Fields<'_>) -> Welcome<'_> {
    let limits = f.within("limits");
    Welcome {
        version: f.version("version"),
        features: f.list("features", Fields::as_text),
        epoch: Epoch(f.array("epoch")),
        client: ClientId(f.number("client")),
        name: f.text("name"),
        token: ResumeToken(f.array("token")),
        resumed: f.optional("resumed", |f, name| {
            let f = f.within(name);
            Resumed {
                recovered: f.flag("recovered"),
                replayed: f.number("replayed"),
                lost: f.optional("lost", |f, name| f.number(name)),
            }
        }),
        received: f.number("received"),
        ttl_ms: f.number("ttl_ms"),
        ping_ms: f.number("ping_ms"),
        limits: Limits {
            payload_bytes: limits.number("payload_bytes"),
            outbox_bytes: limits.number("outbox_bytes"),
            outbox_messages: limits.number("outbox_messages"),
            channels: limits.number("channels"),
            subscriptions: limits.number("subscriptions"),
        },
    }
}

fn member(f: Fields<'_>) -> Member<'_> {
    Member {
        client: ClientId(f.number("client")),
        name: f.text("name"),
        status: match f.text("status") {
            "online" => Status::Online,
            "away" => Status::Away,
            "stalled" => Status::Stalled,
            other => panic!("no status: {other}"),
        },
        state: f.bytes("state"),
    }
}

/// The fields of one frame, or of a part of it; a missing or wrong one panics with its name.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn within(self, name: &str) -> Self {
        Self(
            self.0
                .get(name)
                .unwrap_or_else(|| panic!("no field {name} in {}", self.0)),
        )
    }

    fn optional<T>(self, name: &str, read: impl FnOnce(Self, &str) -> T) -> Option<T> {
        (!self.within(name).0.is_null()).then(|| read(self, name))
    }

    fn number<T: TryFrom<u64>>(self, name: &str) -> T {
        let number = self
            .within(name)
            .0
            .as_u64()
            .and_then(|number| T::try_from(number).ok());
        number.unwrap_or_else(|| panic!("{name} is no number that fits in {}", self.0))
    }

    fn flag(self, name: &str) -> bool {
        self.within(name)
            .0
            .as_bool()
            .unwrap_or_else(|| panic!("{name} is no flag in {}", self.0))
    }

    fn text(self, name: &str) -> &'a str {
        self.within(name).as_text()
    }

    fn as_text(self) -> &'a str {
        self.0
            .as_str()
            .unwrap_or_else(|| panic!("no text: {}", self.0))
    }

    fn bytes(self, name: &str) -> &'a [u8] {
        let bytes = bytes_of(self.within(name).text("hex")).expect("hexadecimal");
        Vec::leak(bytes)
    }

    fn array<const N: usize>(self, name: &str) -> [u8; N] {
        self.bytes(name)
            .try_into()
            .unwrap_or_else(|_| panic!("{name} has not {N} bytes"))
    }

    fn list<T>(self, name: &str, item: impl FnMut(Self) -> T) -> Vec<T> {
        let items = self.within(name).0.as_array();
        items
            .unwrap_or_else(|| panic!("{name} is no list"))
            .iter()
            .map(Fields)
            .map(item)
            .collect()
    }

    fn code(self, name: &str) -> Code {
        Code(self.number(name))
    }

    fn channel(self) -> ChannelId {
        ChannelId(self.number("channel"))
    }

    fn target(self) -> Target<'a> {
        match self.within("to").0 {
            Value::String(name) => Target::Name(name),
            Value::Object(_) => Target::Service(self.within("to").text("service")),
            _ => Target::Id(ClientId(self.number("to"))),
        }
    }

    fn version(self, name: &str) -> Version {
        match *self.list(name, |part| {
            part.0.as_u64().and_then(|part| u16::try_from(part).ok())
        }) {
            [Some(major), Some(minor)] => Version { major, minor },
            _ => panic!("{name} is no version in {}", self.0),
        }
    }
}
