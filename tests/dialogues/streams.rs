//! Requests that carry streams: parts, feed and credit. Rules 12.16 to 12.19.

use localhub_protocol::{Credit, ServeMode};
use localhub_tests::Ask;

use super::*;

/// A caller and a handler, and the request that is open between them.
fn stream(world: &mut World, deadline_ms: u32) -> (Puppet, Puppet, (ClientId, u64)) {
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    ana.asks(Ask {
        deadline_ms,
        ..open(Target::Id(bo.id))
    });
    let key = bo.is_asked();
    (ana, bo, key)
}

fn open(to: Target<'_>) -> Ask<'_> {
    Ask {
        window: 10,
        ..Ask::of(to)
    }
}

/// Hears that one message was refused, and nothing else.
fn is_refused(puppet: &mut Puppet, message: u64, code: Code) {
    let seen = puppet.hears();
    assert!(
        matches!(seen[..], [Seen::Refusal(of, why, _)] if (of, why) == (message, code)),
        "{} refused with {code:?}: {seen:?}",
        puppet.name
    );
}

#[test]
fn a_reply_comes_in_parts_and_then_its_end() {
    // 12.16
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    for payload in ["1", "2"] {
        bo.replies_in_part(key, payload);
    }
    let part = |payload: &str| Seen::Part(bo.id, key.1, payload.into());
    assert_eq!(ana.hears(), [part("1"), part("2")]);
    assert_eq!(open_requests(&world), 1);
    bo.replies(key, "end");
    assert_eq!(ana.hears(), [reply(&bo, key.1, "end")]);
    let late = bo.replies_in_part(key, "3");
    is_refused(&mut bo, late, Code::UNKNOWN_REQUEST);
    assert_eq!((ana.hears(), open_requests(&world)), (vec![], 0));
}

#[test]
fn parts_are_for_those_who_asked_for_them() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    let part = bo.replies_in_part(key, "1");
    is_refused(&mut bo, part, Code::BAD_REQUEST);
    let feed = ana.feeds(request, true, "more");
    is_refused(&mut ana, feed, Code::UNKNOWN_REQUEST);
    for puppet in [&mut ana, &mut bo] {
        let credit = puppet.credits(key, 1);
        is_refused(puppet, credit, Code::UNKNOWN_REQUEST);
    }
    bo.replies(key, "whole");
    assert_eq!(ana.hears(), [reply(&bo, request, "whole")]);
    assert_eq!(bo.hears(), []);
    world.hub.check();
}

#[test]
fn only_the_handler_sends_parts() {
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    let mut eve = world.client("eve");
    let part = eve.replies_in_part(key, "mine");
    is_refused(&mut eve, part, Code::UNKNOWN_REQUEST);
    let feed = eve.feeds(key.1, true, "mine");
    is_refused(&mut eve, feed, Code::UNKNOWN_REQUEST);
    let feed = bo.feeds(key.1, true, "mine");
    is_refused(&mut bo, feed, Code::UNKNOWN_REQUEST);
    assert_eq!(ana.hears(), []);
}

#[test]
fn a_caller_sends_more_until_it_says_that_this_is_all() {
    // 12.16
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    let feed = |more, payload: &str| Seen::Feed(ana.id, key.1, more, payload.into());
    let expected = [feed(true, "1"), feed(false, "2")];
    ana.feeds(key.1, true, "1");
    ana.feeds(key.1, false, "2");
    assert_eq!(bo.hears(), expected);
    let more = ana.feeds(key.1, true, "3");
    is_refused(&mut ana, more, Code::UNKNOWN_REQUEST);
    bo.replies_in_part(key, "a");
    bo.replies(key, "b");
    assert_eq!(
        ana.hears(),
        [
            Seen::Part(bo.id, key.1, b"a".to_vec()),
            reply(&bo, key.1, "b")
        ],
        "the other direction goes on"
    );
    assert_eq!(bo.hears(), []);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn the_outcome_ends_both_directions() {
    // 12.18
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    ana.feeds(key.1, true, "1");
    bo.hears();
    bo.replies(key, "enough");
    ana.hears();
    let feed = ana.feeds(key.1, true, "2");
    is_refused(&mut ana, feed, Code::UNKNOWN_REQUEST);
    for puppet in [&mut ana, &mut bo] {
        let credit = puppet.credits(key, 1);
        is_refused(puppet, credit, Code::UNKNOWN_REQUEST);
    }
    assert_eq!(bo.hears(), []);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn credit_goes_to_the_other_side_and_the_broker_does_not_count_along() {
    // 12.17, 12.18
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    let credit = |bytes| {
        let (of, request) = key;
        Seen::Credit(Credit { of, request, bytes })
    };
    ana.credits(key, 5);
    ana.credits(key, u64::MAX);
    bo.credits(key, 7);
    assert_eq!(bo.hears(), [credit(5), credit(u64::MAX)]);
    assert_eq!(ana.hears(), [credit(7)]);
    let (part, feed) = ("p".repeat(1_000), "f".repeat(1_000));
    bo.replies_in_part(key, &part);
    ana.feeds(key.1, true, &feed);
    assert_eq!(ana.hears(), [Seen::Part(bo.id, key.1, part.into())]);
    assert_eq!(bo.hears(), [Seen::Feed(ana.id, key.1, true, feed.into())]);
    world.hub.check();
}

#[test]
fn strangers_give_no_credit() {
    // 12.4
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    let mut eve = world.client("eve");
    for of in [key, (bo.id, key.1), (eve.id, 1), (ClientId(99), 1)] {
        let credit = eve.credits(of, 1);
        is_refused(&mut eve, credit, Code::UNKNOWN_REQUEST);
    }
    let credit = bo.credits((bo.id, key.1), 1);
    is_refused(&mut bo, credit, Code::UNKNOWN_REQUEST);
    assert_eq!((ana.hears(), bo.hears()), (vec![], vec![]));
}

#[test]
fn a_client_may_stream_to_itself() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let request = ana.asks(open(Target::Name("ana")));
    let key = ana.is_asked();
    ana.feeds(request, false, "f");
    ana.replies_in_part(key, "p");
    ana.credits(key, 1);
    ana.replies(key, "end");
    assert_eq!(ana.hears().len(), 4);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn the_deadline_is_for_the_first_part() {
    // 12.19
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 1_000);
    bo.replies_in_part(key, "1");
    ana.hears();
    world.pass(Duration::from_secs(10 * 60 * 60));
    assert_eq!((ana.hears(), bo.hears()), (vec![], vec![]));
    bo.replies_in_part(key, "2");
    bo.replies(key, "end");
    assert_eq!(ana.hears().len(), 2);
    assert_eq!(open_requests(&world), 0);

    let (mut ana, mut bo) = (world.client("amy"), world.client("ben"));
    let request = ana.asks(Ask {
        deadline_ms: 1_000,
        ..open(Target::Id(bo.id))
    });
    ana.feeds(
        request,
        true,
        "what the caller sends is no part of the reply",
    );
    bo.hears();
    world.pass(Duration::from_secs(1));
    assert_eq!(ana.hears(), [no_reply(request, Code::DEADLINE)]);
    let cancelled = Seen::Cancelled(ana.id, request, Code::DEADLINE);
    assert_eq!(bo.hears(), [cancelled]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_part_that_does_not_fit_has_not_come() {
    let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
    let (mut ana, mut bo, key) = stream(&mut world, 1_000);
    for _ in 0..3 {
        bo.sends_to(Target::Id(ana.id), &"x".repeat(3_000));
    }
    let part = bo.replies_in_part(key, &"x".repeat(3_000));
    is_refused(&mut bo, part, Code::OUTBOX_FULL);
    assert_eq!(open_requests(&world), 1, "it goes on");
    ana.hears();
    world.pass(Duration::from_secs(1));
    assert_eq!(ana.hears(), [no_reply(key.1, Code::DEADLINE)]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_credit_that_does_not_fit_is_refused_and_the_request_goes_on() {
    let mut world = World::new(|settings| settings.limits.outbox_messages = 3);
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    for _ in 0..3 {
        ana.feeds(key.1, true, "more");
    }
    let credit = ana.credits(key, 1);
    is_refused(&mut ana, credit, Code::OUTBOX_FULL);
    assert_eq!(bo.hears().len(), 3);
    ana.credits(key, 2);
    assert_eq!(ana.hears(), []);
    assert_eq!(bo.hears().len(), 1);
    world.hub.check();
}

#[test]
fn who_wants_no_more_cancels() {
    // 12.18
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    bo.replies_in_part(key, "1");
    ana.hears();
    ana.cancels(key.1);
    assert_eq!(ana.hears(), [no_reply(key.1, Code::CANCELLED)]);
    assert_eq!(bo.hears(), [Seen::Cancelled(key.0, key.1, Code::CANCELLED)]);
    let part = bo.replies_in_part(key, "2");
    is_refused(&mut bo, part, Code::UNKNOWN_REQUEST);
    let feed = ana.feeds(key.1, false, "");
    is_refused(&mut ana, feed, Code::UNKNOWN_REQUEST);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_stream_lives_as_long_as_both_sessions() {
    // 12.19
    let mut world = World::default();
    let (mut ana, mut bo, key) = stream(&mut world, 1_000);
    bo.replies_in_part(key, "1");
    ana.hears();
    ana.loses_connection(&world);
    bo.replies_in_part(key, "2");
    world.pass(Duration::from_secs(100));
    ana.comes_back(&mut world);
    assert_eq!(ana.hears(), [Seen::Part(bo.id, key.1, b"2".to_vec())]);
    bo.loses_connection(&world);
    ana.feeds(key.1, true, "f");
    ana.credits(key, 3);
    world.pass(Duration::from_secs(100));
    bo.comes_back(&mut world);
    assert_eq!(bo.hears().len(), 2);
    bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
    assert_eq!(ana.hears(), [no_reply(key.1, Code::PEER_GONE)]);
    let feed = ana.feeds(key.1, true, "to nobody");
    is_refused(&mut ana, feed, Code::UNKNOWN_REQUEST);
    assert_eq!(open_requests(&world), 0);

    let (mut ana, mut bo) = (world.client("amy"), world.client("ben"));
    let request = ana.asks(open(Target::Id(bo.id)));
    let key = bo.is_asked();
    bo.replies_in_part(key, "1");
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    let gone = Seen::Cancelled(key.0, request, Code::PEER_GONE);
    assert_eq!(bo.hears(), [gone]);
    let part = bo.replies_in_part(key, "2");
    is_refused(&mut bo, part, Code::UNKNOWN_REQUEST);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_stream_to_a_service_stays_with_its_handler() {
    // 12.9
    let mut world = World::default();
    let (mut ana, mut bo, mut cy) = (world.client("ana"), world.client("bo"), world.client("cy"));
    bo.serves("camera", ServeMode::Shared);
    bo.hears();
    let request = ana.asks(open(Target::Service("camera")));
    let key = bo.is_asked();
    cy.serves("camera", ServeMode::Shared);
    bo.unserves("camera");
    cy.hears();
    bo.hears();
    ana.feeds(request, true, "closer");
    assert_eq!(cy.hears(), []);
    assert_eq!(
        bo.hears(),
        [Seen::Feed(ana.id, request, true, b"closer".to_vec())]
    );
    bo.replies(key, "a picture");
    assert_eq!(ana.hears(), [reply(&bo, request, "a picture")]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn nothing_is_passed_on_behind_what_did_not_fit() {
    // 12.18
    let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
    let (mut ana, mut bo, key) = stream(&mut world, 0);
    let large = "x".repeat(4_500);
    let sent = [(); 3].map(|()| bo.replies_in_part(key, &large));
    is_refused(&mut bo, sent[2], Code::OUTBOX_FULL);
    assert_eq!(ana.hears().len(), 2);
    let fits = bo.replies_in_part(key, "small");
    is_refused(&mut bo, fits, Code::OUTBOX_FULL);

    let fed = [(); 3].map(|()| ana.feeds(key.1, true, &large));
    is_refused(&mut ana, fed[2], Code::OUTBOX_FULL);
    assert_eq!(bo.hears().len(), 2);
    let fits = ana.feeds(key.1, false, "");
    is_refused(&mut ana, fits, Code::OUTBOX_FULL);

    bo.replies(key, "that was all");
    assert_eq!(ana.hears(), [no_reply(key.1, Code::OUTBOX_FULL)]);
    assert_eq!((bo.hears(), open_requests(&world)), (vec![], 0));

    let request = ana.asks(open(Target::Id(bo.id)));
    let key = bo.is_asked();
    let sent = [(); 3].map(|()| bo.replies_in_part(key, &large));
    is_refused(&mut bo, sent[2], Code::OUTBOX_FULL);
    ana.hears();
    let failed = Some(Code::FAILED);
    bo.replies_with(key, failed, false, "torn");
    assert_eq!(
        ana.hears(),
        [Seen::Reply(bo.id, request, failed, b"torn".to_vec())]
    );
}
