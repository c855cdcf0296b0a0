//! Members, topics and filters: rules 7.1 to 8.11, 8.14, 8.15 and 9.

use super::*;

#[test]
fn a_publish_reaches_the_members_whose_filter_matches_once() {
    let mut world = World::default();
    let (mut ana, mut bo, mut eve) = (world.client("ana"), world.client("bo"), world.client("eve"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    eve.joins("kiosk");
    bo.subscribes(kiosk, "device/+/state");
    bo.subscribes(kiosk, "#");
    eve.subscribes(kiosk, "other");
    bo.hears();

    ana.publishes(kiosk, "device/printer/state", "paper");

    let state = Some("device/printer/state".to_owned());
    let expected = Seen::Channel(kiosk, ana.id, 1, state, b"paper".to_vec());
    assert_eq!(bo.hears(), [expected], "once, though two filters match");
    assert_eq!(payloads(&eve.hears()), [""; 0]);
    assert_eq!(payloads(&ana.hears()), [""; 0], "ana does not subscribe");
}

#[test]
fn a_publisher_that_subscribes_gets_its_own_messages() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.subscribes(kiosk, "#");
    ana.publishes(kiosk, "a", "1");
    assert_eq!(payloads(&ana.hears()), ["1"]);
}

#[test]
fn a_broadcast_reaches_every_other_member() {
    let mut world = World::default();
    let (mut ana, mut bo, mut out) = (world.client("ana"), world.client("bo"), world.client("out"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    out.joins("elsewhere");
    ana.broadcasts(kiosk, "hello");
    let expected = Seen::Channel(kiosk, ana.id, 1, None, b"hello".to_vec());
    assert_eq!(bo.hears(), [expected]);
    assert_eq!(payloads(&ana.hears()), [""; 0]);
    assert_eq!(payloads(&out.hears()), [""; 0]);
}

#[test]
fn all_members_see_one_order_of_publishes_and_broadcasts() {
    let mut world = World::default();
    let (mut ana, mut bo, mut cy) = (world.client("ana"), world.client("bo"), world.client("cy"));
    let kiosk = ana.joins("kiosk");
    for puppet in [&mut bo, &mut cy] {
        puppet.joins("kiosk");
        puppet.subscribes(kiosk, "#");
        puppet.hears();
    }
    for n in 0..4 {
        ana.publishes(kiosk, "n", &format!("a{n}"));
        ana.broadcasts(kiosk, &format!("b{n}"));
    }
    let seen = bo.hears();
    let offsets: Vec<_> = seen
        .iter()
        .map(|seen| match seen {
            Seen::Channel(_, _, offset, ..) => *offset,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(seen, cy.hears());
}

#[test]
fn frames_that_came_together_go_together_and_stay_the_same() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.subscribes(kiosk, "#");
    bo.hears();
    let mut wire = Vec::new();
    for (topic, payload) in [
        ("a", "1"),
        ("a", "2"),
        ("a", "three"),
        ("b", "4"),
        ("a", "5"),
        ("a", "6"),
    ] {
        ClientFrame::Message(Message::Publish {
            channel: kiosk,
            retain: Retain::No,
            content: ContentType::TEXT,
            topic,
            payload: payload.as_bytes(),
        })
        .encode(&mut wire);
    }
    ana.sends(&wire).unwrap();
    let topics: Vec<_> = bo
        .hears()
        .into_iter()
        .map(|seen| match seen {
            Seen::Channel(_, _, offset, topic, payload) => (offset, topic.unwrap(), payload),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<_> = [
        ("a", "1"),
        ("a", "2"),
        ("a", "three"),
        ("b", "4"),
        ("a", "5"),
        ("a", "6"),
    ]
    .into_iter()
    .zip(1..)
    .map(|((topic, payload), offset)| (offset, topic.to_owned(), payload.as_bytes().to_vec()))
    .collect();
    assert_eq!(topics, expected);
}

#[test]
fn whoever_is_not_a_member_is_refused() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    let requests = [
        bo.publishes(kiosk, "a", "1"),
        bo.broadcasts(kiosk, "1"),
        bo.subscribes(kiosk, "#"),
        bo.watches(kiosk),
        bo.says(&ClientFrame::Leave { channel: kiosk }),
        bo.says(&ClientFrame::PresenceSet {
            channel: kiosk,
            state: b"",
        }),
        bo.says(&ClientFrame::Unsubscribe {
            channel: kiosk,
            filter: "#",
        }),
        bo.says(&ClientFrame::Snapshot {
            channel: kiosk,
            filter: "#",
        }),
    ];
    let expected: Vec<_> = requests
        .iter()
        .map(|request| (*request, Code::NOT_A_MEMBER))
        .collect();
    assert_eq!(refusals(&bo.hears()), expected);
    world.hub.check();
}

#[test]
fn wrong_names_topics_and_filters_are_refused_with_the_reason() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.says(&ClientFrame::Join {
        name: "Kiosk",
        hidden: false,
        state: b"",
    });
    ana.publishes(kiosk, "a/+", "1");
    ana.says(&ClientFrame::Subscribe {
        channel: kiosk,
        filter: "#/a",
        start: Start::Live,
        policy: Policy::DropOldest,
    });
    ana.says(&ClientFrame::Unsubscribe {
        channel: kiosk,
        filter: "a",
    });
    let large = vec![0; 4 * 1024 + 1];
    ana.says(&ClientFrame::PresenceSet {
        channel: kiosk,
        state: &large,
    });
    let seen = ana.hears();
    let codes: Vec<_> = refusals(&seen).into_iter().map(|(_, code)| code).collect();
    assert_eq!(
        codes,
        [
            Code::BAD_CHANNEL_NAME,
            Code::BAD_TOPIC,
            Code::BAD_FILTER,
            Code::NOT_SUBSCRIBED,
            Code::STATE_TOO_LARGE
        ]
    );
    let Seen::Refusal(_, _, detail) = &seen[0] else {
        panic!("{seen:?}")
    };
    assert_eq!(detail, "a name cannot contain 'K' (use a-z 0-9 . _ -)");
}

#[test]
fn a_channel_that_nobody_would_miss_is_gone() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let first = ana.joins("kiosk");
    ana.says(&ClientFrame::Leave { channel: first });
    assert_eq!(world.hub.status(world.now).channels, 0);
    let second = ana.joins("kiosk");
    assert_ne!(first, second, "an id is never given twice");
    ana.publishes(first, "a", "1");
    assert_eq!(refusals(&ana.hears()).len(), 1);
}

#[test]
fn limits_are_refused_with_their_number() {
    let mut world = World::new(|settings| {
        settings.limits.channels = 1;
        settings.limits.subscriptions = 2;
        settings.limits.payload_bytes = 1 << 20;
        settings.channels = 2;
    });
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("other");
    ana.says(&ClientFrame::Join {
        name: "more",
        hidden: false,
        state: b"",
    });
    let mut cy = world.client("cy");
    cy.says(&ClientFrame::Join {
        name: "third",
        hidden: false,
        state: b"",
    });
    for filter in ["a", "b", "c", "a"] {
        ana.subscribes(kiosk, filter);
    }
    ana.says(&publish(kiosk, &vec![0; (1 << 20) + 1]));
    let codes =
        |seen: &[Seen]| -> Vec<_> { refusals(seen).into_iter().map(|(_, code)| code).collect() };
    assert_eq!(
        codes(&ana.hears()),
        [
            Code::LIMIT_REACHED,
            Code::LIMIT_REACHED,
            Code::PAYLOAD_TOO_LARGE
        ]
    );
    assert_eq!(codes(&cy.hears()), [Code::LIMIT_REACHED]);
    ana.says(&publish(kiosk, &vec![0; 1 << 20]));
    assert_eq!(
        codes(&ana.hears()),
        [],
        "a payload of the limit goes through"
    );
}
