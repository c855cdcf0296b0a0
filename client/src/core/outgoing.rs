use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use localhub_protocol::limits::HEADER_BYTES_MAX;
use localhub_protocol::{ClientFrame, Message, PREFIX_BYTES, RawFrame};

/// The messages on their way to the broker, kept until the broker confirms them.
///
/// `base <= confirmed <= written <= queued` at all times. `segments` and then `tail` hold the
/// messages from `base + 1` to `queued`; the last `unsent` segments and the tail are not yet
/// handed to this connection. What was ever handed to one ends at `written`: that much the broker
/// may have carried out. A reconnect makes everything unsent again.
#[derive(Default)]
pub(super) struct Outgoing {
    segments: VecDeque<Segment>,
    unsent: usize,
    tail: Vec<u8>,
    tail_messages: u64,
    base: u64,
    confirmed: u64,
    sent: u64,
    written: u64,
    queued: u64,
    bytes: usize,
    /// Buffers of confirmed segments, to be filled again.
    spare: Vec<Vec<u8>>,
}

/// Whole frames, one behind the other.
struct Segment {
    frames: Bytes,
    messages: u64,
}

/// A segment is closed at this size, so that what is confirmed can be let go piece by piece.
const SEGMENT_BYTES: usize = 60 * 1024;

/// The buffer of a segment, with room for a last message of a usual size.
const BUFFER_BYTES: usize = 64 * 1024;

/// Confirmed segments leave at most this many buffers for the next: a broker confirms several at a
/// time.
const SPARE_BUFFERS_MAX: usize = 4;

/// The broker confirmed messages that were never sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct NeverSent;

impl Outgoing {
    /// Queues a message and says its position.
    pub(super) fn push(&mut self, frame: &ClientFrame<'_>) -> u64 {
        if let ClientFrame::Message(message) = frame
            && message.payload().len() > SEGMENT_BYTES
        {
            // A buffer that grows step by step is copied at each.
            self.tail
                .reserve(message.payload().len() + HEADER_BYTES_MAX);
        }
        let before = self.tail.len();
        frame.encode(&mut self.tail);
        self.bytes += self.tail.len() - before;
        self.tail_messages += 1;
        self.queued += 1;
        if self.tail.len() >= SEGMENT_BYTES {
            self.seal();
        }
        self.queued
    }

    /// Hands out what was not yet written on this connection: about `max` bytes of it.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Bytes>, max: usize) {
        let mut bytes = 0;
        while bytes < max {
            if self.unsent == 0 {
                if self.tail_messages == 0 {
                    break;
                }
                self.seal();
            }
            let segment = &self.segments[self.segments.len() - self.unsent];
            bytes += segment.frames.len();
            batch.push_back(segment.frames.clone());
            self.sent += segment.messages;
            self.unsent -= 1;
        }
        self.written = self.written.max(self.sent);
    }

    /// Lets go of the first `received` messages of the session.
    pub(super) fn confirm(&mut self, received: u64) -> Result<(), NeverSent> {
        if received > self.written {
            return Err(NeverSent);
        }
        self.confirmed = self.confirmed.max(received);
        while self.segments.len() > self.unsent
            && let Some(first) = self.segments.front()
            && self.base + first.messages <= self.confirmed
        {
            self.base += first.messages;
            self.bytes -= first.frames.len();
            if let Some(first) = self.segments.pop_front() {
                self.recycle(first.frames);
            }
        }
        Ok(())
    }

    /// Starts another connection of the same session: what the broker did not carry out is to be
    /// written again.
    pub(super) fn resume(&mut self, received: u64) -> Result<(), NeverSent> {
        self.unsent = 0;
        self.confirm(received)?;
        self.unsent = self.segments.len();
        if let Some(first) = self.segments.front_mut() {
            let skip = self.confirmed - self.base;
            let before = first.frames.len();
            for _ in 0..skip {
                let bytes = match RawFrame::split(&first.frames, usize::MAX) {
                    Ok(Some((frame, _))) => frame.wire_bytes(),
                    _ => unreachable!("a segment holds whole frames"),
                };
                first.frames.advance(bytes);
            }
            first.messages -= skip;
            self.bytes -= before - first.frames.len();
            self.base = self.confirmed;
        }
        self.sent = self.base;
        Ok(())
    }

    /// Forgets the session: says how many messages the broker may or may not have carried out, and
    /// gives back those that it cannot have, with their positions.
    pub(super) fn abandon(&mut self) -> Abandoned {
        self.seal();
        let mut never_sent = Vec::new();
        let mut in_doubt = 0;
        let mut position = self.base;
        for mut segment in self.segments.drain(..) {
            while let Ok(Some((frame, _))) = RawFrame::split(&segment.frames, usize::MAX) {
                let bytes = frame.wire_bytes();
                position += 1;
                let frame = segment.frames.split_to(bytes);
                if position > self.written {
                    never_sent.push((position, frame));
                } else if position > self.confirmed {
                    in_doubt += u64::from(is_for_others(&frame));
                }
            }
        }
        let abandoned = Abandoned {
            confirmed: self.confirmed,
            written: self.written,
            never_sent,
            in_doubt,
        };
        *self = Self {
            tail: std::mem::take(&mut self.tail),
            ..Self::default()
        };
        abandoned
    }

    /// Whether there is something to write.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent > 0 || self.tail_messages > 0
    }

    /// The bytes that wait to be written or confirmed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The position of the last message queued.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// The position of the last message handed to this connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The position of the last message ever handed to a connection of this session.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Closes the segment that is being filled.
    fn seal(&mut self) {
        if self.tail_messages == 0 {
            return;
        }
        // A buffer that is mostly empty stays; what is in it is copied out, so that many short
        // segments do not each keep a whole buffer.
        let frames = if self.tail.len() < self.tail.capacity() / 4 {
            let frames = Bytes::copy_from_slice(&self.tail);
            self.tail.clear();
            frames
        } else {
            let next = self
                .spare
                .pop()
                .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
            std::mem::replace(&mut self.tail, next).into()
        };
        self.segments.push_back(Segment {
            frames,
            messages: self.tail_messages,
        });
        self.tail_messages = 0;
        self.unsent += 1;
    }

    fn recycle(&mut self, frames: Bytes) {
        // Its capacity is known only once it is ours alone.
        if self.spare.len() < SPARE_BUFFERS_MAX
            && frames.len() >= SEGMENT_BYTES / 4
            && let Ok(buffer) = frames.try_into_mut()
        {
            let mut buffer = Vec::from(buffer);
            if buffer.capacity() <= 2 * BUFFER_BYTES {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }

    /// Panics if the invariant does not hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(
            self.base <= self.confirmed,
            "confirmed messages are let go in order"
        );
        assert!(
            self.confirmed <= self.written,
            "confirmed, but never written"
        );
        assert!(
            self.sent <= self.written && self.written <= self.queued,
            "written before queued"
        );
        let messages: u64 = self.segments.iter().map(|segment| segment.messages).sum();
        assert_eq!(
            self.base + messages + self.tail_messages,
            self.queued,
            "messages"
        );
        let bytes: usize = self
            .segments
            .iter()
            .map(|segment| segment.frames.len())
            .sum();
        assert_eq!(bytes + self.tail.len(), self.bytes, "bytes");
        assert!(self.unsent <= self.segments.len());
    }
}

/// What is left of a session that is over.
pub(super) struct Abandoned {
    /// Up to here the broker said that it carried the messages out.
    pub(super) confirmed: u64,
    /// Up to here it may have.
    pub(super) written: u64,
    /// The frames beyond, which it cannot have seen.
    pub(super) never_sent: Vec<(u64, Bytes)>,
    /// How many of those between were sent to others, and nothing answers them.
    pub(super) in_doubt: u64,
}

/// Whether it is a message to others that nothing answers.
fn is_for_others(frame: &Bytes) -> bool {
    let message = frame.get(PREFIX_BYTES..).map(ClientFrame::decode);
    matches!(
        message,
        Some(Ok(ClientFrame::Message(
            Message::Broadcast { .. } | Message::Direct { .. } | Message::Publish { .. }
        )))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use localhub_protocol::ChannelId;

    fn leave(channel: u64) -> ClientFrame<'static> {
        ClientFrame::Leave {
            channel: ChannelId(channel),
        }
    }

    fn push(outgoing: &mut Outgoing, channels: std::ops::Range<u64>) {
        for channel in channels {
            outgoing.push(&leave(channel));
            outgoing.check();
        }
    }

    /// The channels of the leaves that are handed out.
    fn written(outgoing: &mut Outgoing) -> Vec<u64> {
        let mut batch = VecDeque::new();
        outgoing.take(&mut batch, usize::MAX);
        outgoing.check();
        let mut found = Vec::new();
        for segment in &batch {
            let mut rest = &segment[..];
            while let Ok(Some((frame, after))) = RawFrame::split(rest, 100) {
                let Ok(ClientFrame::Leave { channel }) = ClientFrame::decode(frame.body()) else {
                    panic!("not what was queued");
                };
                found.push(channel.0);
                rest = after;
            }
        }
        found
    }

    #[test]
    fn each_message_is_written_once_on_a_connection() {
        let mut outgoing = Outgoing::default();
        push(&mut outgoing, 1..3);
        assert_eq!(written(&mut outgoing), [1, 2]);
        push(&mut outgoing, 3..4);
        assert_eq!(written(&mut outgoing), [3]);
        assert!(!outgoing.has_unsent());
    }

    #[test]
    fn a_resume_writes_again_what_the_broker_did_not_carry_out() {
        let mut outgoing = Outgoing::default();
        push(&mut outgoing, 1..6);
        written(&mut outgoing);
        push(&mut outgoing, 6..8);
        outgoing.confirm(2).unwrap();
        outgoing.check();

        outgoing.resume(4).unwrap();
        outgoing.check();
        assert_eq!(written(&mut outgoing), [5, 6, 7]);

        outgoing.confirm(7).unwrap();
        outgoing.check();
        assert_eq!(outgoing.bytes(), 0);
    }

    #[test]
    fn a_confirmation_of_what_was_never_sent_is_an_error() {
        let mut outgoing = Outgoing::default();
        push(&mut outgoing, 1..3);
        assert_eq!(outgoing.confirm(1), Err(NeverSent));
        written(&mut outgoing);
        assert_eq!(outgoing.confirm(2), Ok(()));
        assert_eq!(outgoing.confirm(3), Err(NeverSent));
    }

    #[test]
    fn a_lost_session_gives_back_what_no_connection_was_handed() {
        let mut outgoing = Outgoing::default();
        push(&mut outgoing, 1..5);
        written(&mut outgoing);
        outgoing.confirm(3).unwrap();
        push(&mut outgoing, 5..7);

        let abandoned = outgoing.abandon();
        outgoing.check();
        assert_eq!((abandoned.confirmed, abandoned.written), (3, 4));
        let positions: Vec<_> = abandoned.never_sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(positions, [5, 6]);
        assert_eq!((outgoing.queued(), outgoing.bytes()), (0, 0));
    }

    #[test]
    fn large_queues_are_confirmed_piece_by_piece() {
        let mut outgoing = Outgoing::default();
        push(&mut outgoing, 1..20_000);
        let all = outgoing.bytes();
        assert!(all > 2 * SEGMENT_BYTES);
        assert_eq!(written(&mut outgoing).len(), 19_999);
        outgoing.confirm(15_000).unwrap();
        outgoing.check();
        assert!(outgoing.bytes() < all / 2);
    }
}
