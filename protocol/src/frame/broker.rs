use super::presence::{Change, Member};
use super::service::{Credit, LeaseState};
use super::shared::{
    expect, framed, read_ack, read_close, read_kind, read_probe, write_ack, write_channel,
    write_close, write_probe,
};
use crate::cbor::Reader;
use crate::limits::MEMBERS_PER_FRAME_MAX;
use crate::message::Message;
use crate::{ChannelId, ClientId, Code, FrameError, Welcome, kind};

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
        /// Of the history, every message that was asked for and has a higher offset than this follows.
        since: u64,
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
        /// Why, of a member that left or is away.
        cause: Option<Code>,
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
    /// The other side of a streamed request lets this one send more.
    Credit(Credit),
    /// A request to this client is over before it was replied to.
    Cancelled {
        /// Who made it.
        caller: ClientId,
        /// Its position among the caller's messages.
        request: u64,
        /// Why.
        cause: Code,
    },
    /// Whether this client has an exclusive service.
    Lease {
        /// The service's name.
        service: &'a str,
        /// Whether it has it.
        state: LeaseState,
        /// The number of the lease; 0 of one that is waited for.
        fence: u64,
    },
    /// The value was set or deleted.
    Stored {
        /// The position of the put.
        request: u64,
        /// The channel offset of the message, which is the version of the value.
        offset: u64,
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

impl<'a> BrokerFrame<'a> {
    /// Decodes the body of one frame, borrowing from it.
    ///
    /// # Errors
    /// The body is not exactly one frame that a broker may send.
    pub fn decode(body: &'a [u8]) -> Result<Self, FrameError> {
        let r = &mut Reader::new(body);
        let (items, kind) = read_kind(r)?;
        let frame = match kind {
            kind::WELCOME => {
                expect(items, Welcome::ITEMS)?;
                Self::Welcome(Welcome::read(r)?)
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
            kind::PUBLISH..=kind::FEED => Message::read(kind, items, r).map(Self::Message)?,
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
                expect(items, 6)?;
                Self::Values {
                    request: r.uint()?,
                    channel: ChannelId(r.uint()?),
                    offset: r.uint()?,
                    count: r.uint()?,
                    since: r.uint()?,
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
                expect(items, 6)?;
                Self::Presence {
                    channel: ChannelId(r.uint()?),
                    revision: r.uint()?,
                    change: Change::read(r)?,
                    cause: r.optional(Reader::u16)?.map(Code),
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
            kind::CREDIT => {
                expect(items, 4)?;
                Self::Credit(Credit::read(r)?)
            }
            kind::CANCELLED => {
                expect(items, 4)?;
                Self::Cancelled {
                    caller: ClientId(r.uint()?),
                    request: r.uint()?,
                    cause: Code(r.u16()?),
                }
            }
            kind::LEASE => {
                expect(items, 4)?;
                Self::Lease {
                    service: r.text()?,
                    state: LeaseState::read(r)?,
                    fence: r.uint()?,
                }
            }
            kind::STORED => {
                expect(items, 3)?;
                Self::Stored {
                    request: r.uint()?,
                    offset: r.uint()?,
                }
            }
            kind::HELLO | kind::JOIN..=kind::CANCEL | kind::SERVE..=kind::PUT => {
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
                Self::Ack { received } => write_ack(*received, w),
                Self::Ping { nonce, received } => write_probe(kind::PING, *nonce, *received, w),
                Self::Pong { nonce, received } => write_probe(kind::PONG, *nonce, *received, w),
                Self::Close { code, detail } => write_close(*code, detail, w),
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
                    since,
                } => w
                    .array(6)
                    .uint(kind::VALUES)
                    .uint(*request)
                    .uint(channel.0)
                    .uint(*offset)
                    .uint(*count)
                    .uint(*since),
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
                    cause,
                    member,
                } => {
                    w.array(6)
                        .uint(kind::PRESENCE)
                        .uint(channel.0)
                        .uint(*revision)
                        .uint(*change as u64)
                        .optional(*cause, |w, code| {
                            w.uint(code.0.into());
                        });
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
                Self::Credit(credit) => credit.write(w),
                Self::Cancelled {
                    caller,
                    request,
                    cause,
                } => w
                    .array(4)
                    .uint(kind::CANCELLED)
                    .uint(caller.0)
                    .uint(*request)
                    .uint(cause.0.into()),
                Self::Lease {
                    service,
                    state,
                    fence,
                } => w
                    .array(4)
                    .uint(kind::LEASE)
                    .text(service)
                    .uint(*state as u64)
                    .uint(*fence),
                Self::Stored { request, offset } => {
                    w.array(3).uint(kind::STORED).uint(*request).uint(*offset)
                }
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
