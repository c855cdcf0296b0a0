//! The broker's process, and the end of the run.

use super::{Violation, violation};
use crate::history::History;
use crate::plan::MEMORY_BYTES;
use crate::record::Event;

/// What the broker may have beside what it keeps for its clients.
const RSS_BASE_BYTES: u64 = 96 << 20;

/// Descriptors for each connection: the socket, and the process behind it.
const DESCRIPTORS_EACH: u64 = 2;

/// Descriptors that the broker has for itself, and connections that are not yet accepted or over.
const DESCRIPTORS_BASE: u64 = 64;

/// I18: memory and descriptors stay within what the limits allow.
pub(crate) fn the_broker_stays_small(history: &History) -> Vec<Violation> {
    let found = history.runner.iter().filter_map(|record| {
        let Event::Sample {
            rss,
            descriptors,
            connections,
        } = record.event
        else {
            return None;
        };
        let most = DESCRIPTORS_BASE + DESCRIPTORS_EACH * connections;
        let large = rss > RSS_BASE_BYTES + MEMORY_BYTES || descriptors > most;
        large.then(|| violation(format!("the broker is too large: {record:?}")))
    });
    found.collect()
}

/// I19: after the last fault all clients connect and finish, and the broker is as it was before.
pub(crate) fn faults_heal(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut ended = false;
    for record in &history.runner {
        match record.event {
            Event::Overdue { client, step } => {
                let step = ["start", "go quiet", "drain", "end"]
                    .get(step as usize)
                    .copied()
                    .unwrap_or("go on");
                found.push(violation(format!("c{client} did not {step} in time")));
            }
            Event::Idle {
                connected,
                parked,
                queued_bytes,
                requests,
                descriptors,
                descriptors_before,
            } => {
                // The one that asks is connected.
                if (connected, parked, queued_bytes) != (1, 0, 0) {
                    found.push(violation(format!("clients are left behind: {record:?}")));
                }
                if requests > 0 {
                    found.push(violation(format!("requests are left behind: {record:?}")));
                }
                if descriptors > descriptors_before {
                    found.push(violation(format!("descriptors are left open: {record:?}")));
                }
            }
            Event::Ended { code, socket_left } => {
                ended = true;
                if (code, socket_left) != (0, 0) {
                    found.push(violation(format!("the broker ended badly: {record:?}")));
                }
            }
            _ => {}
        }
    }
    if !ended {
        found.push(violation("the broker did not end when told to".to_owned()));
    }
    found
}
