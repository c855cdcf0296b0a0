//! What the demo has shown, in numbers, and whether it is what it should have shown.

use std::fmt;
use std::time::Duration;

use localhub_client::admin::HubView;
use serde::{Serialize, Serializer};

use super::story::{Count, Story, short};

/// The end of the demo.
#[derive(Serialize)]
pub(super) struct Summary {
    /// This process and all that it started.
    processes: usize,
    #[serde(rename = "run_us", serialize_with = "micros")]
    run: Duration,
    /// As the hub counts messages.
    published: u64,
    delivered: u64,
    lost: u64,
    readings_received: u64,
    broadcasts: Count,
    directs: Count,
    presence_changes: u64,
    /// From the kill of the sidecar until the observer saw it.
    #[serde(rename = "away_seen_us", serialize_with = "micros_if_any")]
    away_seen: Option<Duration>,
    #[serde(rename = "left_seen_us", serialize_with = "micros_if_any")]
    left_seen: Option<Duration>,
    /// From the start of the second sidecar until the observer saw it.
    #[serde(rename = "joined_seen_us", serialize_with = "micros_if_any")]
    joined_seen: Option<Duration>,
    /// From the sending in one process to the receipt in another.
    latency_samples: usize,
    #[serde(rename = "latency_p50_us", serialize_with = "micros")]
    latency_p50: Duration,
    #[serde(rename = "latency_p99_us", serialize_with = "micros")]
    latency_p99: Duration,
    /// What did not happen as it should; empty if all is well.
    pub(super) failures: Vec<String>,
}

impl Summary {
    pub(super) fn new(story: Story, hub: &HubView, processes: usize) -> Self {
        let mut failures = failures(&story, hub);
        let run = story.age();
        failures.extend(story.failures);
        let mut latencies = story.latencies;
        latencies.sort_unstable();
        Self {
            processes,
            run,
            published: hub.messages_in,
            delivered: hub.messages_out,
            lost: hub.messages_lost,
            readings_received: story.readings_received,
            broadcasts: story.broadcasts,
            directs: story.directs,
            presence_changes: story.presence_changes,
            away_seen: story.kill.as_ref().and_then(|kill| kill.away_after),
            left_seen: story.kill.as_ref().and_then(|kill| kill.left_after),
            joined_seen: story
                .restart
                .as_ref()
                .and_then(|restart| restart.joined_after),
            latency_samples: latencies.len(),
            latency_p50: percentile(&latencies, 50),
            latency_p99: percentile(&latencies, 99),
            failures,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            broadcasts,
            directs,
            ..
        } = self;
        writeln!(f, "the hub in {:.1} s", self.run.as_secs_f64())?;
        writeln!(
            f,
            "  processes   {}: this one with the hub, and {} programs on it",
            self.processes,
            self.processes - 1
        )?;
        writeln!(
            f,
            "  messages    {} published, {} delivered, {} lost",
            self.published, self.delivered, self.lost
        )?;
        writeln!(
            f,
            "  readings    {} received by the monitor",
            self.readings_received
        )?;
        writeln!(
            f,
            "  broadcasts  {} sent, {} received",
            broadcasts.sent, broadcasts.received
        )?;
        writeln!(
            f,
            "  directs     {} sent, {} received, {} refused",
            directs.sent, directs.received, directs.refused
        )?;
        writeln!(
            f,
            "  presence    {} changes seen by the observer",
            self.presence_changes
        )?;
        writeln!(
            f,
            "  kill -9     away seen after {}, left after {}",
            seen(self.away_seen),
            seen(self.left_seen)
        )?;
        writeln!(
            f,
            "  restart     joined seen after {}",
            seen(self.joined_seen)
        )?;
        writeln!(
            f,
            "  latency     p50 {}, p99 {}, from process to process ({} messages)",
            short(self.latency_p50),
            short(self.latency_p99),
            self.latency_samples
        )
    }
}

/// What should have happened and did not.
fn failures(story: &Story, hub: &HubView) -> Vec<String> {
    let kill = story.kill.as_ref();
    let restart = story.restart.as_ref();
    let checks = [
        (
            story.readings_received > 0,
            "the monitor received no readings",
        ),
        (story.broadcasts.received > 0, "no broadcast was received"),
        (story.directs.received > 0, "no direct message was received"),
        (
            kill.is_some_and(|kill| kill.away_after.or(kill.left_after).is_some()),
            "nobody saw that the sidecar was killed",
        ),
        (
            restart.is_some_and(|restart| restart.joined_after.is_some()),
            "nobody saw that the sidecar was started again",
        ),
        (
            restart.is_some_and(|restart| restart.readings),
            "the monitor received nothing from the sidecar that was started again",
        ),
        (hub.messages_lost == 0, "the hub lost messages"),
    ];
    checks
        .iter()
        .filter(|(well, _)| !well)
        .map(|(_, what)| (*what).to_owned())
        .collect()
}

/// The value that so many per cent of the sorted values do not exceed; zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn seen(after: Option<Duration>) -> String {
    after.map_or_else(|| "(not seen)".to_owned(), short)
}

fn micros<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn micros_if_any<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => micros(duration, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&values, 50), Duration::from_micros(100));
        assert_eq!(percentile(&values, 99), Duration::from_micros(198));
        assert_eq!(percentile(&values[..1], 99), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn a_demo_that_showed_nothing_failed() {
        let summary = Summary::new(Story::new(), &HubView::default(), 1);
        assert!(
            summary
                .failures
                .iter()
                .any(|failure| failure.contains("was killed"))
        );
        assert!(
            summary
                .failures
                .iter()
                .any(|failure| failure.contains("no readings"))
        );
        assert!(
            !summary
                .failures
                .iter()
                .any(|failure| failure.contains("lost"))
        );
    }
}
