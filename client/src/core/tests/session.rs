//! What lives through connections, and how they begin and end.

use super::*;

#[test]
fn messages_wait_for_the_channel_id_and_are_confirmed_by_a_pong() {
    let mut world = World::new();
    let (room, joined) = world
        .core
        .join("kiosk".parse().unwrap(), false, None)
        .unwrap();
    world.publishes(room, "a", "one");
    assert_eq!(world.says(), ["join kiosk []"]);
    assert!(world.outcome(joined).is_none());

    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    }]);
    assert!(matches!(world.outcome(joined), Some(Ok(Answer::Done))));
    let two = world.publishes_confirmed(room, "a", "two");
    assert_eq!(
        world.says(),
        ["publish 7 a one", "publish 7 a two", "ping 3, ack 1"]
    );

    world.hears(&[BrokerFrame::Ack { received: 3 }]);
    assert!(
        world.outcome(two).is_none(),
        "a refusal may still be on its way"
    );
    world.hears(&[BrokerFrame::Pong {
        nonce: 3,
        received: 3,
    }]);
    assert!(matches!(world.outcome(two), Some(Ok(Answer::Done))));
}

#[test]
fn a_refusal_reaches_who_waits_for_that_message_or_else_the_listeners() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let room = world.joins("kiosk");
    world.publishes(room, "a", "one");
    let two = world.publishes_confirmed(room, "a", "two");
    world.says();

    let refusal = |request| BrokerFrame::Refusal {
        request,
        code: Code::NOT_ALLOWED,
        detail: "no",
    };
    world.hears(&[
        refusal(2),
        refusal(3),
        BrokerFrame::Pong {
            nonce: 3,
            received: 3,
        },
    ]);

    let refused = Failure::Refused {
        code: Code::NOT_ALLOWED,
        detail: "no".to_owned(),
    };
    assert_eq!(world.outcome(two).unwrap().unwrap_err(), refused);
    assert_eq!(
        world.refusals(listener),
        ["the broker's policy does not allow that x1"]
    );
}

#[test]
fn a_resumed_session_sends_again_what_the_broker_did_not_carry_out() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    for text in ["one", "two", "three"] {
        world.publishes(room, "a", text);
    }
    assert_eq!(world.says().len(), 3);
    let four = world.publishes_confirmed(room, "a", "four");

    world.loses_connection();
    world.publishes(room, "a", "five");
    let hello = world.hello();
    let resume = hello.resume.expect("the session is asked for");
    assert_eq!((resume.client, resume.received), (ClientId(1), 1));
    assert_eq!(resume.token, ResumeToken([1; 32]));

    world.resumes(3);
    let again = [
        "publish 7 a three",
        "publish 7 a four",
        "publish 7 a five",
        "ping 6, ack 1",
    ];
    assert_eq!(world.says(), again);
    world.hears(&[BrokerFrame::Pong {
        nonce: 6,
        received: 6,
    }]);
    assert!(matches!(world.outcome(four), Some(Ok(Answer::Done))));
    assert_eq!(world.core.outgoing.bytes(), 0);
}

#[test]
fn a_ping_that_got_lost_with_its_connection_is_sent_again() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let one = world.publishes_confirmed(room, "a", "one");
    assert_eq!(world.says().last().unwrap(), "ping 2, ack 1");

    world.loses_connection();
    world.resumes(2);
    assert_eq!(
        world.says(),
        ["ping 2, ack 1"],
        "the message itself was carried out"
    );
    world.hears(&[BrokerFrame::Pong {
        nonce: 2,
        received: 2,
    }]);
    assert!(matches!(world.outcome(one), Some(Ok(Answer::Done))));
}

#[test]
fn publishing_waits_for_room_while_there_is_a_connection() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let text = "x".repeat(1_000);
    let mut sent = 0;
    while world.publish(room, "a", &text, false).is_ready() {
        sent += 1;
    }
    assert_eq!(
        sent, 5,
        "one more than fits, so that the largest always fits"
    );
    let said = world.says();
    assert_eq!(
        said.last().unwrap(),
        "ping 6, ack 1",
        "the broker is asked how far it is"
    );

    world.hears(&[BrokerFrame::Pong {
        nonce: 6,
        received: 6,
    }]);
    assert!(world.publish(room, "a", &text, false).is_ready());

    world.loses_connection();
    while let Poll::Ready(Ok(_)) = world.publish(room, "a", &text, false) {
        sent += 1;
    }
    let refused = world.publish(room, "a", &text, false);
    assert!(
        matches!(refused, Poll::Ready(Err(Error::Disconnected))),
        "{refused:?}"
    );
    assert!(sent > 5, "some are kept for the next connection");
}

#[test]
fn what_cannot_be_sent_is_refused_before_it_is() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let large = world.publish(room, "a", &"x".repeat(1_001), false);
    assert!(matches!(
        large,
        Poll::Ready(Err(Error::PayloadTooLarge {
            bytes: 1_001,
            max: 1_000
        }))
    ));
    let bad = world.publish(room, "a/+", "x", false);
    assert!(matches!(bad, Poll::Ready(Err(Error::BadTopic { .. }))));
    assert_eq!(world.says(), [""; 0]);
}

#[test]
fn what_was_received_is_confirmed_soon_and_a_share_of_the_window_at_once() {
    let inbox = InboxLimits {
        messages: 100,
        ..settings().inbox
    };
    let mut world = World::with(Settings {
        inbox,
        ..settings()
    });
    let room = world.joins("kiosk");
    world.subscribes(room, "#");
    world.passes(100);
    assert_eq!(world.says(), ["ack 2"]);

    let many: Vec<_> = (0..9).map(|_| "x").collect();
    world.hears(&run(1, "a", &many));
    assert_eq!(world.says(), [""; 0]);
    world.hears(&run(10, "a", &["x"]));
    assert_eq!(world.says(), ["ack 12"], "ten of eighty");

    world.hears(&run(11, "a", &["x"]));
    assert_eq!(
        world.core.deadline(false),
        Some(world.now + Duration::from_millis(100))
    );
    world.passes(99);
    assert_eq!(world.says(), [""; 0]);
    world.passes(1);
    assert_eq!(world.says(), ["ack 13"]);
}

#[test]
fn a_silent_broker_is_pinged_and_then_given_up() {
    let mut world = World::new();
    world.passes(9_999);
    world.core.elapse(world.now).unwrap();
    assert_eq!(world.says(), [""; 0]);
    world.passes(1);
    world.core.elapse(world.now).unwrap();
    assert_eq!(world.says(), ["ping 0, ack 0"]);
    world.passes(5_000);
    world.core.elapse(world.now).unwrap();
    assert_eq!(world.says(), [""; 0], "one ping is enough");

    world.hears(&[BrokerFrame::Pong {
        nonce: 0,
        received: 0,
    }]);
    world.passes(19_999);
    world.core.elapse(world.now).unwrap();
    world.passes(1);
    world.core.elapse(world.now).unwrap_err();
}

// Found by the simulation: the message behind the ping was never confirmed.
#[test]
fn a_ping_for_silence_does_not_stand_for_the_one_that_a_message_needs() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    world.passes(10_000);
    let one = world.publishes_confirmed(room, "a", "one");
    world.core.elapse(world.now).unwrap();
    let said = world.says();
    assert_eq!(said.first().unwrap(), "publish 7 a one");
    assert_eq!(said.last().unwrap(), "ping 2, ack 1", "{said:?}");
    world.hears(&[BrokerFrame::Pong {
        nonce: 2,
        received: 2,
    }]);
    assert!(matches!(world.outcome(one), Some(Ok(Answer::Done))));
}

#[test]
fn a_ping_is_answered_with_how_much_was_received() {
    let mut world = World::new();
    world.joins("kiosk");
    world.hears(&[BrokerFrame::Ping {
        nonce: 99,
        received: 1,
    }]);
    assert_eq!(world.says(), ["pong 99, ack 1"]);
    assert_eq!(
        world.core.outgoing.bytes(),
        0,
        "the ping confirmed the join"
    );
}

#[test]
fn a_client_that_closes_flushes_and_says_goodbye() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    world.publishes(room, "a", "last words");
    let flushed = world.core.close(world.now).unwrap();
    assert!(matches!(
        world.publish(room, "a", "more", false),
        Poll::Ready(Err(Error::Closed { code: None, .. }))
    ));
    assert_eq!(world.says(), ["publish 7 a last words", "ping 2, ack 1"]);
    assert_eq!(world.core.closing(), Some(false));

    world.hears(&[BrokerFrame::Pong {
        nonce: 2,
        received: 2,
    }]);
    assert!(matches!(world.outcome(flushed), Some(Ok(Answer::Done))));
    assert_eq!(world.says(), ["close goodbye"]);
    assert_eq!(world.core.closing(), Some(true));
}

#[test]
fn a_client_that_closes_does_not_wait_for_a_broker_that_hangs() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    world.publishes(room, "a", "last words");
    world.core.close(world.now).unwrap();
    world.says();
    assert_eq!(
        world.core.deadline(false),
        Some(world.now + Duration::from_secs(5))
    );
    world.passes(5_000);
    assert_eq!(world.says(), ["close goodbye"]);
}

#[test]
fn everything_that_waits_is_told_when_the_client_is_over() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.hears(&run(1, "a", &["one"]));
    world.publishes(room, "a", "x");
    let waiting = world.core.flush().unwrap();
    world.core.finish(Some(Code::KICKED), "out".to_owned());

    let closed = Failure::Closed {
        code: Some(Code::KICKED),
        reason: "out".to_owned(),
    };
    assert_eq!(world.outcome(waiting).unwrap().unwrap_err(), closed);
    assert_eq!(
        world.got(stream),
        ["one@1", "end"],
        "what came before can still be read"
    );
    assert!(matches!(world.core.flush(), Err(failure) if failure == closed));
}

#[test]
fn a_broker_that_contradicts_itself_is_found_out() {
    let mut world = World::new();
    let resumed = Some(Resumed {
        recovered: true,
        replayed: 0,
        lost: Some(0),
    });
    world.loses_connection();
    let mut welcome = Welcome {
        version: Version::CURRENT,
        features: vec![],
        epoch: Epoch([9; 16]),
        client: ClientId(1),
        name: "ana",
        token: ResumeToken([3; 32]),
        resumed,
        received: 3,
        ttl_ms: 0,
        ping_ms: 0,
        limits: Limits::default(),
    };
    world
        .core
        .welcome(&welcome, world.now)
        .expect_err("three messages that were never sent");
    assert!(
        world.hello().resume.is_none(),
        "the session is not asked for again"
    );
    welcome.client = ClientId(4);
    welcome.received = 0;
    world
        .core
        .welcome(&welcome, world.now)
        .expect_err("the session of somebody else");
}
