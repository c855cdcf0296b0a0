use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use localhub_protocol::{ChannelSettings, PREFIX_BYTES, Start};

use super::heard::Sent;

/// What a channel keeps of what was published, one message after the other.
#[derive(Debug)]
pub(super) struct History {
    messages: u64,
    bytes: u64,
    age: Duration,
    kept: VecDeque<Kept>,
    /// What the kept messages take.
    used: u64,
    /// The offset of the last message that is not kept any more.
    floor: u64,
    runs: u64,
}

#[derive(Debug)]
struct Kept {
    at: Duration,
    sent: Rc<Sent>,
    /// Messages that came together share what is counted beside them.
    run: u64,
}

/// What is counted for messages that came together, beside their frames.
const RUN_BYTES: u64 = 256;

impl Kept {
    fn frame_bytes(&self) -> u64 {
        (PREFIX_BYTES + self.sent.body.len()) as u64
    }
}

impl History {
    /// A history that begins behind an offset.
    pub(super) fn new(offset: u64) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            age: Duration::ZERO,
            kept: VecDeque::new(),
            used: 0,
            floor: offset,
            runs: 0,
        }
    }

    pub(super) fn set(&mut self, settings: ChannelSettings, now: Duration) {
        self.messages = settings.history_messages;
        self.bytes = settings.history_bytes;
        self.age = Duration::from_millis(settings.history_age_ms.into());
        self.trim(now);
    }

    /// Keeps a message; `again` if it came together with the one before.
    pub(super) fn push(&mut self, sent: Rc<Sent>, again: bool, now: Duration) {
        self.runs += u64::from(!again);
        let kept = Kept {
            at: now,
            sent,
            run: self.runs,
        };
        let last = self.kept.back().map(|last| last.run);
        self.used += kept.frame_bytes();
        self.used += if last == Some(kept.run) { 0 } else { RUN_BYTES };
        self.kept.push_back(kept);
        self.trim(now);
    }

    /// Forgets what is too old or too much, the oldest first.
    pub(super) fn trim(&mut self, now: Duration) {
        while let Some(first) = self.kept.front() {
            let too_old = first.at + self.age <= now;
            let too_much = self.kept.len() as u64 > self.messages || self.used > self.bytes;
            if !too_old && !too_much {
                return;
            }
            let (bytes, run) = (first.frame_bytes(), first.run);
            self.floor = first.sent.offset;
            self.kept.pop_front();
            self.used -= bytes;
            if self.kept.front().is_none_or(|next| next.run != run) {
                self.used -= RUN_BYTES;
            }
        }
    }

    /// What follows for who starts there, and the offset above which nothing is missing.
    pub(super) fn replay(
        &self,
        start: Start,
        matches: impl Fn(&Sent) -> bool,
    ) -> (Vec<Rc<Sent>>, u64) {
        let all = self.kept.iter().map(|kept| &kept.sent);
        let mut matching: Vec<_> = all.filter(|sent| matches(sent)).cloned().collect();
        match start {
            Start::After(offset) => {
                matching.retain(|sent| sent.offset > offset);
                (matching, offset.max(self.floor))
            }
            Start::Last(count) => {
                let surplus = matching.len().saturating_sub(count as usize);
                matching.drain(..surplus);
                let all_asked = count > 0 && matching.len() as u64 == count;
                let since = match matching.first() {
                    // What lies before the first of them was not asked for.
                    Some(first) if all_asked => first.offset - 1,
                    _ => self.floor,
                };
                (matching, since)
            }
            Start::Live | Start::Retained => panic!("{start:?} wants no history"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// When the last message is too old.
    pub(super) fn until(&self) -> Option<Duration> {
        self.kept.back().map(|kept| kept.at + self.age)
    }

    /// All that is kept.
    pub(super) fn sent(&self) -> impl Iterator<Item = &Rc<Sent>> {
        self.kept.iter().map(|kept| &kept.sent)
    }
}
