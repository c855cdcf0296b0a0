//! What lives through connections and sessions.

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
fn a_new_session_takes_over_memberships_and_subscriptions() {
    let mut world = World::new();
    let state = Bytes::from_static(&[0xa0]);
    let (room, _) = world
        .core
        .join("kiosk".parse().unwrap(), true, Some(state))
        .unwrap();
    world.position += 1;
    assert_eq!(world.says(), ["join kiosk hidden [160]"]);
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    }]);
    let live = world.subscribes(room, "a/#");
    let broadcasts = world
        .core
        .open_stream(Some(room), Takes::Broadcasts)
        .unwrap()
        .0;
    let directs = world.core.open_stream(None, Takes::Directs).unwrap().0;

    world.loses_connection();
    world.starts_anew();
    assert_eq!(world.core.id(), ClientId(2));
    assert_eq!(world.says(), ["join kiosk hidden [160]"]);
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: ChannelId(70),
        offset: 40,
    }]);
    assert_eq!(world.says(), ["subscribe 70 a/#"]);
    let channel = ChannelId(70);
    world.hears(&[BrokerFrame::Values {
        request: 2,
        channel,
        offset: 40,
        count: 0,
    }]);
    world.hears(&run_in(channel, 41, "a/b", &["new"], false));

    let gap = "an unknown number of messages of channel kiosk were lost: \
               the session ended while there was no connection";
    assert_eq!(world.got(live), [gap, "new@41"]);
    assert_eq!(world.got(broadcasts), [gap]);
    assert_eq!(world.got(directs).len(), 1, "directs have a gap, too");
}

#[test]
fn a_new_session_gets_what_the_lost_one_cannot_have_seen_and_nothing_else() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let room = world.joins("kiosk");
    world.publishes(room, "a", "confirmed");
    world.publishes(room, "a", "in doubt");
    let in_doubt = world.publishes_confirmed(room, "a", "in doubt, too");
    world.says();
    world.hears(&[BrokerFrame::Ack { received: 2 }]);

    world.loses_connection();
    world.publishes(room, "a", "unsent");
    let unsent = world.publishes_confirmed(room, "a", "unsent, too");
    world.starts_anew();

    assert_eq!(
        world.outcome(in_doubt).unwrap().unwrap_err(),
        Failure::Disconnected
    );
    let report = "the session ended while there was no connection x1";
    assert_eq!(world.refusals(listener), [report]);
    world.publishes(room, "a", "later");
    assert_eq!(world.says(), ["join kiosk []"]);
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: ChannelId(70),
        offset: 0,
    }]);
    let sent = [
        "publish 70 a unsent",
        "publish 70 a unsent, too",
        "publish 70 a later",
    ];
    assert_eq!(world.says(), [&sent[..], &["ping 4, ack 1"]].concat());
    world.hears(&[BrokerFrame::Pong {
        nonce: 4,
        received: 4,
    }]);
    assert!(matches!(world.outcome(unsent), Some(Ok(Answer::Done))));
}

#[test]
fn requests_are_repeated_in_a_new_session_unless_that_could_do_harm() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let snapshot = world.core.snapshot(room, "#".parse().unwrap()).unwrap();
    let state = world
        .core
        .set_state_of(room, Bytes::from_static(&[0xa0]))
        .unwrap();
    let admin = world.core.admin("stop", &[0xf6]).unwrap();
    world.says();

    world.loses_connection();
    let unsent = world.core.admin("status", &[0xf6]).unwrap();
    world.starts_anew();

    assert_eq!(
        world.outcome(admin).unwrap().unwrap_err(),
        Failure::Disconnected
    );
    assert_eq!(world.says(), ["join kiosk [160]", "request status"]);
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    }]);
    assert_eq!(world.says(), ["snapshot 7 #", "state 7 [160]"]);
    world.hears(&[
        BrokerFrame::Values {
            request: 3,
            channel: KIOSK,
            offset: 9,
            count: 0,
        },
        BrokerFrame::Done { request: 4 },
    ]);
    assert!(
        matches!(world.outcome(snapshot), Some(Ok(Answer::Values(values))) if values.offset == 9)
    );
    assert!(matches!(world.outcome(state), Some(Ok(Answer::Done))));
    assert!(world.outcome(unsent).is_none());
    let reply = Message::Reply {
        to: ClientId(2),
        request: 2,
        error: None,
        content: ContentType::CBOR,
        payload: b"x",
    };
    let run = Run {
        channel: None,
        sender: ClientId::HUB,
        name: "hub",
        first: 2,
        count: 1,
        retained: false,
    };
    world.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(reply)]);
    assert!(matches!(
        world.outcome(unsent),
        Some(Ok(Answer::Reply { .. }))
    ));
}

#[test]
fn answers_that_got_lost_on_a_resume_are_asked_for_again() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let one = world.publishes_confirmed(room, "a", "one");
    let snapshot = world.core.snapshot(room, "#".parse().unwrap()).unwrap();
    world.says();

    world.loses_connection();
    world.resumes(3);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 2,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[
        BrokerFrame::Gap(gap),
        BrokerFrame::Pong {
            nonce: 1,
            received: 3,
        },
    ]);
    assert_eq!(world.says(), ["ping 3, ack 3"]);
    world.hears(&[BrokerFrame::Pong {
        nonce: 3,
        received: 3,
    }]);

    let unknown = world.outcome(one).unwrap().unwrap_err();
    assert_eq!(
        unknown,
        Failure::Disconnected,
        "its refusal may be what got lost"
    );
    assert_eq!(world.says(), ["snapshot 7 #"]);
    world.hears(&[BrokerFrame::Values {
        request: 4,
        channel: KIOSK,
        offset: 0,
        count: 0,
    }]);
    assert!(matches!(
        world.outcome(snapshot),
        Some(Ok(Answer::Values(_)))
    ));
}

#[test]
fn a_channel_that_is_left_and_joined_again_is_left_first() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.loses_connection();
    world.starts_anew();
    world.says();

    let left = world.core.leave(room).unwrap();
    let (_, again) = world
        .core
        .join("kiosk".parse().unwrap(), false, None)
        .unwrap();
    assert_eq!(world.says(), [""; 0], "the first join is not yet answered");
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: ChannelId(70),
        offset: 0,
    }]);
    assert_eq!(world.says(), ["leave 70", "join kiosk []"]);
    world.hears(&[
        BrokerFrame::Done { request: 2 },
        BrokerFrame::Joined {
            request: 3,
            channel: ChannelId(71),
            offset: 0,
        },
    ]);
    assert!(matches!(world.outcome(left), Some(Ok(Answer::Done))));
    assert!(matches!(world.outcome(again), Some(Ok(Answer::Done))));
    assert_eq!(world.got(stream).last().unwrap(), "end");
    let Poll::Ready(Err(Error::Refused { code, .. })) = world.publish(room, "a", "x", false) else {
        panic!("a handle to the old membership still works");
    };
    assert_eq!(code, Code::NOT_A_MEMBER);
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
