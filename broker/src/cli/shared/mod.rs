//! What verbs share: the way to the broker, the way to the screen.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};

pub(super) mod clock;
pub(super) mod content;
pub(super) mod diagnostic;
pub(super) mod exit;
pub(super) mod input;
pub(super) mod interrupt;
pub(super) mod link;
pub(super) mod list;
pub(super) mod message;
pub(super) mod output;
pub(super) mod table;
pub(super) mod units;

/// A tokio runtime with so many threads; 0 is one for each processor.
pub(super) fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().thread_name("localhub").build()
}

/// Runs what a verb does. The connection has a thread of its own, so that a terminal that stands
/// still does not keep pings from being answered.
pub(super) fn block_on<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime(1)?.block_on(verb)
}
