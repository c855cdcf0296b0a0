use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::outbox::Outbox;

/// Whom to wake, and whom to wait for, once no lock is held any more.
#[derive(Debug, Default)]
pub struct Wakes {
    pub(super) writers: Vec<Waker>,
    full: Vec<Arc<Outbox>>,
}

/// One publisher waits for this many full outboxes at most: further ones are as slow as these.
const FULL_MAX: usize = 8;

impl Wakes {
    /// Wakes the writers of the outboxes that have something new.
    pub fn fire(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }

    /// Whether an outbox that was filled is so full that the publisher had better wait a moment.
    pub fn is_stalled(&self) -> bool {
        !self.full.is_empty()
    }

    /// Ready when the full outboxes have room again, or have been waited for long enough.
    pub fn poll_relief(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.full
            .retain(|outbox| outbox.poll_relief(cx.waker()).is_pending());
        if self.full.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ends the wait: whoever is still full now is not waited for again until it has drained.
    pub fn give_up(&mut self) {
        self.full.drain(..).for_each(|outbox| outbox.overstay());
    }

    pub(super) fn stall(&mut self, outbox: &Arc<Outbox>) {
        if self.full.len() < FULL_MAX && !self.full.iter().any(|full| Arc::ptr_eq(full, outbox)) {
            self.full.push(outbox.clone());
        }
    }
}
