use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::Endpoint;
use crate::core::{Core, Outcome, Ticket};

/// What the handles of a client and its link have in common.
///
/// The lock is never held across an await or a system call, and wakers are called after it is
/// released.
pub(crate) struct Shared {
    core: Mutex<Core>,
    endpoint: Endpoint,
}

impl Shared {
    pub(crate) fn new(core: Core, endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(core),
            endpoint,
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        // A panic of another thread is told by that thread; what it left behind still has to be
        // closed here.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut core);
        let wakes = core.take_wakes();
        drop(core);
        wakes.into_iter().for_each(std::task::Waker::wake);
        result
    }

    /// Waits for the outcome of a ticket; a dropped future forgets it.
    pub(crate) fn outcome(self: &Arc<Self>, ticket: Ticket) -> Waiting {
        Waiting {
            shared: self.clone(),
            ticket: Some(ticket),
        }
    }
}

/// The outcome of a ticket.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(ticket) = self.ticket else {
            panic!("a finished future was polled");
        };
        let outcome = self.shared.with(|core| core.poll_ticket(ticket, cx));
        if outcome.is_ready() {
            self.ticket = None;
        }
        outcome
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.with(|core| core.forget_ticket(ticket));
        }
    }
}

/// Held by everything that the application has of a client. The last one dropped ends the client.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // If it is closed already there is nothing left to do.
        let _ = self.shared.with(|core| core.close(now()));
    }
}

/// The time, as the runtime has it: tests may stop that clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
