//! What lives through sessions.

use super::*;

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
        since: 0,
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
            since: 0,
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
        more: false,
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
        since: 0,
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
fn a_version_is_that_of_no_value_in_another_life_of_the_channel() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let first = world.puts(room, None);
    assert_eq!(world.says(), ["put 7 a, whatever there is"]);
    world.hears(&[BrokerFrame::Stored {
        request: 2,
        offset: 5,
    }]);
    let stored = world.outcome(first).unwrap();
    let Ok(Answer::Stored(version)) = stored else {
        panic!("not stored: {stored:?}");
    };
    assert_eq!(version.offset(), 5);
    world.puts(room, Some(version));
    assert_eq!(world.says(), ["put 7 a if it is 5"]);

    world.loses_connection();
    let waits = world.puts(room, Some(version));
    let bare = world.puts(room, Some(5.into()));
    world.starts_anew();
    assert_eq!(world.says(), ["join kiosk []"]);
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: ChannelId(70),
        offset: 40,
    }]);
    // Another channel has that number: a value with this offset is not the one that was meant.
    assert_eq!(world.says(), ["put 70 a if it is 5"]);
    let refused = Failure::of_another_life();
    assert_eq!(world.outcome(waits).unwrap().unwrap_err(), refused);
    assert!(world.outcome(bare).is_none());
    let late = world.puts(room, Some(version));
    assert_eq!(world.outcome(late).unwrap().unwrap_err(), refused);
}
