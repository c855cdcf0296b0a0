//! Leases: who has them, and their numbers.

use std::collections::{BTreeMap, HashMap};

use super::{Violation, violation};
use crate::calls::{Leased, Lives, Seen};
use crate::history::History;
use crate::plan::SOLE;
use crate::record::{Event, NONE, lease};

/// I14: a lease has one holder, and a holder has one lease.
pub(crate) fn leases_have_one_holder(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut holders: HashMap<(u64, u64), &Leased> = HashMap::new();
    let mut numbers: HashMap<(u64, u64, u64, u64), &Leased> = HashMap::new();
    for look in &history.calls.leases {
        if let Seen::Listed { holders } = look.seen
            && holders > 1
        {
            found.push(violation(format!("several have it at a time: {look:?}")));
        }
        if !holds(look) {
            continue;
        }
        let other = *holders.entry((look.epoch, look.fence)).or_insert(look);
        if other.session != look.session {
            found.push(violation(format!("one lease of two: {other:?}, {look:?}")));
        }
        if let Seen::Own {
            sender, service, ..
        } = look.seen
        {
            let serving = (sender, service, look.epoch, look.session);
            let before = numbers.insert(serving, look).unwrap_or(look);
            // That it was lost may be lost itself. Then the SDK waits for it again, and between the two
            // another one had it.
            if look.fence != before.fence && look.fence < before.fence + 2 {
                found.push(violation(format!(
                    "two leases where there is one: {before:?}, {look:?}"
                )));
            }
        }
    }
    found
}

/// I14: the number of a lease is higher than that of each before it, in one epoch.
pub(crate) fn fences_grow(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let looks = history.calls.leases.iter().filter(|look| holds(look));
    let mut epochs: BTreeMap<u64, Vec<&Leased>> = BTreeMap::new();
    for look in looks {
        epochs.entry(look.epoch).or_default().push(look);
    }
    for looks in epochs.values() {
        // In the order in which they were over, with the highest so far.
        let mut highest: Vec<(u64, &Leased)> = Vec::new();
        for look in looks {
            let before = highest.last().map(|(_, look)| *look);
            let most = before.filter(|before| before.fence >= look.fence);
            highest.push((look.at, most.unwrap_or(look)));
        }
        for look in looks {
            let known = highest.partition_point(|(at, _)| *at < look.asked_at);
            let Some((_, before)) = known.checked_sub(1).map(|at| highest[at]) else {
                continue;
            };
            // Whoever has it may be seen to have it again.
            let same = before.fence == look.fence && before.session == look.session;
            if before.fence >= look.fence && !same {
                found.push(violation(format!(
                    "a later lease has no higher number: {before:?}, {look:?}"
                )));
            }
        }
    }
    found
}

/// I14: who has lost the lease is not asked any more.
pub(crate) fn holders_are_asked(history: &History) -> Vec<Violation> {
    let lives = Lives::new(&history.runner);
    let epochs = epochs(history);
    let mut newest: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    for look in history.calls.leases.iter().filter(|look| holds(look)) {
        let newest = newest.entry(look.epoch).or_default();
        let before = newest.last().map_or(0, |(_, fence)| *fence);
        newest.push((look.at, before.max(look.fence)));
    }
    let mut found = Vec::new();
    for (asked, executed) in history.calls.subjects() {
        for execution in executed.iter().filter(|it| it.place == SOLE) {
            let Some(asked_at) = asked.first().map(|first| first.at) else {
                continue;
            };
            let life = lives.only(asked_at, execution.at);
            let Some(known) = life
                .and_then(|life| epochs.get(life))
                .and_then(|epoch| newest.get(epoch))
            else {
                continue;
            };
            let before = known.partition_point(|(at, _)| *at < asked_at);
            let held = before.checked_sub(1).map_or(0, |at| known[at].1);
            if execution.fence.is_some_and(|fence| fence < held) {
                found.push(violation(format!(
                    "asked at {asked_at}, when another had lease {held}: {execution:?}"
                )));
            }
        }
    }
    found
}

/// I14: in the end one of those who want it has it.
pub(crate) fn the_lease_finds_its_heir(history: &History) -> Vec<Violation> {
    let looks = history.calls.leases.iter();
    let last = looks.filter_map(|look| match look.seen {
        Seen::Last { state } => Some((look, state)),
        _ => None,
    });
    let last: Vec<_> = last.collect();
    let holders = last.iter().filter(|(_, state)| *state == lease::HELD);
    let highest = history.calls.leases.iter().filter(|look| {
        let now = last.iter().any(|(last, _)| last.epoch == look.epoch);
        now && holds(look)
    });
    let highest = highest.map(|look| look.fence).max();
    let mut found = Vec::new();
    if !last.is_empty() && holders.clone().count() != 1 {
        let count = holders.clone().count();
        found.push(violation(format!("{count} have it in the end: {last:?}")));
    }
    for (look, _) in holders {
        if Some(look.fence) != highest {
            found.push(violation(format!(
                "an old lease counts in the end, {highest:?} is newer: {look:?}"
            )));
        }
    }
    found
}

fn holds(look: &Leased) -> bool {
    match look.seen {
        Seen::Own { state, .. } | Seen::Last { state } => state == lease::HELD,
        Seen::Listed { holders } => holders > 0 && look.fence != NONE,
    }
}

/// The epochs of the broker's lives, in order; none if not all of them were seen.
fn epochs(history: &History) -> Vec<u64> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for look in &history.calls.leases {
        seen.entry(look.epoch).or_insert(look.at);
    }
    let mut epochs: Vec<_> = seen.into_iter().map(|(epoch, at)| (at, epoch)).collect();
    epochs.sort_unstable();
    let ups = |event: &Event| matches!(event, Event::BrokerUp { .. });
    match history.count(ups) == epochs.len() as u64 {
        true => epochs.into_iter().map(|(_, epoch)| epoch).collect(),
        false => Vec::new(),
    }
}
