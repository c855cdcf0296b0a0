//! Services: who is asked, and who may serve. Rules 12.8 to 12.11, and `services` of 13.1.

use localhub_protocol::{LeaseState, ServeMode};
use localhub_tests::Ask;

use super::operators::ask;
use super::*;

const PRINTER: Target<'static> = Target::Service("printer");

/// Clients that serve the printer, in this mode and order.
fn servers<const N: usize>(world: &mut World, mode: ServeMode, names: [&str; N]) -> [Puppet; N] {
    names.map(|name| {
        let mut puppet = world.client(name);
        puppet.serves("printer", mode);
        puppet.hears();
        puppet
    })
}

/// Who of them was asked, by name, once for each time.
fn asked(puppets: &mut [Puppet]) -> Vec<String> {
    let mut names = Vec::new();
    for puppet in puppets {
        for seen in puppet.hears() {
            assert!(matches!(seen, Seen::Request(..)), "{seen:?}");
            names.push(puppet.name.clone());
        }
    }
    names
}

/// Serves, and hears how it stands with the lease after the `Done`.
fn lease(puppet: &mut Puppet, mode: ServeMode) -> (LeaseState, u64) {
    let request = puppet.serves("printer", mode);
    match &puppet.hears()[..] {
        [Seen::Done(of), Seen::Lease(service, state, fence)]
            if *of == request && service == "printer" =>
        {
            (*state, *fence)
        }
        other => panic!("a done and a lease: {other:?}"),
    }
}

fn told(state: LeaseState, fence: u64) -> [Seen; 1] {
    [Seen::Lease("printer".into(), state, fence)]
}

fn refused(puppet: &mut Puppet, message: u64) -> Code {
    let seen = puppet.hears();
    match seen[..] {
        [Seen::Refusal(of, code, _)] if of == message => code,
        _ => panic!("one refusal: {seen:?}"),
    }
}

mod shared {
    use super::*;

    #[test]
    fn equals_take_turns() {
        // 12.9
        let mut world = World::default();
        let mut puppets = servers(&mut world, ServeMode::Shared, ["a", "b", "c"]);
        let mut ana = world.client("ana");
        for expected in ["a", "b", "c", "a", "b"] {
            let request = ana.asks(PRINTER);
            assert_eq!(asked(&mut puppets), [expected]);
            let mut of = puppets.iter_mut();
            let server = of.find(|puppet| puppet.name == expected).unwrap();
            server.replies((ana.id, request), "done");
        }
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn the_least_busy_is_asked() {
        // 12.9
        let mut world = World::default();
        let mut puppets = servers(&mut world, ServeMode::Shared, ["a", "b", "c"]);
        let mut ana = world.client("ana");
        let requests = [0; 3].map(|_| ana.asks(PRINTER));
        assert_eq!(asked(&mut puppets), ["a", "b", "c"]);
        puppets[1].replies((ana.id, requests[1]), "done");
        ana.asks(PRINTER);
        assert_eq!(asked(&mut puppets), ["b"], "the others have one each");
        // What was asked of a client by its name counts as well.
        ana.asks(Target::Name("a"));
        ana.asks(Target::Name("b"));
        asked(&mut puppets);
        ana.asks(PRINTER);
        assert_eq!(asked(&mut puppets), ["c"]);
        world.hub.check();
    }

    #[test]
    fn who_is_away_is_not_asked() {
        // 12.9
        let mut world = World::default();
        let mut puppets = servers(&mut world, ServeMode::Shared, ["a", "b"]);
        let mut ana = world.client("ana");
        puppets[0].loses_connection(&world);
        for _ in 0..3 {
            ana.asks(PRINTER);
        }
        assert_eq!(asked(&mut puppets), ["b", "b", "b"]);
        puppets[1].loses_connection(&world);
        let request = ana.asks(PRINTER);
        assert_eq!(refused(&mut ana, request), Code::NO_SUCH_SERVICE);
        puppets[0].comes_back(&mut world);
        ana.asks(PRINTER);
        assert_eq!(asked(&mut puppets), ["a"], "it still serves");
        world.hub.check();
    }

    #[test]
    fn a_request_stays_with_its_handler() {
        // 12.9
        let mut world = World::default();
        let mut puppets = servers(&mut world, ServeMode::Shared, ["a", "b"]);
        let mut ana = world.client("ana");
        let requests = [0; 2].map(|_| ana.asks(PRINTER));
        asked(&mut puppets);
        puppets[0].unserves("printer");
        puppets[0].hears();
        puppets[0].replies((ana.id, requests[0]), "still mine");
        assert_eq!(ana.hears(), [reply(&puppets[0], requests[0], "still mine")]);
        let [mut a, b] = puppets;
        b.peer.as_ref().expect("it is there");
        a.serves("printer", ServeMode::Shared);
        a.hears();
        kicks(&world, &b);
        assert_eq!(ana.hears(), [no_reply(requests[1], Code::PEER_GONE)]);
        assert_eq!(a.hears(), [], "nobody else is asked in its place");
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn nobody_serves_before_it_says_so_or_after_it_has_ended() {
        // 12.8
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let request = ana.asks(PRINTER);
        assert_eq!(refused(&mut ana, request), Code::NO_SUCH_SERVICE);
        let request = bo.unserves("printer");
        assert_eq!(refused(&mut bo, request), Code::NOT_SERVING);
        let request = bo.serves("printer", ServeMode::Shared);
        assert_eq!(bo.hears(), [Seen::Done(request)], "and no lease");
        ana.asks(PRINTER);
        bo.is_asked();
        let request = ana.unserves("printer");
        assert_eq!(refused(&mut ana, request), Code::NOT_SERVING);
        let request = bo.unserves("printer");
        assert_eq!(bo.hears(), [Seen::Done(request)]);
        let request = ana.asks(PRINTER);
        assert_eq!(refused(&mut ana, request), Code::NO_SUCH_SERVICE);
        bo.serves("printer", ServeMode::Shared);
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        ana.hears();
        let request = ana.asks(PRINTER);
        assert_eq!(refused(&mut ana, request), Code::NO_SUCH_SERVICE);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn a_service_is_named_as_a_client_is() {
        // 12.8, 7.2
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let (longest, longer) = ("s".repeat(64), "s".repeat(65));
        for name in ["", "Printer", "a/b", "12", "prin ter", &longer] {
            let requests = [
                bo.serves(name, ServeMode::Shared),
                bo.unserves(name),
                bo.asks(Target::Service(name)),
            ];
            assert_eq!(
                refusals(&bo.hears()),
                requests.map(|request| (request, Code::BAD_SERVICE_NAME)),
                "{name:?}"
            );
        }
        // A service may have the name of a client, and the other way round.
        for name in ["ana", &longest, "v2.printer_a-b"] {
            bo.serves(name, ServeMode::Shared);
            bo.hears();
            ana.asks(Target::Service(name));
            bo.is_asked();
        }
        world.hub.check();
    }

    #[test]
    fn a_description_has_4096_bytes_at_most() {
        // 12.8
        let mut world = World::default();
        let mut bo = world.client("bo");
        let describes = |bo: &mut Puppet, bytes: usize| {
            bo.says(&ClientFrame::Serve {
                service: "printer",
                mode: ServeMode::Shared,
                description: &vec![0; bytes],
            })
        };
        let request = describes(&mut bo, 4_097);
        assert_eq!(refused(&mut bo, request), Code::PAYLOAD_TOO_LARGE);
        let request = bo.unserves("printer");
        assert_eq!(refused(&mut bo, request), Code::NOT_SERVING);
        for bytes in [4_096, 0, 9] {
            let request = describes(&mut bo, bytes);
            assert_eq!(bo.hears(), [Seen::Done(request)]);
            world.hub.check();
        }
    }

    #[test]
    fn one_client_serves_so_many_services() {
        let mut world = World::default();
        let mut bo = world.client("bo");
        for n in 0..256 {
            bo.serves(&format!("s{n}"), ServeMode::Shared);
        }
        assert!(refusals(&bo.hears()).is_empty());
        let request = bo.serves("one-more", ServeMode::Shared);
        assert_eq!(refused(&mut bo, request), Code::LIMIT_REACHED);
        let request = bo.serves("s7", ServeMode::Shared);
        assert_eq!(bo.hears(), [Seen::Done(request)], "it has that one");
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        world.hub.check();
    }

    #[test]
    fn a_service_is_shared_or_not() {
        // 12.10
        for (first, others) in [
            (
                ServeMode::Shared,
                [ServeMode::Exclusive, ServeMode::Takeover],
            ),
            (ServeMode::Exclusive, [ServeMode::Shared; 2]),
            (ServeMode::Takeover, [ServeMode::Shared; 2]),
        ] {
            let mut world = World::default();
            let [mut bo] = servers(&mut world, first, ["bo"]);
            let mut cy = world.client("cy");
            for mode in others {
                for puppet in [&mut bo, &mut cy] {
                    let request = puppet.serves("printer", mode);
                    assert_eq!(refused(puppet, request), Code::BAD_REQUEST, "{mode:?}");
                }
            }
            bo.unserves("printer");
            bo.hears();
            cy.serves("printer", others[0]);
            assert_eq!(refusals(&cy.hears()), [], "nobody serves it any more");
            world.hub.check();
        }
    }

    #[test]
    fn who_serves_twice_is_asked_as_one() {
        // 12.10: to serve again replaces the description.
        let mut world = World::default();
        let mut puppets = servers(&mut world, ServeMode::Shared, ["a", "a2"]);
        let request = puppets[0].serves("printer", ServeMode::Shared);
        assert_eq!(puppets[0].hears(), [Seen::Done(request)]);
        let mut ana = world.client("ana");
        for _ in 0..4 {
            ana.asks(PRINTER);
        }
        assert_eq!(asked(&mut puppets), ["a", "a", "a2", "a2"]);
        puppets[0].unserves("printer");
        puppets[0].hears();
        ana.asks(PRINTER);
        assert_eq!(asked(&mut puppets), ["a2"]);
        world.hub.check();
    }
}

mod exclusive {
    use super::*;
    use LeaseState::{Held, Lost, Queued};
    use ServeMode::{Exclusive, Takeover};

    #[test]
    fn one_has_it_and_the_others_wait_in_line() {
        // 12.10, 12.11
        let mut world = World::default();
        let [mut ana, mut bo, mut cy, mut di] =
            ["ana", "bo", "cy", "di"].map(|name| world.client(name));
        let (state, first) = lease(&mut ana, Exclusive);
        assert_eq!(state, Held);
        assert!(first > 0);
        for puppet in [&mut bo, &mut cy, &mut di] {
            assert_eq!(lease(puppet, Exclusive), (Queued, 0));
        }
        let mut eve = world.client("eve");
        for _ in 0..2 {
            eve.asks(PRINTER);
        }
        assert_eq!(ana.hears().len(), 2, "the holder is asked, and nobody else");

        ana.unserves("printer");
        let seen = bo.hears();
        let [Seen::Lease(_, Held, second)] = seen[..] else {
            panic!("{seen:?}");
        };
        assert!(second > first, "each lease has a higher number");
        di.unserves("printer");
        assert!(matches!(di.hears()[..], [Seen::Done(_)]));
        kicks(&world, &bo);
        let seen = cy.hears();
        assert!(
            matches!(seen[..], [Seen::Lease(_, Held, third)] if third > second),
            "{seen:?}"
        );
        assert_eq!(di.hears(), []);
        eve.asks(PRINTER);
        cy.is_asked();
        world.hub.check();
    }

    #[test]
    fn to_serve_again_changes_no_place_in_line() {
        let mut world = World::default();
        let [mut ana, mut bo, mut cy] = ["ana", "bo", "cy"].map(|name| world.client(name));
        let held = lease(&mut ana, Exclusive);
        lease(&mut bo, Exclusive);
        lease(&mut cy, Exclusive);
        assert_eq!(lease(&mut ana, Exclusive), held, "the same lease");
        assert_eq!(lease(&mut ana, Takeover), held, "it has it already");
        assert_eq!(lease(&mut bo, Exclusive), (Queued, 0));
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert!(matches!(bo.hears()[..], [Seen::Lease(_, Held, _)]));
        assert_eq!(cy.hears(), []);
        world.hub.check();
    }

    #[test]
    fn it_can_be_taken_over() {
        // 12.10, 12.11
        let mut world = World::default();
        let [mut ana, mut bo, mut cy, mut eve] =
            ["ana", "bo", "cy", "eve"].map(|name| world.client(name));
        let (_, first) = lease(&mut ana, Exclusive);
        lease(&mut bo, Exclusive);
        let before = eve.asks(PRINTER);
        let key = ana.is_asked();
        let (state, second) = lease(&mut cy, Takeover);
        assert_eq!(state, Held);
        assert!(second > first);
        assert_eq!(ana.hears(), told(Lost, first));
        let request = ana.unserves("printer");
        assert_eq!(refused(&mut ana, request), Code::NOT_SERVING);
        assert_eq!(bo.hears(), [], "it waits as before");
        eve.asks(PRINTER);
        cy.is_asked();
        // 12.11: what the old holder has got stays with it.
        ana.replies(key, "late, but mine");
        assert_eq!(eve.hears(), [reply(&ana, before, "late, but mine")]);
        world.hub.check();
        cy.unserves("printer");
        assert!(matches!(bo.hears()[..], [Seen::Lease(_, Held, third)] if third > second));
    }

    #[test]
    fn who_loses_it_and_has_nothing_else_to_do_is_forgotten() {
        let mut world = World::default();
        let [mut ana, mut bo] = ["ana", "bo"].map(|name| world.client(name));
        let (_, first) = lease(&mut ana, Takeover);
        lease(&mut bo, Takeover);
        assert_eq!(ana.hears(), told(Lost, first));
        world.hub.check();
        // It may ask for it again, and waits.
        assert_eq!(lease(&mut ana, Exclusive), (Queued, 0));
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(bo.hears(), []);
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        world.hub.check();
    }

    #[test]
    fn who_waits_can_take_it_over() {
        // 12.10: to serve again with 2.
        let mut world = World::default();
        let [mut ana, mut bo, mut cy] = ["ana", "bo", "cy"].map(|name| world.client(name));
        let (_, first) = lease(&mut ana, Exclusive);
        lease(&mut bo, Exclusive);
        lease(&mut cy, Exclusive);
        let (state, second) = lease(&mut cy, Takeover);
        assert_eq!((state, second > first), (Held, true));
        assert_eq!(ana.hears(), told(Lost, first));
        cy.departs(&world, Departure::Final(Code::GOODBYE));
        assert!(matches!(bo.hears()[..], [Seen::Lease(_, Held, _)]));
        assert_eq!(ana.hears(), [], "it is not in line any more");
        world.hub.check();
    }

    #[test]
    fn a_lease_lasts_while_its_holder_is_away() {
        // 12.11
        let mut world = World::default();
        let [mut ana, mut bo, mut eve] = ["ana", "bo", "eve"].map(|name| world.client(name));
        let (_, first) = lease(&mut ana, Exclusive);
        lease(&mut bo, Exclusive);
        ana.loses_connection(&world);
        let request = eve.asks(PRINTER);
        assert_eq!(refused(&mut eve, request), Code::NO_SUCH_SERVICE);
        ana.comes_back(&mut world);
        assert_eq!((ana.hears(), bo.hears()), (vec![], vec![]));
        eve.asks(PRINTER);
        ana.is_asked();
        assert_eq!(lease(&mut ana, Exclusive), (Held, first));
        ana.loses_connection(&world);
        world.pass(Duration::from_secs(120));
        let seen = bo.hears();
        assert!(
            matches!(seen[..], [Seen::Lease(_, Held, second)] if second > first),
            "{seen:?}"
        );
        world.hub.check();
    }

    #[test]
    fn it_can_be_taken_from_who_is_away() {
        // 12.11
        let mut world = World::default();
        let [mut ana, mut bo, mut eve] = ["ana", "bo", "eve"].map(|name| world.client(name));
        let (_, first) = lease(&mut ana, Exclusive);
        ana.loses_connection(&world);
        assert!(matches!(lease(&mut bo, Takeover), (Held, second) if second > first));
        eve.asks(PRINTER);
        bo.is_asked();
        ana.comes_back(&mut world);
        assert_eq!(
            ana.hears(),
            told(Lost, first),
            "it hears of it when it is back"
        );
        world.hub.check();
    }

    #[test]
    fn numbers_grow_over_all_services_and_never_come_again() {
        // 12.11
        let mut world = World::default();
        let mut ana = world.client("ana");
        let mut last = 0;
        for _ in 0..3 {
            for service in ["a", "b"] {
                ana.serves(service, Exclusive);
                let seen = ana.hears();
                let [_, Seen::Lease(_, Held, fence)] = seen[..] else {
                    panic!("{seen:?}");
                };
                assert!(fence > last);
                last = fence;
            }
            for service in ["a", "b"] {
                ana.unserves(service);
            }
            ana.hears();
        }
    }
}

mod listed {
    use super::*;

    fn services(op: &mut Puppet, after: Option<&str>, limit: Option<u32>) -> admin::Services {
        let after = after.map(str::to_owned);
        let page = admin::encode(&admin::Page { after, limit });
        let (error, answer) = ask(op, admin::SERVICES, &page);
        assert_eq!(error, None);
        admin::decode(&answer).unwrap()
    }

    #[test]
    fn services_are_listed_with_who_serves_them() {
        // 13.1
        let mut world = World::default();
        let [mut ana, mut bo, mut cy, mut op] =
            ["ana", "bo", "cy", "op"].map(|name| world.client(name));
        bo.says(&ClientFrame::Serve {
            service: "printer",
            mode: ServeMode::Shared,
            description: b"\xa1\x61a\x01",
        });
        cy.serves("printer", ServeMode::Shared);
        cy.serves("clock", ServeMode::Exclusive);
        bo.serves("clock", ServeMode::Exclusive);
        bo.hears();
        cy.hears();
        let requests = [0; 3].map(|_| ana.asks(PRINTER));
        bo.hears();
        cy.hears();
        bo.replies((ana.id, requests[0]), "done");
        cy.replies_with((ana.id, requests[1]), Some(Code::FAILED), false, "");
        cy.loses_connection(&world);

        let all = services(&mut op, None, None);
        assert!(!all.more);
        let [clock, printer] = &all.services[..] else {
            panic!("two, by name: {all:?}");
        };
        let server = |server: &admin::ServerView| {
            let state = server.state.clone();
            (server.id, server.name.clone(), state, server.in_flight)
        };
        let of = |puppet: &Puppet, state: &str, in_flight| {
            (puppet.id, puppet.name.clone(), state.to_owned(), in_flight)
        };
        assert_eq!((clock.name.as_str(), clock.shared), ("clock", false));
        let line: Vec<_> = clock.servers.iter().map(server).collect();
        assert_eq!(line, [of(&cy, "away", 0), of(&bo, "online", 1)]);
        assert!(clock.servers[0].fence > 0 && clock.servers[1].fence == 0);
        assert_eq!((clock.requests, clock.p50_us), (0, None));

        assert_eq!((printer.name.as_str(), printer.shared), ("printer", true));
        let both: Vec<_> = printer.servers.iter().map(server).collect();
        assert_eq!(both, [of(&bo, "online", 1), of(&cy, "away", 0)]);
        assert_eq!(printer.servers[0].description, b"\xa1\x61a\x01");
        assert_eq!(printer.servers[1].description, b"");
        // 12.10: to serve again replaces the description, and not what was counted.
        bo.says(&ClientFrame::Serve {
            service: "printer",
            mode: ServeMode::Shared,
            description: b"\xa0",
        });
        let again = &services(&mut op, None, None).services[1];
        assert_eq!(again.servers[0].description, b"\xa0");
        assert_eq!((again.requests, again.servers.len()), (3, 2));
        assert_eq!(printer.servers[0].fence, 0);
        let numbers = (printer.requests, printer.in_flight, printer.failed);
        assert_eq!(numbers, (3, 1, 1));
        assert!(printer.p50_us.is_some() && printer.p99_us.is_some());
    }

    // protocol.md 13.4
    #[test]
    fn without_a_word_the_first_page_is_meant() {
        let mut world = World::default();
        let (mut ana, mut op) = (world.client("ana"), world.client("op"));
        ana.serves("printer", ServeMode::Shared);
        let expected = admin::encode(&services(&mut op, None, None));
        assert_eq!(ask(&mut op, admin::SERVICES, b"\xf6"), (None, expected));
    }

    #[test]
    fn services_are_listed_by_the_page() {
        // 13.4
        let mut world = World::default();
        let (mut bo, mut op) = (world.client("bo"), world.client("op"));
        for name in ["b", "a", "d", "c"] {
            bo.serves(name, ServeMode::Shared);
        }
        let names = |page: &admin::Services| -> Vec<String> {
            page.services.iter().map(|it| it.name.clone()).collect()
        };
        let first = services(&mut op, None, Some(3));
        assert_eq!(
            (names(&first).join(" "), first.more),
            ("a b c".into(), true)
        );
        let rest = services(&mut op, Some("c"), Some(3));
        assert_eq!((names(&rest).join(" "), rest.more), ("d".into(), false));
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(names(&services(&mut op, None, None)), [""; 0]);
        assert_eq!(
            ask(&mut op, admin::SERVICES, b"\xff").0,
            Some(Code::BAD_REQUEST)
        );
    }

    #[test]
    fn how_a_service_has_done_begins_anew_when_it_does() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let mut op = world.client("op");
        bo.serves("printer", ServeMode::Shared);
        bo.hears();
        let old = ana.asks(PRINTER);
        bo.unserves("printer");
        bo.serves("printer", ServeMode::Shared);
        ana.asks(PRINTER);
        bo.hears();
        bo.replies_with((ana.id, old), Some(Code::FAILED), false, "");
        let page = services(&mut op, None, None);
        let printer = &page.services[0];
        let numbers = (printer.requests, printer.in_flight, printer.failed);
        assert_eq!(numbers, (1, 1, 0), "without the one from before");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut world = World::default();
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let mut op = world.client("op");
        bo.serves("printer", ServeMode::Shared);
        for second in 0..20 {
            for _ in 0..5 {
                ana.asks(Ask {
                    deadline_ms: 100,
                    ..Ask::of(PRINTER)
                });
            }
            world.pass(Duration::from_secs(1));
            for puppet in [&mut ana, &mut op] {
                puppet.looks_at_the_clock(&world);
                puppet.hears();
            }
            bo.hears();
            let page = services(&mut op, None, None);
            let printer = &page.services[0];
            assert_eq!(printer.failed, (second + 1) * 5, "none was replied to");
            if second >= 10 {
                assert_eq!(printer.per_second, 5);
            }
        }
        assert_eq!(open_requests(&world), 0);
    }
}
