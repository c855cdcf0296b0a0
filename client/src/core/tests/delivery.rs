//! What reaches which stream, and where gaps are.

use super::*;

const LOST_ONE: &str = "1 message of channel kiosk was lost: this stream was read too slowly";

fn gap(channel: Option<ChannelId>, lost: u64) -> BrokerFrame<'static> {
    BrokerFrame::Gap(localhub_protocol::Gap {
        channel,
        lost,
        cause: Code::SLOW_CONSUMER,
    })
}

#[test]
fn each_stream_gets_what_its_filter_matches_in_order() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let devices = world.subscribes(room, "device/+");
    let all = world.subscribes(room, "#");
    let again = world.subscribes(room, "device/+");

    world.hears(&run(1, "device/a", &["one"]));
    world.hears(&run(2, "other", &["two"]));
    // Two frames of one run that differ in nothing but the topic, not even in length.
    let mut mixed = run(3, "device/a", &["3", "4"]);
    mixed[2] = published(KIOSK, "device-a", "4");
    world.hears(&mixed);

    assert_eq!(world.got(devices), ["one@1", "3@3"]);
    assert_eq!(world.got(all), ["one@1", "two@2", "3@3", "4@4"]);
    assert_eq!(world.got(again), ["one@1", "3@3"]);
}

#[test]
fn a_run_may_come_in_any_number_of_pieces() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    for frame in run(5, "a", &["one", "two", "three"]) {
        world.hears(&[frame]);
    }
    assert_eq!(world.got(stream), ["one@5", "two@6", "three@7"]);
    assert_eq!(world.core.received, 2 + 3);
}

#[test]
fn a_frame_that_may_not_stand_there_is_an_error() {
    let mut world = World::new();
    let mut wire = Vec::new();
    published(KIOSK, "a", "x").encode(&mut wire);
    world
        .core
        .receive(&mut wire.into(), 0, world.now)
        .expect_err("a message outside of a run");

    let mut wire = Vec::new();
    run(1, "a", &["one", "two"])[..2]
        .iter()
        .for_each(|frame| frame.encode(&mut wire));
    BrokerFrame::Done { request: 1 }.encode(&mut wire);
    world
        .core
        .receive(&mut wire.into(), 0, world.now)
        .expect_err("a run that is cut short");
}

#[test]
fn retained_values_come_first_and_only_to_who_asked() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let live = world.subscribes(room, "#");
    let (stream, ticket) = world
        .core
        .open_stream(Some(room), topics("#", true))
        .unwrap();
    assert_eq!(world.says(), ["subscribe 7 # retained"]);

    world.hears(&run(8, "a", &["before"]));
    world.hears(&[BrokerFrame::Values {
        request: 3,
        channel: KIOSK,
        offset: 8,
        count: 2,
        since: 0,
    }]);
    world.hears(&run_in(KIOSK, 3, "a", &["old"], true));
    world.hears(&run_in(KIOSK, 5, "b", &["older"], true));
    world.hears(&run(9, "a", &["after"]));

    assert!(matches!(
        world.outcome(ticket.unwrap()),
        Some(Ok(Answer::Done))
    ));
    assert_eq!(
        world.got(stream),
        ["old@3 (retained)", "older@5 (retained)", "after@9"]
    );
    assert_eq!(world.got(live), ["before@8", "after@9"]);
}

#[test]
fn a_snapshot_is_complete_or_asked_for_again() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    let snapshot = world.core.snapshot(room, "#".parse().unwrap()).unwrap();
    assert_eq!(world.says(), ["snapshot 7 #"]);
    world.hears(&[BrokerFrame::Values {
        request: 3,
        channel: KIOSK,
        offset: 8,
        count: 2,
        since: 0,
    }]);
    world.hears(&run_in(KIOSK, 3, "a", &["old"], true));
    world.hears(&[gap(Some(KIOSK), 1)]);
    assert!(world.outcome(snapshot).is_none());
    assert_eq!(world.says(), ["snapshot 7 #"]);

    world.hears(&[BrokerFrame::Values {
        request: 4,
        channel: KIOSK,
        offset: 9,
        count: 2,
        since: 0,
    }]);
    world.hears(&run_in(KIOSK, 3, "a", &["old"], true));
    assert!(world.outcome(snapshot).is_none());
    world.hears(&run_in(KIOSK, 5, "b", &["older"], true));
    let Some(Ok(Answer::Values(values))) = world.outcome(snapshot) else {
        panic!("the snapshot is complete");
    };
    let texts: Vec<_> = values
        .values
        .iter()
        .filter_map(|value| value.text())
        .collect();
    assert_eq!((values.offset, texts), (9, vec!["old", "older"]));
    assert_eq!(
        world.got(stream).len(),
        1,
        "the stream got the gap and no values"
    );
}

#[test]
fn a_gap_stands_where_the_messages_are_missing() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.hears(&run(1, "a", &["one"]));
    world.hears(&[gap(Some(KIOSK), 3)]);
    world.hears(&run(5, "a", &["five"]));

    let lost = "3 messages of channel kiosk were lost: the client read too slowly";
    assert_eq!(world.got(stream), ["one@1", lost, "five@5"]);
    assert_eq!(
        world.core.received,
        2 + 1 + 3 + 1,
        "lost messages are counted"
    );
}

#[test]
fn lost_messages_of_nobody_knows_where_are_told_everywhere() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let streams = [
        world.subscribes(room, "#"),
        world
            .core
            .open_stream(Some(room), Takes::Broadcasts)
            .unwrap()
            .0,
        world.core.open_stream(None, Takes::Directs).unwrap().0,
    ];
    world.hears(&[gap(None, 2)]);
    for stream in streams {
        let lost = "2 messages to this client were lost: the client read too slowly";
        assert_eq!(world.got(stream), [lost]);
    }
}

#[test]
fn a_full_inbox_is_waited_for_until_half_of_it_is_read() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.hears(&run(1, "a", &["1", "2", "3", "4"]));

    let mut wire = Vec::new();
    run(5, "a", &["5"])
        .iter()
        .for_each(|frame| frame.encode(&mut wire));
    let mut chunk = Bytes::from(wire);
    let Progress::Blocked { until } = world.reads(&mut chunk) else {
        panic!("there is no room");
    };
    assert_eq!(until, world.now + Duration::from_millis(100));
    world.passes(99);
    assert!(matches!(world.reads(&mut chunk), Progress::Blocked { .. }));
    assert_eq!(world.got(stream), ["1@1", "2@2", "3@3", "4@4"]);
    assert!(matches!(world.reads(&mut chunk), Progress::All));
    assert_eq!(world.got(stream), ["5@5"]);
}

#[test]
fn after_a_while_the_oldest_make_room_and_a_gap_tells_how_many() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.hears(&run(1, "a", &["1", "2", "3", "4"]));
    let mut wire = Vec::new();
    run(5, "a", &["5"])
        .iter()
        .for_each(|frame| frame.encode(&mut wire));
    let mut chunk = Bytes::from(wire);
    assert!(matches!(world.reads(&mut chunk), Progress::Blocked { .. }));
    world.passes(100);
    assert!(matches!(world.reads(&mut chunk), Progress::All));

    let progress = world.hears(&run(6, "a", &["6"]));
    assert!(
        matches!(progress, Progress::All),
        "it is not waited for a second time"
    );
    let lost = LOST_ONE
        .replace("1 message", "2 messages")
        .replace("was lost", "were lost");
    assert_eq!(world.got(stream), [&lost, "3@3", "4@4", "5@5", "6@6"]);

    world.hears(&run(7, "a", &["7", "8", "9", "10"]));
    let progress = world.hears(&run(11, "a", &["11"]));
    assert!(
        matches!(progress, Progress::Blocked { .. }),
        "it was read, so it is waited for again"
    );
}

#[test]
fn gaps_that_meet_become_one() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.hears(&[gap(Some(KIOSK), 3)]);
    world.hears(&run(4, "a", &["4"]));
    world.hears(&[gap(Some(KIOSK), 2)]);
    world.hears(&run(7, "a", &["7", "8", "9"]));
    let mut wire = Vec::new();
    run(10, "a", &["10"])
        .iter()
        .for_each(|frame| frame.encode(&mut wire));
    let mut chunk = Bytes::from(wire);
    world.reads(&mut chunk);
    world.passes(100);
    world.reads(&mut chunk);

    // Number 4 was dropped, and stood between the two.
    let lost = "6 messages of channel kiosk were lost: the client read too slowly";
    assert_eq!(world.got(stream), [lost, "7@7", "8@8", "9@9", "10@10"]);
}

#[test]
fn nobody_who_waits_for_an_answer_waits_for_an_inbox() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.publishes(room, "a", "x");
    let flush = world.core.flush().unwrap();
    world.says();
    world.hears(&run(1, "a", &["1", "2", "3", "4"]));
    let mut frames = run(5, "a", &["5"]);
    frames.push(BrokerFrame::Pong {
        nonce: 3,
        received: 3,
    });
    assert!(matches!(world.hears(&frames), Progress::All));
    assert!(matches!(world.outcome(flush), Some(Ok(Answer::Done))));
    assert_eq!(world.got(stream), [LOST_ONE, "2@2", "3@3", "4@4", "5@5"]);
}

#[test]
fn one_full_inbox_does_not_cost_the_others_anything_but_time() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let idle = world.subscribes(room, "#");
    let busy = world.subscribes(room, "a");
    world.hears(&run(1, "a", &["1", "2", "3", "4"]));
    world.got(busy);
    let mut wire = Vec::new();
    run(5, "a", &["5", "6", "7"])
        .iter()
        .for_each(|frame| frame.encode(&mut wire));
    let mut chunk = Bytes::from(wire);
    assert!(matches!(world.reads(&mut chunk), Progress::Blocked { .. }));
    world.passes(100);
    assert!(matches!(world.reads(&mut chunk), Progress::All));

    assert_eq!(world.got(busy), ["5@5", "6@6", "7@7"]);
    let lost = LOST_ONE
        .replace("1 message", "3 messages")
        .replace("was lost", "were lost");
    assert_eq!(world.got(idle), [&lost, "4@4", "5@5", "6@6", "7@7"]);
}

#[test]
fn the_last_stream_of_a_filter_ends_its_subscription() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let first = world.subscribes(room, "a");
    let (second, ticket) = world
        .core
        .open_stream(Some(room), topics("a", false))
        .unwrap();
    assert!(ticket.is_none(), "the subscription stands already");
    world.core.close_stream(first);
    assert_eq!(world.says(), [""; 0]);
    world.hears(&run(1, "a", &["one"]));
    assert_eq!(world.got(second), ["one@1"]);
    world.core.close_stream(second);
    assert_eq!(world.says(), ["unsubscribe 7 a"]);
}

#[test]
fn a_refused_subscription_is_an_error_and_no_stream() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let (stream, ticket) = world
        .core
        .open_stream(Some(room), topics("a", true))
        .unwrap();
    world.says();
    world.hears(&[BrokerFrame::Refusal {
        request: 2,
        code: Code::LIMIT_REACHED,
        detail: "",
    }]);
    let refused = Failure::Refused {
        code: Code::LIMIT_REACHED,
        detail: String::new(),
    };
    assert_eq!(
        world.outcome(ticket.unwrap()).unwrap().unwrap_err(),
        refused
    );
    assert_eq!(world.got(stream), ["end"]);
    world.core.close_stream(stream);
    assert_eq!(
        world.says(),
        [""; 0],
        "there is nothing to unsubscribe from"
    );
}

#[test]
fn direct_messages_and_broadcasts_reach_every_stream_for_them() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let directs = [(); 2].map(|()| world.core.open_stream(None, Takes::Directs).unwrap().0);
    let broadcasts = world
        .core
        .open_stream(Some(room), Takes::Broadcasts)
        .unwrap()
        .0;
    let everything = Takes::Topics {
        filter: "#".parse().unwrap(),
        start: crate::StartAt::Now,
        policy: localhub_protocol::Policy::default(),
        broadcasts: true,
    };
    let (everything, _) = world.core.open_stream(Some(room), everything).unwrap();
    world.says();
    world.hears(&[BrokerFrame::Values {
        request: 2,
        channel: KIOSK,
        offset: 0,
        count: 0,
        since: 0,
    }]);

    let header = |channel, first| {
        BrokerFrame::Run(Run {
            channel,
            sender: ClientId(5),
            name: "bo",
            first,
            count: 1,
            retained: false,
        })
    };
    let content = ContentType::TEXT;
    let to = localhub_protocol::Target::Name("ana");
    world.hears(&[
        header(None, 12),
        BrokerFrame::Message(Message::Direct {
            to,
            content,
            payload: b"psst",
        }),
        header(Some(KIOSK), 1),
        BrokerFrame::Message(Message::Broadcast {
            channel: KIOSK,
            content,
            payload: b"hear",
        }),
    ]);
    world.hears(&run(2, "a", &["said"]));

    for stream in directs {
        assert_eq!(world.got(stream), ["psst@12"]);
    }
    assert_eq!(world.got(broadcasts), ["hear@1"]);
    assert_eq!(world.got(everything), ["hear@1", "said@2"]);
}

#[test]
fn a_message_shows_what_its_sender_and_the_broker_said_of_it() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    let mut frames = run(3, "a/b", &["x"]);
    frames[1] = BrokerFrame::Message(Message::Publish {
        channel: KIOSK,
        retain: Retain::Clear,
        content: ContentType::JSON,
        topic: "a/b",
        payload: b"[1]",
    });
    world.hears(&frames);
    let mut batch = VecDeque::new();
    let cx = &Context::from_waker(Waker::noop());
    assert!(world.core.poll_stream(stream, &mut batch, cx).is_ready());
    let Some(Entry::Run(mut piece)) = batch.pop_front() else {
        panic!("a message came");
    };
    let message = piece.next(&mut LastTopic::default()).unwrap();
    assert_eq!(message.channel().unwrap().as_str(), "kiosk");
    assert_eq!(message.topic(), Some("a/b"));
    assert_eq!(
        (message.sender().id, message.sender().name.as_str()),
        (ClientId(5), "bo")
    );
    assert_eq!(
        (message.offset(), message.content()),
        (3, ContentType::JSON)
    );
    assert!(message.is_cleared() && !message.is_retained() && !message.is_broadcast());
    assert_eq!(message.decode::<Vec<u8>>().unwrap(), [1]);
}
