use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use localhub_protocol::{BrokerFrame, Message as WireMessage, RawFrame, Retain};

use crate::message::Origin;
use crate::{Cause, Gap, Message};

/// What waits in one stream to be read by the application.
///
/// Messages wait as the frames that came in, a piece of a run at a time, and become [`Message`]s in
/// the hands of whoever reads them. `messages` and `bytes` count those pieces; gaps are not counted, and
/// no two of them are neighbours, so there is at most one more of them than there are pieces.
pub(super) struct Inbox {
    entries: VecDeque<Entry>,
    messages: usize,
    bytes: usize,
    limits: InboxLimits,
    /// Since when the inbox is full, or was without having drained below half since.
    full_since: Option<Instant>,
    /// It was waited for, in vain: not again before it has drained below half.
    overstayed: bool,
    pub(super) waker: Option<Waker>,
}

/// How much may wait in one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// One piece of a stream.
#[derive(Clone)]
pub(crate) enum Entry {
    Gap(Gap),
    Run(Piece),
}

/// Messages that follow each other in a run, all of them for the same streams.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(super) origin: Arc<Origin>,
    /// Whole frames.
    pub(super) frames: Bytes,
    /// The offset of the first.
    pub(super) first: u64,
    pub(super) messages: usize,
    /// The bytes that any slice of the frames keeps in memory.
    pub(super) pinned: usize,
}

/// How long a full inbox stops the client from reading.
const PATIENCE: Duration = Duration::from_millis(100);

/// A reader takes about so many messages at a time.
const TAKE_MESSAGES: usize = 128;

impl Inbox {
    pub(super) fn new(limits: InboxLimits) -> Self {
        Self {
            entries: VecDeque::new(),
            messages: 0,
            bytes: 0,
            limits,
            full_since: None,
            overstayed: false,
            waker: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages >= self.limits.messages || self.bytes >= self.limits.bytes
    }

    /// How many messages fit, if they are short; at least one unless it is full.
    pub(super) fn room(&self) -> usize {
        self.limits.messages.saturating_sub(self.messages)
    }

    /// Until when it is worth waiting for the reader; `None` if it is not. `hurry` if somebody waits
    /// for what comes behind.
    ///
    /// A full inbox is waited for until it has drained below half, so that a reader that is only
    /// a little slower than the broker is woken rarely and loses nothing.
    pub(super) fn wait_until(&mut self, now: Instant, hurry: bool) -> Option<Instant> {
        if self.is_full() {
            self.full_since.get_or_insert(now);
        }
        let until = self.full_since? + PATIENCE;
        if self.overstayed || hurry {
            return None;
        }
        if now >= until {
            self.overstayed = true;
            return None;
        }
        Some(until)
    }

    /// Whether the reader has caught up after the inbox was full.
    pub(super) fn has_drained(&self) -> bool {
        self.full_since.is_none()
    }

    /// Adds messages. If they do not fit the oldest ones make room, and a gap tells how many.
    pub(super) fn push(&mut self, piece: Piece) {
        self.messages += piece.messages;
        self.bytes += piece.frames.len();
        self.entries.push_back(Entry::Run(piece));
        while self.messages > self.limits.messages
            || self.bytes > self.limits.bytes && self.messages > 1
        {
            self.drop_oldest();
        }
    }

    /// Adds a gap, to the one at the end if there is one.
    pub(super) fn push_gap(&mut self, gap: Gap) {
        match self.entries.back_mut() {
            Some(Entry::Gap(last)) => last.merge(gap),
            _ => self.entries.push_back(Entry::Gap(gap)),
        }
    }

    /// Moves the oldest entries to `batch`, which is empty; `false` if there are none.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Entry>) -> bool {
        let mut taken = 0;
        while taken < TAKE_MESSAGES
            && let Some(entry) = self.entries.pop_front()
        {
            if let Entry::Run(piece) = &entry {
                taken += piece.messages;
                self.messages -= piece.messages;
                self.bytes -= piece.frames.len();
            }
            batch.push_back(entry);
        }
        if self.messages <= self.limits.messages / 2 && self.bytes <= self.limits.bytes / 2 {
            self.full_since = None;
            self.overstayed = false;
        }
        !batch.is_empty()
    }

    fn drop_oldest(&mut self) {
        let mut gap: Option<Gap> = None;
        let mut lose = |more| match &mut gap {
            Some(gap) => gap.merge(more),
            None => gap = Some(more),
        };
        while let Some(entry) = self.entries.pop_front() {
            match entry {
                Entry::Gap(before) => lose(before),
                Entry::Run(mut piece) => {
                    let channel = piece.origin.channel.clone();
                    lose(Gap {
                        channel,
                        lost: Some(1),
                        cause: Cause::InboxFull,
                    });
                    self.bytes -= piece.frames.len();
                    self.messages -= 1;
                    if piece.skip_one() {
                        self.bytes += piece.frames.len();
                        self.entries.push_front(Entry::Run(piece));
                    }
                    break;
                }
            }
        }
        if let Some(Entry::Gap(_)) = self.entries.front()
            && let Some(Entry::Gap(next)) = self.entries.pop_front()
        {
            lose(next);
        }
        if let Some(gap) = gap {
            self.entries.push_front(Entry::Gap(gap));
        }
    }

    /// Panics if the invariant does not hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut counted = (0, 0);
        let mut after_gap = false;
        for entry in &self.entries {
            match entry {
                Entry::Gap(_) => assert!(!after_gap, "two gaps meet"),
                Entry::Run(piece) => {
                    assert!(piece.messages > 0, "a piece without messages");
                    counted.0 += piece.messages;
                    counted.1 += piece.frames.len();
                }
            }
            after_gap = matches!(entry, Entry::Gap(_));
        }
        assert_eq!(counted, (self.messages, self.bytes), "messages and bytes");
    }
}

impl Piece {
    /// Drops the first message; `false` if that was the last.
    fn skip_one(&mut self) -> bool {
        let bytes = first_frame(&self.frames).wire_bytes();
        self.frames.advance(bytes);
        self.first += 1;
        self.messages -= 1;
        self.messages > 0
    }

    /// Takes the first message out; `None` if there is none left.
    pub(crate) fn next(&mut self, last_topic: &mut LastTopic) -> Option<Message> {
        if self.messages == 0 {
            return None;
        }
        let frame = first_frame(&self.frames);
        let bytes = frame.wire_bytes();
        let Ok(BrokerFrame::Message(message)) = BrokerFrame::decode(frame.body()) else {
            unreachable!("a piece holds messages that were decoded before");
        };
        let (topic, retain) = match message {
            WireMessage::Publish { topic, retain, .. } => (Some(last_topic.get(topic)), retain),
            _ => (None, Retain::No),
        };
        let payload = message.payload();
        let message = Message {
            origin: Arc::clone(&self.origin),
            topic,
            // A short payload that is kept must not keep all that came with it.
            payload: if is_large(payload.len(), self.pinned) {
                self.frames.slice_ref(payload)
            } else {
                Bytes::copy_from_slice(payload)
            },
            offset: self.first,
            content: message.content(),
            retain,
        };
        self.frames.advance(bytes);
        self.first += 1;
        self.messages -= 1;
        Some(message)
    }
}

/// The topic of the message before, which is likely the topic of the next.
#[derive(Default)]
pub(crate) struct LastTopic(Option<Arc<str>>);

impl LastTopic {
    fn get(&mut self, topic: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *topic => last.clone(),
            _ => self.0.insert(topic.into()).clone(),
        }
    }
}

/// Whether `bytes` are so much of a buffer of `pinned` bytes that they may keep it in memory.
pub(super) fn is_large(bytes: usize, pinned: usize) -> bool {
    bytes >= pinned / 4
}

fn first_frame(frames: &[u8]) -> RawFrame<'_> {
    match RawFrame::split(frames, usize::MAX) {
        Ok(Some((frame, _))) => frame,
        _ => unreachable!("a piece holds whole frames"),
    }
}
