//! The goals that localhub was built to, and whether this run meets them.

use crate::plan::STORM_SESSIONS;
use crate::results::{Results, Spread, Work};

use super::{number, spread};

/// The sessions that the goals name.
const HELD: u64 = 19_900;

/// One line of the table.
struct Goal {
    work: &'static str,
    goal: &'static str,
    measured: Option<String>,
    met: Option<bool>,
}

/// The table of goals.
pub fn section(results: &Results) -> String {
    let mut table = String::from(
        "## Goals\n\nSet before the first line was written. A ratio is the median of the ratios of \
         each round.\n\n| work | goal | measured | |\n| --- | --- | --- | --- |\n",
    );
    for goal in goals(results) {
        let met = match goal.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        let measured = goal.measured.unwrap_or_else(|| "–".into());
        table += &format!("| {} | {} | {measured} | {met} |\n", goal.work, goal.goal);
    }
    table
}

fn goals(results: &Results) -> Vec<Goal> {
    let ratio = |work, x, broker, other| results.ratio(work, x, broker, other);
    let nats = |work, x| ratio(work, x, "localhub", "nats");
    vec![
        at_least(
            10.0,
            "64 B, 1→1, raw",
            "≥ 10 × nats-server",
            nats(Work::OneToOne, 64),
        ),
        at_least(
            8.0,
            "64 B, fan-out 8",
            "≥ 8 × nats-server",
            nats(Work::FanOut, 8),
        ),
        at_least(
            8.0,
            "64 B, fan-out 64",
            "≥ 8 × nats-server",
            nats(Work::FanOut, 64),
        ),
        at_least(
            4.0,
            "1 KiB, 1→1",
            "≥ 4 × nats-server",
            nats(Work::OneToOne, 1_024),
        ),
        at_most(
            1.3,
            "round trip on one core, raw, median",
            "≤ 1.3 × relay",
            ratio(Work::RoundTrip, 500, "localhub", "relay"),
        ),
        at_most(
            1.6,
            "round trip on one core, SDK, median",
            "≤ 1.6 × relay",
            ratio(Work::RoundTrip, 500, "localhub-sdk", "relay"),
        ),
        at_least(
            2.0,
            "64 B, 1→1, through the SDK",
            "≥ 2 × nats-server, raw",
            ratio(Work::OneToOne, 64, "localhub-sdk", "nats"),
        ),
        at_least(
            1.0,
            "1 MiB to 8 subscribers, sockets",
            "≥ relay",
            ratio(Work::LargeFanOut, 8, "localhub", "relay"),
        ),
        Goal {
            work: "1 MiB to 8 subscribers, shared memory",
            goal: "≥ 3 × relay",
            measured: Some("not built".into()),
            met: Some(false),
        },
        idle(results),
        held(results),
        storm(results),
    ]
}

fn at_least(least: f64, work: &'static str, goal: &'static str, ratio: Option<Spread>) -> Goal {
    compared(work, goal, ratio, |median| median >= least)
}

fn at_most(most: f64, work: &'static str, goal: &'static str, ratio: Option<Spread>) -> Goal {
    compared(work, goal, ratio, |median| median <= most)
}

fn compared(
    work: &'static str,
    goal: &'static str,
    ratio: Option<Spread>,
    is_met: impl Fn(f64) -> bool,
) -> Goal {
    Goal {
        work,
        goal,
        measured: ratio.map(|ratio| format!("{} ×", spread(ratio))),
        met: ratio.map(|ratio| is_met(ratio.median)),
    }
}

/// The memory of each session when most are held.
fn idle(results: &Results) -> Goal {
    const KIB_MAX: f64 = 4.0;
    let most = results.xs(Work::Memory).into_iter().max();
    let kib_of = |broker: &str| {
        let sessions = most?;
        let bytes = results.values(broker, Work::Memory, sessions)?;
        Some(bytes.scaled(1.0 / sessions as f64 / 1_024.0))
    };
    let ours = kib_of("localhub");
    let others = ["nats", "redis"].map(|name| {
        let kib = kib_of(name).map_or_else(|| "–".into(), |kib| number(kib.median));
        format!("{name} {kib}")
    });
    Goal {
        work: "idle session, broker RSS",
        goal: "≤ 4 KiB",
        measured: ours.map(|kib| format!("{} KiB ({})", spread(kib), others.join(", "))),
        met: ours.map(|kib| kib.median <= KIB_MAX),
    }
}

fn held(results: &Results) -> Goal {
    let xs = results.xs(Work::Memory).into_iter();
    let most = xs
        .filter(|x| results.values("localhub", Work::Memory, *x).is_some())
        .max();
    Goal {
        work: "idle sessions held",
        goal: "19,900",
        measured: most.map(|most| match most >= HELD {
            true => most.to_string(),
            false => format!("{most}, as many as the limit of open files allows"),
        }),
        met: most.map(|most| most >= HELD),
    }
}

fn storm(results: &Results) -> Goal {
    let took = results.values("localhub", Work::Storm, STORM_SESSIONS as u64);
    Goal {
        work: "9,900 sessions dropped and resumed",
        goal: "< 1 s",
        measured: took.map(|took| format!("{} s", spread(took))),
        met: took.map(|took| took.median < 1.0),
    }
}
