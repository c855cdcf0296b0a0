use crate::cbor::{Reader, Writer};
use crate::limits::MEMBERS_PER_FRAME_MAX;
use crate::message::Message;
use crate::{ChannelId, ClientId, Code, FrameError, Hello, Welcome, kind};

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
    /// Adds a subscription. Answered by `Values`, with or without any.
    Subscribe {
        /// The channel.
        channel: ChannelId,
        /// The topic filter.
        filter: &'a str,
        /// Whether the retained values that match come first.
        snapshot: bool,
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
}

/// A frame that the broker sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BrokerFrame<'a> {
    /// Accepts the client.
    Welcome(Welcome<'a>),
    /// Confirms that this many messages of the client were carried out or refused.
    Ack {
        /// How many, since the session began.
        received: u64,
    },
    /// Asks for a pong.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
        /// As in `Ack`.
        received: u64,
    },
    /// Answers a ping of the client. Every refusal of an earlier message was sent before it.
    Pong {
        /// The nonce of the ping.
        nonce: u64,
        /// As in `Ack`.
        received: u64,
    },
    /// Ends the connection.
    Close {
        /// Why.
        code: Code,
        /// Why, in words.
        detail: &'a str,
    },
    /// Announces that the broker will soon close every connection.
    GoAway {
        /// Why.
        code: Code,
        /// How long to wait before connecting anew, in milliseconds.
        delay_ms: u32,
    },
    /// Stands in the place of messages that were lost to this client.
    Gap(Gap),
    /// Says who sent the messages that follow, and where.
    Run(Run<'a>),
    /// A message, as its sender wrote it.
    Message(Message<'a>),
    /// The request with that position was carried out.
    Done {
        /// The position of the request among the client's messages.
        request: u64,
    },
    /// The client is a member now.
    Joined {
        /// The position of the join.
        request: u64,
        /// The channel.
        channel: ChannelId,
        /// The channel's offset: the first message that the client may see has a higher one.
        offset: u64,
    },
    /// Retained values follow, each in a run of its own.
    Values {
        /// The position of the request.
        request: u64,
        /// The channel.
        channel: ChannelId,
        /// The channel offset at which these were the values.
        offset: u64,
        /// How many follow.
        count: u64,
    },
    /// Who is in a channel. A large channel takes several frames.
    Members {
        /// The position of the request.
        request: u64,
        /// The channel.
        channel: ChannelId,
        /// The presence revision at which these were the members.
        revision: u64,
        /// Whether another frame with further members follows.
        more: bool,
        /// The members, by ascending client id.
        members: Vec<Member<'a>>,
    },
    /// One presence change.
    Presence {
        /// The channel.
        channel: ChannelId,
        /// The presence revision after the change: one more than before it.
        revision: u64,
        /// What changed.
        change: Change,
        /// The member, as it is after the change.
        member: Member<'a>,
    },
    /// The message with that position was refused; the connection goes on.
    Refusal {
        /// The position of the message among the client's messages.
        request: u64,
        /// Why.
        code: Code,
        /// What is wrong, with its particulars; may be empty.
        detail: &'a str,
    },
}

/// Messages that were lost to one session, in the place where they were lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The channel they were lost from; `None` if they were direct messages or answers, or of more
    /// than one channel.
    pub channel: Option<ChannelId>,
    /// How many, at least one. The position advances by as many.
    pub lost: u64,
    /// Why.
    pub cause: Code,
}

/// The header of a run: `count` messages follow, each as its sender wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run<'a> {
    /// The channel; `None` for direct messages, requests and replies.
    pub channel: Option<ChannelId>,
    /// Who sent the messages.
    pub sender: ClientId,
    /// The sender's name at that time.
    pub name: &'a str,
    /// In a channel, the channel offset of the first message; else its position among its sender's
    /// messages, or that of the request if the broker replies. The others follow by one.
    pub first: u64,
    /// How many messages follow, at least one.
    pub count: u64,
    /// Whether the message is a retained value of a snapshot, and not live.
    pub retained: bool,
}

/// One member of a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member<'a> {
    /// The member's session.
    pub client: ClientId,
    /// The member's name.
    pub name: &'a str,
    /// Whether it has a connection.
    pub status: Status,
    /// Its presence state.
    pub state: &'a [u8],
}

/// Whether a member has a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Status {
    /// It has.
    Online = 0,
    /// It lost it, and its session waits for it to come back.
    Away = 1,
}

/// What changed in a channel's presence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Change {
    /// The member joined.
    Joined = 0,
    /// The member left.
    Left = 1,
    /// The member set another state.
    Updated = 2,
    /// The member lost its connection.
    Away = 3,
    /// The member came back.
    Back = 4,
}

impl<'a> ClientFrame<'a> {
    /// Decodes the body of one frame, borrowing from it.
    ///
    /// # Errors
    /// The body is not exactly one frame that a client may send.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let r = &mut Reader::new(body);
        let items = r.array()?;
        let kind = if items == 0 {
            Err(FrameError::malformed("an empty array"))
        } else {
            r.uint()
        }?;
        let frame = match kind {
            kind::HELLO => {
                expect(items, Hello::ITEMS).and_then(|()| Hello::read(r).map(Self::Hello))?
            }
            kind::ACK => expect(items, 2).and_then(|()| {
                Ok(Self::Ack {
                    received: r.uint()?,
                })
            })?,
            kind::PING => expect(items, 3).and_then(|()| {
                Ok(Self::Ping {
                    nonce: r.uint()?,
                    received: r.uint()?,
                })
            })?,
            kind::PONG => expect(items, 3).and_then(|()| {
                Ok(Self::Pong {
                    nonce: r.uint()?,
                    received: r.uint()?,
                })
            })?,
            kind::CLOSE => expect(items, 3).and_then(|()| {
                Ok(Self::Close {
                    code: Code(r.u16()?),
                    detail: r.text()?,
                })
            })?,
            kind::PUBLISH..=kind::REPLY => Message::read(kind, items, r).map(Self::Message)?,
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
                expect(items, 4)?;
                Self::Subscribe {
                    channel: ChannelId(r.uint()?),
                    filter: r.text()?,
                    snapshot: r.bool()?,
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
            kind::WELCOME | kind::GOAWAY..=kind::RUN | kind::DONE..=kind::REFUSAL => {
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
                Self::Ack { received } => w.array(2).uint(kind::ACK).uint(*received),
                Self::Ping { nonce, received } => {
                    w.array(3).uint(kind::PING).uint(*nonce).uint(*received)
                }
                Self::Pong { nonce, received } => {
                    w.array(3).uint(kind::PONG).uint(*nonce).uint(*received)
                }
                Self::Close { code, detail } => w
                    .array(3)
                    .uint(kind::CLOSE)
                    .uint(code.0.into())
                    .text(detail),
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
                    snapshot,
                } => w
                    .array(4)
                    .uint(kind::SUBSCRIBE)
                    .uint(channel.0)
                    .text(filter)
                    .bool(*snapshot),
                Self::Unsubscribe { channel, filter } => w
                    .array(3)
                    .uint(kind::UNSUBSCRIBE)
                    .uint(channel.0)
                    .text(filter),
                Self::Snapshot { channel, filter } => {
                    w.array(3).uint(kind::SNAPSHOT).uint(channel.0).text(filter)
                }
            };
        });
    }
}

impl<'a> BrokerFrame<'a> {
    /// Decodes the body of one frame, borrowing from it.
    ///
    /// # Errors
    /// The body is not exactly one frame that a broker may send.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let r = &mut Reader::new(body);
        let items = r.array()?;
        let kind = if items == 0 {
            Err(FrameError::malformed("an empty array"))
        } else {
            r.uint()
        }?;
        let frame = match kind {
            kind::WELCOME => {
                expect(items, Welcome::ITEMS)?;
                Self::Welcome(Welcome::read(r)?)
            }
            kind::ACK => expect(items, 2).and_then(|()| {
                Ok(Self::Ack {
                    received: r.uint()?,
                })
            })?,
            kind::PING => expect(items, 3).and_then(|()| {
                Ok(Self::Ping {
                    nonce: r.uint()?,
                    received: r.uint()?,
                })
            })?,
            kind::PONG => expect(items, 3).and_then(|()| {
                Ok(Self::Pong {
                    nonce: r.uint()?,
                    received: r.uint()?,
                })
            })?,
            kind::CLOSE => expect(items, 3).and_then(|()| {
                Ok(Self::Close {
                    code: Code(r.u16()?),
                    detail: r.text()?,
                })
            })?,
            kind::GOAWAY => {
                expect(items, 3)?;
                Self::GoAway {
                    code: Code(r.u16()?),
                    delay_ms: r.u32()?,
                }
            }
            kind::GAP => {
                expect(items, 4)?;
                Self::Gap(Gap::read(r)?)
            }
            kind::RUN => {
                expect(items, 7)?;
                Self::Run(Run::read(r)?)
            }
            kind::PUBLISH..=kind::REPLY => Message::read(kind, items, r).map(Self::Message)?,
            kind::DONE => {
                expect(items, 2)?;
                Self::Done { request: r.uint()? }
            }
            kind::JOINED => {
                expect(items, 4)?;
                Self::Joined {
                    request: r.uint()?,
                    channel: ChannelId(r.uint()?),
                    offset: r.uint()?,
                }
            }
            kind::VALUES => {
                expect(items, 5)?;
                Self::Values {
                    request: r.uint()?,
                    channel: ChannelId(r.uint()?),
                    offset: r.uint()?,
                    count: r.uint()?,
                }
            }
            kind::MEMBERS => {
                expect(items, 6)?;
                Self::Members {
                    request: r.uint()?,
                    channel: ChannelId(r.uint()?),
                    revision: r.uint()?,
                    more: r.bool()?,
                    members: r.list(MEMBERS_PER_FRAME_MAX, Member::read)?,
                }
            }
            kind::PRESENCE => {
                expect(items, 5)?;
                Self::Presence {
                    channel: ChannelId(r.uint()?),
                    revision: r.uint()?,
                    change: Change::read(r)?,
                    member: Member::read(r)?,
                }
            }
            kind::REFUSAL => {
                expect(items, 4)?;
                Self::Refusal {
                    request: r.uint()?,
                    code: Code(r.u16()?),
                    detail: r.text()?,
                }
            }
            kind::HELLO | kind::JOIN..=kind::SNAPSHOT => {
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
                Self::Welcome(welcome) => {
                    welcome.write(w);
                    w
                }
                Self::Ack { received } => w.array(2).uint(kind::ACK).uint(*received),
                Self::Ping { nonce, received } => {
                    w.array(3).uint(kind::PING).uint(*nonce).uint(*received)
                }
                Self::Pong { nonce, received } => {
                    w.array(3).uint(kind::PONG).uint(*nonce).uint(*received)
                }
                Self::Close { code, detail } => w
                    .array(3)
                    .uint(kind::CLOSE)
                    .uint(code.0.into())
                    .text(detail),
                Self::GoAway { code, delay_ms } => w
                    .array(3)
                    .uint(kind::GOAWAY)
                    .uint(code.0.into())
                    .uint((*delay_ms).into()),
                Self::Gap(Gap {
                    channel,
                    lost,
                    cause,
                }) => {
                    w.array(4).uint(kind::GAP);
                    write_channel(*channel, w);
                    w.uint(*lost).uint(cause.0.into())
                }
                Self::Run(run) => {
                    w.array(7).uint(kind::RUN);
                    write_channel(run.channel, w);
                    w.uint(run.sender.0)
                        .text(run.name)
                        .uint(run.first)
                        .uint(run.count)
                        .bool(run.retained)
                }
                Self::Message(message) => {
                    message.write(w);
                    w
                }
                Self::Done { request } => w.array(2).uint(kind::DONE).uint(*request),
                Self::Joined {
                    request,
                    channel,
                    offset,
                } => w
                    .array(4)
                    .uint(kind::JOINED)
                    .uint(*request)
                    .uint(channel.0)
                    .uint(*offset),
                Self::Values {
                    request,
                    channel,
                    offset,
                    count,
                } => w
                    .array(5)
                    .uint(kind::VALUES)
                    .uint(*request)
                    .uint(channel.0)
                    .uint(*offset)
                    .uint(*count),
                Self::Members {
                    request,
                    channel,
                    revision,
                    more,
                    members,
                } => {
                    w.array(6)
                        .uint(kind::MEMBERS)
                        .uint(*request)
                        .uint(channel.0)
                        .uint(*revision)
                        .bool(*more)
                        .array(members.len());
                    for member in members {
                        member.write(w);
                    }
                    w
                }
                Self::Presence {
                    channel,
                    revision,
                    change,
                    member,
                } => {
                    w.array(5)
                        .uint(kind::PRESENCE)
                        .uint(channel.0)
                        .uint(*revision)
                        .uint(*change as u64);
                    member.write(w);
                    w
                }
                Self::Refusal {
                    request,
                    code,
                    detail,
                } => w
                    .array(4)
                    .uint(kind::REFUSAL)
                    .uint(*request)
                    .uint(code.0.into())
                    .text(detail),
            };
        });
    }
}

impl Gap {
    fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        let gap = Self {
            channel: r.optional(Reader::uint)?.map(ChannelId),
            lost: r.uint()?,
            cause: Code(r.u16()?),
        };
        if gap.lost == 0 {
            return Err(FrameError::malformed("a gap of no messages"));
        }
        Ok(gap)
    }
}

impl<'a> Run<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        let run = Self {
            channel: r.optional(Reader::uint)?.map(ChannelId),
            sender: ClientId(r.uint()?),
            name: r.text()?,
            first: r.uint()?,
            count: r.uint()?,
            retained: r.bool()?,
        };
        if run.count == 0 {
            return Err(FrameError::malformed("a run of no messages"));
        }
        Ok(run)
    }
}

impl<'a> Member<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        r.array_of(4)?;
        Ok(Self {
            client: ClientId(r.uint()?),
            name: r.text()?,
            status: match r.uint()? {
                0 => Status::Online,
                1 => Status::Away,
                _ => return Err(FrameError::malformed("a member's status is 0 or 1")),
            },
            state: r.bytes()?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.array(4)
            .uint(self.client.0)
            .text(self.name)
            .uint(self.status as u64)
            .bytes(self.state);
    }
}

impl Change {
    fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match r.uint()? {
            0 => Self::Joined,
            1 => Self::Left,
            2 => Self::Updated,
            3 => Self::Away,
            4 => Self::Back,
            _ => return Err(FrameError::malformed("a presence change is 0 to 4")),
        })
    }
}

fn write_channel(channel: Option<ChannelId>, w: &mut Writer<'_>) {
    w.optional(channel, |w, channel| {
        w.uint(channel.0);
    });
}

fn expect(items: usize, length: usize) -> Result<(), FrameError> {
    if items == length {
        Ok(())
    } else {
        Err(FrameError::malformed(
            "a frame has another length than its kind",
        ))
    }
}

/// Writes a frame's body behind its length prefix.
fn framed(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    write(&mut Writer::new(buffer));
    let length = (buffer.len() - start - 4) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
