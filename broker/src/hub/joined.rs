use std::sync::Arc;

use localhub_protocol::ChannelId;

use super::channel::Channel;

/// The channels that one session is in, by ascending id.
///
/// A list and not a map: most sessions are in a few channels, and a map's first node alone takes more
/// memory than the rest of an idle session's bookkeeping.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined(Vec<Arc<Channel>>);

impl Joined {
    pub(super) fn get(&self, id: ChannelId) -> Option<&Arc<Channel>> {
        self.find(id).ok().map(|at| &self.0[at])
    }

    pub(super) fn contains(&self, id: ChannelId) -> bool {
        self.find(id).is_ok()
    }

    /// Adds a channel, if it is not there yet.
    pub(super) fn insert(&mut self, channel: Arc<Channel>) {
        if let Err(at) = self.find(channel.id) {
            self.0.insert(at, channel);
        }
    }

    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Arc<Channel>> {
        self.find(id).ok().map(|at| self.0.remove(at))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Channel>> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&self, id: ChannelId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |channel| channel.id)
    }
}
