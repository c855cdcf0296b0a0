use std::collections::BTreeMap;

use localhub_protocol::{ClientId, TopicFilter};

/// Who subscribes to what in one channel: a tree with one node for each level of a filter.
///
/// A look-up walks the levels of the topic once, whatever the number of filters. Maps are ordered and not
/// hashed, so that no choice of topics makes them slow.
#[derive(Debug, Default)]
pub(super) struct TopicTree {
    root: Node,
    filters: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Further levels by their text.
    levels: BTreeMap<Box<str>, Self>,
    /// Further levels behind `+`.
    any: Option<Box<Self>>,
    /// Whose filter ends here.
    here: Vec<ClientId>,
    /// Whose filter goes on with `#`, and ends.
    rest: Vec<ClientId>,
}

impl TopicTree {
    /// Adds a filter of a client, which it has not.
    pub(super) fn insert(&mut self, filter: &TopicFilter, client: ClientId) {
        let mut node = &mut self.root;
        self.filters += 1;
        for level in filter.as_str().split('/') {
            node = match level {
                "#" => return node.rest.push(client),
                "+" => node.any.get_or_insert_default(),
                _ => node.levels.entry(level.into()).or_default(),
            };
        }
        node.here.push(client);
    }

    /// Removes a filter of a client, which it has.
    pub(super) fn remove(&mut self, filter: &TopicFilter, client: ClientId) {
        self.root.remove(filter.as_str().split('/'), client);
        self.filters -= 1;
    }

    /// The clients with a filter that matches, each once, in ascending order.
    pub(super) fn matching(&self, topic: &str) -> Vec<ClientId> {
        let mut clients = Vec::new();
        if topic.starts_with('$') {
            // MQTT 5 section 4.7.2: no wildcard stands for a first level with `$`.
            let mut levels = topic.split('/');
            let first = levels.next().and_then(|level| self.root.levels.get(level));
            if let Some(node) = first {
                node.collect(levels, &mut clients);
            }
        } else {
            self.root.collect(topic.split('/'), &mut clients);
        }
        clients.sort_unstable();
        clients.dedup();
        clients
    }

    /// How many filters there are.
    pub(super) fn len(&self) -> usize {
        self.filters
    }
}

impl Node {
    fn collect<'t>(
        &self,
        mut levels: impl Iterator<Item = &'t str> + Clone,
        clients: &mut Vec<ClientId>,
    ) {
        clients.extend(&self.rest);
        let Some(level) = levels.next() else {
            clients.extend(&self.here);
            return;
        };
        if let Some(node) = self.levels.get(level) {
            node.collect(levels.clone(), clients);
        }
        if let Some(node) = &self.any {
            node.collect(levels, clients);
        }
    }

    /// Removes the client behind these levels, and the nodes that this leaves empty.
    fn remove<'f>(&mut self, mut levels: impl Iterator<Item = &'f str>, client: ClientId) {
        let forget = |clients: &mut Vec<ClientId>| {
            if let Some(at) = clients.iter().position(|known| *known == client) {
                clients.swap_remove(at);
            }
        };
        match levels.next() {
            None => forget(&mut self.here),
            Some("#") => forget(&mut self.rest),
            Some("+") => {
                if let Some(node) = &mut self.any {
                    node.remove(levels, client);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(level) => {
                if let Some(node) = self.levels.get_mut(level) {
                    node.remove(levels, client);
                    if node.is_empty() {
                        self.levels.remove(level);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every filter and topic of up to three levels out of a small alphabet.
    fn texts(alphabet: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = alphabet.iter().map(|level| (*level).to_owned()).collect();
        for _ in 0..2 {
            let longer: Vec<_> = all
                .iter()
                .flat_map(|text| alphabet.iter().map(move |level| format!("{text}/{level}")))
                .collect();
            all.extend(longer);
        }
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn the_tree_finds_whom_each_filter_alone_would_match() {
        let filters: Vec<TopicFilter> = texts(&["a", "b", "$s", "+", "#"])
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let mut tree = TopicTree::default();
        for (n, filter) in filters.iter().enumerate() {
            tree.insert(filter, ClientId(n as u64));
        }
        let check = |tree: &TopicTree, present: &dyn Fn(usize) -> bool| {
            for topic in texts(&["a", "b", "c", "$s"]) {
                let expected: Vec<_> = filters
                    .iter()
                    .enumerate()
                    .filter(|(n, filter)| present(*n) && filter.matches(&topic))
                    .map(|(n, _)| ClientId(n as u64))
                    .collect();
                assert_eq!(tree.matching(&topic), expected, "{topic}");
            }
        };
        check(&tree, &|_| true);
        for (n, filter) in filters.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
            tree.remove(filter, ClientId(n as u64));
        }
        check(&tree, &|n| n % 2 == 1);
        for (n, filter) in filters.iter().enumerate().filter(|(n, _)| n % 2 == 1) {
            tree.remove(filter, ClientId(n as u64));
        }
        assert!(
            tree.root.is_empty() && tree.len() == 0,
            "no node is left behind"
        );
    }

    #[test]
    fn a_client_with_two_matching_filters_is_found_once() {
        let mut tree = TopicTree::default();
        for filter in ["a/#", "a/+", "#"] {
            tree.insert(&filter.parse().unwrap(), ClientId(1));
        }
        assert_eq!(tree.matching("a/b"), [ClientId(1)]);
    }
}
