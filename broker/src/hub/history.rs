use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{ChannelId, Start, TopicFilter};

use super::budget::Budget;
use super::outbox::{Entry, Origin, Sender};

/// What was published in a channel lately: as many messages and bytes, and as old, as was asked for.
#[derive(Debug)]
pub(super) struct History {
    bounds: Bounds,
    budget: Arc<Budget>,
    /// By ascending offset.
    kept: VecDeque<Kept>,
    messages: u64,
    bytes: u64,
    /// Of the messages up to this offset, some are not kept.
    floor: u64,
}

/// How much a history keeps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Bounds {
    pub(super) messages: u64,
    /// The charges of the messages, bookkeeping included.
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

/// Messages that were published together.
#[derive(Debug)]
struct Kept {
    at: Duration,
    topic: Box<str>,
    /// As it goes to who asks for it; its position means nothing.
    entry: Entry,
}

/// What a kept run of messages costs beside its frames.
const KEPT_BYTES: u64 = 256;

impl Kept {
    fn charge(&self) -> u64 {
        self.entry.frames.len() as u64 + KEPT_BYTES
    }

    fn first(&self) -> u64 {
        match self.entry.origin {
            Origin::Channel { first, .. } => first,
            _ => 0,
        }
    }

    fn last(&self) -> u64 {
        self.first() + self.entry.count - 1
    }
}

impl History {
    /// A history of a channel that has come to `offset`, of which nothing is kept yet.
    pub(super) fn new(bounds: Bounds, offset: u64, budget: Arc<Budget>) -> Self {
        Self {
            bounds,
            budget,
            kept: VecDeque::new(),
            messages: 0,
            bytes: 0,
            floor: offset,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Keeps more or less from now on.
    pub(super) fn set_bounds(&mut self, bounds: Bounds, now: Duration) {
        self.bounds = bounds;
        self.trim(now);
    }

    /// Keeps what was just published: `count` messages of one topic, the first of which has offset `first`.
    #[expect(clippy::too_many_arguments, reason = "all that is known of a run")]
    pub(super) fn push(
        &mut self,
        channel: ChannelId,
        sender: &Arc<Sender>,
        topic: &str,
        first: u64,
        frames: &[u8],
        count: u64,
        now: Duration,
    ) {
        let origin = Origin::Channel {
            channel,
            sender: Some(sender.clone()),
            first,
            retained: true,
        };
        let kept = Kept {
            at: now,
            topic: topic.into(),
            // Its own allocation: what is kept for long must not keep a whole read buffer.
            entry: Entry::new(origin, Bytes::copy_from_slice(frames), count),
        };
        let charge = kept.charge();
        self.messages += count;
        self.bytes += charge;
        self.budget.charge(charge);
        self.kept.push_back(kept);
        self.trim(now);
        // Old messages make room for those that wait for somebody.
        while !self.budget.fits(0) && self.drop_first() {}
    }

    /// Forgets what is too much or too old.
    pub(super) fn trim(&mut self, now: Duration) {
        while let Some(front) = self.kept.front() {
            let expired = now.saturating_sub(front.at) >= self.bounds.age;
            let surplus = self.messages.saturating_sub(self.bounds.messages);
            if expired || surplus >= front.entry.count {
                self.drop_first();
            } else if surplus > 0 {
                self.cut_first(surplus);
            } else if self.bytes <= self.bounds.bytes {
                return;
            } else if front.entry.count > 1 {
                self.cut_first(1);
            } else {
                self.drop_first();
            }
        }
    }

    /// Forgets the first run; `false` if there is none.
    fn drop_first(&mut self) -> bool {
        let Some(first) = self.kept.pop_front() else {
            return false;
        };
        self.floor = first.last();
        self.messages -= first.entry.count;
        self.refund(first.charge());
        true
    }

    /// Forgets the first `count` messages of the first run, which has more.
    fn cut_first(&mut self, count: u64) {
        let Some(first) = self.kept.front_mut() else {
            return;
        };
        let before = first.charge();
        self.floor = first.first() + count - 1;
        first.entry.skip(count);
        self.messages -= count;
        let cut = before - first.charge();
        self.refund(cut);
    }

    fn refund(&mut self, charge: u64) {
        self.bytes -= charge;
        self.budget.refund(charge);
    }

    /// The messages that match, from `start` on, and the offset above which none is missing.
    pub(super) fn replay(&self, filter: &TopicFilter, start: Start) -> (Vec<Entry>, u64) {
        let matching = self.kept.iter().filter(|kept| filter.matches(&kept.topic));
        match start {
            Start::Last(count) => {
                let mut left = count;
                let mut since = self.floor;
                let mut entries = Vec::new();
                for kept in matching.rev() {
                    if left == 0 {
                        break;
                    }
                    let mut entry = kept.entry.clone();
                    if entry.count > left {
                        entry.skip(entry.count - left);
                    }
                    left -= entry.count;
                    if left == 0 {
                        since = kept.last() - entry.count;
                    }
                    entries.push(entry);
                }
                entries.reverse();
                (entries, since)
            }
            Start::After(offset) => {
                let entries = matching
                    .filter(|kept| kept.last() > offset)
                    .map(|kept| {
                        let mut entry = kept.entry.clone();
                        let first = kept.first();
                        if first <= offset {
                            entry.skip(offset - first + 1);
                        }
                        entry
                    })
                    .collect();
                (entries, offset.max(self.floor))
            }
            Start::Live | Start::Retained => (Vec::new(), self.floor),
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the last message will be too old; `None` if there is none.
    pub(super) fn until(&self) -> Option<Duration> {
        self.kept.back().map(|kept| kept.at + self.bounds.age)
    }

    /// Panics if the invariant does not hold.
    pub(super) fn check(&self, offset: u64) {
        let mut before = self.floor;
        for kept in &self.kept {
            assert!(kept.first() > before, "kept messages are in order");
            before = kept.last();
        }
        assert!(before <= offset, "kept messages are of this channel");
        let counts = self.kept.iter().map(|kept| kept.entry.count);
        assert_eq!(self.messages, counts.sum::<u64>(), "kept messages");
        let charges = self.kept.iter().map(Kept::charge);
        assert_eq!(self.bytes, charges.sum::<u64>(), "kept bytes");
        assert!(self.messages <= self.bounds.messages && self.bytes <= self.bounds.bytes);
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.budget.refund(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use localhub_protocol::{ClientFrame, ClientId, ClientName, ContentType, Message, Retain};

    use super::*;

    const CHANNEL: ChannelId = ChannelId(5);

    fn history(messages: u64, bytes: u64, age: u64) -> History {
        let bounds = Bounds {
            messages,
            bytes,
            age: Duration::from_secs(age),
        };
        History::new(bounds, 100, Arc::new(Budget::new(1 << 30)))
    }

    /// Publishes `count` messages of one byte each.
    fn publish(history: &mut History, topic: &str, first: u64, count: u64, now: u64) {
        let mut frames = Vec::new();
        for n in first..first + count {
            ClientFrame::Message(Message::Publish {
                channel: CHANNEL,
                retain: Retain::No,
                content: ContentType::BYTES,
                topic,
                payload: &[n as u8],
            })
            .encode(&mut frames);
        }
        let sender = Arc::new(Sender {
            client: ClientId(1),
            name: ClientName::hub(),
        });
        let now = Duration::from_secs(now);
        history.push(CHANNEL, &sender, topic, first, &frames, count, now);
        history.check(first + count - 1);
    }

    fn offsets(history: &History, filter: &str, start: Start) -> (Vec<u64>, u64) {
        let (entries, since) = history.replay(&filter.parse().unwrap(), start);
        let offsets = entries.iter().flat_map(|entry| {
            let Origin::Channel { first, .. } = entry.origin else {
                panic!("not of a channel");
            };
            first..first + entry.count
        });
        (offsets.collect(), since)
    }

    #[test]
    fn the_last_messages_that_match_are_replayed() {
        let mut history = history(100, 1 << 20, 60);
        publish(&mut history, "a", 101, 3, 0);
        publish(&mut history, "b", 104, 2, 0);
        publish(&mut history, "a", 107, 1, 0);
        assert_eq!(
            offsets(&history, "a", Start::Last(2)),
            (vec![103, 107], 102)
        );
        assert_eq!(
            offsets(&history, "#", Start::Last(3)),
            (vec![104, 105, 107], 103)
        );
        assert_eq!(
            offsets(&history, "a", Start::Last(9)),
            (vec![101, 102, 103, 107], 100)
        );
        assert_eq!(offsets(&history, "b", Start::Last(0)), (vec![], 100));
    }

    #[test]
    fn what_comes_after_an_offset_is_replayed_and_what_is_missing_is_told() {
        let mut history = history(4, 1 << 20, 60);
        publish(&mut history, "a", 101, 3, 0);
        assert_eq!(
            offsets(&history, "#", Start::After(101)),
            (vec![102, 103], 101)
        );
        publish(&mut history, "b", 105, 3, 0);
        assert_eq!(
            offsets(&history, "#", Start::After(103)),
            (vec![105, 106, 107], 103)
        );
        assert_eq!(
            offsets(&history, "#", Start::After(100)),
            (vec![103, 105, 106, 107], 102)
        );
        assert_eq!(offsets(&history, "c", Start::After(107)), (vec![], 107));
    }

    #[test]
    fn nothing_is_kept_beyond_its_bounds() {
        let mut history = history(100, 600, 60);
        publish(&mut history, "a", 101, 20, 0);
        publish(&mut history, "a", 121, 1, 10);
        assert!(history.bytes() <= 600 && history.messages() < 21);
        history.trim(Duration::from_secs(60));
        assert_eq!(offsets(&history, "#", Start::After(0)), (vec![121], 120));
        assert_eq!(history.until(), Some(Duration::from_secs(70)));
        history.trim(Duration::from_secs(70));
        assert_eq!((history.messages(), history.bytes()), (0, 0));
        assert_eq!(offsets(&history, "#", Start::Last(1)), (vec![], 121));
        assert_eq!(history.budget.used(), 0);
    }

    #[test]
    fn the_hub_s_memory_is_not_taken_from_those_who_wait() {
        let mut history = history(100, 1 << 20, 60);
        history.budget = Arc::new(Budget::new(1_000));
        publish(&mut history, "a", 101, 1, 0);
        history.budget.charge(900);
        publish(&mut history, "a", 102, 1, 0);
        assert_eq!(history.messages(), 0);
    }
}
