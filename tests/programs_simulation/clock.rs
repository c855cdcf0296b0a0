//! The clock of the programs, which stands still until it is moved.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// A runtime whose clock stands still. The programs must be in it.
pub(crate) fn stopped() -> Runtime {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime")
}

/// Moves the clock of the runtime that this is in.
pub(crate) fn advance(by: Duration) {
    // It is moved at once; what comes then is for the tasks of the runtime, and it has none.
    let moved = pin!(tokio::time::advance(by));
    let _ = moved.poll(&mut Context::from_waker(Waker::noop()));
}
