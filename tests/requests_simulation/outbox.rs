//! What one client is to be sent, in order.

use std::fmt;

use localhub_protocol::{BrokerFrame, ClientId, Code, ContentType, Message};

/// A message as a client sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// Another client has written it: who, at which position, and the bytes.
    Forwarded(ClientId, u64, Bytes),
    /// The hub replies to that request of that client.
    Failed(ClientId, u64, Code),
    /// The hub refuses that message. The text is for people.
    Refused(u64, Code),
    /// The hub says this, byte for byte.
    Answer(Bytes),
    /// So many messages are lost.
    Lost(u64),
}

/// Bytes of a frame that a failing test shows in one line.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// What one client is to be sent and has not confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    room: Room,
    entries: Vec<Entry>,
    /// So many of the first entries are written to the present connection.
    written: usize,
    /// The position before the first entry.
    kept: u64,
    confirmed: u64,
    /// The highest position that was written to any connection.
    ever_written: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    said: Said,
    count: u64,
    bytes: u64,
}

/// How much an outbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

/// "The broker counts some bytes for each message beside its frame" (15.1).
const ENTRY_BYTES: u64 = 160;

impl Outbox {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            room,
            entries: Vec::new(),
            written: 0,
            kept: 0,
            confirmed: 0,
            ever_written: 0,
        }
    }

    /// Queues what another client has sent, or would have; gives its position, if there is room.
    pub(crate) fn offer(&mut self, said: Said) -> Option<u64> {
        let bytes = said.bytes() + ENTRY_BYTES;
        while !self.fits(bytes) {
            // 15.3: what was sent and is not confirmed goes first.
            if self.written == 0 {
                return None;
            }
            self.forget_first();
        }
        self.answer(said);
        Some(self.last())
    }

    /// Queues what the hub says, be there room or not.
    pub(crate) fn answer(&mut self, said: Said) {
        let bytes = said.bytes() + ENTRY_BYTES;
        self.entries.push(Entry {
            said,
            count: 1,
            bytes,
        });
    }

    /// What is written next, and how long it turned out to be.
    pub(crate) fn write(&mut self, bytes: u64) -> Option<Said> {
        let entry = self.entries.get_mut(self.written)?;
        if matches!(entry.said, Said::Refused(..)) {
            entry.bytes = bytes + ENTRY_BYTES;
        }
        let said = entry.said.clone();
        self.written += 1;
        self.ever_written = self.ever_written.max(self.position());
        Some(said)
    }

    /// What is to be written to the present connection.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Said> {
        self.entries[self.written..].iter().map(|entry| &entry.said)
    }

    /// The client has received so many messages.
    pub(crate) fn confirm(&mut self, received: u64) {
        self.confirmed = self.confirmed.max(received);
        while self.written > 0 && self.kept + self.entries[0].count <= self.confirmed {
            self.forget_first();
        }
    }

    /// A new connection begins. Gives how many messages are sent again or for the first time, how many are
    /// lost, and up to which position nothing is sent again.
    pub(crate) fn begin_again(&mut self, received: u64) -> (u64, u64, u64) {
        self.confirm(received);
        self.written = 0;
        let missed = self.kept;
        if self.kept > self.confirmed {
            let count = self.kept - self.confirmed;
            let gap = Entry {
                said: Said::Lost(count),
                count,
                bytes: ENTRY_BYTES,
            };
            self.entries.insert(0, gap);
            self.kept = self.confirmed;
        }
        let lost = |entry: &Entry| matches!(entry.said, Said::Lost(_)).then_some(entry.count);
        let lost: u64 = self.entries.iter().filter_map(lost).sum();
        (self.messages(), lost, missed)
    }

    /// Whether a message was ever written to a connection.
    pub(crate) fn has_written(&self, position: u64) -> bool {
        position <= self.ever_written
    }

    /// Whether refusals wait. How long they are, nobody knows before they are written.
    pub(crate) fn has_refusals(&self) -> bool {
        self.waiting().any(|said| matches!(said, Said::Refused(..)))
    }

    fn position(&self) -> u64 {
        let written = self.entries[..self.written].iter();
        self.kept + written.map(|entry| entry.count).sum::<u64>()
    }

    fn last(&self) -> u64 {
        self.kept + self.entries.iter().map(|entry| entry.count).sum::<u64>()
    }

    fn messages(&self) -> u64 {
        let lost = |entry: &&Entry| matches!(entry.said, Said::Lost(_));
        self.entries.iter().filter(|entry| !lost(entry)).count() as u64
    }

    fn fits(&self, bytes: u64) -> bool {
        let held: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        held + bytes <= self.room.bytes && self.messages() < self.room.messages
    }

    fn forget_first(&mut self) {
        self.kept += self.entries.remove(0).count;
        self.written -= 1;
    }
}

impl Said {
    /// Reads a message from the wire, with the header of its run if it has one; and how long its frame is.
    pub(crate) fn read(
        sender: Option<(ClientId, u64)>,
        frame: &BrokerFrame<'_>,
        bytes: &[u8],
    ) -> Self {
        match (frame, sender) {
            (
                BrokerFrame::Message(Message::Reply {
                    to,
                    request,
                    error: Some(error),
                    more: false,
                    content: ContentType::TEXT,
                    ..
                }),
                Some((ClientId::HUB, at)),
            ) if at == *request => Self::Failed(*to, *request, *error),
            (_, Some((sender, at))) => Self::Forwarded(sender, at, Bytes(bytes.to_vec())),
            (BrokerFrame::Refusal { request, code, .. }, None) => Self::Refused(*request, *code),
            (BrokerFrame::Gap(gap), None) => {
                assert_eq!((gap.channel, gap.cause), (None, Code::SLOW_CONSUMER));
                Self::Lost(gap.lost)
            }
            _ => Self::Answer(Bytes(bytes.to_vec())),
        }
    }

    /// What the hub says.
    pub(crate) fn frame(frame: &BrokerFrame<'_>) -> Self {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        Self::Answer(Bytes(bytes))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Forwarded(_, _, bytes) | Self::Answer(bytes) => bytes.0.len() as u64,
            Self::Failed(to, request, code) => {
                let mut bytes = Vec::new();
                BrokerFrame::Message(Message::Reply {
                    to: *to,
                    request: *request,
                    error: Some(*code),
                    more: false,
                    content: ContentType::TEXT,
                    payload: code.description().as_bytes(),
                })
                .encode(&mut bytes);
                bytes.len() as u64
            }
            Self::Refused(..) | Self::Lost(_) => 0,
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Behind the length of the frame.
        let frame = self.0.get(4..).map(BrokerFrame::decode);
        let text = match frame {
            Some(Ok(frame)) => format!("{frame:?}"),
            _ => format!("{:?}", self.0),
        };
        f.write_str(&text.chars().take(160).collect::<String>())
    }
}
