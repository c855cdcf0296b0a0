//! Streams against the channel as a whole: what is missing, and what was told about it.

use std::collections::{HashMap, HashSet};

use super::{Violation, violation};
use crate::history::{History, Item, Key, Sent, Stream};
use crate::plan::client_of;
use crate::record::{BY_NAME, DIRECT};

/// What lies between two messages of a stream that follow each other.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// The offsets that do not belong to it any more, below and above.
    between: (u64, u64),
    /// How many messages are certainly missing, and how many more may be: nobody heard those, so
    /// nobody knows their topic.
    missing: u64,
    unheard: u64,
    /// How many the gaps in this place say are lost.
    told: u64,
    /// Whether messages from elsewhere may be among those.
    inexact: bool,
}

/// I3 and I5: whatever is missing in a stream was told, in the place where it is missing.
pub(crate) fn nothing_is_silent(history: &History) -> Vec<Violation> {
    over_intervals(history, |interval| interval.missing > interval.told)
}

/// I4: a gap of a channel does not say more than is missing in its place.
pub(crate) fn gaps_are_honest(history: &History) -> Vec<Violation> {
    over_intervals(history, |interval| {
        !interval.inexact && interval.told > interval.missing + interval.unheard
    })
}

/// I7: offsets ascend.
pub(crate) fn channels_keep_their_order(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in history.streams.iter().filter(|stream| !stream.is_direct()) {
        let mut last = None;
        for heard in stream.heard() {
            if let Some(before) = last.filter(|before| *before >= heard.offset) {
                found.push(violation(format!(
                    "offset {} came after {before} to {}",
                    heard.offset,
                    stream.name()
                )));
            }
            last = Some(heard.offset);
        }
    }
    found
}

/// I5: of what was confirmed while a stream was open, it misses no more than it was told.
///
/// This needs no offsets, so it holds for direct messages, and for messages that nobody heard.
pub(crate) fn confirmed_is_delivered_or_told(history: &History) -> Vec<Violation> {
    let mut calls: HashMap<u64, Vec<(Key, &Sent, u64)>> = HashMap::new();
    for (key, sent) in &history.sent {
        if let (true, Some((done, _))) = (sent.is_ok(), sent.done) {
            let calls = calls.entry(sent.channel).or_default();
            calls.push((*key, sent, done));
        }
    }
    for calls in calls.values_mut() {
        calls.sort_by_key(|(_, sent, _)| sent.at);
    }
    let mut found = Vec::new();
    for stream in &history.streams {
        let Some((asked_at, _)) = stream.end else {
            continue; // It ended with its session or process: nobody knows how far it was.
        };
        let calls = calls.get(&stream.channel).map_or(&[][..], |calls| calls);
        let from = calls.partition_point(|(_, sent, _)| sent.at <= stream.opened_at);
        let heard: HashSet<Key> = stream.heard().map(|heard| heard.key).collect();
        let missing: Vec<_> = calls[from..]
            .iter()
            .take_while(|(_, sent, _)| sent.at < asked_at)
            .filter(|(key, sent, done)| {
                *done < asked_at && is_for(stream, *key, sent) && !heard.contains(key)
            })
            .collect();
        if missing.len() as u64 > stream.lost() {
            found.push(violation(format!(
                "{} misses {} messages that were confirmed, and was told of {}; the first: {:?}",
                stream.name(),
                missing.len(),
                stream.lost(),
                missing[0]
            )));
        }
    }
    found
}

fn is_for(stream: &Stream, key: Key, sent: &Sent) -> bool {
    if sent.channel != DIRECT {
        return stream.wants(key, sent.topic);
    }
    match sent.to & BY_NAME {
        0 => sent.to == stream.session,
        _ => sent.to & !BY_NAME == client_of(stream.sender),
    }
}

fn over_intervals(history: &History, wrong: impl Fn(&Interval) -> bool) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in history.streams.iter().filter(|stream| !stream.is_direct()) {
        for interval in intervals(history, stream).iter().filter(|i| wrong(i)) {
            let (low, high) = interval.between;
            let Interval {
                missing,
                unheard,
                told,
                ..
            } = interval;
            found.push(violation(format!(
                "{} misses {missing} (and perhaps {unheard} that nobody heard) between the offsets \
                 {low} and {high}, and was told of {told}",
                stream.name()
            )));
        }
    }
    found
}

fn intervals(history: &History, stream: &Stream) -> Vec<Interval> {
    let mut found = Vec::new();
    // In the first one, gaps may be of what came between the subscription and `start`.
    let (mut last, mut told, mut inexact) = (stream.start, 0, true);
    let mut add = |last: u64, next: u64, told, inexact| {
        if next > last {
            let (missing, unheard) = expected(history, stream, last, next);
            found.push(Interval {
                between: (last, next),
                missing,
                unheard,
                told,
                inexact,
            });
        }
    };
    for item in &stream.items {
        match *item {
            Item::Gap { lost: None, .. } => return found,
            Item::Gap {
                lost: Some(lost),
                scoped,
            } => {
                told += lost;
                inexact |= !scoped;
            }
            Item::Message(heard) => {
                add(last, heard.offset, told, inexact);
                (last, told, inexact) = (heard.offset, 0, false);
            }
        }
    }
    if let Some((_, end)) = stream.end {
        // Behind `end` it was read on, as far as there was something: gaps may be from there, too.
        add(last, end + 1, told, true);
    }
    found
}

/// How many messages strictly between two offsets belong into a stream, and how many may.
fn expected(history: &History, stream: &Stream, low: u64, high: u64) -> (u64, u64) {
    let all = high - low - 1;
    if all == 0 {
        return (0, 0);
    }
    let Some(row) = history.rows.get(&(stream.epoch, stream.channel)) else {
        return (0, all);
    };
    let (mut known, mut wanted) = (0, 0);
    for key in row.range(low + 1..high).map(|(_, key)| *key) {
        known += 1;
        let sent = history.sent.get(&key);
        wanted += u64::from(sent.is_some_and(|sent| stream.wants(key, sent.topic)));
    }
    // Who takes every topic of a channel without broadcasts misses what nobody heard, too.
    if stream.filter == 0 {
        return (wanted + all - known, 0);
    }
    (wanted, all - known)
}
