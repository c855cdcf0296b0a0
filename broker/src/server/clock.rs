use std::time::Duration;

use tokio::time::Instant;

/// The one clock of a broker: the time since it began.
///
/// Monotonic, so that a changed wall clock ends no session. It stands still while a machine
/// sleeps (on systems whose monotonic clock does), as do the clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment at which [`Clock::now`] will be `time`.
    pub(super) fn at(&self, time: Duration) -> Instant {
        self.start + time
    }
}
