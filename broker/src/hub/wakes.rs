use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::outbox::Outbox;

/// Whom to wake, and whom to wait for, once no lock is held any more.
#[derive(Debug, Default)]
pub struct Wakes {
    pub(super) writers: Vec<Waker>,
    full: Vec<Full>,
    /// Whether the hub has something to do earlier than it last said.
    alarm: bool,
}

/// An outbox that publishers wait for.
#[derive(Debug)]
struct Full {
    outbox: Arc<Outbox>,
    patience: Duration,
}

/// How long a publisher waits for the outboxes that it filled. Bursts cost nothing that way, and
/// a receiver that stands still costs this once.
pub(super) const STALL_MAX: Duration = Duration::from_millis(100);

/// How long it waits for those whose subscriptions ask it to (`Policy::Block`): long enough for a
/// screen that redraws or a disk that is busy, and short enough for the other receivers.
pub(super) const BLOCK_MAX: Duration = Duration::from_secs(2);

/// One publisher waits for this many full outboxes at most: further ones are as slow as these.
const FULL_MAX: usize = 8;

impl Wakes {
    /// Wakes the writers of the outboxes that have something new.
    pub fn fire(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }

    /// Whether [`Hub::expire`](super::Hub::expire) has something to do earlier than it last said. Says so once.
    pub fn takes_alarm(&mut self) -> bool {
        std::mem::take(&mut self.alarm)
    }

    pub(super) fn ring(&mut self) {
        self.alarm = true;
    }

    /// Whether an outbox that was filled is so full that the publisher had better wait a moment.
    pub fn is_stalled(&self) -> bool {
        !self.full.is_empty()
    }

    /// Ready when the full outboxes have room again, or have been waited for long enough.
    pub fn poll_relief(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.full.retain(|full| {
            let relief = full.outbox.poll_relief(full.patience, cx.waker());
            relief.is_pending()
        });
        if self.full.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// How long to wait, since the wait began, before the next [`Wakes::give_up`].
    pub fn patience(&self) -> Duration {
        let least = self.full.iter().map(|full| full.patience).min();
        least.unwrap_or_default()
    }

    /// Ends the wait for those that were to be waited for so long: they are not waited for as long again
    /// until they have drained.
    pub fn give_up(&mut self, waited: Duration) {
        self.full.retain(|full| {
            if full.patience > waited {
                return true;
            }
            full.outbox.overstay(full.patience);
            false
        });
    }

    /// Ends the wait at once. Others go on waiting, and so does this one if it publishes again.
    pub fn wait_for_nobody(&mut self) {
        self.full.clear();
    }

    pub(super) fn stall(&mut self, outbox: &Arc<Outbox>, patience: Duration) {
        let mut full = self.full.iter_mut();
        if let Some(known) = full.find(|full| Arc::ptr_eq(&full.outbox, outbox)) {
            known.patience = known.patience.max(patience);
        } else if self.full.len() < FULL_MAX {
            let outbox = outbox.clone();
            self.full.push(Full { outbox, patience });
        }
    }
}
