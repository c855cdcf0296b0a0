use std::task::{Context, Waker};

/// Tasks that wait for the same thing.
#[derive(Default)]
pub(super) struct Wakers(Vec<Waker>);

/// More than this are woken for nothing and come back: those that gave up are then forgotten.
const WAKERS_MAX: usize = 1_024;

impl Wakers {
    /// Adds the task, unless it waits already.
    pub(super) fn add(&mut self, cx: &Context<'_>, wakes: &mut Vec<Waker>) {
        if self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if self.0.len() >= WAKERS_MAX {
            self.wake(wakes);
        }
        self.0.push(cx.waker().clone());
    }

    pub(super) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.append(&mut self.0);
    }
}
