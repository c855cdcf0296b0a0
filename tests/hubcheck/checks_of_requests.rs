//! The checks of requests, commands and leases, as in `checks.rs`.

use localhub_protocol::Code;

use crate::plan::{SERVICES, SOLE};
use crate::record::{Event, NONE, hash, how, lease, left};
use crate::story::{EPOCH, LISTENERS, SENDER, at};
use crate::tale::{HANDLER, ID, Tale};

const fn code(code: Code) -> u64 {
    code.0 as u64
}

/// An outcome without a reply.
fn no_reply(said: Code) -> (u64, u64, u64) {
    (
        how::NO_REPLY,
        code(said),
        hash(said.description().as_bytes()),
    )
}

fn refused(said: Code) -> (u64, u64, u64) {
    (how::REFUSED, code(said), NONE)
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn good_requests_pass() {
    assert_eq!(Tale::good().breaks(), [""; 0]);
}

#[test]
fn a_request_without_outcome_is_seen() {
    let asks = || Tale::empty().asks(100, 0, NONE, 10);
    assert_eq!(asks().breaks(), ["I12"]);
    let mut killed = asks();
    killed
        .runner
        .push(at(150, Event::Killed { sender: SENDER }));
    killed.told.push((0, at(200, left_lobby())));
    assert_eq!(killed.breaks(), [""; 0], "its process was killed");
}

/// That somebody was told of the death, so that nothing else is wrong.
fn left_lobby() -> Event {
    Event::Change {
        change: 1,
        session: 1,
        revision: 1,
        status: 0,
    }
}

#[test]
fn a_second_outcome_is_seen() {
    let tale = Tale::good().hears(130, 0, (how::REPLIED, NONE, 50));
    assert_eq!(tale.breaks(), ["I12"]);
    let tale = Tale::good().hears(130, 8, (how::REPLIED, NONE, 50));
    assert_eq!(tale.breaks(), ["I12"], "of what was not asked");
}

#[test]
fn a_deadline_at_the_wrong_time_is_seen() {
    for (took, broken) in [(9, &["I12"][..]), (10, &[]), (16, &[]), (36, &["I12"])] {
        let tale = Tale::empty().asks(100, 0, NONE, 10);
        let tale = tale.hears(100 + took * SECOND, 0, no_reply(Code::DEADLINE));
        assert_eq!(tale.breaks(), broken, "after {took} s");
    }
}

#[test]
fn an_outcome_that_cannot_be_is_seen() {
    for (id, outcome, broken) in [
        (NONE, no_reply(Code::PEER_GONE), &[][..]),
        (NONE, no_reply(Code::OUTCOME_UNKNOWN), &[]),
        (NONE, no_reply(Code::NOT_EXECUTED), &["I12"]),
        (NONE, no_reply(Code::CANCELLED), &["I12"]),
        (NONE, refused(Code::NO_SUCH_SERVICE), &[]),
        (NONE, refused(Code::ID_REUSE), &["I12"]),
        (NONE, refused(Code::STALE_COMMAND), &["I12"]),
        (NONE, (how::CLOSED, NONE, NONE), &["I12"]),
        (ID, no_reply(Code::NOT_EXECUTED), &[]),
        (ID, no_reply(Code::OUTCOME_UNKNOWN), &[]),
        (ID, no_reply(Code::PEER_GONE), &["I12"]),
        (ID, refused(Code::STALE_COMMAND), &[]),
    ] {
        let tale = Tale::empty().asks(100, 0, id, 10).hears(200, 0, outcome);
        assert_eq!(tale.breaks(), broken, "{outcome:?} of {id}");
    }
}

#[test]
fn an_answer_that_no_handler_gave_is_seen() {
    let asks = || Tale::empty().asks(100, 0, NONE, 10);
    let replied = (how::REPLIED, NONE, 50);
    assert_eq!(asks().hears(120, 0, replied).breaks(), ["I12"]);
    let other = asks().does(110, 0, (0, NONE, 10), (how::REPLIED, 51));
    assert_eq!(other.hears(120, 0, replied).breaks(), ["I12"]);
    let unfinished = asks().begins(110, 0, (0, NONE, 10), (0, NONE));
    assert_eq!(unfinished.hears(120, 0, replied).breaks(), ["I12"]);
    let late = asks().does(130, 0, (0, NONE, 10), (how::REPLIED, 50));
    assert_eq!(late.hears(120, 0, replied).breaks(), ["I12"]);
    let dropped = (how::LEFT, left::DROPPED, 50);
    assert_eq!(asks().hears(120, 0, dropped).breaks(), ["I12"]);
}

#[test]
fn what_nobody_asked_for_is_seen() {
    let done = |what| Tale::good().does(400, 5, what, (how::REPLIED, 55));
    assert_eq!(done((5, NONE, 15)).breaks(), ["I12"]);
    let changed = Tale::empty()
        .asks(100, 0, NONE, 10)
        .begins(110, 0, (0, NONE, 11), (0, NONE))
        .hears(120, 0, (how::GIVEN_UP, NONE, NONE));
    assert_eq!(changed.breaks(), ["I12"], "with other bytes");
    let early = Tale::empty()
        .asks(100, 0, NONE, 10)
        .begins(90, 0, (0, NONE, 10), (0, NONE))
        .hears(120, 0, (how::GIVEN_UP, NONE, NONE));
    assert_eq!(early.breaks(), ["I12"], "before it was asked for");
    for place in [SERVICES - 1, SOLE] {
        let elsewhere = Tale::empty()
            .asks(100, 0, NONE, 10)
            .begins(110, 0, (0, NONE, 10), (place, NONE))
            .hears(120, 0, (how::GIVEN_UP, NONE, NONE));
        assert_eq!(elsewhere.breaks(), ["I12"], "in {place}");
    }
}

#[test]
fn a_plain_request_that_is_done_twice_is_seen() {
    let tale = Tale::good().does(115, 5, (0, NONE, 10), (how::REPLIED, 50));
    assert_eq!(tale.breaks(), ["I12"]);
}

#[test]
fn a_refused_request_that_is_done_is_seen() {
    for outcome in [
        refused(Code::OUTBOX_FULL),
        (how::UNSENT, NONE, NONE),
        (how::LEFT, left::NOT_SERVED, 50),
    ] {
        let tale = Tale::empty()
            .asks(100, 0, NONE, 10)
            .begins(110, 0, (0, NONE, 10), (0, NONE))
            .hears(120, 0, outcome);
        assert_eq!(tale.breaks(), ["I12"], "{outcome:?}");
    }
}

#[test]
fn a_command_that_is_done_twice_is_seen() {
    let again = || Tale::good().does(310, 5, (1, ID, 11), (how::FAILED, 51));
    assert_eq!(again().breaks(), ["I13"]);
    assert_eq!(
        again().another_broker(250).breaks(),
        [""; 0],
        "the broker was another one, and it was sent again"
    );
    assert_eq!(again().another_broker(330).breaks(), ["I13"]);
    let once = Tale::empty()
        .asks(200, 1, ID, 11)
        .does(210, 1, (1, ID, 11), (how::FAILED, 51))
        .does(310, 5, (1, ID, 11), (how::FAILED, 51))
        .hears(320, 1, (how::FAILED, NONE, 51))
        .another_broker(250);
    assert_eq!(once.breaks(), ["I13"], "it was sent once only");
}

#[test]
fn a_command_that_was_not_executed_and_was_is_seen() {
    for outcome in [
        no_reply(Code::NOT_EXECUTED),
        refused(Code::NO_SUCH_SERVICE),
        (how::UNSENT, NONE, NONE),
        (how::LEFT, left::NOT_SERVED, 50),
    ] {
        let begins = |time| {
            Tale::empty()
                .asks(200, 1, ID, 11)
                .begins(time, 1, (1, ID, 11), (0, NONE))
        };
        let alone = begins(210).hears(220, 1, outcome);
        assert_eq!(alone.breaks(), ["I13"], "{outcome:?}");
        let before = begins(310)
            .hears(220, 1, outcome)
            .asks(300, 2, ID, 11)
            .hears(320, 2, (how::GIVEN_UP, NONE, NONE));
        assert_eq!(before.breaks(), [""; 0], "it was sent again: {outcome:?}");
    }
    let later = Tale::empty()
        .asks(200, 1, ID, 11)
        .begins(210, 1, (1, ID, 11), (0, NONE))
        .hears(220, 1, (how::GIVEN_UP, NONE, NONE))
        .asks(300, 2, ID, 11)
        .hears(320, 2, no_reply(Code::NOT_EXECUTED));
    assert_eq!(later.breaks(), ["I13"]);
}

#[test]
fn another_answer_is_seen() {
    let then = |outcome| {
        let mut tale = Tale::good();
        tale.told.pop();
        tale.hears(320, 2, outcome)
    };
    assert_eq!(then(no_reply(Code::OUTCOME_UNKNOWN)).breaks(), ["I13"]);
    assert_eq!(then(no_reply(Code::NOT_EXECUTED)).breaks(), ["I13"]);
    assert_eq!(then(refused(Code::NO_SUCH_SERVICE)).breaks(), ["I13"]);
    assert_eq!(then(refused(Code::STALE_COMMAND)).breaks(), [""; 0]);
    assert_eq!(then((how::GIVEN_UP, NONE, NONE)).breaks(), [""; 0]);
    let unknown = then(no_reply(Code::OUTCOME_UNKNOWN)).another_broker(310);
    assert_eq!(unknown.breaks(), [""; 0], "the broker was another one");
    let by_sdk = then((how::NO_REPLY, code(Code::OUTCOME_UNKNOWN), 5));
    assert_eq!(by_sdk.breaks(), [""; 0], "the SDK does not know it");
    let known = Tale::empty()
        .asks(200, 1, ID, 11)
        .begins(210, 1, (1, ID, 11), (0, NONE))
        .hears(220, 1, no_reply(Code::OUTCOME_UNKNOWN))
        .with(
            HANDLER,
            230,
            Event::Answered {
                execution: 1,
                how: how::REPLIED,
                hash: 51,
            },
        )
        .asks(300, 2, ID, 11)
        .hears(320, 2, (how::REPLIED, NONE, 51));
    assert_eq!(known.breaks(), ["I13"], "an unknown outcome stays unknown");
}

#[test]
fn an_id_that_is_reused_is_seen() {
    let reused = |outcome| Tale::good().asks(400, 3, ID, 13).hears(420, 3, outcome);
    assert_eq!(reused(refused(Code::ID_REUSE)).breaks(), [""; 0]);
    let same = (how::FAILED, NONE, 51);
    assert_eq!(
        reused(same).breaks(),
        ["I12", "I13"],
        "the answer of the first"
    );
    let does = |tale: Tale| tale.does(410, 5, (3, ID, 13), (how::REPLIED, 53));
    assert_eq!(does(reused((how::REPLIED, NONE, 53))).breaks(), ["I13"]);
    assert_eq!(does(reused(refused(Code::ID_REUSE))).breaks(), ["I13"]);
}

/// One client has the service and loses it to another, who has it in the end.
fn leases() -> Tale {
    let [first, second] = LISTENERS;
    Tale::empty()
        .holds((100, 200), first, 0, 1)
        .holds((300, 400), second, 0, 2)
        .holds((300, 500), second, 0, 2)
        .ends(first, lease::QUEUED, NONE)
        .ends(second, lease::HELD, 2)
}

fn listed(holders: u64, fence: u64, session: u64) -> Event {
    Event::Listed {
        holders,
        fence,
        epoch: EPOCH,
        session,
        asked_at: 600,
    }
}

#[test]
fn good_leases_pass() {
    let tale = leases()
        .asks_holder(210, 220, 1)
        .with(0, 700, listed(1, 2, 3));
    assert_eq!(tale.breaks(), [""; 0]);
}

#[test]
fn a_lease_of_two_is_seen() {
    let [first, second] = LISTENERS;
    let shared = leases().holds((100, 450), first, 0, 2);
    assert_eq!(shared.breaks(), ["I14"]);
    let listed_twice = leases().with(0, 700, listed(2, 2, 3));
    assert_eq!(listed_twice.breaks(), ["I14"]);
    // The number was 2 before.
    for (fence, broken) in [(3, &["I14"][..]), (1, &["I14"]), (4, &[])] {
        let again =
            Tale::empty()
                .holds((300, 400), second, 0, 2)
                .holds((300, 600), second, 0, fence);
        assert_eq!(again.breaks(), broken, "{fence}");
    }
}

#[test]
fn a_fence_that_does_not_grow_is_seen() {
    let [first, second] = LISTENERS;
    let lower = Tale::empty()
        .holds((100, 200), first, 0, 2)
        .holds((300, 400), second, 0, 1);
    assert_eq!(lower.breaks(), ["I14"]);
    let at_once = Tale::empty()
        .holds((100, 400), first, 0, 2)
        .holds((300, 500), second, 0, 1);
    assert_eq!(at_once.breaks(), [""; 0], "nobody knows which was before");
    let listed = leases().with(0, 700, listed(1, 1, 2));
    assert_eq!(listed.breaks(), ["I14"]);
}

#[test]
fn a_request_to_who_has_lost_the_lease_is_seen() {
    let asked = |asked_at, fence| {
        let mut tale = leases().asks_holder(asked_at, 800, fence);
        tale.runner.push(at(1, Event::BrokerUp { pid: 1 }));
        tale.breaks()
    };
    assert_eq!(asked(450, 1), ["I14"]);
    assert_eq!(asked(350, 1), [""; 0], "it may have been asked before");
    assert_eq!(asked(450, 2), [""; 0]);
}

#[test]
fn a_lease_without_an_heir_is_seen() {
    let [first, second] = LISTENERS;
    let end = |a: (u64, u64), b: (u64, u64)| {
        let tale = Tale::empty().holds((100, 200), first, 0, 1);
        let tale = tale.holds((300, 400), second, 0, 2);
        tale.ends(first, a.0, a.1).ends(second, b.0, b.1).breaks()
    };
    let (queued, held) = ((lease::QUEUED, NONE), (lease::HELD, 2));
    assert_eq!(end(queued, held), [""; 0]);
    assert_eq!(end(queued, queued), ["I14"], "nobody has it");
    assert_eq!(end((lease::HELD, 1), held), ["I14"], "two have it");
    assert_eq!(end((lease::HELD, 1), queued), ["I14"], "an old one counts");
}
