//! Values that are set on conditions, and end by themselves or with who set them. Rules 8.19 to 8.22.

use localhub_protocol::{BrokerFrame, ChannelId, ChannelSettings, Policy, Put, Run, Start, Will};

use super::*;

/// A member that sets values, and a watcher that hears of everything in the channel.
fn pair(world: &mut World) -> (Puppet, Puppet, ChannelId) {
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.watches(kiosk);
    bo.subscribes(kiosk, "#");
    bo.hears();
    (ana, bo, kiosk)
}

/// A value on no conditions.
fn value(payload: &'static str) -> Put<'static> {
    Put {
        expect: None,
        ttl_ms: 0,
        owned: false,
        retain: Retain::Set,
        content: ContentType::TEXT,
        topic: "job",
        payload: payload.as_bytes(),
    }
}

/// A deletion on no conditions.
fn deletion() -> Put<'static> {
    Put {
        retain: Retain::Clear,
        ..value("")
    }
}

fn expecting(version: u64, put: Put<'_>) -> Put<'_> {
    Put {
        expect: Some(version),
        ..put
    }
}

/// Does a put, and hears its version.
fn stored(puppet: &mut Puppet, channel: ChannelId, put: Put<'_>) -> u64 {
    let request = puppet.puts(channel, put);
    match puppet.hears()[..] {
        [Seen::Stored(of, offset)] if of == request => offset,
        ref other => panic!("stored: {other:?}"),
    }
}

/// Does a put that is refused. Hears why, and the particulars.
fn refused(puppet: &mut Puppet, channel: ChannelId, put: Put<'_>) -> (Code, String) {
    let request = puppet.puts(channel, put);
    match &puppet.hears()[..] {
        [Seen::Refusal(of, code, detail)] if *of == request => (*code, detail.clone()),
        other => panic!("refused: {other:?}"),
    }
}

/// The values of a channel: topic, version and payload.
fn values(puppet: &mut Puppet, channel: ChannelId) -> Vec<(String, u64, String)> {
    puppet.hears();
    puppet.says(&ClientFrame::Snapshot {
        channel,
        filter: "#",
    });
    let seen = puppet.hears();
    let values = seen.into_iter().filter_map(|seen| match seen {
        Seen::Retained(_, _, offset, topic, payload) => {
            Some((topic.unwrap(), offset, String::from_utf8(payload).unwrap()))
        }
        _ => None,
    });
    values.collect()
}

/// What a subscriber hears of a value that the hub has deleted.
fn deleted(channel: ChannelId, offset: u64, topic: &str) -> Seen {
    Seen::Channel(
        channel,
        ClientId::HUB,
        offset,
        Some(topic.to_owned()),
        Vec::new(),
    )
}

fn keeps(puppet: &mut Puppet, channel: ChannelId, messages: u64, bytes: u64, age_secs: u32) {
    let request = puppet.says(&ClientFrame::ChannelSet {
        channel,
        settings: ChannelSettings {
            history_messages: messages,
            history_bytes: bytes,
            history_age_ms: age_secs * 1_000,
            debounce_ms: 0,
        },
    });
    assert_eq!(puppet.hears(), [Seen::Done(request)]);
}

fn channels(world: &World) -> u64 {
    world.hub.check();
    world.hub.status(world.now).channels
}

mod conditions {
    use super::*;

    #[test]
    fn a_put_is_delivered_as_a_publish_of_who_put_it() {
        // 8.19
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        ana.broadcasts(kiosk, "the first message");
        bo.hears();
        for (put, offset) in [(value("7"), 2), (deletion(), 3)] {
            assert_eq!(stored(&mut ana, kiosk, put), offset);
            let mut wire = Vec::new();
            BrokerFrame::Run(Run {
                channel: Some(kiosk),
                sender: ana.id,
                name: "ana",
                first: offset,
                count: 1,
                retained: false,
            })
            .encode(&mut wire);
            BrokerFrame::Message(Message::Publish {
                channel: kiosk,
                retain: put.retain,
                content: put.content,
                topic: "job",
                payload: put.payload,
            })
            .encode(&mut wire);
            let taken = bo.takes();
            assert!(taken.starts_with(&wire), "{taken:02x?}");
        }
        assert_eq!(values(&mut ana, kiosk), []);
        // Who subscribes gets its own, and the answer behind it.
        ana.subscribes(kiosk, "#");
        ana.hears();
        let request = ana.puts(kiosk, value("8"));
        let own = Seen::Channel(kiosk, ana.id, 4, Some("job".into()), b"8".to_vec());
        assert_eq!(ana.hears(), [own, Seen::Stored(request, 4)]);
        world.hub.check();
    }

    #[test]
    fn a_put_says_which_version_it_expects() {
        // 8.20
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        let conflict = |puppet: &mut Puppet, put, has: &str| {
            let (code, detail) = refused(puppet, kiosk, put);
            assert_eq!(code, Code::VERSION_CONFLICT);
            assert!(detail.contains(has), "{detail}");
        };
        conflict(&mut ana, expecting(1, value("x")), "version 0");
        conflict(&mut ana, expecting(1, deletion()), "version 0");
        let first = stored(&mut ana, kiosk, expecting(0, value("1")));
        assert_eq!(first, 1, "what was refused has no offset");
        bo.hears();
        conflict(&mut bo, expecting(0, value("x")), "version 1");
        let second = stored(&mut ana, kiosk, expecting(first, value("2")));
        bo.hears();
        conflict(&mut bo, expecting(first, value("x")), "version 2");
        conflict(&mut ana, expecting(first, deletion()), "version 2");
        conflict(&mut ana, expecting(u64::MAX, value("x")), "version 2");
        assert_eq!(
            values(&mut ana, kiosk),
            [("job".into(), second, "2".into())]
        );
        assert_eq!(bo.hears(), [], "nobody hears of what was refused");
        // Another topic has a version of its own, and messages that set nothing change none.
        let other = Put {
            topic: "other",
            ..value("o")
        };
        stored(&mut ana, kiosk, expecting(0, other));
        ana.publishes(kiosk, "job", "a message");
        let last = stored(&mut ana, kiosk, expecting(second, deletion()));
        assert_eq!(last, 5);
        conflict(&mut ana, expecting(last, value("x")), "version 0");
        stored(&mut ana, kiosk, expecting(0, deletion()));
        stored(&mut ana, kiosk, expecting(0, value("anew")));
        world.hub.check();
    }

    #[test]
    fn without_an_expectation_any_version_will_do() {
        let mut world = World::default();
        let (mut ana, _, kiosk) = pair(&mut world);
        assert_eq!(stored(&mut ana, kiosk, deletion()), 1, "there was none");
        assert_eq!(stored(&mut ana, kiosk, value("1")), 2);
        assert_eq!(stored(&mut ana, kiosk, value("2")), 3);
        assert_eq!(stored(&mut ana, kiosk, deletion()), 4);
        assert_eq!(values(&mut ana, kiosk), []);
        world.hub.check();
    }

    #[test]
    fn a_publish_is_a_version_too() {
        // 8.19: the version of a value is its offset, whoever set it and how.
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        ana.publishes_as(kiosk, "job", Retain::Set, b"1");
        bo.hears();
        let request = bo.puts(kiosk, expecting(1, value("2")));
        assert_eq!(bo.hears()[1..], [Seen::Stored(request, 2)]);
        ana.publishes_as(kiosk, "job", Retain::Clear, b"");
        ana.hears();
        stored(&mut ana, kiosk, expecting(0, value("3")));
    }

    #[test]
    fn of_two_with_the_same_expectation_one_wins() {
        let mut world = World::default();
        let (mut ana, _, kiosk) = pair(&mut world);
        let mut cy = world.client("cy");
        cy.joins("kiosk");
        let won = stored(&mut ana, kiosk, expecting(0, value("ana's")));
        let (code, _) = refused(&mut cy, kiosk, expecting(0, value("cy's")));
        assert_eq!(code, Code::VERSION_CONFLICT);
        assert_eq!(
            values(&mut cy, kiosk),
            [("job".into(), won, "ana's".into())]
        );
    }

    #[test]
    fn a_put_is_refused_as_a_publish_is() {
        let mut world = World::new(|settings| {
            settings.limits.payload_bytes = 1 << 20;
            settings.retained_topics = 1;
        });
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        let mut eve = world.client("eve");
        let long = vec![0; (1 << 20) + 1];
        let on = |topic| Put {
            topic,
            ..value("x")
        };
        assert_eq!(refused(&mut eve, kiosk, value("x")).0, Code::NOT_A_MEMBER);
        assert_eq!(refused(&mut ana, kiosk, on("a/+")).0, Code::BAD_TOPIC);
        assert_eq!(refused(&mut ana, kiosk, on("")).0, Code::BAD_TOPIC);
        let large = Put {
            payload: &long,
            ..value("")
        };
        assert_eq!(refused(&mut ana, kiosk, large).0, Code::PAYLOAD_TOO_LARGE);
        let first = Put {
            ttl_ms: 5_000,
            owned: true,
            ..value("1")
        };
        assert_eq!(
            stored(&mut ana, kiosk, first),
            1,
            "none of them has an offset"
        );
        assert_eq!(refused(&mut ana, kiosk, on("more")).0, Code::RETAINED_FULL);
        bo.hears();
        world.hub.check();
        world.pass(Duration::from_secs(5));
        let ended = [deleted(kiosk, 2, "job")];
        assert_eq!(bo.hears(), ended, "what was refused changes no value");
    }
}

mod time_limits {
    use super::*;

    fn lasting(ttl_ms: u32) -> Put<'static> {
        Put {
            ttl_ms,
            ..value("1")
        }
    }

    #[test]
    fn a_value_is_deleted_when_its_time_is_over() {
        // 8.21
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, lasting(1_000));
        let forever = Put {
            topic: "other",
            ..value("2")
        };
        stored(&mut ana, kiosk, forever);
        bo.hears();
        world.pass(Duration::from_millis(999));
        assert_eq!(bo.hears(), []);
        world.pass(Duration::from_millis(1));
        let mut wire = Vec::new();
        BrokerFrame::Run(Run {
            channel: Some(kiosk),
            sender: ClientId::HUB,
            name: "hub",
            first: 3,
            count: 1,
            retained: false,
        })
        .encode(&mut wire);
        BrokerFrame::Message(Message::Publish {
            channel: kiosk,
            retain: Retain::Clear,
            content: ContentType::BYTES,
            topic: "job",
            payload: b"",
        })
        .encode(&mut wire);
        assert!(bo.takes().starts_with(&wire));
        assert_eq!(values(&mut ana, kiosk), [("other".into(), 2, "2".into())]);
        stored(&mut ana, kiosk, expecting(0, value("3")));
        world.pass(Duration::from_secs(1_000));
        assert_eq!(channels(&world), 1);
    }

    #[test]
    fn to_set_it_again_is_to_begin_anew() {
        // 8.21
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, lasting(1_000));
        assert!(ana.rings(), "the server has to look at its clock");
        for _ in 0..3 {
            world.pass(Duration::from_millis(600));
            ana.looks_at_the_clock(&world);
            stored(&mut ana, kiosk, lasting(1_000));
            world.hub.check();
        }
        bo.hears();
        world.pass(Duration::from_millis(999));
        assert_eq!(bo.hears(), []);
        world.pass(Duration::from_millis(1));
        assert_eq!(bo.hears(), [deleted(kiosk, 5, "job")]);
        // Without a limit it stays; a deletion needs none.
        ana.looks_at_the_clock(&world);
        for put in [value("for good"), deletion()] {
            stored(&mut ana, kiosk, lasting(1_000));
            stored(&mut ana, kiosk, put);
            bo.hears();
            world.pass(Duration::from_secs(10));
            assert_eq!(bo.hears(), []);
            world.hub.check();
        }
    }

    #[test]
    fn a_plain_publish_has_no_time_limit() {
        // 8.22
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, lasting(1_000));
        ana.publishes_as(kiosk, "job", Retain::Set, b"2");
        bo.hears();
        world.pass(Duration::from_secs(10));
        assert_eq!(bo.hears(), []);
        assert_eq!(values(&mut ana, kiosk), [("job".into(), 2, "2".into())]);
        // One that sets nothing changes nothing.
        ana.looks_at_the_clock(&world);
        stored(&mut ana, kiosk, lasting(1_000));
        ana.publishes(kiosk, "job", "by the way");
        bo.hears();
        world.pass(Duration::from_secs(1));
        assert_eq!(bo.hears(), [deleted(kiosk, 5, "job")]);
        world.hub.check();
    }

    #[test]
    fn several_end_each_at_its_time() {
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        for (topic, ttl_ms) in [("c", 3_000), ("a", 1_000), ("b", 2_000), ("a2", 1_000)] {
            stored(
                &mut ana,
                kiosk,
                Put {
                    topic,
                    ..lasting(ttl_ms)
                },
            );
        }
        bo.hears();
        for expected in [&["a", "a2"][..], &["b"], &["c"], &[]] {
            let next = world.hub.expire(world.now, &mut Default::default());
            assert_eq!(next.is_some(), !expected.is_empty());
            world.pass(Duration::from_secs(1));
            let seen = bo.hears();
            let topics: Vec<_> = seen
                .iter()
                .map(|seen| match seen {
                    Seen::Channel(_, ClientId::HUB, _, Some(topic), _) => topic.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(topics, expected);
            world.hub.check();
        }
    }

    #[test]
    fn what_ended_with_its_owner_is_not_waited_for() {
        // 8.21: its time to live was longer than its owner's session.
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        let put = Put {
            owned: true,
            ..lasting(3_600_000)
        };
        stored(&mut ana, kiosk, put);
        ana.loses_connection(&world);
        world.now = Duration::from_secs(120);
        let next = world.hub.expire(world.now, &mut Default::default());
        assert_eq!(next, None, "the session is over, and the value with it");
        assert_eq!(channels(&world), 0);
    }

    #[test]
    fn the_last_value_to_end_ends_a_channel_without_members() {
        // 8.15
        let mut world = World::default();
        let (mut ana, bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, lasting(60_000));
        for puppet in [ana, bo] {
            kicks(&world, &puppet);
        }
        assert_eq!(channels(&world), 1, "the value is still there");
        world.pass(Duration::from_millis(59_999));
        assert_eq!(channels(&world), 1);
        world.pass(Duration::from_millis(1));
        assert_eq!(channels(&world), 0);
        let mut cy = world.client("cy");
        assert_ne!(cy.joins("kiosk"), kiosk);
        assert_eq!(
            world.hub.expire(world.now, &mut Default::default()),
            None,
            "nothing is to be done for what is gone"
        );
    }

    #[test]
    fn a_history_of_nobody_ends_though_a_value_ended_in_it() {
        // 8.15, 8.16: the deletion is a message of the history, the last one.
        for (ttl_ms, ends_s) in [(10_000, 70), (100_000, 160)] {
            let mut world = World::default();
            let (mut ana, bo, kiosk) = pair(&mut world);
            keeps(&mut ana, kiosk, 10, 1 << 20, 60);
            stored(&mut ana, kiosk, lasting(ttl_ms));
            for puppet in [ana, bo] {
                kicks(&world, &puppet);
            }
            let mut turns = 0;
            // As a server does it: it comes back when it is told to.
            while let Some(next) = world.hub.expire(world.now, &mut Default::default()) {
                assert!(next > world.now);
                assert_eq!(channels(&world), 1);
                world.now = next;
                turns += 1;
                assert!(turns < 10, "it comes to an end");
            }
            assert_eq!(channels(&world), 0);
            assert_eq!(world.now, Duration::from_secs(ends_s));
        }
    }

    #[test]
    fn a_deletion_that_the_history_cannot_keep_ends_the_channel() {
        let mut world = World::default();
        let (mut ana, bo, kiosk) = pair(&mut world);
        keeps(&mut ana, kiosk, 10, 1 << 20, 60);
        stored(&mut ana, kiosk, lasting(10_000));
        keeps(&mut ana, kiosk, 1, 1, 60);
        for puppet in [ana, bo] {
            kicks(&world, &puppet);
        }
        world.hub.check();
        for _ in 0..10 {
            world.pass(Duration::from_secs(10));
            world.hub.check();
        }
        assert_eq!(channels(&world), 0);
    }

    #[test]
    fn who_comes_to_a_channel_in_time_finds_its_values() {
        let mut world = World::default();
        let (mut ana, bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, lasting(60_000));
        for puppet in [ana, bo] {
            kicks(&world, &puppet);
        }
        world.pass(Duration::from_secs(59));
        let mut cy = world.client("cy");
        assert_eq!(cy.joins("kiosk"), kiosk);
        assert_eq!(values(&mut cy, kiosk), [("job".into(), 1, "1".into())]);
        world.pass(Duration::from_secs(1));
        assert_eq!(values(&mut cy, kiosk), []);
        assert_eq!(channels(&world), 1, "it has a member");
    }

    #[test]
    fn the_history_has_the_deletions() {
        // 8.16, 8.21
        let mut world = World::default();
        let (mut ana, _, kiosk) = pair(&mut world);
        keeps(&mut ana, kiosk, 10, 1 << 20, 60);
        stored(&mut ana, kiosk, lasting(1_000));
        world.pass(Duration::from_secs(1));
        let mut cy = world.client("cy");
        cy.joins("kiosk");
        let request = cy.subscribes_with(kiosk, "#", Start::After(0), Policy::DropOldest);
        let kept = |sender, offset, payload: &str| {
            let topic = Some("job".to_owned());
            Seen::Retained(kiosk, sender, offset, topic, payload.into())
        };
        assert_eq!(
            cy.hears(),
            [
                Seen::Values(request, 2, 2, 0),
                kept(ana.id, 1, "1"),
                kept(ClientId::HUB, 2, "")
            ]
        );
        world.hub.check();
    }
}

mod owned {
    use super::*;

    fn owned(payload: &'static str) -> Put<'static> {
        Put {
            owned: true,
            ..value(payload)
        }
    }

    /// What a watcher hears at the end of a member that owned a value: the deletion, then the `left`.
    fn ends_with(bo: &mut Puppet, kiosk: ChannelId, offset: u64, cause: Code) {
        let seen = bo.hears();
        let left = |seen: &Seen| matches!(seen, Seen::Presence(_, Change::Left, Some(why), ..) if *why == cause);
        let [rest @ .., deletion, last] = &seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(*deletion, deleted(kiosk, offset, "job"));
        assert!(left(last), "the deletion comes before it: {seen:?}");
        assert!(!rest.iter().any(left));
    }

    #[test]
    fn a_value_ends_when_its_owner_leaves() {
        // 8.21
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, owned("mine"));
        let other = Put {
            topic: "other",
            ..value("for all")
        };
        stored(&mut ana, kiosk, other);
        ana.subscribes(kiosk, "#");
        bo.hears();
        ana.hears();
        let request = ana.says(&ClientFrame::Leave { channel: kiosk });
        assert_eq!(
            ana.hears(),
            [deleted(kiosk, 3, "job"), Seen::Done(request)],
            "it is still there to see it"
        );
        ends_with(&mut bo, kiosk, 3, Code::GOODBYE);
        assert_eq!(
            values(&mut bo, kiosk),
            [("other".into(), 2, "for all".into())]
        );
        world.hub.check();
    }

    #[test]
    fn a_value_ends_with_the_session_of_its_owner() {
        // 8.21
        type End<'a> = &'a dyn Fn(&mut World, &mut Puppet);
        let ends: [(Code, End<'_>); 4] = [
            (Code::GOODBYE, &|world, ana| {
                ana.departs(world, Departure::Final(Code::GOODBYE));
            }),
            (Code::PROCESS_DIED, &|world, ana| {
                ana.departs(world, Departure::Final(Code::PROCESS_DIED));
            }),
            (Code::KICKED, &|world, ana| kicks(world, ana)),
            (Code::SESSION_EXPIRED, &|world, ana| {
                ana.loses_connection(world);
                world.pass(Duration::from_secs(120));
            }),
        ];
        for (cause, end) in ends {
            let mut world = World::default();
            let (mut ana, mut bo, kiosk) = pair(&mut world);
            stored(&mut ana, kiosk, owned("mine"));
            bo.hears();
            end(&mut world, &mut ana);
            ends_with(&mut bo, kiosk, 2, cause);
            assert_eq!(values(&mut bo, kiosk), []);
            world.hub.check();
        }
    }

    #[test]
    fn a_value_stays_while_its_owner_is_away() {
        // 8.21
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        stored(&mut ana, kiosk, owned("mine"));
        ana.loses_connection(&world);
        world.pass(Duration::from_secs(119));
        let there = [("job".into(), 1, "mine".into())];
        assert_eq!(values(&mut bo, kiosk), there);
        ana.comes_back(&mut world);
        world.pass(Duration::from_secs(1_000));
        assert_eq!(values(&mut bo, kiosk), there);
        world.hub.check();
    }

    #[test]
    fn it_belongs_to_who_set_it_last() {
        // 8.21, 8.22
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        let mut cy = world.client("cy");
        cy.joins("kiosk");
        stored(&mut ana, kiosk, owned("ana's"));
        stored(&mut cy, kiosk, owned("cy's"));
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(values(&mut bo, kiosk), [("job".into(), 2, "cy's".into())]);
        cy.departs(&world, Departure::Final(Code::GOODBYE));
        ends_with(&mut bo, kiosk, 3, Code::GOODBYE);
        world.hub.check();
    }

    #[test]
    fn to_set_it_in_another_way_is_to_give_it_up() {
        // 8.21, 8.22
        type Set<'a> = &'a dyn Fn(&mut Puppet, ChannelId);
        let ways: [(&str, Set<'_>); 3] = [
            ("put", &|puppet, kiosk| {
                puppet.puts(kiosk, value("2"));
            }),
            ("publish", &|puppet, kiosk| {
                puppet.publishes_as(kiosk, "job", Retain::Set, b"2");
            }),
            ("will", &|puppet, kiosk| {
                puppet.says(&ClientFrame::WillSet {
                    channel: kiosk,
                    will: Will {
                        delay_ms: 0,
                        retain: Retain::Set,
                        content: ContentType::TEXT,
                        topic: "job",
                        payload: b"2",
                    },
                });
            }),
        ];
        for (way, set) in ways {
            let mut world = World::default();
            let (mut ana, mut bo, kiosk) = pair(&mut world);
            stored(&mut ana, kiosk, owned("1"));
            set(&mut ana, kiosk);
            ana.departs(&world, Departure::Final(Code::PROCESS_DIED));
            let there = [("job".into(), 2, "2".into())];
            assert_eq!(values(&mut bo, kiosk), there, "{way}");
            world.hub.check();
        }
    }

    #[test]
    fn what_is_gone_already_is_not_deleted_again() {
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        let short = Put {
            ttl_ms: 1_000,
            ..owned("1")
        };
        stored(&mut ana, kiosk, short);
        stored(&mut ana, kiosk, deletion());
        stored(&mut ana, kiosk, short);
        world.pass(Duration::from_secs(1));
        bo.hears();
        world.hub.check();
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        let seen = bo.hears();
        assert!(
            matches!(seen[..], [Seen::Presence(_, Change::Left, ..)]),
            "{seen:?}"
        );
        // And the other way round: who left has no time limits there.
        let mut cy = world.client("cy");
        cy.joins("kiosk");
        stored(&mut cy, kiosk, short);
        cy.departs(&world, Departure::Final(Code::GOODBYE));
        bo.hears();
        world.pass(Duration::from_secs(10));
        assert_eq!(bo.hears(), []);
        world.hub.check();
    }

    #[test]
    fn the_last_member_takes_its_values_and_the_channel_along() {
        // 8.15
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        for topic in ["a", "b", "c"] {
            stored(
                &mut ana,
                kiosk,
                Put {
                    topic,
                    ..owned("1")
                },
            );
        }
        ana.says(&ClientFrame::Leave { channel: kiosk });
        assert_eq!(channels(&world), 0);
        assert_ne!(ana.joins("kiosk"), kiosk);
    }

    #[test]
    fn each_channel_has_its_own() {
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        let lobby = ana.joins("lobby");
        bo.joins("lobby");
        stored(&mut ana, kiosk, owned("1"));
        stored(&mut ana, lobby, owned("1"));
        ana.says(&ClientFrame::Leave { channel: kiosk });
        assert_eq!(values(&mut bo, kiosk), []);
        assert_eq!(values(&mut bo, lobby).len(), 1);
        // Who is back as a member owns nothing from before.
        ana.joins("kiosk");
        ana.hears();
        stored(&mut ana, kiosk, value("2"));
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(values(&mut bo, kiosk).len(), 1);
        assert_eq!(values(&mut bo, lobby), []);
        world.hub.check();
    }
}
