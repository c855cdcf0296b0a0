use std::fmt;

use crate::cbor::{Reader, Writer};
use crate::{ChannelId, ClientId, Code, FrameError, kind};

/// A message from one client to others: the frames that the broker forwards as the bytes they
/// came in. The payload is never read by the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// To every other member of the channel.
    Broadcast {
        /// The channel, which the sender has joined.
        channel: ChannelId,
        /// What the payload is.
        content: ContentType,
        /// The payload.
        payload: &'a [u8],
    },
    /// To one client.
    Direct {
        /// The receiver.
        to: Target<'a>,
        /// What the payload is.
        content: ContentType,
        /// The payload.
        payload: &'a [u8],
    },
    /// To the members of the channel whose filter matches the topic, the sender too.
    Publish {
        /// The channel, which the sender has joined.
        channel: ChannelId,
        /// Whether the channel keeps the value.
        retain: Retain,
        /// What the payload is.
        content: ContentType,
        /// The topic, not yet checked.
        topic: &'a str,
        /// The payload.
        payload: &'a [u8],
    },
    /// More of a streamed request, from who made it.
    Feed {
        /// The position of the request.
        request: u64,
        /// Whether more follows.
        more: bool,
        /// What the payload is.
        content: ContentType,
        /// The payload.
        payload: &'a [u8],
    },
    /// Answers a request, or a part of the answer.
    Reply {
        /// Who asked.
        to: ClientId,
        /// The position of the request among the messages of who asked.
        request: u64,
        /// `None` is success; else why it failed.
        error: Option<Code>,
        /// Whether this is a part, and more follows.
        more: bool,
        /// What the payload is.
        content: ContentType,
        /// The payload.
        payload: &'a [u8],
    },
    /// To one client or service, which answers with one reply.
    Request {
        /// The receiver.
        to: Target<'a>,
        /// How long the sender waits for the reply, in milliseconds; 0 is as long as there is.
        deadline_ms: u32,
        /// The command id, if the request must be carried out at most once.
        command: Option<[u8; 16]>,
        /// How many bytes of a reply in parts may come at first; 0 wants a single reply.
        window: u32,
        /// What is asked for.
        method: &'a str,
        /// What the payload is.
        content: ContentType,
        /// The payload.
        payload: &'a [u8],
    },
}

/// Whom a direct message or request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target<'a> {
    /// The client with that id; [`ClientId::HUB`] is the broker itself.
    Id(ClientId),
    /// The client that has that name now, not yet checked.
    Name(&'a str),
    /// Whoever serves that, not yet checked; for requests only.
    Service(&'a str),
}

/// Whether a channel keeps a published message as the last value of its topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Retain {
    /// It does not.
    #[default]
    No = 0,
    /// It keeps this message in place of an earlier one.
    Set = 1,
    /// It forgets what it kept; the message itself is delivered.
    Clear = 2,
}

/// A hint at what a payload is, from sender to receiver. The broker passes it on.
///
/// A value this version does not know is passed on as well.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct ContentType(pub u16);

impl ContentType {
    /// Bytes that only sender and receiver understand.
    pub const BYTES: Self = Self(0);
    /// UTF-8 text.
    pub const TEXT: Self = Self(1);
    /// One JSON value (RFC 8259).
    pub const JSON: Self = Self(2);
    /// One CBOR item (RFC 8949).
    pub const CBOR: Self = Self(3);

    /// The type as one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BYTES => "bytes",
            Self::TEXT => "text",
            Self::JSON => "json",
            Self::CBOR => "cbor",
            _ => "unknown",
        }
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

impl<'a> Message<'a> {
    /// The payload.
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::Broadcast { payload, .. }
            | Self::Direct { payload, .. }
            | Self::Feed { payload, .. }
            | Self::Publish { payload, .. }
            | Self::Reply { payload, .. }
            | Self::Request { payload, .. } => payload,
        }
    }

    /// What the payload is.
    pub const fn content(&self) -> ContentType {
        match self {
            Self::Broadcast { content, .. }
            | Self::Direct { content, .. }
            | Self::Feed { content, .. }
            | Self::Publish { content, .. }
            | Self::Reply { content, .. }
            | Self::Request { content, .. } => *content,
        }
    }

    pub(crate) fn read(kind: u64, items: usize, r: &mut Reader<'a>) -> Result<Self, FrameError> {
        let expect = |count| match items == count {
            true => Ok(()),
            false => Err(FrameError::malformed(
                "a frame has another length than its kind",
            )),
        };
        match kind {
            kind::PUBLISH => {
                expect(6)?;
                Ok(Self::Publish {
                    channel: ChannelId(r.uint()?),
                    retain: Retain::read(r)?,
                    content: ContentType(r.u16()?),
                    topic: r.text()?,
                    payload: r.bytes()?,
                })
            }
            kind::BROADCAST => {
                expect(4)?;
                Ok(Self::Broadcast {
                    channel: ChannelId(r.uint()?),
                    content: ContentType(r.u16()?),
                    payload: r.bytes()?,
                })
            }
            kind::DIRECT => {
                expect(4)?;
                Ok(Self::Direct {
                    to: Target::read_client(r)?,
                    content: ContentType(r.u16()?),
                    payload: r.bytes()?,
                })
            }
            kind::REQUEST => {
                expect(8)?;
                Ok(Self::Request {
                    to: Target::read(r)?,
                    deadline_ms: r.u32()?,
                    command: r.optional(Reader::bytes_of)?,
                    window: r.u32()?,
                    method: r.text()?,
                    content: ContentType(r.u16()?),
                    payload: r.bytes()?,
                })
            }
            kind::FEED => {
                expect(5)?;
                Ok(Self::Feed {
                    request: r.uint()?,
                    more: r.bool()?,
                    content: ContentType(r.u16()?),
                    payload: r.bytes()?,
                })
            }
            kind::REPLY => {
                expect(7)?;
                Ok(Self::Reply {
                    to: ClientId(r.uint()?),
                    request: r.uint()?,
                    error: r.optional(Reader::u16)?.map(Code),
                    more: r.bool()?,
                    content: ContentType(r.u16()?),
                    payload: r.bytes()?,
                })
            }
            kind => Err(FrameError::UnknownKind { kind }),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        match *self {
            Self::Publish {
                channel,
                retain,
                content,
                topic,
                payload,
            } => w
                .array(6)
                .uint(kind::PUBLISH)
                .uint(channel.0)
                .uint(retain as u64)
                .uint(content.0.into())
                .text(topic)
                .bytes(payload),
            Self::Broadcast {
                channel,
                content,
                payload,
            } => w
                .array(4)
                .uint(kind::BROADCAST)
                .uint(channel.0)
                .uint(content.0.into())
                .bytes(payload),
            Self::Direct {
                to,
                content,
                payload,
            } => {
                w.array(4).uint(kind::DIRECT);
                to.write(w);
                w.uint(content.0.into()).bytes(payload)
            }
            Self::Request {
                to,
                deadline_ms,
                command,
                window,
                method,
                content,
                payload,
            } => {
                w.array(8).uint(kind::REQUEST);
                to.write(w);
                w.uint(deadline_ms.into())
                    .optional(command, |w, id| {
                        w.bytes(&id);
                    })
                    .uint(window.into())
                    .text(method)
                    .uint(content.0.into())
                    .bytes(payload)
            }
            Self::Feed {
                request,
                more,
                content,
                payload,
            } => w
                .array(5)
                .uint(kind::FEED)
                .uint(request)
                .bool(more)
                .uint(content.0.into())
                .bytes(payload),
            Self::Reply {
                to,
                request,
                error,
                more,
                content,
                payload,
            } => w
                .array(7)
                .uint(kind::REPLY)
                .uint(to.0)
                .uint(request)
                .optional(error, |w, code| {
                    w.uint(code.0.into());
                })
                .bool(more)
                .uint(content.0.into())
                .bytes(payload),
        };
    }
}

impl Retain {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        match r.uint()? {
            0 => Ok(Self::No),
            1 => Ok(Self::Set),
            2 => Ok(Self::Clear),
            _ => Err(FrameError::malformed("retain is 0, 1 or 2")),
        }
    }
}

impl<'a> Target<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        if !r.at_array()? {
            return Self::read_client(r);
        }
        match r.array()? {
            1 => r.text().map(Self::Service),
            _ => Err(FrameError::malformed("a service is an array with its name")),
        }
    }

    /// Reads a target that is one client.
    fn read_client(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        if r.at_text()? {
            r.text().map(Self::Name)
        } else {
            r.uint().map(|id| Self::Id(ClientId(id)))
        }
    }

    fn write(self, w: &mut Writer<'_>) {
        match self {
            Self::Id(id) => w.uint(id.0),
            Self::Name(name) => w.text(name),
            Self::Service(name) => w.array(1).text(name),
        };
    }
}
