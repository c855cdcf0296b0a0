use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use localhub_protocol::{BrokerFrame, ChannelId, ClientId, Code, Policy};

use super::absence::Alarm;
use super::heard::{Heard, Item};
use super::space::{Load, Space};
use super::tokens::Tokens;

/// What one session must still hear, and what the model knows of it besides.
#[derive(Debug, Default)]
pub(super) struct Expected {
    items: VecDeque<Waiting>,
    /// How many items are not in the list any more: heard, or counted by gaps.
    past: u64,
    /// Gaps whose lost messages are not crossed out yet.
    gaps: Vec<Loss>,
    /// What was not heard yet, and what the hub does not know to be heard.
    unheard: Load,
    held: Load,
    /// The bytes of what the hub does not know to be heard.
    unconfirmed: VecDeque<u64>,
    /// How many messages the hub knows to be heard.
    confirmed: u64,
    /// All items before this one were addressed to an outbox that may have been full since, even without
    /// what is on its way.
    full_until: u64,
    /// As `full_until`, with what is on its way.
    tight_until: u64,
    /// How often the hub took something out of the outbox to write it.
    pub(super) takes: u64,
    /// How many connections it has had.
    pub(super) attached: u64,
    /// How many of them have ended.
    pub(super) breaks: u64,
    /// A message under `park` was lost while the connection stood: that one has to be closed.
    owes_break: Option<u64>,
    /// It has had a subscription under `park`.
    pub(super) parks: bool,
    /// When the session ends if nobody comes back to it.
    pub(super) parked: Option<Duration>,
    /// What is to be done while it is away.
    pub(super) alarms: Vec<(Duration, Alarm)>,
    /// How long it outlives its connection.
    pub(super) ttl: Duration,
    pub(super) stalled: bool,
    /// How many messages of the client were carried out or refused.
    pub(super) said: u64,
    pub(super) rooms: BTreeSet<ChannelId>,
    /// What resumes it.
    pub(super) tokens: Tokens,
    /// Why the session is over: it will hear nothing new, but may still hear what was on its way.
    pub(super) over: Option<Code>,
}

/// Something to be heard, and what was so when it was addressed.
#[derive(Debug)]
struct Waiting {
    item: Item,
    bytes: u64,
    /// Of a message with a topic.
    policy: Option<Policy>,
    takes: u64,
    /// Whether it may not have fitted.
    was_full: bool,
    /// Only if it had a connection: how many had ended before.
    breaks: Option<u64>,
    /// A newer message of its topic came while it certainly waited: it has to make way.
    makes_way: bool,
}

#[derive(Debug)]
struct Loss {
    channel: Option<ChannelId>,
    cause: Code,
    left: u64,
}

impl Expected {
    /// Something is addressed to it, together with whatever `together` has.
    pub(super) fn expect(
        &mut self,
        item: Item,
        policy: Option<Policy>,
        together: Load,
        space: Space,
    ) {
        if self.over.is_some() {
            return;
        }
        let bytes = item.bytes();
        let more = Load { messages: 1, bytes }.max(together);
        let was_full = !space.fits(self.unheard, more);
        let end = self.past + self.items.len() as u64 + 1;
        if was_full {
            self.full_until = end;
        }
        if !space.fits(self.held, more) {
            self.tight_until = end;
        }
        if policy == Some(Policy::Latest) {
            self.make_way(&item);
        }
        self.unheard.add(bytes);
        self.held.add(bytes);
        self.unconfirmed.push_back(bytes);
        self.items.push_back(Waiting {
            item,
            bytes,
            policy,
            takes: self.takes,
            was_full,
            breaks: self.parked.is_none().then_some(self.breaks),
            makes_way: false,
        });
    }

    /// A newer message of a topic comes. An older one that has not been taken since it came must go.
    fn make_way(&mut self, newer: &Item) {
        let takes = self.takes;
        let mut waiting = self.items.iter_mut().rev();
        let mut waiting = waiting
            .by_ref()
            .take_while(|waiting| waiting.takes == takes);
        if let Some(older) = waiting.find(|waiting| waiting.is_older_than(newer)) {
            older.makes_way = true;
        }
    }

    /// What may be waiting in its outbox if that is full: what it has not heard yet.
    pub(super) fn unheard(&self) -> Load {
        self.unheard
    }

    /// The hub was told how many messages the client has received.
    pub(super) fn confirm(&mut self, received: u64) {
        while self.confirmed < received {
            let Some(bytes) = self.unconfirmed.pop_front() else {
                return;
            };
            self.confirmed += 1;
            self.held.subtract(bytes);
        }
    }

    pub(super) fn judge(
        &mut self,
        client: ClientId,
        heard: &Heard<'_>,
        space: Space,
    ) -> Option<Item> {
        if let BrokerFrame::Gap(gap) = heard.frame {
            self.gaps.push(Loss {
                channel: gap.channel,
                cause: gap.cause,
                left: gap.lost,
            });
            return None;
        }
        self.cross_out(client, space);
        let waiting = self.pop();
        let right = waiting.as_ref().is_some_and(|next| next.item.is(heard));
        assert!(
            right,
            "{client} had to hear {waiting:?}, and heard {heard:?}"
        );
        let makes_way = waiting.as_ref().is_some_and(|next| next.makes_way);
        assert!(
            !makes_way,
            "{client} heard {heard:?}, and a newer message of that topic waited behind it"
        );
        waiting.map(|waiting| waiting.item)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.items.pop_front()?;
        self.past += 1;
        self.unheard.subtract(waiting.bytes);
        Some(waiting)
    }

    /// Takes out what gaps counted. One of a channel counts that channel's messages; one that a
    /// resume left, which names no channel, may count anything. Gaps that follow each other need not be in
    /// the order of what they count.
    fn cross_out(&mut self, client: ClientId, space: Space) {
        if self.gaps.is_empty() {
            return;
        }
        let lost: u64 = self.gaps.iter().map(|loss| loss.left).sum();
        let certain = self.gaps.iter().all(|loss| loss.channel.is_some());
        for _ in 0..lost {
            let next = self.pop();
            let cause = next.as_ref().and_then(|waiting| self.count(waiting));
            let (Some(waiting), Some(cause)) = (&next, cause) else {
                let gaps = &self.gaps;
                panic!("{client}: the gaps cannot count {next:?}; they have {gaps:?}");
            };
            if cause == Code::CONFLATED || space.memory_is_tight {
                continue;
            }
            let at = self.past;
            let full = if certain {
                self.full_until
            } else {
                self.tight_until
            };
            assert!(
                at <= full,
                "{client} lost {waiting:?}, and there was room for it"
            );
            if certain {
                assert!(
                    waiting.policy != Some(Policy::DropNewest) || waiting.was_full,
                    "{client} lost {waiting:?}, which waited already"
                );
                if waiting.policy == Some(Policy::Park) {
                    self.owes_break = self.owes_break.max(waiting.breaks);
                }
            }
        }
        self.gaps.clear();
    }

    /// Which of the gaps counts a lost message.
    fn count(&mut self, waiting: &Waiting) -> Option<Code> {
        let channel = waiting.item.channel();
        let may_make_way = waiting.policy == Some(Policy::Latest)
            && self.items.iter().any(|newer| {
                newer.policy == Some(Policy::Latest) && waiting.is_older_than(&newer.item)
            });
        let mut loss = |channel: Option<ChannelId>, cause: Code| {
            let mut gaps = self.gaps.iter_mut();
            let same = |loss: &&mut Loss| (loss.channel, loss.cause) == (channel, cause);
            let loss = gaps.find(|loss| same(loss) && loss.left > 0)?;
            loss.left -= 1;
            Some(cause)
        };
        let of_channel = channel.and_then(|_| {
            let made_way = may_make_way
                .then(|| loss(channel, Code::CONFLATED))
                .flatten();
            made_way.or_else(|| loss(channel, Code::SLOW_CONSUMER))
        });
        of_channel.or_else(|| loss(None, Code::SLOW_CONSUMER))
    }

    pub(super) fn finish(&mut self, client: ClientId, space: Space) {
        self.cross_out(client, space);
        assert!(
            self.items.is_empty(),
            "{client} never heard these, and no gap says so: {:?}",
            self.items
        );
        assert!(
            self.owes_break.is_none_or(|before| self.breaks > before),
            "{client} lost messages, and its connection was not closed as it asked"
        );
    }
}

impl Waiting {
    /// Whether it is a message of the same topic of the same channel.
    fn is_older_than(&self, newer: &Item) -> bool {
        let (Item::Message { sent: old, .. }, Item::Message { sent: new, .. }) =
            (&self.item, newer)
        else {
            return false;
        };
        self.policy == Some(Policy::Latest)
            && (old.channel, &old.topic) == (new.channel, &new.topic)
    }
}
