use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::identity::ProcessWatch;

/// The processes that have connections, each watched once however many connections it has: a watch
/// takes a descriptor.
#[derive(Debug, Default)]
pub(super) struct Processes(Mutex<HashMap<u32, Weak<ProcessWatch>>>);

/// The map is tidied whenever it has grown by this many processes.
const TIDY_EVERY: usize = 64;

impl Processes {
    /// The watch of a process; `None` if the system cannot watch it. Then only the end of its
    /// connection shows that it is gone.
    pub(super) fn watch(&self, pid: u32) -> Option<Arc<ProcessWatch>> {
        let mut watches = self.0.lock();
        if let Some(watch) = watches.get(&pid).and_then(Weak::upgrade)
            // A number whose process has ended may be somebody else's by now.
            && watch.has_exited() != Some(true)
        {
            return Some(watch);
        }
        let watch = Arc::new(ProcessWatch::new(pid).ok()?);
        if watches.len() % TIDY_EVERY == TIDY_EVERY - 1 {
            watches.retain(|_, watch| watch.strong_count() > 0);
        }
        watches.insert(pid, Arc::downgrade(&watch));
        Some(watch)
    }
}
