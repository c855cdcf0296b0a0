use std::collections::HashMap;
use std::rc::Rc;

use localhub_protocol::TopicFilter;

/// The filters and topics of a run, each with a number, and which of them match.
#[derive(Debug, Default)]
pub(super) struct Filters {
    filters: Vec<(Rc<str>, TopicFilter)>,
    topics: HashMap<Rc<str>, FilterSet>,
}

/// Some of the filters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FilterSet(u32);

impl FilterSet {
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn contains(self, filter: usize) -> bool {
        self.0 & 1 << filter != 0
    }

    pub(super) fn insert(&mut self, filter: usize) {
        self.0 |= 1 << filter;
    }

    pub(super) fn remove(&mut self, filter: usize) {
        self.0 &= !(1 << filter);
    }
}

impl Filters {
    /// The number of a filter.
    pub(super) fn number(&mut self, text: &str) -> usize {
        let known = self.filters.iter().position(|(known, _)| **known == *text);
        known.unwrap_or_else(|| {
            let filter: TopicFilter = text.parse().expect("a filter");
            let number = self.filters.len();
            assert!(number < 32, "the simulation uses a handful of filters");
            for (topic, matching) in &mut self.topics {
                if filter.matches(topic) {
                    matching.insert(number);
                }
            }
            self.filters.push((text.into(), filter));
            number
        })
    }

    pub(super) fn text(&self, number: usize) -> Rc<str> {
        self.filters[number].0.clone()
    }

    /// The one copy of a topic's text.
    pub(super) fn topic(&mut self, text: &str) -> Rc<str> {
        if let Some((known, _)) = self.topics.get_key_value(text) {
            return known.clone();
        }
        let mut matching = FilterSet::default();
        for (number, (_, filter)) in self.filters.iter().enumerate() {
            if filter.matches(text) {
                matching.insert(number);
            }
        }
        let topic: Rc<str> = text.into();
        self.topics.insert(topic.clone(), matching);
        topic
    }

    /// Which filters match a topic that [`Filters::topic`] gave.
    pub(super) fn matching(&self, topic: &str) -> FilterSet {
        self.topics[topic]
    }
}
