//! Scripted dialogues with a hub in memory. Each test says which rule of `docs/protocol.md` it shows.

use std::time::Duration;

use localhub::hub::Departure;
use localhub_protocol::limits::MEMBERS_PER_FRAME_MAX;
use localhub_protocol::{
    Change, ClientFrame, ClientId, Code, ContentType, Gap, Message, Policy, Resumed, Retain, Start,
    Status, Target, admin,
};
use localhub_tests::{Puppet, Seen, World};

/// The payloads of channel and direct messages, as text.
fn payloads(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Channel(.., payload) | Seen::Direct(.., payload) => Some(payload),
            _ => None,
        })
        .map(|payload| String::from_utf8_lossy(payload).into_owned())
        .collect()
}

fn refusals(seen: &[Seen]) -> Vec<(u64, Code)> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Refusal(request, code, _) => Some((*request, *code)),
            _ => None,
        })
        .collect()
}

fn gaps(seen: &[Seen]) -> Vec<Gap> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Gap(gap) => Some(*gap),
            _ => None,
        })
        .collect()
}

fn publish<'a>(channel: localhub_protocol::ChannelId, payload: &'a [u8]) -> ClientFrame<'a> {
    ClientFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic: "t",
        payload,
    })
}

/// What a client hears when another has done what it asked for.
fn reply(from: &Puppet, request: u64, payload: &str) -> Seen {
    Seen::Reply(from.id, request, None, payload.into())
}

/// What it hears when the hub says why there is no reply.
fn no_reply(request: u64, why: Code) -> Seen {
    Seen::Reply(ClientId::HUB, request, Some(why), why.description().into())
}

/// How many requests have no outcome, once the hub has shown that it is in order.
fn open_requests(world: &World) -> u64 {
    world.hub.check();
    world.hub.status(world.now).requests
}

/// The end of a session without a word of the client.
fn kicks(world: &World, puppet: &Puppet) {
    let mut wakes = localhub::hub::Wakes::default();
    assert!(
        world
            .hub
            .end(puppet.id, Code::KICKED, world.now, &mut wakes)
    );
    wakes.fire();
}

mod absence;
mod commands;
mod history;
mod policies;
mod requests;
mod services;
mod streams;
mod values;

mod channels {
    use super::*;

    #[test]
    fn a_publish_reaches_the_members_whose_filter_matches_once() {
        let mut world = World::default();
        let (mut ana, mut bo, mut eve) =
            (world.client("ana"), world.client("bo"), world.client("eve"));
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
        let (mut ana, mut bo, mut out) =
            (world.client("ana"), world.client("bo"), world.client("out"));
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
        let (mut ana, mut bo, mut cy) =
            (world.client("ana"), world.client("bo"), world.client("cy"));
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
        let codes = |seen: &[Seen]| -> Vec<_> {
            refusals(seen).into_iter().map(|(_, code)| code).collect()
        };
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
}

mod retained {
    use super::*;

    #[test]
    fn a_subscriber_gets_the_last_values_and_then_what_is_live() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        ana.publishes_as(kiosk, "a", Retain::Set, b"1");
        ana.publishes_as(kiosk, "a", Retain::Set, b"2");
        ana.publishes_as(kiosk, "b", Retain::Set, b"3");
        ana.publishes_as(kiosk, "b", Retain::Clear, b"");
        ana.publishes_as(kiosk, "c/d", Retain::Set, b"5");
        bo.joins("kiosk");
        let request = bo.subscribes(kiosk, "#");
        ana.publishes_as(kiosk, "a", Retain::Set, b"6");
        let topic = |text: &str| Some(text.to_owned());
        assert_eq!(
            bo.hears(),
            [
                Seen::Values(request, 5, 2, 5),
                Seen::Retained(kiosk, ana.id, 2, topic("a"), b"2".to_vec()),
                Seen::Retained(kiosk, ana.id, 5, topic("c/d"), b"5".to_vec()),
                Seen::Channel(kiosk, ana.id, 6, topic("a"), b"6".to_vec()),
            ]
        );
        world.hub.check();
    }

    #[test]
    fn values_outlive_the_members() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        ana.publishes_as(kiosk, "a", Retain::Set, b"1");
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        let mut bo = world.client("bo");
        assert_eq!(bo.joins("kiosk"), kiosk, "the channel is still the same");
        let request = bo.says(&ClientFrame::Snapshot {
            channel: kiosk,
            filter: "a",
        });
        let seen = bo.hears();
        assert_eq!(seen[0], Seen::Values(request, 1, 1, 1));
        bo.publishes_as(kiosk, "a", Retain::Clear, b"");
        bo.says(&ClientFrame::Leave { channel: kiosk });
        assert_eq!(
            world.hub.status(world.now).channels,
            0,
            "nothing keeps it any more"
        );
    }

    #[test]
    fn a_channel_keeps_no_more_than_it_may() {
        let mut world = World::new(|settings| {
            settings.retained_topics = 2;
            settings.retained_bytes = 10_000;
        });
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        ana.publishes_as(kiosk, "a", Retain::Set, b"1");
        ana.publishes_as(kiosk, "b", Retain::Set, b"1");
        let third = ana.publishes_as(kiosk, "c", Retain::Set, b"1");
        let large = ana.publishes_as(kiosk, "a", Retain::Set, &[0; 10_000]);
        assert_eq!(
            refusals(&ana.hears()),
            [(third, Code::RETAINED_FULL), (large, Code::RETAINED_FULL)]
        );
        world.hub.check();
    }
}

mod presence {
    use super::*;

    #[test]
    fn a_watcher_gets_the_members_and_then_every_change() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins_as("kiosk", false, b"\xa0");
        let request = ana.watches(kiosk);
        assert_eq!(
            ana.hears(),
            [Seen::Members(
                request,
                1,
                false,
                vec![("ana".into(), Status::Online)]
            )]
        );
        bo.joins_as("kiosk", false, b"\xa1\x61a\x01");
        bo.broadcasts(kiosk, "first");
        bo.says(&ClientFrame::PresenceSet {
            channel: kiosk,
            state: b"\xa0",
        });
        bo.says(&ClientFrame::PresenceSet {
            channel: kiosk,
            state: b"\xa0",
        });
        bo.says(&ClientFrame::Leave { channel: kiosk });
        let change = |revision, change, state: &[u8]| {
            let cause = (change == Change::Left).then_some(Code::GOODBYE);
            Seen::Presence(revision, change, cause, "bo".into(), state.to_vec())
        };
        assert_eq!(
            ana.hears(),
            [
                change(2, Change::Joined, b"\xa1\x61a\x01"),
                Seen::Channel(kiosk, bo.id, 1, None, b"first".to_vec()),
                change(3, Change::Updated, b"\xa0"),
                change(4, Change::Left, b"\xa0"),
            ],
            "the join before the joiner's first message, and no change where nothing changed"
        );
    }

    #[test]
    fn a_lost_connection_shows_as_away_and_a_resume_as_back() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        ana.watches(kiosk);
        ana.hears();
        bo.loses_connection(&world);
        bo.comes_back(&mut world);
        bo.loses_connection(&world);
        world.pass(Duration::from_secs(121));
        let changes: Vec<_> = ana
            .hears()
            .into_iter()
            .map(|seen| match seen {
                Seen::Presence(_, change, ..) => change,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            changes,
            [Change::Away, Change::Back, Change::Away, Change::Left]
        );
        world.hub.check();
    }

    #[test]
    fn a_hidden_member_hears_and_is_not_heard_of() {
        let mut world = World::default();
        let (mut ana, mut spy) = (world.client("ana"), world.client("spy"));
        let kiosk = ana.joins("kiosk");
        ana.watches(kiosk);
        ana.hears();
        spy.joins_as("kiosk", true, b"");
        ana.broadcasts(kiosk, "hello");
        assert_eq!(payloads(&spy.hears()), ["hello"]);
        spy.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(ana.hears(), []);
    }

    #[test]
    fn many_members_come_in_pages() {
        let mut world = World::default();
        let puppets: Vec<Puppet> = (0..300)
            .map(|n| {
                let mut puppet = world.client(&format!("p{n}"));
                puppet.joins("kiosk");
                puppet
            })
            .collect();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        ana.watches(kiosk);
        let pages: Vec<_> = ana
            .hears()
            .into_iter()
            .map(|seen| match seen {
                Seen::Members(_, _, more, members) => (more, members.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            pages,
            [
                (true, MEMBERS_PER_FRAME_MAX),
                (true, MEMBERS_PER_FRAME_MAX),
                (false, 45)
            ]
        );
        drop(puppets);
    }
}

mod direct {
    use super::*;

    #[test]
    fn a_message_finds_a_client_by_id_and_by_name() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let first = ana.sends_to(Target::Id(bo.id), "one");
        let second = ana.sends_to(Target::Name("bo"), "two");
        assert_eq!(
            bo.hears(),
            [
                Seen::Direct(ana.id, first, b"one".to_vec()),
                Seen::Direct(ana.id, second, b"two".to_vec()),
            ]
        );
        ana.sends_to(Target::Id(ana.id), "me");
        assert_eq!(payloads(&ana.hears()), ["me"]);
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let requests = [
            ana.sends_to(Target::Id(ClientId(99)), "x"),
            ana.sends_to(Target::Name("nobody"), "x"),
            ana.sends_to(Target::Name("Not a Name"), "x"),
        ];
        let expected = requests.map(|request| (request, Code::UNKNOWN_CLIENT));
        assert_eq!(refusals(&ana.hears()), expected);
    }

    #[test]
    fn a_full_outbox_refuses_the_sender_and_loses_nothing() {
        let mut world = World::new(|settings| settings.limits.outbox_messages = 3);
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        for n in 1..=5 {
            ana.sends_to(Target::Id(bo.id), &n.to_string());
        }
        let codes: Vec<_> = refusals(&ana.hears())
            .into_iter()
            .map(|(_, code)| code)
            .collect();
        assert_eq!(codes, [Code::OUTBOX_FULL, Code::OUTBOX_FULL]);
        assert_eq!(payloads(&bo.hears()), ["1", "2", "3"]);
        ana.sends_to(Target::Id(bo.id), "6");
        assert_eq!(payloads(&bo.hears()), ["6"]);
    }
}

mod sessions {
    use super::*;

    #[test]
    fn whoever_comes_back_gets_what_it_missed_once_and_in_order() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.subscribes(kiosk, "#");
        bo.hears();
        ana.publishes(kiosk, "a", "heard");
        assert_eq!(payloads(&bo.hears()), ["heard"]);
        ana.publishes(kiosk, "a", "on the way");
        bo.listens();
        bo.loses_connection(&world);
        ana.publishes(kiosk, "a", "missed");
        ana.broadcasts(kiosk, "missed too");
        ana.sends_to(Target::Name("bo"), "and this");

        let resumed = bo.comes_back(&mut world);

        assert_eq!(
            resumed,
            Resumed {
                recovered: true,
                replayed: 3,
                lost: Some(0)
            }
        );
        assert_eq!(
            payloads(&bo.hears()),
            ["on the way", "missed", "missed too", "and this"]
        );
        assert_eq!(bo.hears(), []);
        world.hub.check();
    }

    #[test]
    fn what_was_written_but_never_arrived_is_sent_again() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.hears();
        for n in 0..10 {
            ana.broadcasts(kiosk, &n.to_string());
        }
        let heard = bo.heard;
        bo.listens();
        bo.heard = heard + 4;
        bo.loses_connection(&world);
        bo.hears();
        bo.comes_back(&mut world);
        assert_eq!(payloads(&bo.hears()), ["4", "5", "6", "7", "8", "9"]);
        world.hub.check();
    }

    #[test]
    fn a_run_is_cut_where_the_client_stopped_hearing() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.subscribes(kiosk, "#");
        bo.hears();
        let mut wire = Vec::new();
        for n in 0..6_u8 {
            publish(kiosk, &[b'0' + n]).encode(&mut wire);
        }
        ana.sends(&wire).unwrap();
        let heard = bo.heard;
        bo.listens();
        bo.heard = heard + 2;
        bo.hears();
        bo.loses_connection(&world);
        bo.comes_back(&mut world);
        let offsets: Vec<_> = bo
            .hears()
            .into_iter()
            .map(|seen| match seen {
                Seen::Channel(_, _, offset, _, payload) => (offset, payload[0]),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(offsets, [(3, b'2'), (4, b'3'), (5, b'4'), (6, b'5')]);
        world.hub.check();
    }

    #[test]
    fn what_the_hub_has_of_the_client_is_told() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        ana.publishes(kiosk, "a", "1");
        ana.publishes(kiosk, "a", "2");
        ana.loses_connection(&world);
        ana.comes_back(&mut world);
        assert_eq!(ana.confirmed, 3, "a join and two publishes");
    }

    #[test]
    fn beyond_the_window_the_number_lost_is_exact_and_in_its_place() {
        let mut world = World::new(|settings| settings.limits.outbox_messages = 4);
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.hears();
        bo.loses_connection(&world);
        for n in 0..10 {
            ana.broadcasts(kiosk, &n.to_string());
        }
        let resumed = bo.comes_back(&mut world);
        assert!(!resumed.recovered);
        let seen = bo.hears();
        let lost: u64 = gaps(&seen).iter().map(|gap| gap.lost).sum();
        assert_eq!(Some(lost), resumed.lost);
        assert!(matches!(seen[0], Seen::Gap(_)), "the oldest are lost");
        assert_eq!(lost + payloads(&seen).len() as u64, 10);
        assert_eq!(payloads(&seen).last().unwrap(), "9");
        world.hub.check();
    }

    #[test]
    fn a_client_that_does_not_read_loses_its_oldest_and_is_told() {
        let mut world = World::new(|settings| settings.limits.outbox_messages = 5);
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.hears();
        for n in 0..100 {
            ana.broadcasts(kiosk, &n.to_string());
            world.hub.check();
        }
        ana.sends_to(Target::Id(bo.id), "direct");
        let seen = bo.hears();
        let lost: u64 = gaps(&seen).iter().map(|gap| gap.lost).sum();
        assert_eq!(gaps(&seen).len(), 1, "one gap, however many were lost");
        assert_eq!(gaps(&seen)[0].channel, Some(kiosk));
        assert_eq!(
            lost + payloads(&seen).len() as u64,
            100,
            "the direct message was refused"
        );
        ana.broadcasts(kiosk, "after");
        assert_eq!(payloads(&bo.hears()), ["after"]);
    }

    #[test]
    fn a_token_is_good_once_and_for_one_user() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let stolen = ana.resume();
        ana.loses_connection(&world);
        ana.comes_back(&mut world);
        ana.says(&ClientFrame::Ack { received: 0 });
        let mut thief = world.client("thief");
        assert_eq!(
            thief
                .tries_to_come_back(&mut world, stolen)
                .unwrap_err()
                .code,
            Code::BAD_TOKEN,
            "the token was rotated"
        );
        let mut wrong = ana.resume();
        wrong.token.0[5] ^= 1;
        assert_eq!(
            thief
                .tries_to_come_back(&mut world, wrong)
                .unwrap_err()
                .code,
            Code::BAD_TOKEN
        );
        ana.says(&ClientFrame::Ack {
            received: ana.heard,
        });
    }

    #[test]
    fn a_welcome_that_never_arrived_costs_nothing() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        ana.loses_connection(&world);
        let resume = ana.resume();
        ana.tries_to_come_back(&mut world, resume.clone()).unwrap();
        ana.loses_connection(&world);
        ana.tries_to_come_back(&mut world, resume.clone()).unwrap();
        ana.listens();
        assert!(
            ana.resumed.unwrap().recovered,
            "the token before is good until the next is known"
        );
        ana.says(&ClientFrame::Ack { received: 0 });
        let mut thief = world.client("thief");
        let error = thief.tries_to_come_back(&mut world, resume).unwrap_err();
        assert_eq!(error.code, Code::BAD_TOKEN, "and not any longer");
    }

    #[test]
    fn a_newer_connection_fences_the_older() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let kiosk = ana.joins("kiosk");
        bo.joins("kiosk");
        bo.hears();
        let resume = ana.resume();
        let mut newer = world.client("newer");
        newer.tries_to_come_back(&mut world, resume).unwrap();
        let frame = publish(kiosk, b"from the grave");
        assert_eq!(ana.tries(&frame).unwrap_err().code, Code::SUPERSEDED);
        assert_eq!(ana.peer.as_ref().unwrap().closing(), Some(Code::SUPERSEDED));
        bo.broadcasts(kiosk, "live");
        ana.listens();
        assert_eq!(ana.hears(), [], "the fenced connection is given nothing");
        ana.loses_connection(&world);
        newer.listens();
        assert_eq!(payloads(&newer.hears()), ["live"]);
        world.hub.check();
    }

    #[test]
    fn a_session_that_is_over_is_not_resumed_but_replaced() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        let before = ana.id;
        ana.loses_connection(&world);
        world.pass(Duration::from_secs(121));
        let resumed = ana.comes_back(&mut world);
        assert_eq!(
            resumed,
            Resumed {
                recovered: false,
                replayed: 0,
                lost: None
            }
        );
        assert_ne!(ana.id, before);
        ana.publishes(kiosk, "a", "1");
        assert_eq!(refusals(&ana.hears()).len(), 1, "it has to join again");
        world.hub.check();
    }

    #[test]
    fn a_goodbye_ends_the_session_at_once() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        ana.joins("kiosk");
        let resume = ana.resume();
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(world.hub.status(world.now).parked, 0);
        let mut other = world.client("other");
        other.tries_to_come_back(&mut world, resume).unwrap();
        other.listens();
        assert_eq!(other.resumed.unwrap().lost, None);
        world.hub.check();
    }

    #[test]
    fn a_name_has_one_holder_but_an_absent_one_gives_way() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let user = world.user(1_000);
        let error = world.try_client(Some("ana"), user.clone()).unwrap_err();
        assert_eq!(
            (error.code, &*error.detail),
            (Code::NAME_TAKEN, "held by process 1")
        );
        ana.loses_connection(&world);
        let second = world.try_client(Some("ana"), user.clone()).unwrap();
        assert_ne!(second.id, ana.id);
        assert_eq!(world.hub.status(world.now).parked, 0);
        let error = world.try_client(Some("Ana!"), user.clone()).unwrap_err();
        assert_eq!(error.code, Code::BAD_CLIENT_NAME);
        for name in ["hub", "17"] {
            let error = world.try_client(Some(name), user.clone()).unwrap_err();
            assert_eq!(error.code, Code::BAD_CLIENT_NAME);
        }
        let nameless = world.try_client(None, user).unwrap();
        assert_eq!(nameless.name, format!("client-{}", nameless.id));
        world.hub.check();
    }

    #[test]
    fn a_position_that_was_never_sent_closes_the_connection() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let error = ana.tries(&ClientFrame::Ack { received: 1 }).unwrap_err();
        assert_eq!(error.code, Code::BAD_POSITION);
        let mut bo = world.client("bo");
        let mut resume = bo.resume();
        bo.loses_connection(&world);
        resume.received = 1_000;
        let error = bo.tries_to_come_back(&mut world, resume).unwrap_err();
        assert_eq!(error.code, Code::BAD_POSITION);
    }

    #[test]
    fn there_may_be_so_many_sessions_and_no_more() {
        let mut world = World::new(|settings| settings.sessions = 2);
        let _ana = world.client("ana");
        let _bo = world.client("bo");
        let user = world.user(1_000);
        let error = world.try_client(Some("cy"), user).unwrap_err();
        assert_eq!(error.code, Code::TOO_MANY_CONNECTIONS);
    }
}

mod control {
    use super::*;

    #[test]
    fn a_pong_comes_after_every_refusal_of_what_was_said_before() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        ana.sends_to(Target::Name("nobody"), "x");
        let received = ana.heard;
        ana.says(&ClientFrame::Ping {
            nonce: 77,
            received,
        });
        let seen = ana.hears();
        assert!(matches!(seen[0], Seen::Refusal(1, Code::UNKNOWN_CLIENT, _)));
        assert_eq!(seen[1], Seen::Pong(77, 1));
    }

    #[test]
    fn messages_are_confirmed_with_the_answers_and_now_and_then() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let kiosk = ana.joins("kiosk");
        for n in 0..600 {
            ana.publishes(kiosk, "a", &n.to_string());
        }
        ana.hears();
        assert_eq!(ana.acked, 601, "one join and 600 publishes");
    }

    #[test]
    fn malformed_frames_close_the_connection_with_their_code() {
        let good = {
            let mut wire = Vec::new();
            ClientFrame::Ping {
                nonce: 1,
                received: 0,
            }
            .encode(&mut wire);
            wire
        };
        for (bytes, code) in [
            (&[0, 0, 0, 1, 0x80][..], Code::MALFORMED_FRAME),
            (&[0, 0, 0, 3, 0x82, 0x02, 0x20], Code::MALFORMED_FRAME),
            (&[0, 0, 0, 4, 0x82, 0x02, 0x18, 0x01], Code::MALFORMED_FRAME),
            (&[0, 0, 0, 4, 0x82, 0x02, 0x01, 0x01], Code::MALFORMED_FRAME),
            (&[0, 0, 0, 0], Code::MALFORMED_FRAME),
            (&[0, 0, 0, 3, 0x81, 0x18, 0xf0], Code::UNKNOWN_KIND),
            (&[0, 0, 0, 3, 0x82, 0x18, 0x30], Code::OUT_OF_ORDER),
            (&[0xff, 0xff, 0xff, 0xff], Code::FRAME_TOO_LARGE),
        ] {
            let mut world = World::default();
            let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
            let mut wire = good.clone();
            wire.extend_from_slice(bytes);
            assert_eq!(ana.sends(&wire).unwrap_err().code, code, "{bytes:02x?}");
            ana.listens();
            ana.departs(&world, Departure::Final(Code::GOODBYE));
            bo.joins("kiosk");
            world.hub.check();
        }
    }

    #[test]
    fn a_second_hello_is_out_of_order() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        let hello = localhub_tests::hello(Some("ana"), None);
        let error = ana.tries(&ClientFrame::Hello(hello)).unwrap_err();
        assert_eq!(error.code, Code::OUT_OF_ORDER);
    }

    #[test]
    fn no_common_version_is_told_with_both_ranges() {
        let world = World::default();
        let mut hello = localhub_tests::hello(Some("ana"), None);
        hello.versions.0.major = 2;
        hello.versions.1.major = 3;
        let error = world
            .hub
            .attach(
                &hello,
                world.user(1_000),
                localhub_protocol::ResumeToken([1; 32]),
                world.now,
                &mut Default::default(),
            )
            .unwrap_err();
        assert_eq!(error.code, Code::VERSION_MISMATCH);
        assert_eq!(error.detail, "the broker speaks 1.0, the client 2.0 to 3.0");
    }
}

mod operators {
    use super::*;

    pub(super) fn ask(
        puppet: &mut Puppet,
        method: &str,
        arguments: &[u8],
    ) -> (Option<Code>, Vec<u8>) {
        let request = puppet.says(&ClientFrame::Message(Message::Request {
            to: Target::Id(ClientId::HUB),
            deadline_ms: 1_000,
            command: None,
            window: 0,
            method,
            content: ContentType::CBOR,
            payload: arguments,
        }));
        puppet
            .hears()
            .into_iter()
            .find_map(|seen| match seen {
                Seen::Reply(_, of, error, payload) if of == request => Some((error, payload)),
                _ => None,
            })
            .expect("a reply")
    }

    #[test]
    fn the_clients_are_listed_by_the_page() {
        let mut world = World::default();
        let mut puppets: Vec<_> = (0..5).map(|n| world.client(&format!("p{n}"))).collect();
        let kiosk = puppets[3].joins("kiosk");
        puppets[3].subscribes(kiosk, "#");
        let mut op = world.client("op");
        let page = admin::Page {
            after: None,
            limit: Some(4),
        };
        let (error, answer) = ask(&mut op, admin::CLIENTS, &admin::encode(&page));
        assert_eq!(error, None);
        let first: admin::Clients = admin::decode(&answer).unwrap();
        assert!(first.more);
        let names: Vec<_> = first
            .clients
            .iter()
            .map(|client| client.name.as_str())
            .collect();
        assert_eq!(names, ["p0", "p1", "p2", "p3"]);
        assert_eq!(first.clients[3].channels, ["kiosk"]);
        assert_eq!(first.clients[3].subscriptions, 1);
        let page = admin::Page {
            after: Some(first.clients[3].id.to_string()),
            limit: None,
        };
        let (_, answer) = ask(&mut op, admin::CLIENTS, &admin::encode(&page));
        let second: admin::Clients = admin::decode(&answer).unwrap();
        assert!(!second.more);
        assert_eq!(second.clients.len(), 2);
    }

    #[test]
    fn a_kick_ends_the_session_and_tells_the_client() {
        let mut world = World::default();
        let (mut ana, mut op) = (world.client("ana"), world.client("op"));
        let kiosk = op.joins("kiosk");
        ana.joins("kiosk");
        op.watches(kiosk);
        op.hears();
        let named = admin::encode(&admin::Named { name: "ana".into() });
        let (error, answer) = ask(&mut op, admin::KICK, &named);
        assert_eq!(error, None);
        let view: admin::ClientView = admin::decode(&answer).unwrap();
        assert_eq!(view.id, ana.id);
        let peer = ana.peer.as_ref().unwrap();
        assert_eq!(peer.closing(), Some(Code::KICKED));
        assert_eq!(
            ana.tries(&publish(kiosk, b"x")).unwrap_err().code,
            Code::KICKED
        );
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        let (error, text) = ask(&mut op, admin::KICK, &named);
        assert_eq!(error, Some(Code::UNKNOWN_CLIENT));
        assert_eq!(text, b"no such client is connected");
        world.hub.check();
    }

    #[test]
    fn the_last_ends_are_listed_the_newest_first() {
        let mut world = World::default();
        let mut op = world.client("op");
        for n in 0..3 {
            let mut puppet = world.client(&format!("p{n}"));
            puppet.peer.as_mut().unwrap().ends("goodbye", "");
            puppet.departs(&world, Departure::Final(Code::GOODBYE));
        }
        let mut away = world.client("away");
        away.peer.as_mut().unwrap().ends("lost", "");
        away.loses_connection(&world);
        let page = admin::Page {
            after: None,
            limit: None,
        };
        let (_, answer) = ask(&mut op, admin::SESSIONS, &admin::encode(&page));
        let sessions: admin::Sessions = admin::decode(&answer).unwrap();
        assert_eq!(sessions.sessions[0].client.name, "away");
        assert_eq!(sessions.sessions[0].expires_ms, 120_000);
        world.pass(Duration::from_secs(121));
        let page = admin::Page {
            after: None,
            limit: Some(3),
        };
        let (_, answer) = ask(&mut op, admin::CLOSED, &admin::encode(&page));
        let first: admin::Closed = admin::decode(&answer).unwrap();
        let seen = |page: &admin::Closed| -> Vec<_> {
            let end = |end: &admin::ClosedView| (end.name.clone().unwrap(), end.reason.clone());
            page.closed.iter().map(end).collect()
        };
        let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        assert_eq!(
            seen(&first),
            [
                pair("away", "expired"),
                pair("away", "lost"),
                pair("p2", "goodbye")
            ]
        );
        assert!(first.more && first.closed[1].parked && !first.closed[0].parked);
        let after = Some(first.closed[2].number.to_string());
        let (_, answer) = ask(
            &mut op,
            admin::CLOSED,
            &admin::encode(&admin::Page { after, limit: None }),
        );
        let second: admin::Closed = admin::decode(&answer).unwrap();
        assert_eq!(
            seen(&second),
            [pair("p1", "goodbye"), pair("p0", "goodbye")]
        );
        assert!(!second.more);
    }

    #[test]
    fn what_the_hub_does_not_know_is_refused() {
        let mut world = World::default();
        let mut op = world.client("op");
        assert_eq!(ask(&mut op, "dance", b"\xa0").0, Some(Code::BAD_REQUEST));
        assert_eq!(
            ask(&mut op, admin::CLIENT, b"\xff").0,
            Some(Code::BAD_REQUEST)
        );
        let named = admin::encode(&admin::Named {
            name: "nowhere".into(),
        });
        assert_eq!(
            ask(&mut op, admin::CHANNEL, &named).0,
            Some(Code::UNKNOWN_CHANNEL)
        );
    }
}
