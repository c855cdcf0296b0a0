//! Arbitrary frames.
//!
//! Texts and bytes are leaked: frames borrow them, and a test is soon over.

use localhub_protocol::limits::{FEATURES_MAX, MEMBERS_PER_FRAME_MAX};
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ChannelSettings, ClientFrame, ClientId, Code, ContentType,
    Credit, Epoch, Gap, Hello, LeaseState, Limits, Member, Message, Policy, Put, Resume,
    ResumeToken, Resumed, Retain, Run, ServeMode, Start, Status, Target, Version, Welcome, Will,
};
use minicbor::Encoder;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn client_frame() -> impl Strategy<Value = ClientFrame<'static>> {
    let others = prop_oneof![
        hello().prop_map(ClientFrame::Hello),
        number().prop_map(|received| ClientFrame::Ack { received }),
        (number(), number()).prop_map(|(nonce, received)| ClientFrame::Ping { nonce, received }),
        (number(), number()).prop_map(|(nonce, received)| ClientFrame::Pong { nonce, received }),
        (code(), text()).prop_map(|(code, detail)| ClientFrame::Close { code, detail }),
        (text(), any::<bool>(), bytes()).prop_map(|(name, hidden, state)| ClientFrame::Join {
            name,
            hidden,
            state
        }),
        channel().prop_map(|channel| ClientFrame::Leave { channel }),
        (channel(), bytes())
            .prop_map(|(channel, state)| ClientFrame::PresenceSet { channel, state }),
        (channel(), any::<bool>())
            .prop_map(|(channel, on)| ClientFrame::PresenceWatch { channel, on }),
        (channel(), text(), start(), policy()).prop_map(|(channel, filter, start, policy)| {
            ClientFrame::Subscribe {
                channel,
                filter,
                start,
                policy,
            }
        }),
        (channel(), text())
            .prop_map(|(channel, filter)| ClientFrame::Unsubscribe { channel, filter }),
        (channel(), text()).prop_map(|(channel, filter)| ClientFrame::Snapshot { channel, filter }),
        (channel(), settings())
            .prop_map(|(channel, settings)| ClientFrame::ChannelSet { channel, settings }),
        (channel(), will()).prop_map(|(channel, will)| ClientFrame::WillSet { channel, will }),
        (channel(), text()).prop_map(|(channel, topic)| ClientFrame::WillClear { channel, topic }),
        number().prop_map(|request| ClientFrame::Cancel { request }),
        credit().prop_map(ClientFrame::Credit),
        (text(), serve_mode(), bytes()).prop_map(|(service, mode, description)| {
            ClientFrame::Serve {
                service,
                mode,
                description,
            }
        }),
        text().prop_map(|service| ClientFrame::Unserve { service }),
        (channel(), put()).prop_map(|(channel, put)| ClientFrame::Put { channel, put }),
    ];
    prop_oneof![3 => others, 1 => message().prop_map(ClientFrame::Message)]
}

pub(crate) fn broker_frame() -> impl Strategy<Value = BrokerFrame<'static>> {
    let others = prop_oneof![
        welcome().prop_map(BrokerFrame::Welcome),
        number().prop_map(|received| BrokerFrame::Ack { received }),
        (number(), number()).prop_map(|(nonce, received)| BrokerFrame::Ping { nonce, received }),
        (number(), number()).prop_map(|(nonce, received)| BrokerFrame::Pong { nonce, received }),
        (code(), text()).prop_map(|(code, detail)| BrokerFrame::Close { code, detail }),
        (code(), milliseconds())
            .prop_map(|(code, delay_ms)| BrokerFrame::GoAway { code, delay_ms }),
        (of(channel()), one_or_more(), code()).prop_map(|(channel, lost, cause)| BrokerFrame::Gap(
            Gap {
                channel,
                lost,
                cause
            }
        )),
        run().prop_map(BrokerFrame::Run),
        number().prop_map(|request| BrokerFrame::Done { request }),
        (number(), channel(), number()).prop_map(|(request, channel, offset)| {
            BrokerFrame::Joined {
                request,
                channel,
                offset,
            }
        }),
        (number(), channel(), number(), number(), number()).prop_map(
            |(request, channel, offset, count, since)| BrokerFrame::Values {
                request,
                channel,
                offset,
                count,
                since,
            }
        ),
        (number(), channel(), number(), any::<bool>(), members()).prop_map(
            |(request, channel, revision, more, members)| BrokerFrame::Members {
                request,
                channel,
                revision,
                more,
                members,
            }
        ),
        (channel(), number(), change(), of(code()), member()).prop_map(
            |(channel, revision, change, cause, member)| BrokerFrame::Presence {
                channel,
                revision,
                change,
                cause,
                member,
            }
        ),
        (number(), code(), text()).prop_map(|(request, code, detail)| BrokerFrame::Refusal {
            request,
            code,
            detail,
        }),
        credit().prop_map(BrokerFrame::Credit),
        (client(), number(), code()).prop_map(|(caller, request, cause)| {
            BrokerFrame::Cancelled {
                caller,
                request,
                cause,
            }
        }),
        (text(), lease_state(), number()).prop_map(|(service, state, fence)| BrokerFrame::Lease {
            service,
            state,
            fence,
        }),
        (number(), number()).prop_map(|(request, offset)| BrokerFrame::Stored { request, offset }),
    ];
    prop_oneof![3 => others, 1 => message().prop_map(BrokerFrame::Message)]
}

/// An array of a kind and further items, in deterministic encoding, of the types that frames have.
pub(crate) fn shaped() -> impl Strategy<Value = Vec<u8>> {
    let leaf = || {
        prop_oneof![
            3 => number().prop_map(Item::Number),
            1 => (0..6_u64).prop_map(Item::Number),
            2 => bytes().prop_map(Item::Bytes),
            2 => text().prop_map(Item::Text),
            1 => Just(Item::Text("localhub")),
            1 => any::<bool>().prop_map(Item::Flag),
            1 => Just(Item::Null),
        ]
    };
    let item = prop_oneof![6 => leaf(), 1 => vec(leaf(), 0..6).prop_map(Item::List)];
    (0..60_u64, vec(item, 1..8)).prop_map(|(kind, items)| {
        let mut bytes = Vec::new();
        let mut to = Encoder::new(&mut bytes);
        to.array(items.len() as u64 + 1)
            .and_then(|to| to.u64(kind))
            .unwrap();
        items.iter().for_each(|item| item.write(&mut to));
        bytes
    })
}

#[derive(Clone, Debug)]
enum Item {
    Bytes(&'static [u8]),
    Flag(bool),
    List(Vec<Self>),
    Null,
    Number(u64),
    Text(&'static str),
}

impl Item {
    fn write(&self, to: &mut Encoder<&mut Vec<u8>>) {
        let written = match self {
            Self::Bytes(bytes) => to.bytes(bytes),
            Self::Flag(flag) => to.bool(*flag),
            Self::List(items) => {
                to.array(items.len() as u64).unwrap();
                return items.iter().for_each(|item| item.write(to));
            }
            Self::Null => to.null(),
            Self::Number(number) => to.u64(*number),
            Self::Text(text) => to.str(text),
        };
        written.map(drop).unwrap();
    }
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Live),
        Just(Start::Retained),
        number().prop_map(Start::Last),
        number().prop_map(Start::After),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    select(Policy::ALL).prop_map(|(policy, _)| policy)
}

fn settings() -> impl Strategy<Value = ChannelSettings> {
    (number(), number(), milliseconds(), milliseconds()).prop_map(
        |(history_messages, history_bytes, history_age_ms, debounce_ms)| ChannelSettings {
            history_messages,
            history_bytes,
            history_age_ms,
            debounce_ms,
        },
    )
}

fn will() -> impl Strategy<Value = Will<'static>> {
    (milliseconds(), retain(), content(), text(), bytes()).prop_map(
        |(delay_ms, retain, content, topic, payload)| Will {
            delay_ms,
            retain,
            content,
            topic,
            payload,
        },
    )
}

fn credit() -> impl Strategy<Value = Credit> {
    (client(), number(), number()).prop_map(|(of, request, bytes)| Credit { of, request, bytes })
}

fn serve_mode() -> impl Strategy<Value = ServeMode> {
    select(vec![
        ServeMode::Shared,
        ServeMode::Exclusive,
        ServeMode::Takeover,
    ])
}

fn lease_state() -> impl Strategy<Value = LeaseState> {
    select(vec![LeaseState::Queued, LeaseState::Held, LeaseState::Lost])
}

fn put() -> impl Strategy<Value = Put<'static>> {
    let conditions = (of(number()), milliseconds(), any::<bool>());
    let retain = select(vec![Retain::Set, Retain::Clear]);
    (conditions, retain, content(), text(), bytes()).prop_map(
        |((expect, ttl_ms, owned), retain, content, topic, payload)| Put {
            expect,
            ttl_ms,
            owned,
            retain,
            content,
            topic,
            payload,
        },
    )
}

fn retain() -> impl Strategy<Value = Retain> {
    select(vec![Retain::No, Retain::Set, Retain::Clear])
}

fn message() -> impl Strategy<Value = Message<'static>> {
    prop_oneof![
        (channel(), content(), bytes()).prop_map(|(channel, content, payload)| {
            Message::Broadcast {
                channel,
                content,
                payload,
            }
        }),
        (target(), content(), bytes()).prop_map(|(to, content, payload)| Message::Direct {
            to,
            content,
            payload
        }),
        (channel(), retain(), content(), text(), bytes()).prop_map(
            |(channel, retain, content, topic, payload)| Message::Publish {
                channel,
                retain,
                content,
                topic,
                payload,
            }
        ),
        (number(), any::<bool>(), content(), bytes()).prop_map(
            |(request, more, content, payload)| Message::Feed {
                request,
                more,
                content,
                payload,
            }
        ),
        (
            client(),
            number(),
            of(code()),
            any::<bool>(),
            content(),
            bytes()
        )
            .prop_map(
                |(to, request, error, more, content, payload)| Message::Reply {
                    to,
                    request,
                    error,
                    more,
                    content,
                    payload,
                }
            ),
        (
            prop_oneof![2 => target(), 1 => text().prop_map(Target::Service)],
            milliseconds(),
            of(any::<[u8; 16]>()),
            milliseconds(),
            text(),
            content(),
            bytes()
        )
            .prop_map(
                |(to, deadline_ms, command, window, method, content, payload)| {
                    Message::Request {
                        to,
                        deadline_ms,
                        command,
                        window,
                        method,
                        content,
                        payload,
                    }
                }
            ),
    ]
}

fn hello() -> impl Strategy<Value = Hello<'static>> {
    let resume = (any::<[u8; 16]>(), client(), any::<[u8; 32]>(), number()).prop_map(
        |(epoch, client, token, received)| Resume {
            epoch: Epoch(epoch),
            client,
            token: ResumeToken(token),
            received,
        },
    );
    (
        version(),
        version(),
        features(),
        of(text()),
        of(resume),
        of(milliseconds()),
    )
        .prop_map(|(lowest, highest, features, name, resume, ttl_ms)| Hello {
            versions: (lowest, highest),
            features,
            name,
            resume,
            ttl_ms,
        })
}

fn welcome() -> impl Strategy<Value = Welcome<'static>> {
    let resumed =
        (any::<bool>(), number(), of(number())).prop_map(|(recovered, replayed, lost)| Resumed {
            recovered,
            replayed,
            lost,
        });
    let limits = (number(), number(), number(), number(), number()).prop_map(
        |(payload_bytes, outbox_bytes, outbox_messages, channels, subscriptions)| Limits {
            payload_bytes,
            outbox_bytes,
            outbox_messages,
            channels,
            subscriptions,
        },
    );
    let who = (any::<[u8; 16]>(), client(), text(), any::<[u8; 32]>());
    let state = (
        of(resumed),
        number(),
        milliseconds(),
        milliseconds(),
        limits,
    );
    (version(), features(), who, state).prop_map(|(version, features, who, state)| {
        let (epoch, client, name, token) = who;
        let (resumed, received, ttl_ms, ping_ms, limits) = state;
        Welcome {
            version,
            features,
            epoch: Epoch(epoch),
            client,
            name,
            token: ResumeToken(token),
            resumed,
            received,
            ttl_ms,
            ping_ms,
            limits,
        }
    })
}

fn run() -> impl Strategy<Value = Run<'static>> {
    (
        of(channel()),
        client(),
        text(),
        number(),
        one_or_more(),
        any::<bool>(),
    )
        .prop_map(|(channel, sender, name, first, count, retained)| Run {
            channel,
            sender,
            name,
            first,
            count,
            retained,
        })
}

fn members() -> impl Strategy<Value = Vec<Member<'static>>> {
    prop_oneof![9 => vec(member(), 0..4), 1 => vec(member(), MEMBERS_PER_FRAME_MAX)]
}

fn member() -> impl Strategy<Value = Member<'static>> {
    (
        client(),
        text(),
        select(vec![Status::Online, Status::Away, Status::Stalled]),
        bytes(),
    )
        .prop_map(|(client, name, status, state)| Member {
            client,
            name,
            status,
            state,
        })
}

fn change() -> impl Strategy<Value = Change> {
    select(vec![
        Change::Joined,
        Change::Left,
        Change::Updated,
        Change::Away,
        Change::Back,
        Change::Stalled,
    ])
}

fn features() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![9 => vec(text(), 0..4), 1 => vec(text(), FEATURES_MAX)]
}

fn target() -> impl Strategy<Value = Target<'static>> {
    prop_oneof![client().prop_map(Target::Id), text().prop_map(Target::Name)]
}

fn version() -> impl Strategy<Value = Version> {
    any::<(u16, u16)>().prop_map(|(major, minor)| Version { major, minor })
}

fn channel() -> impl Strategy<Value = ChannelId> {
    number().prop_map(ChannelId)
}

fn client() -> impl Strategy<Value = ClientId> {
    number().prop_map(ClientId)
}

fn code() -> impl Strategy<Value = Code> {
    any::<u16>().prop_map(Code)
}

fn content() -> impl Strategy<Value = ContentType> {
    prop_oneof![0..6_u16, any::<u16>()].prop_map(ContentType)
}

/// Numbers of any length in bits, so that every length of head is met.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, bits)| number >> bits)
}

fn one_or_more() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number.max(1))
}

fn milliseconds() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0..32_u32).prop_map(|(number, bits)| number >> bits)
}

fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof!["[a-z/+#]{0,30}", ".{0,300}"].prop_map(|text| &*String::leak(text))
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    let sizes = prop_oneof![30 => 0..300_usize, 1 => 65_530..65_550_usize];
    (any::<u8>(), sizes).prop_map(|(byte, size)| &*Vec::leak(vec![byte; size]))
}
