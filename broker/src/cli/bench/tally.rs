//! What is counted, and how counts of several processes become one.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What one client, one process or all of them have done.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// What was sent: messages, requests, connects.
    pub(super) sent: u64,
    /// What came: messages, replies, welcomes.
    pub(super) received: u64,
    /// What the broker or the SDK said is lost.
    pub(super) lost: u64,
    /// What the broker refused.
    pub(super) refused: u64,
    /// Sessions that are there, or there again.
    pub(super) sessions: u64,
    /// When the last of it happened, on the shared clock.
    pub(super) ended_ns: u64,
    /// How long each took, where that is measured.
    pub(super) latencies: Latencies,
}

impl Tally {
    /// Adds what another did at the same time.
    pub(super) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.refused += other.refused;
        self.sessions += other.sessions;
        self.ended_ns = self.ended_ns.max(other.ended_ns);
        self.latencies.merge(&other.latencies);
    }
}

/// How long things took: exact to three digits, however many there are.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Records one, in nanoseconds.
    pub(super) fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// The percentiles that are shown; `None` if nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            p50_ns: self.0.value_at_quantile(0.5),
            p99_ns: self.0.value_at_quantile(0.99),
            p99_9_ns: self.0.value_at_quantile(0.999),
            max_ns: self.0.max(),
        })
    }

    fn record_n(&mut self, ns: u64, times: u64) {
        self.0
            .record_n(ns, times)
            .expect("a histogram that grows takes any number");
    }

    fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("a histogram that grows takes in any other");
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("so many digits are allowed"))
    }
}

/// How long things took, of all that were measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p99_9_ns: u64,
    pub(super) max_ns: u64,
}

/// A [`Tally`] on its way from a process to another.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Told {
    sent: u64,
    received: u64,
    lost: u64,
    refused: u64,
    sessions: u64,
    ended_ns: u64,
    /// Latencies in nanoseconds, and how often each was seen.
    latencies: Vec<(u64, u64)>,
}

impl From<&Tally> for Told {
    fn from(tally: &Tally) -> Self {
        let latencies = &tally.latencies.0;
        Self {
            sent: tally.sent,
            received: tally.received,
            lost: tally.lost,
            refused: tally.refused,
            sessions: tally.sessions,
            ended_ns: tally.ended_ns,
            latencies: latencies
                .iter_recorded()
                // A value stands for all that are equivalent to it; none is above the maximum.
                .map(|step| {
                    (
                        step.value_iterated_to().min(latencies.max()),
                        step.count_at_value(),
                    )
                })
                .collect(),
        }
    }
}

impl From<Told> for Tally {
    fn from(told: Told) -> Self {
        let mut latencies = Latencies::default();
        for (ns, count) in told.latencies {
            latencies.record_n(ns, count);
        }
        Self {
            sent: told.sent,
            received: told.received,
            lost: told.lost,
            refused: told.refused,
            sessions: told.sessions,
            ended_ns: told.ended_ns,
            latencies,
        }
    }
}

/// Decimal digits of a latency that are exact.
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(all: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        all.into_iter().for_each(|ns| latencies.record(ns));
        latencies
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let percentiles = latencies(1..=1_000).percentiles().unwrap();
        let expected = Percentiles {
            p50_ns: 500,
            p99_ns: 990,
            p99_9_ns: 999,
            max_ns: 1_000,
        };
        assert_eq!(percentiles, expected);
        assert_eq!(Latencies::default().percentiles(), None);
    }

    #[test]
    fn large_latencies_are_exact_to_three_digits() {
        let hour_ns = 3_600_000_000_000;
        let told = latencies([hour_ns]).percentiles().unwrap().p50_ns;
        assert!(told.abs_diff(hour_ns) * 1_000 <= hour_ns, "{told}");
    }

    #[test]
    fn a_tally_survives_the_way_between_processes() {
        let tally = Tally {
            sent: 1,
            received: 2,
            lost: 3,
            refused: 4,
            sessions: 5,
            ended_ns: 6,
            latencies: latencies([1, 1, 5_000, 123_456_789]),
        };
        let line = serde_json::to_string(&Told::from(&tally)).unwrap();
        let told: Tally = serde_json::from_str::<Told>(&line).unwrap().into();
        assert_eq!(
            (told.sent, told.received, told.lost, told.refused),
            (1, 2, 3, 4)
        );
        assert_eq!((told.sessions, told.ended_ns), (5, 6));
        assert_eq!(told.latencies.percentiles(), tally.latencies.percentiles());
        assert_eq!(told.latencies.0.len(), 4);
    }

    #[test]
    fn tallies_add_up_and_the_latest_end_counts() {
        let mut all = Tally {
            sent: 1,
            ended_ns: 9,
            latencies: latencies([10]),
            ..Tally::default()
        };
        all.merge(&Tally {
            sent: 2,
            lost: 1,
            ended_ns: 7,
            latencies: latencies([1_000_000]),
            ..Tally::default()
        });
        assert_eq!((all.sent, all.lost, all.ended_ns), (3, 1, 9));
        let percentiles = all.latencies.percentiles().unwrap();
        assert_eq!(percentiles.p50_ns, 10);
        assert!(percentiles.max_ns >= 1_000_000);
    }
}
