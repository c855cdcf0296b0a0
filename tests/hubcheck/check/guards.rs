//! That enough happened for the invariants to mean something.

use super::tally::{tally, tally_of_values};
use crate::history::{History, Item};
use crate::record::{Event, welcome};

/// Something that has to happen in a run, and how often it did.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) what: &'static str,
    pub(crate) count: u64,
    /// How often it has to; 0 if it need not.
    pub(crate) least: u64,
}

/// What has to happen in a run of so many seconds, much less than usually does.
pub(crate) fn guards(history: &History, seconds: u64) -> Vec<Guard> {
    let welcomed = |kind: u64| {
        history.count(|event| matches!(event, Event::Welcomed { how, .. } if *how == kind))
    };
    let items = || history.streams.iter().flat_map(|stream| &stream.items);
    let refused = history.sent.values().filter(|sent| sent.is_refused());
    let confirmed = history.sent.values().filter(|sent| sent.is_ok());
    let scoped = items().filter(|item| {
        matches!(
            item,
            Item::Gap {
                scoped: true,
                lost: Some(_)
            }
        )
    });
    let unscoped = items().filter(|item| {
        matches!(
            item,
            Item::Gap {
                scoped: false,
                lost: Some(_)
            }
        )
    });
    let count = |what, count: u64, per_minute: u64| Guard {
        what,
        count,
        least: (per_minute * seconds / 60).max(per_minute.min(1)),
    };
    let event = |which: fn(&Event) -> bool| history.count(which);
    let mut guards = vec![
        count("messages sent", history.sent.len() as u64, 12_000),
        count("messages heard", items().count() as u64, 40_000),
        count("calls confirmed", confirmed.count() as u64, 1_500),
        count("calls refused", refused.count() as u64, 30),
        count("gaps of a channel", scoped.count() as u64, 6),
        count("gaps that a resume left", unscoped.count() as u64, 3),
        count("resumes, nothing lost", welcomed(welcome::RECOVERED), 24),
        count("resumes, some lost", welcomed(welcome::LOST), 3),
        count("sessions that were gone", welcomed(welcome::ANEW), 3),
        count(
            "connections fenced",
            event(|e| matches!(e, Event::Fenced { .. })),
            6,
        ),
        count(
            "clients killed",
            event(|e| matches!(e, Event::Killed { .. })),
            3,
        ),
        count(
            "clients stopped",
            event(|e| matches!(e, Event::Stopped { .. })),
            9,
        ),
        count(
            "connections cut",
            event(|e| matches!(e, Event::Cut { zombie: 0, .. })),
            30,
        ),
        count(
            "connections hindered",
            event(|e| matches!(e, Event::Hindered { .. })),
            9,
        ),
        count("floods", event(|e| matches!(e, Event::Flooded { .. })), 6),
        count(
            "kills of the broker",
            event(|e| matches!(e, Event::BrokerKilled { .. })),
            1,
        ),
        count(
            "samples of the broker",
            event(|e| matches!(e, Event::Sample { .. })),
            120,
        ),
    ];
    let others = tally(history).into_iter().chain(tally_of_values(history));
    guards.extend(others.map(|(what, times, per_minute)| count(what, times, per_minute)));
    guards
}
