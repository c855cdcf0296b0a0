//! What a run has shown, for people and for programs.

use std::env;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::shared::table::{Column, Table};
use super::super::shared::units::{bytes, count, full, short};
use super::hub::{About, Kind};
use super::tally::Percentiles;
use super::task::Way;

/// A run: what was measured, where, and what came out.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) machine: Machine,
    /// When it ended, UTC.
    pub(super) date: String,
    /// The command line, without its first word.
    pub(super) command: Vec<String>,
    pub(super) broker: About,
    pub(super) plan: Plan,
    pub(super) figures: Figures,
}

impl Outcome {
    pub(super) fn new(broker: About, plan: Plan, figures: Figures) -> Self {
        Self {
            machine: Machine::this(),
            date: OffsetDateTime::now_utc()
                .format(&Rfc3339)
                .unwrap_or_default(),
            command: env::args().skip(1).collect(),
            broker,
            plan,
            figures,
        }
    }

    /// What was measured, in one line.
    pub(super) fn headline(&self) -> String {
        let broker = match self.broker.kind {
            Kind::Private => "a private broker",
            Kind::Running => "the running broker",
        };
        format!(
            "{}; {broker} (localhub {}, pid {}); {}",
            self.plan.text(),
            self.broker.version,
            self.broker.pid,
            count(self.machine.processors, "processor"),
        )
    }

    /// The figures, in one row. Columns for trouble are there if there is any.
    pub(super) fn table(&self) -> Table {
        let cells = self.figures.cells();
        let columns: Vec<_> = cells
            .iter()
            .map(|(title, _)| Column::number(title))
            .collect();
        let mut table = Table::new(columns);
        table.row(cells.into_iter().map(|(_, cell)| cell));
        table
    }
}

/// What was asked for. What a workload does not have is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Plan {
    pub(super) workload: &'static str,
    /// Frames made in advance, instead of the SDK.
    pub(super) raw: bool,
    /// What makes a round trip.
    pub(super) way: Option<Way>,
    pub(super) size_bytes: Option<usize>,
    pub(super) publishers: Option<u64>,
    pub(super) subscribers: Option<u64>,
    pub(super) clients: Option<u64>,
    pub(super) sessions: Option<u64>,
    /// How often a second, all clients together; `None` is as fast as possible.
    pub(super) rate: Option<u64>,
    pub(super) seconds: Option<u64>,
}

impl Plan {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(size) = self.size_bytes {
            parts.push(bytes(size as u64));
        }
        let counts = [
            (self.publishers, "publisher"),
            (self.subscribers, "subscriber"),
            (self.clients, "client"),
            (self.sessions, "session"),
        ];
        parts.extend(
            counts
                .iter()
                .filter_map(|(number, noun)| Some(count((*number)?, noun))),
        );
        if let Some(seconds) = self.seconds {
            parts.push(match (self.rate, self.workload) {
                (Some(rate), _) => format!("{} a second for {seconds} s", full(rate)),
                (None, "latency") => format!("one in flight for {seconds} s"),
                (None, _) => format!("as fast as possible for {seconds} s"),
            });
        }
        let kind = match self.way {
            None | Some(Way::Request) => "",
            Some(Way::Command) => " as a command",
            Some(Way::Direct) => " as a direct message and one back",
            Some(Way::Status) => " to the broker itself",
        };
        let way = if self.raw { "raw frames" } else { "the SDK" };
        format!("{}{kind}: {}; {way}", self.workload, parts.join(", "))
    }
}

/// What came out. What a workload does not have is `None`; there is always what was lost.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Messages that were published, requests, connects.
    pub(super) sent: Option<u64>,
    pub(super) sent_per_s: Option<f64>,
    /// Messages that came to a subscriber, all subscribers together; replies.
    pub(super) received: Option<u64>,
    pub(super) received_per_s: Option<f64>,
    /// Payload that came, in bytes a second.
    pub(super) payload_bytes_per_s: Option<f64>,
    /// Sessions that were open at once, or are back.
    pub(super) sessions: Option<u64>,
    /// From the beginning until all sessions were there, or back.
    pub(super) all_sessions_ns: Option<u64>,
    /// The memory of the broker's process, before and with all sessions.
    pub(super) resident_before_bytes: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) resident_bytes_per_session: Option<f64>,
    /// Messages that were lost, as the broker and the SDK say.
    pub(super) lost: u64,
    /// Messages that are lost without a word: a bug.
    pub(super) missing: u64,
    /// What the broker refused.
    pub(super) refused: u64,
    /// Sessions that were gone in the end.
    pub(super) sessions_lost: u64,
    #[serde(flatten)]
    pub(super) latency: Option<Percentiles>,
}

impl Figures {
    fn cells(&self) -> Vec<(&'static str, String)> {
        let mut cells = Vec::new();
        let mut cell = |title, text: Option<String>| cells.extend(text.map(|text| (title, text)));
        cell("SENT", self.sent.map(short));
        cell("SENT/S", self.sent_per_s.map(rate));
        cell("RECEIVED", self.received.map(short));
        cell("RECEIVED/S", self.received_per_s.map(rate));
        cell(
            "PAYLOAD/S",
            self.payload_bytes_per_s.map(|rate| bytes(rate as u64)),
        );
        cell("SESSIONS", self.sessions.map(full));
        cell("ALL AFTER", self.all_sessions_ns.map(time_ns));
        cell("MEMORY BEFORE", self.resident_before_bytes.map(bytes));
        cell("MEMORY", self.resident_bytes.map(bytes));
        cell(
            "BYTES/SESSION",
            self.resident_bytes_per_session
                .map(|bytes| full(bytes as u64)),
        );
        cell("LOST", Some(full(self.lost)));
        let trouble = [
            ("MISSING", self.missing),
            ("REFUSED", self.refused),
            ("SESSIONS LOST", self.sessions_lost),
        ];
        for (title, number) in trouble {
            cell(title, (number > 0).then(|| full(number)));
        }
        if let Some(latency) = self.latency {
            cell("P50", Some(time_ns(latency.p50_ns)));
            cell("P99", Some(time_ns(latency.p99_ns)));
            cell("P99.9", Some(time_ns(latency.p99_9_ns)));
            cell("MAX", Some(time_ns(latency.max_ns)));
        }
        cells
    }
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) system: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) architecture: &'static str,
    pub(super) processor: Option<String>,
    pub(super) processors: u64,
    pub(super) memory_bytes: u64,
}

impl Machine {
    fn this() -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(what);
        let processors =
            std::thread::available_parallelism().map_or(1, |number| number.get() as u64);
        Self {
            system: System::long_os_version(),
            kernel: System::kernel_version(),
            architecture: env::consts::ARCH,
            processor: system.cpus().first().map(|cpu| cpu.brand().to_owned()),
            processors,
            memory_bytes: system.total_memory(),
        }
    }
}

/// How often a second, in few columns.
fn rate(per_s: f64) -> String {
    match per_s {
        0.0..10_000.0 => format!("{per_s:.0}"),
        10_000.0..1_000_000.0 => format!("{:.1}k", per_s / 1e3),
        _ => format!("{:.2}M", per_s / 1e6),
    }
}

/// A time in the unit that suits it: `850 ns`, `14.2 us`, `3.41 ms`, `1.20 s`.
fn time_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let broker = About {
            kind: Kind::Private,
            version: "1.2.3".into(),
            pid: 4711,
            endpoint: "/run/hub.sock".into(),
        };
        let plan = Plan {
            workload: "throughput",
            size_bytes: Some(64),
            publishers: Some(1),
            subscribers: Some(2),
            rate: Some(10_000),
            seconds: Some(3),
            ..Plan::default()
        };
        let figures = Figures {
            sent: Some(30_000),
            sent_per_s: Some(10_000.0),
            received: Some(60_000),
            received_per_s: Some(19_999.6),
            payload_bytes_per_s: Some(1_279_974.4),
            latency: Some(Percentiles {
                p50_ns: 850,
                p99_ns: 14_210,
                p99_9_ns: 3_410_000,
                max_ns: 1_200_000_000,
            }),
            ..Figures::default()
        };
        Outcome {
            machine: Machine {
                processors: 2,
                ..Machine::this()
            },
            ..Outcome::new(broker, plan, figures)
        }
    }

    #[test]
    fn people_get_one_line_about_the_run_and_one_row() {
        let outcome = outcome();
        assert_eq!(
            outcome.headline(),
            "throughput: 64 B, 1 publisher, 2 subscribers, 10,000 a second for 3 s; the SDK; \
             a private broker (localhub 1.2.3, pid 4711); 2 processors"
        );
        let expected = "\
SENT  SENT/S  RECEIVED  RECEIVED/S  PAYLOAD/S  LOST     P50      P99    P99.9     MAX
 30k   10.0k       60k       20.0k    1.2 MiB     0  850 ns  14.2 us  3.41 ms  1.20 s";
        assert_eq!(outcome.table().fitted(None).0.to_string(), expected);
    }

    #[test]
    fn trouble_has_columns_of_its_own() {
        let figures = Figures {
            lost: 1_000,
            missing: 1,
            refused: 2,
            ..Figures::default()
        };
        let titles: Vec<_> = figures.cells().into_iter().collect();
        assert_eq!(
            titles,
            [
                ("LOST", "1,000".to_owned()),
                ("MISSING", "1".into()),
                ("REFUSED", "2".into())
            ]
        );
    }

    #[test]
    fn programs_get_everything_with_units_in_the_names() {
        let json = serde_json::to_value(outcome()).unwrap();
        assert_eq!(json["figures"]["received"], 60_000);
        assert_eq!(json["figures"]["p99_9_ns"], 3_410_000);
        assert_eq!(json["figures"]["lost"], 0);
        assert_eq!(json["figures"]["missing"], 0);
        assert_eq!(json["broker"]["kind"], "private");
        assert_eq!(json["plan"]["raw"], false);
        assert!(json["machine"]["memory_bytes"].as_u64().unwrap() > 0);
        assert!(OffsetDateTime::parse(json["date"].as_str().unwrap(), &Rfc3339).is_ok());
    }

    #[test]
    fn figures_are_short_and_exact_enough() {
        for (per_s, text) in [
            (0.4, "0"),
            (9_999.0, "9999"),
            (12_345.6, "12.3k"),
            (3_456_789.0, "3.46M"),
        ] {
            assert_eq!(rate(per_s), text);
        }
    }
}
