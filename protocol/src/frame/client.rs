use super::put::Put;
use super::service::{Credit, ServeMode};
use super::shared::{
    expect, framed, read_ack, read_close, read_kind, read_probe, write_ack, write_close,
    write_probe,
};
use super::subscription::{Policy, Start};
use crate::cbor::Reader;
use crate::message::{ContentType, Message, Retain};
use crate::{ChannelId, Code, FrameError, Hello, kind};

/// A frame that a client sends. Names, topics and filters are not yet checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientFrame<'a> {
    /// Opens the connection; nothing else is accepted before it, and it is accepted once.
    Hello(Hello<'a>),
    /// Confirms that the client received this many messages since its session began.
    Ack {
        /// How many.
        received: u64,
    },
    /// Asks for a pong, which also says how far the broker has come.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
        /// As in `Ack`.
        received: u64,
    },
    /// Answers a ping of the broker.
    Pong {
        /// The nonce of the ping.
        nonce: u64,
        /// As in `Ack`.
        received: u64,
    },
    /// Ends the session.
    Close {
        /// Why; usually [`Code::GOODBYE`].
        code: Code,
        /// Why, in words.
        detail: &'a str,
    },
    /// A message for others.
    Message(Message<'a>),
    /// Enters a channel. Answered by `Joined`.
    Join {
        /// The channel's name.
        name: &'a str,
        /// Whether the member is left out of presence: it hears, and is not heard of.
        hidden: bool,
        /// The member's presence state: a CBOR map from text to anything, or nothing.
        state: &'a [u8],
    },
    /// Leaves a channel. Answered by `Done`.
    Leave {
        /// The channel.
        channel: ChannelId,
    },
    /// Replaces the member's presence state. Answered by `Done`.
    PresenceSet {
        /// The channel.
        channel: ChannelId,
        /// The new state.
        state: &'a [u8],
    },
    /// Starts or stops presence changes. The start is answered by `Members`, the stop by `Done`.
    PresenceWatch {
        /// The channel.
        channel: ChannelId,
        /// Whether changes are wanted from now on.
        on: bool,
    },
    /// Adds a subscription, or sets the policy of the one with that filter. Answered by `Values`, with
    /// or without any.
    Subscribe {
        /// The channel.
        channel: ChannelId,
        /// The topic filter.
        filter: &'a str,
        /// What comes first.
        start: Start,
        /// What becomes of messages that the client reads too slowly.
        policy: Policy,
    },
    /// Ends a subscription. Answered by `Done`.
    Unsubscribe {
        /// The channel.
        channel: ChannelId,
        /// The topic filter, as it was subscribed.
        filter: &'a str,
    },
    /// Asks for the retained values that match. Answered by `Values`.
    Snapshot {
        /// The channel.
        channel: ChannelId,
        /// The topic filter.
        filter: &'a str,
    },
    /// Says what the channel keeps from now on, and how it tells of its members. Answered by `Done`.
    ChannelSet {
        /// The channel.
        channel: ChannelId,
        /// For all its members; what another has set before does not count any more.
        settings: ChannelSettings,
    },
    /// Leaves a message to be published if the client is lost, in place of an earlier one for
    /// the same topic. Answered by `Done`.
    WillSet {
        /// The channel.
        channel: ChannelId,
        /// The message.
        will: Will<'a>,
    },
    /// Ends the wait for a request's outcome. Nothing answers it.
    Cancel {
        /// The position of the request.
        request: u64,
    },
    /// Lets the other side of a streamed request send more.
    Credit(Credit),
    /// Offers a service. Answered by `Done`; if it is not shared, a `Lease` follows.
    Serve {
        /// The service's name.
        service: &'a str,
        /// Who else may serve it.
        mode: ServeMode,
        /// A CBOR map that says what is offered, or nothing.
        description: &'a [u8],
    },
    /// Does not offer it any more. Answered by `Done`.
    Unserve {
        /// The service's name.
        service: &'a str,
    },
    /// Sets or deletes a retained value. Answered by `Stored`.
    Put {
        /// The channel.
        channel: ChannelId,
        /// The value and the conditions.
        put: Put<'a>,
    },
    /// Takes a will back. Answered by `Done`, also if there is none.
    WillClear {
        /// The channel.
        channel: ChannelId,
        /// The topic of the will.
        topic: &'a str,
    },
}

/// What a channel keeps of what was published, and how it tells of its members.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChannelSettings {
    /// The published messages that the history has at most; none if it is 0.
    pub history_messages: u64,
    /// Their bytes.
    pub history_bytes: u64,
    /// How long they stay, in milliseconds.
    pub history_age_ms: u32,
    /// How long a member may be without connection before it is told to be away, in milliseconds.
    pub debounce_ms: u32,
}

/// A message that the broker publishes for a member that was lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Will<'a> {
    /// How long the member has to come back before, in milliseconds.
    pub delay_ms: u32,
    /// Whether the channel keeps the message, or forgets the value of the topic.
    pub retain: Retain,
    /// What the payload is.
    pub content: ContentType,
    /// The topic, not yet checked.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> ClientFrame<'a> {
    /// Decodes the body of one frame, borrowing from it.
    ///
    /// # Errors
    /// The body is not exactly one frame that a client may send.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let r = &mut Reader::new(body);
        let (items, kind) = read_kind(r)?;
        let frame = match kind {
            kind::HELLO => {
                expect(items, Hello::ITEMS).and_then(|()| Hello::read(r).map(Self::Hello))?
            }
            kind::ACK => Self::Ack {
                received: read_ack(items, r)?,
            },
            kind::PING => {
                let (nonce, received) = read_probe(items, r)?;
                Self::Ping { nonce, received }
            }
            kind::PONG => {
                let (nonce, received) = read_probe(items, r)?;
                Self::Pong { nonce, received }
            }
            kind::CLOSE => {
                let (code, detail) = read_close(items, r)?;
                Self::Close { code, detail }
            }
            kind::PUBLISH..=kind::FEED => Message::read(kind, items, r).map(Self::Message)?,
            kind::JOIN => {
                expect(items, 4)?;
                Self::Join {
                    name: r.text()?,
                    hidden: r.bool()?,
                    state: r.bytes()?,
                }
            }
            kind::LEAVE => {
                expect(items, 2)?;
                Self::Leave {
                    channel: ChannelId(r.uint()?),
                }
            }
            kind::PRESENCE_SET => {
                expect(items, 3)?;
                Self::PresenceSet {
                    channel: ChannelId(r.uint()?),
                    state: r.bytes()?,
                }
            }
            kind::PRESENCE_WATCH => {
                expect(items, 3)?;
                Self::PresenceWatch {
                    channel: ChannelId(r.uint()?),
                    on: r.bool()?,
                }
            }
            kind::SUBSCRIBE => {
                expect(items, 4 + Start::ITEMS)?;
                Self::Subscribe {
                    channel: ChannelId(r.uint()?),
                    filter: r.text()?,
                    start: Start::read(r)?,
                    policy: Policy::read(r)?,
                }
            }
            kind::UNSUBSCRIBE => {
                expect(items, 3)?;
                Self::Unsubscribe {
                    channel: ChannelId(r.uint()?),
                    filter: r.text()?,
                }
            }
            kind::SNAPSHOT => {
                expect(items, 3)?;
                Self::Snapshot {
                    channel: ChannelId(r.uint()?),
                    filter: r.text()?,
                }
            }
            kind::CHANNEL_SET => {
                expect(items, 6)?;
                Self::ChannelSet {
                    channel: ChannelId(r.uint()?),
                    settings: ChannelSettings {
                        history_messages: r.uint()?,
                        history_bytes: r.uint()?,
                        history_age_ms: r.u32()?,
                        debounce_ms: r.u32()?,
                    },
                }
            }
            kind::WILL_SET => {
                expect(items, 7)?;
                Self::WillSet {
                    channel: ChannelId(r.uint()?),
                    will: Will {
                        delay_ms: r.u32()?,
                        retain: Retain::read(r)?,
                        content: ContentType(r.u16()?),
                        topic: r.text()?,
                        payload: r.bytes()?,
                    },
                }
            }
            kind::WILL_CLEAR => {
                expect(items, 3)?;
                Self::WillClear {
                    channel: ChannelId(r.uint()?),
                    topic: r.text()?,
                }
            }
            kind::CANCEL => {
                expect(items, 2)?;
                Self::Cancel { request: r.uint()? }
            }
            kind::CREDIT => {
                expect(items, 4)?;
                Self::Credit(Credit::read(r)?)
            }
            kind::SERVE => {
                expect(items, 4)?;
                Self::Serve {
                    service: r.text()?,
                    mode: ServeMode::read(r)?,
                    description: r.bytes()?,
                }
            }
            kind::UNSERVE => {
                expect(items, 2)?;
                Self::Unserve { service: r.text()? }
            }
            kind::PUT => {
                expect(items, 1 + 1 + Put::ITEMS)?;
                Self::Put {
                    channel: ChannelId(r.uint()?),
                    put: Put::read(r)?,
                }
            }
            kind::WELCOME | kind::GOAWAY..=kind::RUN | kind::DONE..=kind::STORED => {
                return Err(FrameError::OutOfOrder { kind });
            }
            kind => return Err(FrameError::UnknownKind { kind }),
        };
        r.end()?;
        Ok(frame)
    }

    /// Appends the frame, its length prefix first, to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        framed(buffer, |w| {
            match self {
                Self::Hello(hello) => {
                    hello.write(w);
                    w
                }
                Self::Ack { received } => write_ack(*received, w),
                Self::Ping { nonce, received } => write_probe(kind::PING, *nonce, *received, w),
                Self::Pong { nonce, received } => write_probe(kind::PONG, *nonce, *received, w),
                Self::Close { code, detail } => write_close(*code, detail, w),
                Self::Message(message) => {
                    message.write(w);
                    w
                }
                Self::Join {
                    name,
                    hidden,
                    state,
                } => w
                    .array(4)
                    .uint(kind::JOIN)
                    .text(name)
                    .bool(*hidden)
                    .bytes(state),
                Self::Leave { channel } => w.array(2).uint(kind::LEAVE).uint(channel.0),
                Self::PresenceSet { channel, state } => w
                    .array(3)
                    .uint(kind::PRESENCE_SET)
                    .uint(channel.0)
                    .bytes(state),
                Self::PresenceWatch { channel, on } => w
                    .array(3)
                    .uint(kind::PRESENCE_WATCH)
                    .uint(channel.0)
                    .bool(*on),
                Self::Subscribe {
                    channel,
                    filter,
                    start,
                    policy,
                } => {
                    w.array(4 + Start::ITEMS)
                        .uint(kind::SUBSCRIBE)
                        .uint(channel.0)
                        .text(filter);
                    start.write(w).uint(*policy as u64)
                }
                Self::Unsubscribe { channel, filter } => w
                    .array(3)
                    .uint(kind::UNSUBSCRIBE)
                    .uint(channel.0)
                    .text(filter),
                Self::Snapshot { channel, filter } => {
                    w.array(3).uint(kind::SNAPSHOT).uint(channel.0).text(filter)
                }
                Self::ChannelSet { channel, settings } => w
                    .array(6)
                    .uint(kind::CHANNEL_SET)
                    .uint(channel.0)
                    .uint(settings.history_messages)
                    .uint(settings.history_bytes)
                    .uint(settings.history_age_ms.into())
                    .uint(settings.debounce_ms.into()),
                Self::WillSet { channel, will } => w
                    .array(7)
                    .uint(kind::WILL_SET)
                    .uint(channel.0)
                    .uint(will.delay_ms.into())
                    .uint(will.retain as u64)
                    .uint(will.content.0.into())
                    .text(will.topic)
                    .bytes(will.payload),
                Self::Cancel { request } => w.array(2).uint(kind::CANCEL).uint(*request),
                Self::Credit(credit) => credit.write(w),
                Self::Serve {
                    service,
                    mode,
                    description,
                } => w
                    .array(4)
                    .uint(kind::SERVE)
                    .text(service)
                    .uint(*mode as u64)
                    .bytes(description),
                Self::Unserve { service } => w.array(2).uint(kind::UNSERVE).text(service),
                Self::Put { channel, put } => {
                    w.array(1 + 1 + Put::ITEMS).uint(kind::PUT).uint(channel.0);
                    put.write(w)
                }
                Self::WillClear { channel, topic } => w
                    .array(3)
                    .uint(kind::WILL_CLEAR)
                    .uint(channel.0)
                    .text(topic),
            };
        });
    }
}
