use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{ChannelId, ClientId, ContentType, Topic, TopicFilter};

use crate::hub::Refusal;
use crate::hub::budget::Budget;
use crate::hub::outbox::{Entry, Origin, Sender};

/// The retained values of one channel: a map from topics to the last message of each.
#[derive(Debug)]
pub(super) struct Values {
    limits: ValuesLimits,
    budget: Arc<Budget>,
    by_topic: BTreeMap<Topic, Retained>,
    bytes: u64,
    /// Those that end by themselves, the first one to do so at the front.
    expiries: BTreeSet<(Duration, Topic)>,
    /// Those that end with a client.
    owned: BTreeMap<ClientId, BTreeSet<Topic>>,
}

/// How much one channel may retain.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct ValuesLimits {
    pub(in crate::hub) topics: u64,
    pub(in crate::hub) bytes: u64,
}

/// The last message of a topic.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) sender: Arc<Sender>,
    pub(super) offset: u64,
    pub(super) frame: Bytes,
    pub(super) content: ContentType,
    pub(super) payload_bytes: usize,
    until: Option<Duration>,
    owner: Option<ClientId>,
}

/// What a retained value or a will costs beside its frame.
pub(super) const RETAINED_BYTES: u64 = 256;

impl Retained {
    /// A value that neither ends by itself nor with a client.
    pub(super) fn new(
        sender: Arc<Sender>,
        offset: u64,
        frame: Bytes,
        content: ContentType,
        payload_bytes: usize,
    ) -> Self {
        Self {
            sender,
            offset,
            frame,
            content,
            payload_bytes,
            until: None,
            owner: None,
        }
    }

    fn charge(&self) -> u64 {
        self.frame.len() as u64 + RETAINED_BYTES
    }

    pub(super) fn entry(&self, channel: ChannelId) -> Entry {
        let origin = Origin::Channel {
            channel,
            sender: Some(self.sender.clone()),
            first: self.offset,
            retained: true,
        };
        Entry::new(origin, self.frame.clone(), 1)
    }
}

impl Values {
    pub(super) fn new(limits: ValuesLimits, budget: Arc<Budget>) -> Self {
        Self {
            limits,
            budget,
            by_topic: BTreeMap::new(),
            bytes: 0,
            expiries: BTreeSet::new(),
            owned: BTreeMap::new(),
        }
    }

    /// The offset at which the value of a topic was set; 0 if there is none.
    pub(super) fn version(&self, topic: &str) -> u64 {
        self.by_topic.get(topic).map_or(0, |value| value.offset)
    }

    /// Keeps a value in place of an earlier one of its topic, and of what was said of that one's end.
    pub(super) fn set(&mut self, topic: &str, value: Retained) -> Result<(), Refusal> {
        let before = self.by_topic.get(topic).map_or(0, Retained::charge);
        let after = value.charge();
        let bytes = self.bytes - before + after;
        if bytes > self.limits.bytes
            || before == 0 && self.by_topic.len() as u64 >= self.limits.topics
            || after > before && !self.budget.fits(after - before)
        {
            return Err(Refusal::RetainedFull);
        }
        self.unbind(topic);
        match self.by_topic.get_mut(topic) {
            Some(kept) => *kept = value,
            None => {
                let topic = topic.parse().map_err(Refusal::BadTopic)?;
                self.by_topic.insert(topic, value);
            }
        }
        self.budget.refund(before);
        self.budget.charge(after);
        self.bytes = bytes;
        Ok(())
    }

    /// Forgets the value of a topic.
    pub(super) fn clear(&mut self, topic: &str) {
        self.unbind(topic);
        if let Some(value) = self.by_topic.remove(topic) {
            self.bytes -= value.charge();
            self.budget.refund(value.charge());
        }
    }

    /// Says how the value of a topic, which was just set, is to end.
    pub(super) fn bind(&mut self, topic: &str, until: Option<Duration>, owner: Option<ClientId>) {
        if let Some((topic, _)) = self.by_topic.get_key_value(topic) {
            let topic = topic.clone();
            self.expiries
                .extend(until.map(|until| (until, topic.clone())));
            if let Some(owner) = owner {
                self.owned.entry(owner).or_default().insert(topic.clone());
            }
            if let Some(value) = self.by_topic.get_mut(&topic) {
                (value.until, value.owner) = (until, owner);
            }
        }
    }

    /// The value of a topic ends neither by itself nor with a client any more.
    fn unbind(&mut self, topic: &str) {
        let Some((topic, value)) = self.by_topic.get_key_value(topic) else {
            return;
        };
        if let Some(until) = value.until {
            self.expiries.remove(&(until, topic.clone()));
        }
        if let Some(owner) = value.owner
            && let Some(topics) = self.owned.get_mut(&owner)
        {
            topics.remove(topic);
            if topics.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }

    /// A topic whose value ends now.
    pub(super) fn first_due(&self, now: Duration) -> Option<Topic> {
        let (until, topic) = self.expiries.first()?;
        (*until <= now).then(|| topic.clone())
    }

    /// When the next value ends by itself.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(until, _)| *until)
    }

    /// A topic whose value ends with that client.
    pub(super) fn first_owned(&self, client: ClientId) -> Option<Topic> {
        self.owned.get(&client)?.first().cloned()
    }

    /// The values whose topics match.
    pub(super) fn matching(&self, filter: &TopicFilter) -> impl Iterator<Item = &Retained> {
        let values = self.by_topic.iter();
        values
            .filter(|(topic, _)| filter.matches(topic.as_str()))
            .map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Topic, &Retained)> {
        self.by_topic.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// What they are charged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Panics if the invariant does not hold; `offset` is that of the channel.
    pub(super) fn check(&self, offset: u64) {
        let values = self.by_topic.values();
        assert_eq!(
            self.bytes,
            values.clone().map(Retained::charge).sum::<u64>(),
            "retained bytes"
        );
        assert!(values.clone().all(|value| value.offset <= offset));
        let expiries = self.by_topic.iter();
        let expiries = expiries.filter_map(|(topic, value)| Some((value.until?, topic.clone())));
        assert_eq!(self.expiries, expiries.collect(), "values that expire");
        let mut owned: BTreeMap<ClientId, BTreeSet<Topic>> = BTreeMap::new();
        for (topic, value) in &self.by_topic {
            if let Some(owner) = value.owner {
                owned.entry(owner).or_default().insert(topic.clone());
            }
        }
        assert_eq!(self.owned, owned, "values with an owner");
    }
}
