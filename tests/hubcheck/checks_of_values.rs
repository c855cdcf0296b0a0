//! The checks of the board, as in `checks.rs`.

use localhub_protocol::Code;

use crate::plan::{BRIEF, MINE};
use crate::record::{Event, NONE, outcome};
use crate::story::{EPOCH, LISTENERS, SENDER};
use crate::tale::Tale;

/// A line of values of counter 0.
const LINE: u64 = 0x11;

/// Another process that sets values.
const OTHER: u64 = LISTENERS[0];

const SECOND: u64 = 1_000_000_000;

/// A change that is to be made.
fn put(number: u64, count: u64, expect: u64) -> Event {
    Event::Put {
        number,
        topic: 0,
        line: LINE,
        count,
        expect,
        deletes: 0,
        ttl_ms: NONE,
        owned: 0,
    }
}

fn stored(number: u64, version: u64) -> Event {
    Event::PutOver {
        number,
        outcome: outcome::OK,
        code: NONE,
        version,
        epoch: EPOCH,
        session: SENDER >> 32,
    }
}

fn conflict(number: u64) -> Event {
    Event::PutOver {
        number,
        outcome: outcome::REFUSED,
        code: Code::VERSION_CONFLICT.0.into(),
        version: NONE,
        epoch: NONE,
        session: NONE,
    }
}

/// What a map shows: the topic, who set it, and the version.
fn set(topic: u64, key: (u64, u64), version: u64) -> Event {
    Event::Set {
        map: 0,
        topic,
        sender: key.0,
        number: key.1,
        version,
        epoch: EPOCH,
    }
}

fn unset(topic: u64) -> Event {
    Event::Unset { map: 0, topic }
}

impl Tale {
    /// A counter is begun (number 0) and changed (number 1), and the other process sees that.
    fn counted() -> Self {
        Self::empty()
            .with(SENDER, 100, put(0, 0, 0))
            .with(SENDER, 110, stored(0, 5))
            .with(SENDER, 120, put(1, 1, 5))
            .with(SENDER, 130, stored(1, 8))
            .with(OTHER, 125, set(0, (SENDER, 0), 5))
            .with(OTHER, 135, set(0, (SENDER, 1), 8))
    }

    /// The other process changes the counter.
    fn counts(self, time: u64, put: Event, over: Event) -> Self {
        self.with(OTHER, time, put).with(OTHER, time + 5, over)
    }

    /// A process says what there is in the end.
    fn keeps(self, viewer: u64, source: u64, values: &[(u64, (u64, u64))]) -> Self {
        let count = values.len() as u64;
        let board = Event::Board {
            source,
            values: count,
        };
        let kept = values.iter().map(|(topic, key)| Event::Kept {
            source,
            topic: *topic,
            sender: key.0,
            number: key.1,
            version: 1,
        });
        kept.fold(self.with(viewer, 8_000, board), |tale, kept| {
            tale.with(viewer, 8_000, kept)
        })
    }

    /// Something of the one client's own: set under a topic, for a time or as long as it is there.
    fn puts(self, time: u64, topic: u64, ttl_ms: u64, owned: u64) -> Self {
        let put = Event::Put {
            number: 7,
            topic,
            line: NONE,
            count: 0,
            expect: NONE,
            deletes: 0,
            ttl_ms,
            owned,
        };
        self.with(SENDER, time, put)
            .with(SENDER, time + 5, stored(7, 9))
    }
}

#[test]
fn good_values_pass() {
    let tale = Tale::counted()
        .counts(140, put(0, 2, 8), stored(0, 9))
        .with(OTHER, 150, set(0, (OTHER, 0), 9))
        .keeps(OTHER, 0, &[(0, (OTHER, 0))])
        .keeps(OTHER, 1, &[(0, (OTHER, 0))]);
    assert_eq!(tale.breaks(), [""; 0]);
}

#[test]
fn a_value_that_nobody_set_is_seen() {
    let sees = |time, event| Tale::counted().with(OTHER, time, event).breaks();
    assert_eq!(sees(140, set(0, (SENDER, 2), 9)), ["I20"]);
    assert_eq!(sees(140, set(0, (NONE, NONE), 9)), ["I20"], "strange bytes");
    assert_eq!(sees(140, set(1, (SENDER, 1), 8)), ["I20"], "elsewhere");
    assert_eq!(sees(140, set(0, (SENDER, 1), 9)), ["I20"], "twice");
    let early = Tale::empty()
        .with(OTHER, 90, set(0, (SENDER, 0), 5))
        .with(SENDER, 100, put(0, 0, 0))
        .with(SENDER, 110, stored(0, 5));
    assert_eq!(early.breaks(), ["I20"], "before it was set");
    let refused = Tale::counted().counts(122, put(0, 1, 5), conflict(0)).with(
        OTHER,
        150,
        set(0, (OTHER, 0), 9),
    );
    assert_eq!(refused.breaks(), ["I20"], "though it was refused");
}

#[test]
fn a_lost_update_is_seen() {
    let both = Tale::counted().counts(122, put(0, 1, 5), stored(0, 9));
    assert_eq!(both.breaks(), ["I20"]);
    let one = Tale::counted().counts(122, put(0, 1, 5), conflict(0));
    assert_eq!(one.breaks(), [""; 0]);
    let died = Tale::counted().with(OTHER, 122, put(0, 1, 5));
    assert_eq!(died.breaks(), [""; 0], "nobody knows of the second");
    let seen =
        Tale::counted()
            .with(OTHER, 122, put(0, 1, 5))
            .with(OTHER, 150, set(0, (OTHER, 0), 9));
    assert_eq!(seen.breaks(), ["I20"], "somebody saw the second");
}

#[test]
fn a_change_of_what_is_not_there_is_seen() {
    let gap = Tale::counted().counts(140, put(0, 3, 8), stored(0, 9));
    assert_eq!(gap.breaks(), ["I20"], "there was no such value");
    let other = Tale::counted().counts(140, put(0, 2, 7), stored(0, 9));
    assert_eq!(other.breaks(), ["I20"], "it had another version");
    let older = Tale::counted().counts(140, put(0, 2, 8), stored(0, 7));
    assert_eq!(older.breaks(), ["I20"], "it is newer");
}

/// The same change, but that it deletes.
fn deletes(change: Event) -> Event {
    let Event::Put {
        number,
        topic,
        line,
        count,
        expect,
        ttl_ms,
        owned,
        ..
    } = change
    else {
        return change;
    };
    Event::Put {
        number,
        topic,
        line,
        count,
        expect,
        deletes: 1,
        ttl_ms,
        owned,
    }
}

#[test]
fn a_change_of_what_was_deleted_is_seen() {
    let deleted = || Tale::counted().counts(140, deletes(put(0, 2, 8)), stored(0, 9));
    assert_eq!(deleted().breaks(), [""; 0]);
    let after = deleted().counts(150, put(1, 3, 9), stored(1, 10));
    assert_eq!(after.breaks(), ["I20"]);
    let beside = deleted().counts(141, put(1, 2, 8), stored(1, 10));
    assert_eq!(beside.breaks(), ["I20"]);
}

#[test]
fn a_conflict_without_cause_is_seen() {
    let tale = || Tale::counted().counts(140, put(0, 2, 8), conflict(0));
    assert_eq!(tale().breaks(), ["I20"]);
    let other = tale().with(SENDER, 141, put(2, 2, 8));
    assert_eq!(other.breaks(), [""; 0], "another one may have changed it");
    let broker = tale().another_broker(138);
    assert_eq!(broker.breaks(), [""; 0], "it is gone with its broker");
}

#[test]
fn a_counter_that_nobody_ended_is_missed() {
    let anew = |number, line| Event::Put {
        number,
        topic: 0,
        line,
        count: 0,
        expect: 0,
        deletes: 0,
        ttl_ms: NONE,
        owned: 0,
    };
    let twice = |tale: Tale| {
        tale.counts(150, anew(1, 0x22), stored(1, 11))
            .with(OTHER, 160, set(0, (OTHER, 1), 11))
            .keeps(OTHER, 0, &[(0, (OTHER, 1))])
    };
    assert_eq!(twice(Tale::counted()).breaks(), ["I20"], "it begins anew");
    let deleted = Tale::counted().counts(140, deletes(put(0, 2, 8)), stored(0, 9));
    assert_eq!(twice(deleted).breaks(), [""; 0]);
    let gone = Tale::counted().keeps(OTHER, 0, &[]);
    assert_eq!(gone.breaks(), ["I20"], "it is not there");
    let back = Tale::counted().keeps(OTHER, 0, &[(0, (SENDER, 0))]);
    assert_eq!(back.breaks(), ["I20"], "it is what it was");
}

#[test]
fn a_value_that_goes_before_its_time_is_seen() {
    let gone = |after: u64| {
        Tale::empty()
            .puts(100, BRIEF + 1, 2_000, 0)
            .with(OTHER, 200, set(BRIEF + 1, (SENDER, 7), 9))
            .with(OTHER, 100 + after, unset(BRIEF + 1))
    };
    assert_eq!(gone(SECOND).breaks(), ["I20"]);
    assert_eq!(gone(2 * SECOND).breaks(), [""; 0]);
    let killed = gone(SECOND).another_broker(SECOND / 2);
    assert_eq!(killed.breaks(), [""; 0], "its broker was killed");
    let set_again = Event::Put {
        number: 8,
        topic: BRIEF + 1,
        line: NONE,
        count: 0,
        expect: NONE,
        deletes: 0,
        ttl_ms: 100,
        owned: 0,
    };
    let again = gone(SECOND).with(SENDER, SECOND / 2, set_again);
    assert_eq!(again.breaks(), [""; 0], "it was set again, for less");
}

#[test]
fn a_value_that_outlives_its_time_is_seen() {
    let tale = Tale::empty().puts(100, BRIEF + 1, 2_000, 0);
    let tale = tale.keeps(OTHER, 0, &[(BRIEF + 1, (SENDER, 7))]);
    assert_eq!(tale.breaks(), ["I20"]);
}

#[test]
fn a_value_without_its_owner_is_seen() {
    let mine = MINE + 1;
    let owned = || Tale::empty().puts(100, mine, NONE, 1);
    let there = |tale: Tale| tale.keeps(OTHER, 0, &[(mine, (SENDER, 7))]);
    assert_eq!(there(owned()).breaks(), [""; 0]);
    assert_eq!(owned().keeps(OTHER, 0, &[]).breaks(), ["I20"], "it is gone");
    let left = || owned().with(SENDER, 300, Event::LeftBoard { asked_at: 200 });
    assert_eq!(there(left()).breaks(), ["I20"], "its owner has left");
    assert_eq!(left().keeps(OTHER, 0, &[]).breaks(), [""; 0]);
    let session = Event::PutOver {
        number: 7,
        outcome: outcome::OK,
        code: NONE,
        version: 9,
        epoch: EPOCH,
        session: 77,
    };
    let lost = there(owned().with(SENDER, 110, session));
    assert_eq!(lost.breaks(), ["I20"], "its owner has another session");
    let killed = 1 << 32 | 1;
    let dead = Tale::empty()
        .with(
            killed,
            100,
            Event::Put {
                number: 0,
                topic: mine,
                line: NONE,
                count: 0,
                expect: NONE,
                deletes: 0,
                ttl_ms: NONE,
                owned: 1,
            },
        )
        .keeps(OTHER, 0, &[(mine, (killed, 0))]);
    assert_eq!(dead.breaks(), ["I20"], "its owner is dead");
}

#[test]
fn a_map_that_goes_back_is_seen() {
    let tale = Tale::counted().with(OTHER, 140, set(0, (SENDER, 0), 5));
    assert_eq!(tale.breaks(), ["I20"]);
}

#[test]
fn a_map_that_is_not_what_there_is_is_seen() {
    let truth = || Tale::counted().keeps(OTHER, 0, &[(0, (SENDER, 1))]);
    let same = truth().keeps(SENDER, 1, &[(0, (SENDER, 1))]);
    assert_eq!(same.breaks(), [""; 0]);
    assert_eq!(truth().keeps(SENDER, 1, &[]).breaks(), ["I20"]);
    let older = truth().keeps(SENDER, 1, &[(0, (SENDER, 0))]);
    assert_eq!(older.breaks(), ["I20"]);
    let listed = truth().keeps(SENDER, 0, &[]);
    assert_eq!(listed.breaks(), ["I20"], "the hub lists something else");
}
