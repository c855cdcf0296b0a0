//! Each check against a small history that keeps its promise, and against one that breaks it.

#![cfg(unix)]

#[allow(dead_code, reason = "the report uses the rest")]
mod calls;
#[allow(dead_code, unused_imports, reason = "the report uses the rest")]
mod check;
mod checks_of_requests;
mod checks_of_values;
#[allow(dead_code, reason = "the runner uses the rest")]
mod history;
#[allow(dead_code, reason = "the processes use the rest")]
mod plan;
#[allow(dead_code, reason = "the processes use the rest")]
mod record;
mod story;
mod tale;
mod values;
mod wire;

use localhub_protocol::{BrokerFrame, Code};

use history::History;
use plan::{EVERYTHING, OUTBOX_MESSAGES, sender};
use record::{DIRECT, Event, NONE, Recorder, outcome, read, welcome};
use story::{EPOCH, LISTENERS, SENDER, Story, at, broken, gap, message, viewed, welcomed};

#[test]
fn a_good_history_passes() {
    assert_eq!(Story::good().breaks(), [""; 0]);
}

#[test]
fn a_message_that_nobody_sent_is_seen() {
    let mut story = Story::good();
    story.calls.remove(4);
    assert_eq!(story.breaks(), ["I1"]);
}

#[test]
fn changed_bytes_are_seen() {
    let mut story = Story::good();
    if let Event::Heard { hash, .. } = &mut story.heard[0][2] {
        *hash += 1;
    }
    assert_eq!(story.breaks(), ["I1"]);
}

#[test]
fn a_wrong_sender_is_seen() {
    let mut story = Story::good();
    if let Event::Heard { session, .. } = &mut story.heard[0][2] {
        *session = 2;
    }
    assert_eq!(story.breaks(), ["I1"]);
}

#[test]
fn a_direct_message_to_another_is_seen() {
    let mut history = Story::good().told();
    let invoke = Event::Invoke {
        number: 6,
        channel: DIRECT,
        to: 3,
        topic: NONE,
        hash: 6,
        bytes: 16,
    };
    history.add(SENDER, &[at(600, invoke)]);
    let opened = Event::Opened {
        stream: 1,
        channel: DIRECT,
        filter: NONE,
        offset: 0,
        epoch: EPOCH,
        session: 2,
    };
    let heard = Event::Heard {
        stream: 1,
        offset: 6,
        session: 1,
        sender: SENDER,
        number: 6,
        hash: 6,
        topic: NONE,
        bytes: 16,
    };
    history.add(LISTENERS[0], &[at(10, opened), at(700, heard)]);
    assert_eq!(broken(&history), ["I1"]);
}

#[test]
fn a_message_that_comes_twice_is_seen() {
    let mut story = Story::good();
    story.heard[0].insert(3, message(3, 3));
    assert_eq!(story.breaks(), ["I2", "I7", "I8"]);
}

#[test]
fn a_message_that_is_carried_out_twice_is_seen() {
    let mut story = Story::good();
    // One listener heard only the first, the other only the second.
    story.heard[0] = [1, 2, 3, 4].map(|number| message(number, number)).into();
    story.heard[1] = [(1, 1), (2, 2), (3, 3), (5, 4)]
        .map(|(at, n)| message(at, n))
        .into();
    story.heard[0].push(gap(1));
    story.heard[1].insert(3, gap(1));
    assert_eq!(story.breaks(), ["I6"]);
}

#[test]
fn a_silent_loss_is_seen() {
    let mut story = Story::good();
    story.heard[1].remove(2);
    assert_eq!(story.breaks(), ["I3", "I5"]);
}

#[test]
fn a_silent_loss_at_the_end_is_seen() {
    let mut story = Story::good();
    story.heard[1].remove(4);
    assert_eq!(story.breaks(), ["I3", "I5"]);
}

#[test]
fn a_gap_that_tells_exactly_passes() {
    let mut story = Story::good();
    story.heard[1].splice(1..3, [gap(2)]);
    assert_eq!(story.breaks(), [""; 0]);
}

#[test]
fn a_gap_in_the_wrong_place_is_seen() {
    let mut story = Story::good();
    story.heard[1].splice(1..3, []);
    story.heard[1].insert(2, gap(2));
    assert_eq!(story.breaks(), ["I3", "I4"]);
}

#[test]
fn a_gap_that_tells_too_much_is_seen() {
    let mut story = Story::good();
    story.heard[1].splice(1..3, [gap(3)]);
    assert_eq!(story.breaks(), ["I4"]);
}

#[test]
fn a_gap_at_the_end_may_be_of_what_comes_behind_it() {
    let mut story = Story::good();
    story.heard[1].push(gap(3));
    assert_eq!(story.breaks(), [""; 0]);
}

#[test]
fn a_gap_of_everything_may_tell_more() {
    let mut story = Story::good();
    let everywhere = Event::Gap {
        stream: 0,
        lost: 7,
        scoped: 0,
    };
    story.heard[1].splice(1..3, [everywhere]);
    assert_eq!(story.breaks(), [""; 0]);
}

#[test]
fn what_comes_after_the_end_of_a_session_is_not_expected() {
    let mut story = Story::good();
    story.heard[1].truncate(2);
    story.heard[1].push(gap(NONE));
    let mut history = story.told();
    for stream in &mut history.streams {
        if stream.sender == LISTENERS[1] {
            stream.end = None;
        }
    }
    assert_eq!(broken(&history), [""; 0]);
}

#[test]
fn another_order_for_another_listener_is_seen() {
    let mut story = Story::good();
    story.heard[1][1] = message(2, 3);
    story.heard[1][2] = message(3, 2);
    assert_eq!(story.breaks(), ["I6", "I8"]);
}

#[test]
fn an_order_against_that_of_the_calls_is_seen() {
    let mut story = Story::good();
    for heard in &mut story.heard {
        heard[1] = message(2, 3);
        heard[2] = message(3, 2);
    }
    assert_eq!(story.breaks(), ["I8", "I9"]);
}

#[test]
fn a_refused_message_that_is_heard_is_seen() {
    let mut story = Story::good();
    story.calls[2].outcome = outcome::REFUSED;
    assert_eq!(story.breaks(), ["I11"]);
}

#[test]
fn a_session_that_is_gone_too_soon_is_seen() {
    let mut story = Story::good();
    let second = 1_000_000_000;
    story.runner.push(welcomed(welcome::ANEW, second, 0, 0));
    assert_eq!(story.breaks(), ["I10"]);

    let mut story = Story::good();
    story
        .runner
        .push(welcomed(welcome::ANEW, 61 * second, 0, 0));
    assert_eq!(story.breaks(), [""; 0], "its time was over");

    let mut story = Story::good();
    story.runner.push(welcomed(welcome::ANEW, second, 0, 0));
    if let Some(Event::Welcomed { before, .. }) = story.runner.last_mut() {
        *before = NONE;
    }
    assert_eq!(story.breaks(), [""; 0], "it is a new life of the broker");
}

#[test]
fn a_loss_within_the_window_is_seen() {
    let mut story = Story::good();
    story.runner.push(welcomed(welcome::LOST, 0, 3, 5));
    assert_eq!(story.breaks(), ["I10"]);

    let mut story = Story::good();
    story
        .runner
        .push(welcomed(welcome::LOST, 0, 3, OUTBOX_MESSAGES));
    assert_eq!(story.breaks(), [""; 0], "it was more than the window");
}

#[test]
fn a_connection_that_is_not_fenced_is_seen() {
    for (told, ended, broken) in [
        (109, 1, &[][..]),
        (0, 1, &["I15"]),
        (0, 2, &[]),
        (101, 1, &["I15"]),
        (109, 0, &["I15"]),
    ] {
        let mut story = Story::good();
        story.runner.push(Event::Fenced {
            client: 7,
            told,
            ended,
        });
        assert_eq!(story.breaks(), broken, "told: {told}, ended: {ended}");
    }
}

#[test]
fn a_view_that_is_not_true_is_seen() {
    let mut history = Story::good().told();
    history.add(sender(4, 0), &[at(9_000, viewed(1)), at(9_000, viewed(2))]);
    assert_eq!(broken(&history), ["I16"]);
}

#[test]
fn who_comes_again_after_having_left_is_seen() {
    let change = |change| Event::Change {
        change,
        session: 9,
        revision: 1,
        status: 0,
    };
    let mut history = Story::good().told();
    history.add(sender(4, 0), &[at(1, change(0)), at(2, change(1))]);
    assert_eq!(broken(&history), [""; 0]);
    history.add(sender(4, 0), &[at(3, change(0))]);
    assert_eq!(broken(&history), ["I16"]);
}

#[test]
fn a_death_that_nobody_is_told_of_is_seen() {
    let mut history = Story::good().told();
    history
        .runner
        .push(at(2_000, Event::Killed { sender: SENDER }));
    assert_eq!(broken(&history), ["I16"]);
    let left = Event::Change {
        change: 1,
        session: 1,
        revision: 1,
        status: 0,
    };
    history.add(sender(0, 0), &[at(3_000, left)]);
    assert_eq!(broken(&history), [""; 0]);
}

#[test]
fn a_broker_that_grows_is_seen() {
    for (rss, descriptors) in [(1 << 40, 20), (20 << 20, 1_000)] {
        let mut story = Story::good();
        story.runner.push(Event::Sample {
            rss,
            descriptors,
            connections: 5,
        });
        assert_eq!(story.breaks(), ["I18"]);
    }
}

#[test]
fn whatever_does_not_heal_is_seen() {
    let idle = |connected, parked, queued_bytes, requests, descriptors| Event::Idle {
        connected,
        parked,
        queued_bytes,
        requests,
        descriptors,
        descriptors_before: 20,
    };
    let ended = |code, socket_left| Event::Ended { code, socket_left };
    for bad in [
        Event::Overdue { client: 1, step: 1 },
        idle(2, 0, 0, 0, 20),
        idle(1, 1, 0, 0, 20),
        idle(1, 0, 1, 0, 20),
        idle(1, 0, 0, 1, 20),
        idle(1, 0, 0, 0, 21),
        ended(1, 0),
        ended(0, 1),
    ] {
        let mut story = Story::good();
        story.runner.push(bad);
        assert_eq!(story.breaks(), ["I19"], "{bad:?}");
    }
    let mut story = Story::good();
    story.runner.push(idle(1, 0, 0, 0, 20));
    assert_eq!(story.breaks(), [""; 0]);
    let mut story = Story::good();
    story.runner.clear();
    assert_eq!(story.breaks(), ["I19"], "it did not end at all");
}

#[test]
fn an_empty_run_is_too_few_of_everything() {
    let guards = check::guards(&History::default(), 20);
    let mut few = guards.iter().filter(|guard| guard.least > 0);
    assert!(few.all(|guard| guard.count < guard.least), "{guards:?}");
}

#[test]
fn nobody_expects_his_own_broadcast() {
    let history = Story::good().told();
    let mut stream = history.streams[0].clone();
    stream.filter = EVERYTHING;
    assert!(stream.wants((SENDER, 1), None));
    assert!(!stream.wants((stream.sender, 1), None));
    assert!(
        stream.wants((stream.sender, 1), Some(0)),
        "but his own publish"
    );
}

#[test]
fn records_come_back_and_a_torn_one_is_left_out() {
    let folder = localhub_tests::process::private_directory();
    let path = folder.path().join("records");
    let recorder = Recorder::create(&path).unwrap();
    recorder.note(message(3, 4));
    recorder.note(gap(NONE));
    let (records, torn) = read(&path).unwrap();
    let events: Vec<_> = records.iter().map(|record| record.event).collect();
    assert_eq!((events, torn), (vec![message(3, 4), gap(NONE)], false));
    assert!(records[0].at <= records[1].at);

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (records, torn) = read(&path).unwrap();
    assert_eq!((records.len(), torn), (1, true));
}

#[test]
fn frames_are_followed_through_pieces_of_any_size() {
    let mut bytes = Vec::new();
    let first = BrokerFrame::Ack { received: 7 };
    first.encode(&mut bytes);
    let first_body = bytes[4..].to_vec();
    BrokerFrame::Done { request: 900 }.encode(&mut bytes);
    BrokerFrame::Done { request: 901 }.encode(&mut bytes);
    let (code, detail) = (Code::SUPERSEDED, "a newer connection");
    BrokerFrame::Close { code, detail }.encode(&mut bytes);
    for size in 1..=bytes.len() {
        let mut frames = wire::Frames::default();
        let firsts: Vec<_> = bytes
            .chunks(size)
            .filter_map(|piece| frames.follow(piece))
            .collect();
        assert_eq!(
            firsts,
            std::slice::from_ref(&first_body),
            "in pieces of {size}"
        );
        assert_eq!(
            (frames.messages, frames.closed),
            (2, Some(code.0)),
            "in pieces of {size}"
        );
        assert_eq!(frames.bytes, bytes.len() as u64);
    }
}
