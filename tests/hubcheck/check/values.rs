//! The board: its values, who may change them, and how they end.

use std::collections::{BTreeMap, HashMap};

use localhub_protocol::Code;

use super::{Violation, violation};
use crate::calls::Lives;
use crate::history::History;
use crate::plan::{BRIEF, MINE, client_of};
use crate::record::Event;
use crate::values::{Key, Put, Seen, Value};

const VERSION_CONFLICT: u64 = Code::VERSION_CONFLICT.0 as u64;

/// How much too early a value may end: the broker looks at the clock before it reads, and the machine is busy.
const EARLY_NS: u64 = 250_000_000;

/// What was begun so long before something else may still be carried out after it.
const FOLLOW_NS: u64 = 120_000_000_000;

/// A step of a counter: its topic, the line of values, and the place in it.
type Step = (u64, u64, u64);

fn step(put: &Put) -> Step {
    (put.topic, put.line, put.count)
}

/// I20: what is seen was set, in this topic, once, and was not refused.
pub(crate) fn values_are_what_was_set(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let mut found = Vec::new();
    for (viewer, seen) in values.seen() {
        let Some(value) = seen.value else { continue };
        let put = values.put.get(&value.key);
        let place = (value.epoch, value.version);
        let what = match put {
            None => "nobody set",
            Some(put) if put.topic != seen.topic || put.deletes => "was set elsewhere",
            Some(put) if put.at > seen.at => "was not set yet",
            Some(put) if put.is_refused() => "was refused",
            Some(put) if values.version(put) != Some(value.version) => "has another version",
            Some(_) if values.places.get(&value.key) != Some(&place) => "was set twice",
            Some(_) => continue,
        };
        found.push(violation(format!(
            "{viewer:x} sees what {what}: {seen:?}, {put:?}"
        )));
    }
    found
}

/// I20: of those who change a value under the condition that it is what they know, one does.
pub(crate) fn versions_are_replaced_once(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let mut found = Vec::new();
    let mut steps: HashMap<Step, &Put> = HashMap::new();
    let mut may_be: HashMap<Step, &Put> = HashMap::new();
    for put in values.put.values().filter(|put| put.is_counter()) {
        if !put.is_refused() && !put.deletes {
            may_be.insert(step(put), put);
        }
    }
    for put in values.done().filter(|put| put.is_counter()) {
        if let Some(other) = steps.insert(step(put), put) {
            found.push(violation(format!(
                "two changed the same value: {other:?}, {put:?}"
            )));
        }
    }
    for put in steps.values() {
        let (topic, line, count) = step(put);
        let Some(before) = count.checked_sub(1) else {
            continue;
        };
        let version = values.version(put);
        let known = steps.get(&(topic, line, before));
        let expected = known.and_then(|before| values.version(before));
        let wrong = match known {
            _ if !may_be.contains_key(&(topic, line, before)) => "there never was",
            Some(before) if before.deletes => "was deleted",
            Some(_) if expected.is_some() && expected != put.expect => "was of another version",
            _ if version <= put.expect => "is not older",
            _ => continue,
        };
        found.push(violation(format!(
            "a value was changed that {wrong}: {put:?}, {known:?}"
        )));
    }
    found
}

/// I20: who is told that a value is not what he thinks thought so of one that somebody changed.
pub(crate) fn conflicts_have_a_cause(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let lives = Lives::new(&history.runner);
    let mut changed: HashMap<Step, Vec<Key>> = HashMap::new();
    let mut set: HashMap<Step, u64> = HashMap::new();
    for put in values.put.values().filter(|put| put.is_counter()) {
        if !put.is_refused() {
            changed.entry(step(put)).or_default().push(put.key);
            set.insert(step(put), put.at);
        }
    }
    let conflicts = values.put.values().filter(|put| {
        let code = put.over.map(|over| over.code);
        put.is_counter() && put.is_refused() && code == Some(VERSION_CONFLICT)
    });
    let mut found = Vec::new();
    for put in conflicts {
        let (topic, line, count) = step(put);
        // Who thinks that there is nothing may have missed a whole line.
        let Some(before) = count.checked_sub(1) else {
            continue;
        };
        let (Some(over), Some(set)) = (put.over, set.get(&(topic, line, before))) else {
            continue;
        };
        // With the broker its values are gone.
        if lives.only(*set, over.at).is_some() && !changed.contains_key(&step(put)) {
            found.push(violation(format!(
                "refused for a value that nobody changed: {put:?}"
            )));
        }
    }
    found
}

/// I20: a value is there until it is changed, its time is over, or its owner is gone; and no longer.
pub(crate) fn values_last_as_long_as_they_should(history: &History) -> Vec<Violation> {
    let mut found = counters_stay(history);
    found.extend(times_are_kept(history));
    found.extend(owned_ends_with_its_owner(history));
    found
}

/// Nothing ends a counter but who deletes it; and its last value is the newest one.
fn counters_stay(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let mut found = Vec::new();
    let Some(last) = values.last() else {
        return found;
    };
    let epochs = history.told.values().flatten();
    let epoch = epochs
        .filter_map(|record| match record.event {
            Event::Final { epoch, .. } => Some(epoch),
            _ => None,
        })
        .next();
    // The oldest version that was seen of a line, and its last step.
    let mut spans: HashMap<(u64, u64, u64), (u64, u64)> = HashMap::new();
    for put in values.done().filter(|put| put.is_counter() && !put.deletes) {
        let Some((epoch, version)) = values.places.get(&put.key) else {
            continue;
        };
        let line = (put.topic, *epoch, put.line);
        let span = spans.entry(line).or_insert((*version, put.count));
        *span = (span.0.min(*version), span.1.max(put.count));
    }
    // By topic and epoch, the lines in the order in which they began.
    let mut lines: BTreeMap<(u64, u64), BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
    for ((topic, epoch, line), (version, count)) in spans {
        let lines = lines.entry((topic, epoch)).or_default();
        lines.insert(version, (line, count));
    }
    let may_be_deleted = |topic: u64, line: u64| {
        let mut puts = values.put.values();
        puts.any(|put| put.deletes && (put.topic, put.line) == (topic, line) && !put.is_refused())
    };
    for ((topic, of), lines) in &lines {
        let kept = last.topics.iter().find(|(of, _)| of == topic);
        let kept = kept.and_then(|(_, key)| values.put.get(key));
        let mut rest = lines.values().rev();
        let Some((line, count)) = rest.next() else {
            continue;
        };
        for (line, count) in rest.filter(|(line, _)| !may_be_deleted(*topic, *line)) {
            found.push(violation(format!(
                "counter {topic} began anew in epoch {of:016x}, and nobody deleted it at {count} of \
                 line {line:x}"
            )));
        }
        if Some(*of) != epoch {
            continue;
        }
        let stays = match kept {
            Some(kept) if kept.line == *line => kept.count >= *count,
            _ => may_be_deleted(*topic, *line),
        };
        if !stays {
            found.push(violation(format!(
                "counter {topic} was at {count} of line {line:x}, and in the end there is {kept:?}"
            )));
        }
    }
    found
}

/// A value with a time is there that long, unless it is set again.
fn times_are_kept(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let lives = Lives::new(&history.runner);
    let mut found = Vec::new();
    let mut timed: HashMap<u64, Vec<&Put>> = HashMap::new();
    for put in values.put.values().filter(|put| put.ttl_ms.is_some()) {
        timed.entry(put.topic).or_default().push(put);
    }
    for seen in values.maps.values() {
        let mut there: HashMap<u64, &Put> = HashMap::new();
        for change in seen {
            let put = change.value.and_then(|value| values.put.get(&value.key));
            let before = match put {
                Some(put) => there.insert(change.topic, put),
                None => there.remove(&change.topic),
            };
            let all = timed.get(&change.topic);
            if let (None, Some(before), Some(all)) = (put, before, all)
                && lives.only(before.at, change.at).is_some()
                && change.at + EARLY_NS < first_end(all, before)
            {
                found.push(violation(format!(
                    "gone before its time: {change:?}, {before:?}"
                )));
            }
        }
    }
    if let Some(last) = values.last() {
        for (topic, key) in last.topics.iter().filter(|(topic, _)| *topic >= BRIEF) {
            found.push(violation(format!(
                "topic {topic} is there in the end, and has its time: {key:x?}"
            )));
        }
    }
    found
}

/// The first time at which a value, or one that may have followed it unseen, may be gone.
fn first_end(all: &[&Put], value: &Put) -> u64 {
    let since = value.at.saturating_sub(FOLLOW_NS);
    let first = all.partition_point(|put| put.at < since);
    let may_follow = all[first..].iter().filter(|put| {
        let over = put.over.map_or(u64::MAX, |over| over.at);
        put.key == value.key || over > value.at && !put.is_refused()
    });
    let ends = may_follow.filter_map(|put| Some(put.at + put.ttl_ms? * 1_000_000));
    ends.min().unwrap_or(0)
}

/// What a client owns is there as long as it is in the channel.
fn owned_ends_with_its_owner(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let mut found = Vec::new();
    let Some(last) = values.last() else {
        return found;
    };
    let none = Vec::new();
    for (sender, told) in &history.told {
        let session = told.iter().find_map(|record| match record.event {
            Event::Final { epoch, session } => Some((epoch, session)),
            _ => None,
        });
        let topic = MINE + client_of(*sender);
        let kept = last.topics.iter().find(|(of, _)| *of == topic);
        let kept = kept.map(|(_, key)| *key);
        let left = values.left.get(sender).unwrap_or(&none);
        let all = (*sender, 0)..=(*sender, u64::MAX);
        let mine = values.put.range(all).map(|(_, put)| put);
        let mine: Vec<&Put> = mine.filter(|put| put.topic == topic).collect();
        let Some(session) = session else {
            // It did not live to the end.
            if kept.is_some_and(|(by, _)| by == *sender) {
                found.push(violation(format!(
                    "what process {sender:x} owned is there after its death: {kept:x?}"
                )));
            }
            continue;
        };
        let before = mine.iter().find(|put| Some(put.key) == kept);
        if let Some(over) = before.and_then(|put| put.over)
            && (left.iter().any(|left| over.at < *left)
                || over.session.is_some_and(|of| of != session))
        {
            found.push(violation(format!(
                "what process {sender:x} owned is there after it left ({left:?}): {before:?}"
            )));
        }
        let stays = mine.iter().rev().find(|put| {
            let here = put.over.and_then(|over| over.session) == Some(session);
            put.is_ok() && here && left.iter().all(|left| *left < put.at)
        });
        if let Some(stays) = stays
            && kept.is_none_or(|(by, _)| by != *sender)
        {
            found.push(violation(format!(
                "what process {sender:x} owns is not there: {stays:?}"
            )));
        }
    }
    found
}

/// I20: a map never goes back, and in the end all of them are what the hub lists.
pub(crate) fn maps_are_true(history: &History) -> Vec<Violation> {
    let values = &history.values;
    let mut found = Vec::new();
    for ((viewer, map), seen) in &values.maps {
        let mut newest: HashMap<(u64, u64), (&Seen, Value)> = HashMap::new();
        for change in seen {
            let Some(value) = change.value else { continue };
            let before = newest.insert((change.topic, value.epoch), (change, value));
            if let Some((before, older)) = before
                && older.version >= value.version
            {
                found.push(violation(format!(
                    "map {map} of {viewer:x} goes back: {change:?} after {before:?}"
                )));
            }
        }
    }
    let Some(truth) = values.last() else {
        return found;
    };
    for kept in &values.kept {
        let whole = kept.values == kept.topics.len() as u64;
        if kept.topics != truth.topics || !whole {
            let source = ["the hub lists", "a map has"][usize::from(kept.source == 1)];
            found.push(violation(format!(
                "in the end {source} {:x?} for {:x}; there is {:x?}",
                kept.topics, kept.sender, truth.topics
            )));
        }
    }
    found
}
