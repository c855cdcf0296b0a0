//! Requests between clients: each has one outcome. Rules 12.1 to 12.7 and 12.12.

use localhub_protocol::{BrokerFrame, Run, ServeMode};
use localhub_tests::Ask;

use super::*;

/// A caller and a handler.
fn pair(world: &mut World) -> (Puppet, Puppet) {
    (world.client("ana"), world.client("bo"))
}

fn waits(to: &Puppet, deadline_ms: u32) -> Ask<'static> {
    Ask {
        deadline_ms,
        ..Ask::of(Target::Id(to.id))
    }
}

#[test]
fn a_handler_gets_what_was_written_and_who_wrote_it() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    ana.joins("kiosk");
    let ask = Ask {
        deadline_ms: 7,
        window: 9,
        ..Ask::of(Target::Id(bo.id))
    };
    let request = ana.asks(ask);
    assert_eq!(request, 2, "the join was the first message");
    let mut written = Vec::new();
    // 12.3, 9.3
    BrokerFrame::Run(Run {
        channel: None,
        sender: ana.id,
        name: "ana",
        first: request,
        count: 1,
        retained: false,
    })
    .encode(&mut written);
    ClientFrame::Message(Message::Request {
        to: ask.to,
        deadline_ms: 7,
        command: None,
        window: 9,
        method: ask.method,
        content: ask.content,
        payload: ask.payload,
    })
    .encode(&mut written);
    assert_eq!(bo.takes(), written);
    world.hub.check();
}

#[test]
fn a_caller_gets_what_was_written_and_who_wrote_it() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    bo.joins("kiosk");
    let request = ana.asks(Target::Id(bo.id));
    bo.is_asked();
    let answer = Message::Reply {
        to: ana.id,
        request,
        error: Some(Code::FAILED),
        more: false,
        content: ContentType(4_711),
        payload: b"\xff",
    };
    let first = bo.says(&ClientFrame::Message(answer));
    assert_eq!(first, 2, "the join was the first message");
    let mut written = Vec::new();
    BrokerFrame::Run(Run {
        channel: None,
        sender: bo.id,
        name: "bo",
        first,
        count: 1,
        retained: false,
    })
    .encode(&mut written);
    ClientFrame::Message(answer).encode(&mut written);
    let taken = ana.takes();
    assert!(taken.starts_with(&written), "what may follow is an ack");
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_client_or_a_service_is_asked_and_the_two_are_not_mixed_up() {
    // 12.1
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    bo.serves("printer", ServeMode::Shared);
    bo.hears();
    for to in [
        Target::Id(bo.id),
        Target::Name("bo"),
        Target::Service("printer"),
    ] {
        let request = ana.asks(to);
        assert_eq!(bo.is_asked(), (ana.id, request), "{to:?}");
        bo.replies((ana.id, request), "done");
        assert_eq!(ana.hears(), [reply(&bo, request, "done")], "{to:?}");
    }
    for (to, code) in [
        (Target::Id(ClientId(99)), Code::UNKNOWN_CLIENT),
        (Target::Name("eve"), Code::UNKNOWN_CLIENT),
        (Target::Name("printer"), Code::UNKNOWN_CLIENT),
        (Target::Name("hub"), Code::UNKNOWN_CLIENT),
        (Target::Service("bo"), Code::NO_SUCH_SERVICE),
        (Target::Service("Printer"), Code::BAD_SERVICE_NAME),
    ] {
        let request = ana.asks(to);
        assert_eq!(refusals(&ana.hears()), [(request, code)], "{to:?}");
    }
    assert_eq!(bo.hears(), []);
    assert_eq!(open_requests(&world), 0, "a refusal is the outcome");
}

#[test]
fn a_method_has_at_most_255_bytes() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let (longest, longer) = ("m".repeat(255), "m".repeat(256));
    let mut asks = |method: &str| {
        ana.asks(Ask {
            method,
            ..Ask::of(Target::Id(bo.id))
        })
    };
    asks(&longest);
    let refused = asks(&longer);
    bo.is_asked();
    assert_eq!(refusals(&ana.hears()), [(refused, Code::BAD_REQUEST)]);
    world.hub.check();
}

#[test]
fn replies_come_when_they_come() {
    // 12.2
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let (first, second) = (ana.asks(Target::Id(bo.id)), ana.asks(Target::Id(bo.id)));
    bo.hears();
    bo.replies((ana.id, second), "2");
    assert_eq!(ana.hears(), [reply(&bo, second, "2")]);
    bo.replies((ana.id, first), "1");
    assert_eq!(ana.hears(), [reply(&bo, first, "1")]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_handler_says_that_it_failed_and_no_other_error() {
    // 12.3: the others are the hub's to say.
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    for code in [
        Code::DEADLINE,
        Code::CANCELLED,
        Code::PEER_GONE,
        Code::NOT_EXECUTED,
        Code::OUTCOME_UNKNOWN,
        Code(4_711),
    ] {
        let refused = bo.replies_with(key, Some(code), false, "");
        assert_eq!(refusals(&bo.hears()), [(refused, Code::BAD_REQUEST)]);
    }
    assert_eq!(ana.hears(), [], "it still waits");
    bo.replies_with(key, Some(Code::FAILED), false, "no paper");
    let failed = Seen::Reply(bo.id, request, Some(Code::FAILED), b"no paper".to_vec());
    assert_eq!(ana.hears(), [failed]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn only_the_handler_replies_and_only_once() {
    // 12.4
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let mut eve = world.client("eve");
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    let strangers = [
        (eve.replies(key, "mine"), &mut eve),
        (ana.replies(key, "my own"), &mut ana),
    ];
    for (refused, stranger) in strangers {
        let seen = stranger.hears();
        assert_eq!(refusals(&seen), [(refused, Code::UNKNOWN_REQUEST)]);
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
    for never in [
        (ana.id, request + 1),
        (ana.id, 0),
        (bo.id, request),
        (ClientId(99), 1),
        (ClientId::HUB, 1),
    ] {
        let refused = bo.replies(never, "what?");
        assert_eq!(refusals(&bo.hears()), [(refused, Code::UNKNOWN_REQUEST)]);
    }
    bo.replies(key, "first");
    let again = bo.replies(key, "second");
    assert_eq!(refusals(&bo.hears()), [(again, Code::UNKNOWN_REQUEST)]);
    assert_eq!(ana.hears(), [reply(&bo, request, "first")]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn who_gets_no_reply_in_time_is_told_so() {
    // 12.5, 12.6
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(waits(&bo, 1_000));
    let key = bo.is_asked();
    assert!(ana.rings(), "the server has to look at its clock");
    world.pass(Duration::from_millis(999));
    assert_eq!(ana.hears(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(ana.hears(), [no_reply(request, Code::DEADLINE)]);
    let (caller, request) = key;
    assert_eq!(
        bo.hears(),
        [Seen::Cancelled(caller, request, Code::DEADLINE)]
    );
    let late = bo.replies(key, "late");
    assert_eq!(refusals(&bo.hears()), [(late, Code::UNKNOWN_REQUEST)]);
    assert_eq!(ana.hears(), []);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn the_first_of_several_deadlines_comes_first() {
    let mut world = World::default();
    let (mut ana, bo) = pair(&mut world);
    let later = ana.asks(waits(&bo, 2_000));
    let sooner = ana.asks(waits(&bo, 1_000));
    let next = world.hub.expire(world.now, &mut Default::default());
    assert_eq!(next, Some(Duration::from_secs(1)));
    world.pass(Duration::from_secs(1));
    assert_eq!(ana.hears(), [no_reply(sooner, Code::DEADLINE)]);
    world.pass(Duration::from_secs(1));
    assert_eq!(ana.hears(), [no_reply(later, Code::DEADLINE)]);
}

#[test]
fn nobody_waits_longer_than_an_hour() {
    // 12.6
    let mut world = World::default();
    let (mut ana, bo) = pair(&mut world);
    let requests = [0, 3_600_001, u32::MAX].map(|deadline| ana.asks(waits(&bo, deadline)));
    world.pass(Duration::from_millis(3_599_999));
    assert_eq!(ana.hears(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        ana.hears(),
        requests.map(|request| no_reply(request, Code::DEADLINE))
    );
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn who_cancels_is_told_so_and_so_is_the_handler() {
    // 12.7
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    bo.cancels(request);
    ana.cancels(request + 1);
    assert_eq!(ana.hears(), [], "nobody else's, and no other one");
    ana.cancels(request);
    assert_eq!(ana.hears(), [no_reply(request, Code::CANCELLED)]);
    assert_eq!(
        bo.hears(),
        [Seen::Cancelled(ana.id, request, Code::CANCELLED)]
    );
    let late = bo.replies(key, "late");
    assert_eq!(refusals(&bo.hears()), [(late, Code::UNKNOWN_REQUEST)]);
    ana.cancels(request);
    assert_eq!((ana.hears(), bo.hears()), (vec![], vec![]), "it is over");
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn to_cancel_what_has_an_outcome_changes_nothing() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    bo.replies(key, "done");
    ana.cancels(request);
    assert_eq!(ana.hears(), [reply(&bo, request, "done")]);
    assert_eq!(bo.hears(), []);
}

#[test]
fn a_handler_that_is_gone_replies_no_more() {
    // 12.5: whether or not it has got the request, which is no command.
    type End<'a> = &'a dyn Fn(&mut World, &mut Puppet);
    let ends: [(&str, End<'_>); 4] = [
        ("goodbye", &|world, bo| {
            bo.departs(world, Departure::Final(Code::GOODBYE));
        }),
        ("kicked", &|world, bo| kicks(world, bo)),
        ("expired", &|world, bo| {
            bo.loses_connection(world);
            world.pass(Duration::from_secs(120));
        }),
        ("replaced", &|world, bo| {
            bo.loses_connection(world);
            world.client("bo");
        }),
    ];
    for (how, end) in ends {
        for hears in [false, true] {
            let mut world = World::default();
            let (mut ana, mut bo) = pair(&mut world);
            let request = ana.asks(Target::Id(bo.id));
            if hears {
                bo.is_asked();
            }
            end(&mut world, &mut bo);
            let expected = [no_reply(request, Code::PEER_GONE)];
            assert_eq!(ana.hears(), expected, "{how}, heard: {hears}");
            assert_eq!(open_requests(&world), 0);
        }
    }
}

#[test]
fn a_handler_that_is_away_gets_its_requests_when_it_is_back() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let before = ana.asks(Target::Id(bo.id));
    bo.is_asked();
    bo.loses_connection(&world);
    let meanwhile = ana.asks(Target::Name("bo"));
    assert_eq!(ana.hears(), [], "both wait");
    bo.comes_back(&mut world);
    assert_eq!(bo.is_asked(), (ana.id, meanwhile), "and none comes twice");
    for request in [before, meanwhile] {
        bo.replies((ana.id, request), "done");
        assert_eq!(ana.hears(), [reply(&bo, request, "done")]);
    }
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_caller_that_is_gone_wants_no_reply() {
    // 12.7
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    assert_eq!(
        bo.hears(),
        [Seen::Cancelled(ana.id, request, Code::PEER_GONE)]
    );
    let late = bo.replies(key, "to nobody");
    assert_eq!(refusals(&bo.hears()), [(late, Code::UNKNOWN_REQUEST)]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn outcomes_wait_for_a_caller_that_is_away() {
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let (first, second) = (ana.asks(waits(&bo, 60_000)), ana.asks(waits(&bo, 60_000)));
    bo.hears();
    ana.loses_connection(&world);
    bo.replies((ana.id, first), "done");
    assert_eq!(bo.hears(), []);
    world.pass(Duration::from_secs(60));
    assert!(ana.comes_back(&mut world).recovered);
    assert_eq!(
        ana.hears(),
        [reply(&bo, first, "done"), no_reply(second, Code::DEADLINE)]
    );
    // Who does not come back has no more requests.
    ana.asks(Target::Id(bo.id));
    bo.hears();
    ana.loses_connection(&world);
    world.pass(Duration::from_secs(120));
    assert!(matches!(
        bo.hears()[..],
        [Seen::Cancelled(_, _, Code::PEER_GONE)]
    ));
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_client_may_ask_itself() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let request = ana.asks(Target::Id(ana.id));
    let key = ana.is_asked();
    assert_eq!(key, (ana.id, request));
    ana.replies(key, "done");
    assert_eq!(ana.hears(), [reply(&ana, request, "done")]);
    let request = ana.asks(Target::Name("ana"));
    ana.is_asked();
    ana.cancels(request);
    assert_eq!(
        ana.hears(),
        [
            no_reply(request, Code::CANCELLED),
            Seen::Cancelled(ana.id, request, Code::CANCELLED)
        ]
    );
    ana.asks(Target::Id(ana.id));
    assert_eq!(open_requests(&world), 1);
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_reply_that_does_not_fit_is_an_outcome_too() {
    // 12.5
    let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
    let (mut ana, mut bo) = pair(&mut world);
    let request = ana.asks(Target::Id(bo.id));
    let key = bo.is_asked();
    for _ in 0..3 {
        bo.sends_to(Target::Id(ana.id), &"x".repeat(3_000));
    }
    bo.replies(key, &"x".repeat(3_000));
    assert_eq!(bo.hears(), [], "the handler has done its part");
    let seen = ana.hears();
    assert_eq!(seen[3..], [no_reply(request, Code::OUTBOX_FULL)]);
    let again = bo.replies(key, "shorter");
    assert_eq!(refusals(&bo.hears()), [(again, Code::UNKNOWN_REQUEST)]);
    assert_eq!(open_requests(&world), 0);
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    // 12.12
    let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
    let (mut ana, mut bo) = pair(&mut world);
    let large = Ask {
        payload: &[0; 3_000],
        ..Ask::of(Target::Id(bo.id))
    };
    let requests = [0; 4].map(|_| ana.asks(large));
    assert_eq!(refusals(&ana.hears()), [(requests[3], Code::OUTBOX_FULL)]);
    assert_eq!(open_requests(&world), 3);
    assert_eq!(bo.hears().len(), 3);
    ana.asks(large);
    bo.is_asked();
    let huge = ana.asks(Ask {
        payload: &vec![0; 8 * 1024 * 1024 + 1],
        ..large
    });
    assert_eq!(refusals(&ana.hears()), [(huge, Code::PAYLOAD_TOO_LARGE)]);
}

#[test]
fn one_caller_has_so_many_requests_with_one_handler() {
    // 12.12
    let mut world = World::default();
    let (mut ana, mut bo) = pair(&mut world);
    let mut cy = world.client("cy");
    let first = ana.asks(Target::Id(bo.id));
    for _ in 1..1_024 {
        ana.asks(Target::Id(bo.id));
    }
    assert_eq!(ana.hears(), []);
    let more = ana.asks(Target::Id(bo.id));
    let seen = ana.hears();
    assert_eq!(refusals(&seen), [(more, Code::LIMIT_REACHED)]);
    assert!(
        matches!(&seen[0], Seen::Refusal(.., detail) if detail.contains("1024")),
        "{seen:?}"
    );
    ana.asks(Target::Id(cy.id));
    cy.is_asked();
    cy.asks(Target::Id(bo.id));
    assert_eq!(bo.hears().len(), 1_025, "others are not concerned");
    bo.replies((ana.id, first), "done");
    ana.hears();
    ana.asks(Target::Id(bo.id));
    assert_eq!(ana.hears(), [], "one less, one more");
    bo.departs(&world, Departure::Final(Code::GOODBYE));
    assert_eq!(ana.hears().len(), 1_024);
    assert_eq!(cy.hears(), [no_reply(1, Code::PEER_GONE)]);
    assert_eq!(open_requests(&world), 1);
}

#[test]
fn one_caller_has_so_many_requests() {
    // 12.12
    let mut world = World::default();
    let (mut ana, mut last) = (world.client("ana"), world.client("last"));
    let mut handlers: Vec<_> = (0..16).map(|n| world.client(&format!("h{n}"))).collect();
    for handler in &handlers {
        for _ in 0..1_024 {
            ana.asks(Target::Id(handler.id));
        }
    }
    assert_eq!(ana.hears(), []);
    let more = ana.asks(Target::Id(last.id));
    let seen = ana.hears();
    assert_eq!(refusals(&seen), [(more, Code::LIMIT_REACHED)]);
    assert!(
        matches!(&seen[0], Seen::Refusal(.., detail) if detail.contains("16384")),
        "{seen:?}"
    );
    assert_eq!(open_requests(&world), 16_384);
    handlers[0].asks(Target::Id(last.id));
    last.is_asked();
    ana.cancels(1);
    ana.asks(Target::Id(last.id));
    last.is_asked();
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    for handler in &mut handlers[1..] {
        let seen = handler.hears();
        assert_eq!(seen.len(), 2_048, "the requests, and that they are over");
    }
    assert_eq!(open_requests(&world), 1, "the one of another caller");
}

#[test]
fn the_memory_of_the_broker_bounds_requests() {
    let mut world = World::new(|settings| settings.memory_bytes = 50_000);
    let (mut ana, mut bo) = pair(&mut world);
    let mut asked = 0;
    let why = loop {
        ana.asks(Target::Id(bo.id));
        if let [(_, code)] = refusals(&ana.hears())[..] {
            break code;
        }
        asked += 1;
        assert!(asked < 100, "there is no room for so many");
    };
    assert!(matches!(why, Code::LIMIT_REACHED | Code::OUTBOX_FULL));
    assert_eq!(open_requests(&world), asked);
    for key in bo.hears() {
        let Seen::Request(caller, request, ..) = key else {
            panic!("{key:?}");
        };
        bo.replies((caller, request), "");
        ana.hears();
    }
    assert_eq!(open_requests(&world), 0);
    ana.asks(Target::Id(bo.id));
    bo.is_asked();
}

#[test]
fn whoever_leaves_first_nothing_is_left() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut world = World::default();
        let mut puppets = ["ana", "bo", "cy"].map(|name| world.client(name));
        let ids = [0, 1, 2].map(|n: usize| puppets[n].id);
        for puppet in &mut puppets {
            puppet.serves("any", ServeMode::Shared);
            for to in ids {
                for window in [0, 1] {
                    puppet.asks(Ask {
                        window,
                        ..Ask::of(Target::Id(to))
                    });
                }
            }
        }
        puppets[0].asks(Target::Service("any"));
        assert_eq!(open_requests(&world), 19);
        for (n, at) in order.into_iter().enumerate() {
            if n == 1 {
                puppets[at].loses_connection(&world);
                world.pass(Duration::from_secs(120));
            } else {
                puppets[at].departs(&world, Departure::Final(Code::GOODBYE));
            }
            world.hub.check();
        }
        assert_eq!(open_requests(&world), 0);
    }
}
