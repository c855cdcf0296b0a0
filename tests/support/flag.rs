use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Whether something has been woken, and is to be polled again. What is never woken is never polled:
/// a wake that is forgotten shows as something that never happens.
#[derive(Debug)]
pub struct Flag(AtomicBool);

impl Flag {
    /// One that is up.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    /// Whoever wakes it puts the flag up.
    pub fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    /// Takes the flag down; whether it was up.
    pub fn lower(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
