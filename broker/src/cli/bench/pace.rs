//! When to do the next thing: at a fixed rate, whatever became of the thing before it.

use std::thread;
use std::time::Duration;

use super::super::shared::clock::now_ns;

/// The moments at which one of several clients is to do something, so that all of them together do it
/// at a fixed rate.
///
/// They do not depend on how long anything takes. Who is late measures from the moment that was meant,
/// so that a slow answer also counts against those that had to wait behind it.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    start_ns: u64,
    rate: u64,
    /// The number of the next slot among those of all clients.
    slot: u64,
    clients: u64,
}

impl Timetable {
    /// The slots of client number `client` of `clients` from `start_ns` on, at `rate` a second for all
    /// together.
    pub(super) fn new(start_ns: u64, rate: u64, client: u64, clients: u64) -> Self {
        Self {
            start_ns,
            rate,
            slot: client,
            clients,
        }
    }

    /// When the next thing is due.
    pub(super) fn due_ns(&self) -> u64 {
        let after = u128::from(self.slot) * u128::from(SECOND_NS) / u128::from(self.rate);
        self.start_ns
            .saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// Goes on to the slot after it.
    pub(super) fn advance(&mut self) {
        self.slot += self.clients;
    }
}

/// Things that are done one after the other until the time is over: each when it is due, or as soon as the
/// one before it is done.
#[derive(Debug)]
pub(super) struct Calls {
    table: Option<Timetable>,
    end_ns: u64,
}

impl Calls {
    /// Until `end_ns`, by a timetable or as fast as possible.
    pub(super) fn new(table: Option<Timetable>, end_ns: u64) -> Self {
        Self { table, end_ns }
    }

    /// Waits for the next one, and says from when on to measure it; `None` when the time is over.
    pub(super) fn next(&mut self) -> Option<u64> {
        let Some(table) = &mut self.table else {
            return Some(now_ns()).filter(|now| *now < self.end_ns);
        };
        let due_ns = Some(table.due_ns()).filter(|due| *due < self.end_ns)?;
        table.advance();
        // Who is too far behind gives up at the end, and not after working off the whole table.
        if now_ns() >= self.end_ns {
            return None;
        }
        sleep_until(due_ns);
        Some(due_ns)
    }
}

/// Writes into a payload when it was to be sent.
pub(super) fn stamp(payload: &mut [u8], moment_ns: u64) {
    payload[..STAMP_BYTES].copy_from_slice(&moment_ns.to_be_bytes());
}

/// When a payload was to be sent.
pub(super) fn stamp_of(payload: &[u8]) -> u64 {
    payload
        .first_chunk()
        .map_or(0, |stamp| u64::from_be_bytes(*stamp))
}

/// Sleeps until the shared clock says so. Blocks the thread, because a timer of the runtime is a
/// millisecond late.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread is that of one client of a bench, and belongs to no runtime"
)]
pub(super) fn sleep_until(moment_ns: u64) {
    loop {
        let left = moment_ns.saturating_sub(now_ns());
        if left == 0 {
            return;
        }
        thread::sleep(Duration::from_nanos(left));
    }
}

/// Has the system wake this thread when its sleep is over, and not some 50 us later to save power.
pub(super) fn sleep_precisely() {
    // Where this is refused, the figures are a little worse, and still true.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// What a stamp takes of a payload.
pub(super) const STAMP_BYTES: usize = 8;

pub(super) const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first moments of a client.
    fn moments<const N: usize>(mut table: Timetable) -> [u64; N] {
        std::array::from_fn(|_| {
            let due = table.due_ns();
            table.advance();
            due
        })
    }

    #[test]
    fn clients_take_turns_at_the_common_rate() {
        assert_eq!(
            moments(Timetable::new(5, 1_000, 0, 2)),
            [5, 2_000_005, 4_000_005]
        );
        assert_eq!(
            moments(Timetable::new(5, 1_000, 1, 2)),
            [1_000_005, 3_000_005]
        );
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut table = Timetable::new(0, 3, 0, 1);
        for _ in 0..3_000_000 {
            table.advance();
        }
        assert_eq!(table.due_ns(), 1_000_000 * SECOND_NS);
    }

    #[test]
    fn who_is_late_measures_from_the_moment_that_was_meant() {
        let start_ns = now_ns() - SECOND_NS;
        let table = Timetable::new(start_ns, 1_000, 0, 1);
        let mut calls = Calls::new(Some(table), now_ns() + SECOND_NS);
        assert_eq!(calls.next(), Some(start_ns));
        assert_eq!(calls.next(), Some(start_ns + 1_000_000));
    }

    #[test]
    fn nothing_is_done_after_the_end() {
        let (past, future) = (now_ns() - 1, now_ns() + SECOND_NS);
        let behind = Timetable::new(past - SECOND_NS, 1_000, 0, 1);
        assert_eq!(Calls::new(Some(behind), past).next(), None);
        let ahead = Timetable::new(future, 1, 0, 1);
        assert_eq!(Calls::new(Some(ahead), future).next(), None);
        assert_eq!(Calls::new(None, past).next(), None);
        assert!(Calls::new(None, future).next().is_some());
    }

    #[test]
    fn a_stamp_comes_back_out_of_a_payload() {
        let mut payload = [b'x'; 10];
        stamp(&mut payload, 0x0102_0304_0506_0708);
        assert_eq!(payload, *b"\x01\x02\x03\x04\x05\x06\x07\x08xx");
        assert_eq!(stamp_of(&payload), 0x0102_0304_0506_0708);
    }

    #[test]
    fn nobody_wakes_too_early() {
        let moment = now_ns() + 2_000_000;
        sleep_until(moment);
        assert!(now_ns() >= moment);
    }
}
