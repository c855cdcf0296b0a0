//! Each message for itself, and in its order.

use std::collections::{HashMap, HashSet};

use super::{Violation, violation};
use crate::history::{History, Key};
use crate::plan::client_of;
use crate::record::{BY_NAME, DIRECT};

/// I1: whatever is heard was sent before, by the client shown, to this place, with these bytes.
pub(crate) fn nothing_is_invented(history: &History) -> Vec<Violation> {
    let mut owners = HashMap::new();
    for (sender, sessions) in &history.sessions {
        owners.extend(sessions.iter().map(|session| (*session, *sender)));
    }
    let mut found = Vec::new();
    for stream in &history.streams {
        for heard in stream.heard() {
            let Some(sent) = history.sent.get(&heard.key) else {
                found.push(violation(format!(
                    "nobody sent {heard:?}, heard by {}",
                    stream.name()
                )));
                continue;
            };
            let owner = owners.get(&(stream.epoch, heard.session));
            let place = match stream.is_direct() {
                true if sent.to & BY_NAME != 0 => {
                    sent.channel == DIRECT && sent.to & !BY_NAME == client_of(stream.sender)
                }
                true => sent.channel == DIRECT && sent.to == stream.session,
                false => sent.channel == stream.channel && stream.wants(heard.key, heard.topic),
            };
            let wrong = [
                (sent.at > heard.at, "before it was sent"),
                (sent.hash != heard.hash, "with other bytes"),
                (sent.topic != heard.topic, "with another topic"),
                (!place, "in a place it was not sent to"),
                (
                    owner.is_some_and(|owner| *owner != heard.key.0),
                    "from somebody else",
                ),
            ];
            for (_, what) in wrong.iter().filter(|(wrong, _)| *wrong) {
                found.push(violation(format!(
                    "heard {what} by {}: {heard:?} of {sent:?}",
                    stream.name()
                )));
            }
        }
    }
    found
}

/// I2: no stream has a message twice, whatever became of its connections.
pub(crate) fn nothing_comes_twice(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in &history.streams {
        let mut seen: HashMap<Key, u64> = HashMap::new();
        for heard in stream.heard() {
            if let Some(before) = seen.insert(heard.key, heard.offset) {
                found.push(violation(format!(
                    "{:?} came at offset {before} and again at {} to {}",
                    heard.key,
                    heard.offset,
                    stream.name()
                )));
            }
        }
    }
    found
}

/// I6: an offset of a channel is one message for all, and a message has one offset, in one epoch.
pub(crate) fn offsets_agree(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut places = HashMap::new();
    for ((epoch, channel), row) in &history.rows {
        for (offset, key) in row {
            let place = (*epoch, *channel, *offset);
            if let Some(other) = places.insert(*key, place) {
                found.push(violation(format!(
                    "{key:?} has two places (epoch, channel, offset): {other:x?} and {place:x?}"
                )));
            }
        }
    }
    for stream in history.streams.iter().filter(|stream| !stream.is_direct()) {
        let row = &history.rows[&(stream.epoch, stream.channel)];
        for heard in stream.heard() {
            let key = row[&heard.offset];
            if key != heard.key {
                found.push(violation(format!(
                    "offset {} is {key:?} for others and {:?} for {}",
                    heard.offset,
                    heard.key,
                    stream.name()
                )));
            }
        }
    }
    found
}

/// I8: the messages of one sender come in the order of its calls.
pub(crate) fn senders_keep_their_order(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for stream in &history.streams {
        let mut last: HashMap<u64, u64> = HashMap::new();
        for heard in stream.heard() {
            let (sender, number) = heard.key;
            let before = last.insert(sender, number);
            if let Some(before) = before.filter(|before| *before >= number) {
                found.push(violation(format!(
                    "{number} of sender {sender:x} came after {before} to {}",
                    stream.name()
                )));
            }
        }
    }
    found
}

/// I9: if one call was confirmed before another began, its message has the lower offset.
pub(crate) fn calls_in_turn_keep_their_order(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for row in history.rows.values() {
        // The call with a higher offset that was confirmed first.
        let mut first: Option<(u64, Key)> = None;
        for (offset, key) in row.iter().rev() {
            let Some(sent) = history.sent.get(key) else {
                continue;
            };
            if let Some((done, other)) = first.filter(|(done, _)| *done < sent.at) {
                found.push(violation(format!(
                    "{other:?} was confirmed at {done}, {key:?} was called at {} and is at the \
                     lower offset {offset}",
                    sent.at
                )));
            }
            if let (true, Some((done, _))) = (sent.is_ok(), sent.done)
                && first.is_none_or(|(first, _)| done < first)
            {
                first = Some((done, *key));
            }
        }
    }
    found
}

/// I11: nobody hears what was refused.
pub(crate) fn refused_is_refused(history: &History) -> Vec<Violation> {
    let refused: HashSet<Key> = history
        .sent
        .iter()
        .filter_map(|(key, sent)| sent.is_refused().then_some(*key))
        .collect();
    let mut found = Vec::new();
    for stream in &history.streams {
        for heard in stream.heard().filter(|heard| refused.contains(&heard.key)) {
            found.push(violation(format!(
                "{:?} was refused and heard by {}",
                heard.key,
                stream.name()
            )));
        }
    }
    found
}
