use std::rc::Rc;

use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ClientId, Code, ContentType, Member, Message, PREFIX_BYTES,
    Start, Status,
};

/// Something that a client must hear.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A request was carried out.
    Done(u64),
    /// A join was.
    Joined(Box<Joined>),
    /// Who is in a channel, or a part of it.
    Members(Rc<Members>),
    /// A message that was forwarded; `retained` if it is one of the values of a snapshot.
    Message { sent: Rc<Sent>, retained: bool },
    /// A change of presence.
    Presence(Rc<Presence>),
    /// A message was refused.
    Refused(Box<Refused>),
    /// Retained values or kept messages follow.
    Values(Box<Values>),
}

#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) request: u64,
    pub(super) channel: ChannelId,
    pub(super) offset: u64,
    /// Not heard, but known to who asked.
    pub(super) name: Rc<str>,
}

#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) request: u64,
    pub(super) code: Code,
    /// Not heard, but known to who asked.
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) request: u64,
    pub(super) offset: u64,
    pub(super) count: u64,
    pub(super) since: u64,
    pub(super) asked: Asked,
}

/// What was asked for when values were. It is not heard, but the client knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) channel: ChannelId,
    pub(super) filter: Rc<str>,
    /// Whether it subscribes.
    pub(super) subscribe: bool,
    /// What it wants to begin with.
    pub(super) start: Start,
}

/// A message as the hub has to forward it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) channel: Option<ChannelId>,
    pub(super) topic: Option<Rc<str>>,
    pub(super) sender: ClientId,
    /// The offset in its channel; among the messages of its sender if it has none.
    pub(super) offset: u64,
    /// The frame without its prefix.
    pub(super) body: Box<[u8]>,
    /// How many bytes at the end of the body are the payload.
    pub(super) payload_bytes: usize,
}

impl Sent {
    pub(super) fn payload(&self) -> &[u8] {
        &self.body[self.body.len() - self.payload_bytes..]
    }
}

#[derive(Debug)]
pub(super) struct Members {
    pub(super) request: u64,
    pub(super) channel: ChannelId,
    pub(super) revision: u64,
    pub(super) more: bool,
    pub(super) members: Vec<Seen>,
}

#[derive(Debug)]
pub(super) struct Presence {
    pub(super) channel: ChannelId,
    pub(super) revision: u64,
    pub(super) change: Change,
    pub(super) cause: Option<Code>,
    pub(super) member: Seen,
}

/// A member as others see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) client: ClientId,
    pub(super) status: Status,
    pub(super) state: Rc<[u8]>,
}

impl Seen {
    /// The most that it takes in a frame.
    fn bytes(&self) -> usize {
        96 + self.state.len()
    }

    fn is(&self, member: &Member<'_>) -> bool {
        self.client == member.client && self.status == member.status && *self.state == *member.state
    }
}

/// What a client heard: a frame, and where in a run it was.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) frame: &'a BrokerFrame<'a>,
    pub(super) body: &'a [u8],
    pub(super) run: Option<Run>,
}

/// The run that a message belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) channel: Option<ChannelId>,
    pub(super) sender: ClientId,
    pub(super) next: u64,
    pub(super) left: u64,
    pub(super) retained: bool,
}

impl Item {
    /// The channel in whose gap the item may be counted.
    pub(super) fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Message {
                sent,
                retained: false,
            } => sent.channel,
            Self::Presence(presence) => Some(presence.channel),
            _ => None,
        }
    }

    /// The most bytes that it may take in an outbox, the hub's bookkeeping included.
    pub(super) fn bytes(&self) -> u64 {
        let frame = match self {
            Self::Done(_) | Self::Joined(_) | Self::Values(_) => 64,
            Self::Members(members) => 64 + members.members.iter().map(Seen::bytes).sum::<usize>(),
            Self::Message { sent, .. } => PREFIX_BYTES + sent.body.len(),
            Self::Presence(presence) => 64 + presence.member.bytes(),
            Self::Refused(_) => 256,
        };
        frame as u64 + ENTRY_BYTES
    }

    /// Whether this is what was heard.
    pub(super) fn is(&self, heard: &Heard<'_>) -> bool {
        match (self, heard.frame) {
            (Self::Done(request), BrokerFrame::Done { request: of }) => request == of,
            (
                Self::Joined(joined),
                BrokerFrame::Joined {
                    request,
                    channel,
                    offset,
                },
            ) => (joined.request, joined.channel, joined.offset) == (*request, *channel, *offset),
            (
                Self::Members(members),
                BrokerFrame::Members {
                    request,
                    channel,
                    revision,
                    more,
                    members: seen,
                },
            ) => {
                (members.request, members.channel) == (*request, *channel)
                    && (members.revision, members.more) == (*revision, *more)
                    && members.members.len() == seen.len()
                    && members.members.iter().zip(seen).all(|(a, b)| a.is(b))
            }
            (Self::Message { sent, retained }, BrokerFrame::Message(_)) => {
                heard.run.is_some_and(|run| {
                    (sent.channel, sent.sender, sent.offset) == (run.channel, run.sender, run.next)
                        && *retained == run.retained
                        && *sent.body == *heard.body
                })
            }
            (
                Self::Presence(presence),
                BrokerFrame::Presence {
                    channel,
                    revision,
                    change,
                    cause,
                    member,
                },
            ) => {
                (presence.channel, presence.revision) == (*channel, *revision)
                    && (presence.change, presence.cause) == (*change, *cause)
                    && presence.member.is(member)
            }
            (Self::Refused(refused), BrokerFrame::Refusal { request, code, .. }) => {
                (refused.request, refused.code) == (*request, *code)
            }
            (
                Self::Values(values),
                BrokerFrame::Values {
                    request,
                    channel,
                    offset,
                    count,
                    since,
                },
            ) => {
                (values.request, values.asked.channel) == (*request, *channel)
                    && (values.offset, values.count, values.since) == (*offset, *count, *since)
            }
            _ => false,
        }
    }
}

/// What a client counts while it listens.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// How many messages it has received in this session, lost ones included.
    pub(super) received: u64,
    run: Option<Run>,
}

impl Ear {
    /// A new connection, whose session is another if `anew`.
    pub(super) fn begin(&mut self, anew: bool) {
        self.run = None;
        if anew {
            self.received = 0;
        }
    }

    /// Counts a frame. Gives back what was heard if it is a message.
    pub(super) fn hear<'a>(
        &mut self,
        frame: &'a BrokerFrame<'a>,
        body: &'a [u8],
    ) -> Option<Heard<'a>> {
        let mut run = None;
        match frame {
            BrokerFrame::Run(header) => {
                assert!(self.run.is_none(), "a run within a run");
                self.run = Some(Run {
                    channel: header.channel,
                    sender: header.sender,
                    next: header.first,
                    left: header.count,
                    retained: header.retained,
                });
                return None;
            }
            BrokerFrame::Message(message) => {
                let within = self.run.take().expect("a run's header");
                assert!(
                    matches!(message, Message::Direct { .. }) == within.channel.is_none(),
                    "{message:?} in {within:?}"
                );
                if within.left > 1 {
                    let (next, left) = (within.next + 1, within.left - 1);
                    self.run = Some(Run {
                        next,
                        left,
                        ..within
                    });
                }
                run = Some(within);
                self.received += 1;
            }
            BrokerFrame::Gap(gap) => self.received += gap.lost,
            BrokerFrame::Ack { .. }
            | BrokerFrame::Close { .. }
            | BrokerFrame::GoAway { .. }
            | BrokerFrame::Ping { .. }
            | BrokerFrame::Pong { .. }
            | BrokerFrame::Welcome(_) => return None,
            _ => self.received += 1,
        }
        assert!(
            self.run.is_none() || run.is_some(),
            "{frame:?} stands inside a run"
        );
        Some(Heard { frame, body, run })
    }
}

/// The content type of all simulated messages.
pub(super) const CONTENT: ContentType = ContentType::BYTES;

/// What a message costs in an outbox beside its frame, at most: some bytes are counted for each (rule 15.1).
pub(super) const ENTRY_BYTES: u64 = 160;
