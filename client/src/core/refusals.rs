use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::StreamId;
use crate::Refused;

/// Refusals of messages that nobody waits for, on their way to whoever listens, and to the log.
#[derive(Default)]
pub(super) struct Refusals {
    listeners: BTreeMap<StreamId, Listener>,
    logged_at: Option<Instant>,
    unlogged: u64,
}

#[derive(Default)]
struct Listener {
    queue: VecDeque<Refused>,
    waker: Option<Waker>,
}

/// A listener that is further behind misses the oldest.
const QUEUE_MAX: usize = 1_024;

/// The log has one line in this time, with the number of those left out.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

impl Refusals {
    pub(super) fn listen(&mut self, id: StreamId) {
        self.listeners.insert(id, Listener::default());
    }

    pub(super) fn forget(&mut self, id: StreamId) {
        self.listeners.remove(&id);
    }

    pub(super) fn push(&mut self, refused: Refused, now: Instant, wakes: &mut Vec<Waker>) {
        self.log(&refused, now);
        for listener in self.listeners.values_mut() {
            if listener.queue.len() >= QUEUE_MAX {
                listener.queue.pop_front();
            }
            listener.queue.push_back(refused.clone());
            wakes.extend(listener.waker.take());
        }
    }

    pub(super) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(
            self.listeners
                .values_mut()
                .filter_map(|listener| listener.waker.take()),
        );
    }

    pub(super) fn poll(
        &mut self,
        id: StreamId,
        ended: bool,
        cx: &Context<'_>,
    ) -> Poll<Option<Refused>> {
        let Some(listener) = self.listeners.get_mut(&id) else {
            return Poll::Ready(None);
        };
        match listener.queue.pop_front() {
            Some(refused) => Poll::Ready(Some(refused)),
            None if ended => Poll::Ready(None),
            None => {
                listener.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn log(&mut self, refused: &Refused, now: Instant) {
        if self.logged_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            self.unlogged += refused.messages;
            return;
        }
        tracing::warn!(
            cause = %refused.cause,
            detail = %refused.detail,
            messages = refused.messages,
            unlogged = self.unlogged,
            "messages refused"
        );
        self.logged_at = Some(now);
        self.unlogged = 0;
    }
}
