use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use localhub_protocol::{BrokerFrame, ChannelId, ClientId};

use super::heard::{Heard, Item};

/// What one session must still hear, and what the model knows of it besides.
#[derive(Debug, Default)]
pub(super) struct Expected {
    items: VecDeque<Item>,
    /// Lost messages that gaps counted and no item was crossed out for yet.
    gaps: Vec<(Option<ChannelId>, u64)>,
    /// When the session ends if nobody comes back to it.
    pub(super) parked: Option<Duration>,
    /// How many messages of the client were carried out or refused.
    pub(super) said: u64,
    pub(super) rooms: BTreeSet<ChannelId>,
    /// The session is over: it will hear nothing new, but may still hear what was on its way.
    pub(super) over: bool,
}

impl Expected {
    pub(super) fn expect(&mut self, item: Item) {
        if !self.over {
            self.items.push_back(item);
        }
    }

    /// At least so many messages are in its outbox if that is full: those not heard yet.
    pub(super) fn waiting(&self) -> u64 {
        self.items.len() as u64
    }

    pub(super) fn judge(&mut self, client: ClientId, heard: &Heard<'_>) -> Option<Item> {
        if let BrokerFrame::Gap(gap) = heard.frame {
            self.gaps.push((gap.channel, gap.lost));
            return None;
        }
        self.cross_out(client);
        let item = self.items.pop_front();
        assert!(
            item.as_ref().is_some_and(|item| item.is(heard)),
            "{client} had to hear {item:?}, and heard {heard:?}"
        );
        item
    }

    /// Takes out what gaps counted. One of a channel counts that channel's messages; one that a
    /// resume left, which names no channel, may count anything.
    fn cross_out(&mut self, client: ClientId) {
        if self.gaps.is_empty() {
            return;
        }
        let lost: u64 = self.gaps.iter().map(|(_, lost)| lost).sum();
        for _ in 0..lost {
            let item = self.items.pop_front();
            let channel = item.as_ref().map(Item::channel);
            let counted = channel
                .into_iter()
                .flat_map(|channel| [channel, None])
                .any(|channel| {
                    let mut gaps = self.gaps.iter_mut();
                    let gap = gaps.find(|(of, left)| *of == channel && *left > 0);
                    gap.map(|(_, left)| *left -= 1).is_some()
                });
            assert!(
                counted,
                "{client}: the gaps cannot count {item:?}; they have {:?}",
                self.gaps
            );
        }
        self.gaps.clear();
    }

    pub(super) fn finish(&mut self, client: ClientId) {
        self.cross_out(client);
        assert!(
            self.items.is_empty(),
            "{client} never heard these, and no gap says so: {:?}",
            self.items
        );
    }
}
