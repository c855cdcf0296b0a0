//! What became of sessions: resumes, fences, presence.

use std::collections::{BTreeMap, BTreeSet};

use localhub_protocol::Code;

use super::{Violation, violation};
use crate::history::History;
use crate::plan::{OUTBOX_BYTES, OUTBOX_MESSAGES, PAYLOAD_BYTES, is_proxied, session_ttl};
use crate::record::{Event, NONE, ended, welcome};

/// What the broker may count for a message beside its payload.
const OVERHEAD_BYTES: u64 = 1_024;

/// How long the death of a process may go unnoticed. The promise is shorter; the machine is busy.
const DEATH_NS_MAX: u64 = 5_000_000_000;

/// For how long after the start of a broker its watchers may still say who of the old one is gone.
const SETTLED_NS: u64 = 4_000_000_000;

/// I10: who comes back in time finds the session, and everything that fits the window.
pub(crate) fn the_window_holds(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for record in &history.runner {
        let Event::Welcomed {
            client,
            how,
            away_ns,
            lost,
            replayed,
            messages,
            bytes,
            before,
        } = record.event
        else {
            continue;
        };
        let ttl = session_ttl(client).as_nanos() as u64;
        if how == welcome::ANEW && away_ns < ttl && before != NONE {
            found.push(violation(format!(
                "c{client} came back after {} of {} ms, and its session was gone: {record:?}",
                away_ns / 1_000_000,
                ttl / 1_000_000
            )));
        }
        let addressed = messages + replayed + lost;
        let most_bytes = bytes + (replayed + lost) * (PAYLOAD_BYTES as u64 + OVERHEAD_BYTES);
        if how == welcome::LOST
            && ![NONE, welcome::LOST].contains(&before)
            && addressed <= OUTBOX_MESSAGES
            && most_bytes + messages * OVERHEAD_BYTES <= OUTBOX_BYTES
        {
            found.push(violation(format!(
                "c{client} lost {lost} though only {addressed} messages were addressed to \
                         it since it was last welcomed: {record:?}"
            )));
        }
    }
    found
}

/// I15: a connection that was replaced is ended, and its client told why.
///
/// That nothing that came over it afterwards was carried out is seen by I2 and I6: it is carried
/// out a second time over the new connection.
pub(crate) fn who_is_replaced_is_fenced(history: &History) -> Vec<Violation> {
    const SUPERSEDED: u64 = Code::SUPERSEDED.0 as u64;
    let wrong = |told, how| match (told, how) {
        (_, ended::NOT) => Some("was not ended"),
        (SUPERSEDED, _) | (0, ended::RESET) => None,
        (0, _) => Some("was ended without a word"),
        _ => Some("was ended for another reason"),
    };
    let found = history.runner.iter().filter_map(|record| {
        let Event::Fenced {
            client,
            told,
            ended,
        } = record.event
        else {
            return None;
        };
        let what = wrong(told, ended)?;
        Some(violation(format!(
            "the older connection of c{client} {what}: {record:?}"
        )))
    });
    found.collect()
}

/// I16: events make sense one after the other, and in the end everybody has the same true view.
pub(crate) fn presence_is_true(history: &History) -> Vec<Violation> {
    const JOINED: u64 = 0;
    const LEFT: u64 = 1;
    let mut found = Vec::new();
    let ups = history.runner.iter();
    let ups = ups.filter(|record| matches!(record.event, Event::BrokerUp { .. }));
    let lives: Vec<u64> = ups.map(|record| record.at).collect();
    let truth: BTreeSet<(u64, u64)> = finals(history).map(|session| (session, 0)).collect();
    for (sender, records) in &history.told {
        let (mut left, mut life) = (BTreeSet::new(), 0);
        let mut views: BTreeMap<u64, BTreeSet<(u64, u64)>> = BTreeMap::new();
        for record in records {
            match record.event {
                Event::Session { .. } | Event::Final { .. } => {}
                Event::Change {
                    change, session, ..
                } => {
                    // A new life of the broker gives the same numbers to other sessions.
                    if let Some(at) = lives.iter().rev().find(|at| **at <= record.at) {
                        if *at != life {
                            left.clear();
                        }
                        life = *at;
                        if record.at - at < SETTLED_NS {
                            continue;
                        }
                    }
                    if change == LEFT && !left.insert(session) {
                        found.push(violation(format!(
                            "{sender:x} saw session {session} leave twice: {record:?}"
                        )));
                    }
                    if change == JOINED && left.contains(&session) {
                        found.push(violation(format!(
                            "{sender:x} saw session {session} come after it had left: {record:?}"
                        )));
                    }
                }
                Event::Viewed {
                    source,
                    session,
                    status,
                } => {
                    views.entry(source).or_default().insert((session, status));
                }
                _ => {}
            }
        }
        for (source, view) in views {
            if view != truth {
                let source = ["the hub lists", "events made"][usize::from(source == 1)];
                found.push(violation(format!(
                    "in the end {source} {view:?} for {sender:x}; the members are {truth:?}"
                )));
            }
        }
    }
    found
}

/// I16: when a process dies that the system can watch, all members are told soon.
pub(crate) fn deaths_are_told(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (sender, killed_at, told_after) in deaths(history) {
        if told_after.is_none_or(|after| after > DEATH_NS_MAX) {
            found.push(violation(format!(
                "process {sender:x} was killed at {killed_at}, others were told after {told_after:?} ns"
            )));
        }
    }
    found
}

/// The deaths that the broker could see at once, and after how long the auditor was told.
pub(crate) fn deaths(history: &History) -> Vec<(u64, u64, Option<u64>)> {
    const LEFT: u64 = 1;
    let auditor = history.told.get(&0).map_or(&[][..], |told| told);
    let broker_dies: Vec<u64> = history
        .runner
        .iter()
        .filter(|record| matches!(record.event, Event::BrokerKilled { .. }))
        .map(|record| record.at)
        .collect();
    let mut found = Vec::new();
    for record in &history.runner {
        let Event::Killed { sender } = record.event else {
            continue;
        };
        let Some(sessions) = history.sessions.get(&sender) else {
            continue; // It was killed before it had a session.
        };
        if is_proxied(crate::plan::client_of(sender)) {
            continue;
        }
        let near = |at: &u64| at.abs_diff(record.at) < DEATH_NS_MAX;
        if broker_dies.iter().any(near) {
            continue; // Whoever watched began anew, too.
        }
        let told_at = auditor.iter().find_map(|told| match told.event {
            Event::Change {
                change: LEFT,
                session,
                ..
            } if told.at > record.at && sessions.iter().any(|(_, id)| *id == session) => {
                Some(told.at)
            }
            _ => None,
        });
        found.push((sender, record.at, told_at.map(|at| at - record.at)));
    }
    found
}

/// The sessions at the end.
fn finals(history: &History) -> impl Iterator<Item = u64> {
    history
        .told
        .values()
        .flatten()
        .filter_map(|record| match record.event {
            Event::Final { session, .. } => Some(session),
            _ => None,
        })
}
