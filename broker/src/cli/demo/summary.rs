//! What the demo has shown, in numbers, and whether it is what it should have shown.

use std::fmt;
use std::time::Duration;

use localhub_client::admin::HubView;
use serde::{Serialize, Serializer};

use super::story::{Count, Story, brief};

/// The end of the demo.
#[derive(Serialize)]
pub(super) struct Summary {
    /// This process and all that it started.
    processes: usize,
    #[serde(rename = "run_us", serialize_with = "micros")]
    run: Duration,
    /// As the hub counts, and `localhub status` shows: joins and the like are messages, too.
    messages_in: u64,
    messages_out: u64,
    messages_lost: u64,
    readings_received: u64,
    broadcasts: Count,
    directs: Count,
    presence_changes: u64,
    /// From the kill of the sidecar until the observer saw it.
    #[serde(rename = "kill_seen_us", serialize_with = "micros_if_any")]
    kill_seen: Option<Duration>,
    /// From the start of the second sidecar until the observer saw it.
    #[serde(rename = "restart_seen_us", serialize_with = "micros_if_any")]
    restart_seen: Option<Duration>,
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
            messages_in: hub.messages_in,
            messages_out: hub.messages_out,
            messages_lost: hub.messages_lost,
            readings_received: story.readings_received,
            broadcasts: story.broadcasts,
            directs: story.directs,
            presence_changes: story.presence_changes,
            kill_seen: story.kill.as_ref().and_then(|kill| kill.seen_after),
            restart_seen: story
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
            processes,
            messages_in,
            messages_out,
            messages_lost,
            ..
        } = self;
        let Self {
            readings_received,
            broadcasts,
            directs,
            presence_changes,
            ..
        } = self;
        let Count { sent, received, .. } = broadcasts;
        let (kill_seen, restart_seen) = (seen(self.kill_seen), seen(self.restart_seen));
        let (p50, p99) = (brief(self.latency_p50), brief(self.latency_p99));
        let seconds = self.run.as_secs_f64();

        writeln!(
            f,
            "{processes} processes in {seconds:.1} s, all of them ended"
        )?;
        writeln!(
            f,
            "  messages     {messages_in} to the hub, {messages_out} from it, {messages_lost} lost"
        )?;
        writeln!(
            f,
            "  readings     {readings_received} received by the monitor"
        )?;
        writeln!(f, "  broadcasts   {sent} sent, {received} received")?;
        let Count {
            sent,
            refused,
            received,
        } = directs;
        writeln!(
            f,
            "  directs      {sent} sent, {received} received, {refused} refused"
        )?;
        writeln!(
            f,
            "  presence     {presence_changes} changes seen by the observer"
        )?;
        writeln!(f, "  kill -9      seen by the observer after {kill_seen}")?;
        writeln!(
            f,
            "  restart      seen by the observer after {restart_seen}"
        )?;
        write!(
            f,
            "  latency      p50 {p50}, p99 {p99} from process to process"
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
            kill.is_some_and(|kill| kill.seen_after.is_some()),
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
    after.map_or_else(|| "(never)".to_owned(), brief)
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
