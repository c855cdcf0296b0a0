//! Commands: each is carried out once at most, however often it is sent. Rules 12.13 to 12.15.

use localhub_protocol::{BrokerFrame, Run, ServeMode};
use localhub_tests::Ask;

use super::*;

const PRINTER: Target<'static> = Target::Service("printer");
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The ids of commands, in the order of their numbers.
fn id(n: u32) -> [u8; 16] {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&n.to_be_bytes());
    id
}

fn command(to: Target<'_>, n: u32) -> Ask<'_> {
    Ask {
        command: Some(id(n)),
        ..Ask::of(to)
    }
}

/// Two callers of one user, and who serves the printer.
fn three(world: &mut World) -> (Puppet, Puppet, Puppet) {
    let (ana, cy) = (world.client("ana"), world.client("cy"));
    let mut bo = world.client("bo");
    bo.serves("printer", ServeMode::Shared);
    bo.hears();
    (ana, bo, cy)
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

/// How many commands the hub knows, and what they take, once it has shown that it is in order.
fn known(world: &World) -> (u64, u64) {
    world.hub.check();
    let status = world.hub.status(world.now);
    (status.commands, status.command_bytes)
}

/// A reply as its caller gets it.
fn on_the_wire(from: &Puppet, first: u64, to: (ClientId, u64), payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    BrokerFrame::Run(Run {
        channel: None,
        sender: from.id,
        name: &from.name,
        first,
        count: 1,
        retained: false,
    })
    .encode(&mut wire);
    BrokerFrame::Message(Message::Reply {
        to: to.0,
        request: to.1,
        error: None,
        more: false,
        content: ContentType::JSON,
        payload,
    })
    .encode(&mut wire);
    wire
}

mod duplicates {
    use super::*;

    #[test]
    fn all_who_send_a_command_get_its_one_outcome_byte_for_byte() {
        // 12.13
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let ask = command(PRINTER, 1);
        let requests = [ana.asks(ask), cy.asks(ask), ana.asks(ask)];
        assert_eq!(bo.is_asked(), (ana.id, requests[0]), "it is sent once");
        assert_eq!(open_requests(&world), 3);
        let first = bo.says(&ClientFrame::Message(Message::Reply {
            to: ana.id,
            request: requests[0],
            error: None,
            more: false,
            content: ContentType::JSON,
            payload: b"{}",
        }));
        let later = [cy.asks(ask), ana.asks(ask)];
        let got = |puppet: &Puppet, requests: &[u64]| -> Vec<u8> {
            let replies = requests.iter();
            let replies =
                replies.map(|request| on_the_wire(&bo, first, (puppet.id, *request), b"{}"));
            replies.flatten().collect()
        };
        let to_ana = got(&ana, &[requests[0], requests[2], later[1]]);
        let to_cy = got(&cy, &[requests[1], later[0]]);
        // What may follow is an ack.
        assert!(ana.takes().starts_with(&to_ana));
        assert!(cy.takes().starts_with(&to_cy));
        assert_eq!(bo.hears(), []);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn a_failure_is_an_outcome_as_well() {
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let request = ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        bo.replies_with(key, Some(Code::FAILED), false, "no paper");
        let failed =
            |request| Seen::Reply(bo.id, request, Some(Code::FAILED), b"no paper".to_vec());
        assert_eq!(ana.hears(), [failed(request)]);
        let request = cy.asks(command(PRINTER, 1));
        assert_eq!(cy.hears(), [failed(request)]);
        assert_eq!(bo.hears(), []);
    }

    #[test]
    fn only_the_first_is_with_the_handler() {
        // 12.4: nobody replies to those who wait.
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        ana.asks(command(PRINTER, 1));
        bo.is_asked();
        let waiter = cy.asks(command(PRINTER, 1));
        let refused = bo.replies((cy.id, waiter), "done");
        is_refused(&mut bo, refused, Code::UNKNOWN_REQUEST);
        assert_eq!(cy.hears(), []);
    }

    #[test]
    fn the_handler_may_have_gone_and_still_its_outcome_stays() {
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        bo.replies(key, "done");
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        let request = cy.asks(command(PRINTER, 1));
        assert_eq!(cy.hears(), [reply(&bo, request, "done")]);
    }

    #[test]
    fn another_user_has_other_commands() {
        // 12.13: by user and id.
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        let stranger = world.user(1_001);
        let mut eve = world.try_client(Some("eve"), stranger).unwrap();
        let mine = ana.asks(command(PRINTER, 1));
        assert_eq!(bo.is_asked(), (ana.id, mine));
        let hers = eve.asks(Ask {
            payload: b"another page",
            ..command(PRINTER, 1)
        });
        assert_eq!(bo.is_asked(), (eve.id, hers));
        bo.replies((ana.id, mine), "ana's");
        assert_eq!(eve.hears(), []);
        bo.replies((eve.id, hers), "eve's");
        assert_eq!(ana.hears(), [reply(&bo, mine, "ana's")]);
        assert_eq!(eve.hears(), [reply(&bo, hers, "eve's")]);
    }

    #[test]
    fn where_a_method_ends_makes_another_command() {
        // 12.13: the content type, 1, stands between method and payload.
        let mut world = World::default();
        let (mut ana, _, _) = three(&mut world);
        ana.asks(Ask {
            method: "a",
            payload: b"b\0\x01c",
            ..command(PRINTER, 1)
        });
        let request = ana.asks(Ask {
            method: "a\0\x01b",
            payload: b"c",
            ..command(PRINTER, 1)
        });
        is_refused(&mut ana, request, Code::ID_REUSE);
    }

    #[test]
    fn an_id_is_for_one_command() {
        // 12.13: while it has no outcome, and after it.
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let first = ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        let same = command(PRINTER, 1);
        let others = [
            command(Target::Service("scanner"), 1),
            command(Target::Name("printer"), 1),
            command(Target::Name("bo"), 1),
            command(Target::Id(bo.id), 1),
            Ask {
                method: "prin",
                payload: b"ta page",
                ..same
            },
            Ask {
                method: "paint",
                ..same
            },
            Ask {
                content: ContentType::BYTES,
                ..same
            },
            Ask {
                payload: b"a page more",
                ..same
            },
            Ask {
                payload: b"",
                ..same
            },
        ];
        for over in [false, true] {
            if over {
                bo.replies(key, "done");
                assert_eq!(ana.hears(), [reply(&bo, first, "done")]);
            }
            for other in others {
                for puppet in [&mut ana, &mut cy] {
                    let request = puppet.asks(other);
                    is_refused(puppet, request, Code::ID_REUSE);
                }
            }
        }
        let request = cy.asks(Ask {
            deadline_ms: 5,
            ..same
        });
        let expected = [reply(&bo, request, "done")];
        assert_eq!(cy.hears(), expected, "how long it waits is its own affair");
        assert_eq!(bo.hears(), []);
        world.hub.check();
    }
}

mod waiting {
    use super::*;

    #[test]
    fn a_deadline_ends_the_wait_and_not_the_command() {
        // 12.14
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let first = ana.asks(Ask {
            deadline_ms: 1_000,
            ..command(PRINTER, 1)
        });
        let waiter = cy.asks(Ask {
            deadline_ms: 2_000,
            ..command(PRINTER, 1)
        });
        let key = bo.is_asked();
        world.pass(Duration::from_secs(1));
        assert_eq!(ana.hears(), [no_reply(first, Code::DEADLINE)]);
        assert_eq!(cy.hears(), []);
        world.pass(Duration::from_secs(1));
        assert_eq!(cy.hears(), [no_reply(waiter, Code::DEADLINE)]);
        assert_eq!(bo.hears(), [], "it goes on, though nobody waits");
        assert_eq!(open_requests(&world), 1);
        let again = ana.asks(command(PRINTER, 1));
        bo.replies(key, "done");
        assert_eq!(ana.hears(), [reply(&bo, again, "done")]);
        assert_eq!((cy.hears(), bo.hears()), (vec![], vec![]));
        let again = cy.asks(command(PRINTER, 1));
        assert_eq!(cy.hears(), [reply(&bo, again, "done")]);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn it_is_cancelled_when_all_have_cancelled_it() {
        // 12.14
        for waiter_first in [false, true] {
            let mut world = World::default();
            let (mut ana, mut bo, mut cy) = three(&mut world);
            let first = ana.asks(command(PRINTER, 1));
            let waiter = cy.asks(command(PRINTER, 1));
            let key = bo.is_asked();
            let mut callers = [(&mut ana, first), (&mut cy, waiter)];
            if waiter_first {
                callers.reverse();
            }
            for (n, (caller, request)) in callers.into_iter().enumerate() {
                assert_eq!(bo.hears(), [], "one of two is not all");
                caller.cancels(request);
                assert_eq!(caller.hears(), [no_reply(request, Code::CANCELLED)]);
                caller.cancels(request);
                assert_eq!(caller.hears(), [], "caller {n} has its outcome");
            }
            assert_eq!(bo.hears(), [Seen::Cancelled(key.0, key.1, Code::CANCELLED)]);
            // 12.7: it need not stop, and what it says is the outcome.
            bo.replies(key, "too late, it is printed");
            let again = cy.asks(command(PRINTER, 1));
            assert_eq!(cy.hears(), [reply(&bo, again, "too late, it is printed")]);
            assert_eq!((ana.hears(), bo.hears()), (vec![], vec![]));
            assert_eq!(open_requests(&world), 0);
        }
    }

    #[test]
    fn the_callers_may_go() {
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        ana.asks(command(PRINTER, 1));
        cy.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        let mut di = world.client("di");
        let waiter = di.asks(command(PRINTER, 1));
        for puppet in [&mut cy, &mut ana] {
            puppet.departs(&world, Departure::Final(Code::PROCESS_DIED));
            world.hub.check();
        }
        assert_eq!(bo.hears(), []);
        bo.replies(key, "done");
        assert_eq!(di.hears(), [reply(&bo, waiter, "done")]);
        // The one who sent it is back, as another session.
        let mut ana = world.client("ana");
        let again = ana.asks(command(PRINTER, 1));
        assert_eq!(ana.hears(), [reply(&bo, again, "done")]);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn an_outcome_is_kept_though_nobody_waits_for_it() {
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(open_requests(&world), 1);
        bo.replies(key, "done");
        assert_eq!(open_requests(&world), 0);
        let mut di = world.client("di");
        let request = di.asks(command(PRINTER, 1));
        assert_eq!(di.hears(), [reply(&bo, request, "done")]);
        assert_eq!(bo.hears(), []);
    }

    #[test]
    fn an_outcome_that_does_not_fit_now_is_there_later() {
        // 12.5, 12.13
        let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let first = ana.asks(command(PRINTER, 1));
        let waiter = cy.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        for _ in 0..3 {
            bo.sends_to(Target::Id(ana.id), &"x".repeat(3_000));
        }
        let large = "x".repeat(3_000);
        bo.replies(key, &large);
        let again = ana.asks(command(PRINTER, 1));
        assert_eq!(
            ana.hears()[3..],
            [first, again].map(|request| no_reply(request, Code::OUTBOX_FULL))
        );
        assert_eq!(cy.hears(), [reply(&bo, waiter, &large)]);
        let again = ana.asks(command(PRINTER, 1));
        assert_eq!(ana.hears(), [reply(&bo, again, &large)]);
        assert_eq!(open_requests(&world), 0);
    }
}

mod lost_handlers {
    use super::*;

    #[test]
    fn who_may_have_carried_it_out_leaves_an_unknown_outcome() {
        // 12.14
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let first = ana.asks(command(PRINTER, 1));
        let waiter = cy.asks(command(PRINTER, 1));
        bo.is_asked();
        bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
        assert_eq!(ana.hears(), [no_reply(first, Code::OUTCOME_UNKNOWN)]);
        assert_eq!(cy.hears(), [no_reply(waiter, Code::OUTCOME_UNKNOWN)]);
        // It stays so, though there is somebody who could.
        let mut di = world.client("di");
        di.serves("printer", ServeMode::Shared);
        di.hears();
        let again = cy.asks(command(PRINTER, 1));
        assert_eq!(cy.hears(), [no_reply(again, Code::OUTCOME_UNKNOWN)]);
        assert_eq!(di.hears(), []);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn who_was_never_sent_it_has_not_carried_it_out() {
        // 12.14
        let mut world = World::default();
        let (mut ana, bo, mut cy) = three(&mut world);
        let first = ana.asks(command(PRINTER, 1));
        let waiter = cy.asks(command(PRINTER, 1));
        kicks(&world, &bo);
        assert_eq!(ana.hears(), [no_reply(first, Code::NOT_EXECUTED)]);
        assert_eq!(cy.hears(), [no_reply(waiter, Code::NOT_EXECUTED)]);
        assert_eq!((open_requests(&world), known(&world)), (0, (0, 0)));
        let mut di = world.client("di");
        di.serves("printer", ServeMode::Shared);
        di.hears();
        let again = cy.asks(command(PRINTER, 1));
        assert_eq!(di.is_asked(), (cy.id, again), "it may be sent again");
        di.replies((cy.id, again), "done");
        assert_eq!(cy.hears(), [reply(&di, again, "done")]);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn who_was_away_all_the_time_has_not_carried_it_out() {
        // 12.14
        for comes_back in [false, true] {
            let mut world = World::default();
            let (mut ana, mut bo, _) = three(&mut world);
            bo.loses_connection(&world);
            let request = ana.asks(command(Target::Id(bo.id), 1));
            if comes_back {
                // And nothing is written to it before it is lost again.
                let resume = bo.resume();
                bo.tries_to_come_back(&mut world, resume).unwrap();
                bo.loses_connection(&world);
            }
            world.pass(Duration::from_secs(120));
            assert_eq!(ana.hears(), [no_reply(request, Code::NOT_EXECUTED)]);
            assert_eq!((open_requests(&world), known(&world)), (0, (0, 0)));
        }
    }

    #[test]
    fn what_was_written_to_an_earlier_connection_was_written() {
        // 12.14: what the client says of what it received is not what it did.
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        let resume = bo.resume();
        let request = ana.asks(command(PRINTER, 1));
        bo.listens();
        bo.loses_connection(&world);
        let resume = localhub_protocol::Resume {
            token: bo.resume().token,
            ..resume
        };
        bo.tries_to_come_back(&mut world, resume).unwrap();
        bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
        assert_eq!(ana.hears(), [no_reply(request, Code::OUTCOME_UNKNOWN)]);
        assert_eq!(open_requests(&world), 0);
    }

    #[test]
    fn who_comes_back_without_it_has_not_carried_it_out() {
        // 12.14
        let mut world = World::new(|settings| settings.limits.outbox_messages = 4);
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let first = ana.asks(command(PRINTER, 1));
        let waiter = cy.asks(command(PRINTER, 1));
        bo.takes();
        // It is let go of to make room.
        for n in 0..4 {
            cy.sends_to(Target::Id(bo.id), &n.to_string());
        }
        let resumed = bo.comes_back(&mut world);
        assert_eq!(resumed.lost, Some(1));
        assert_eq!(ana.hears(), [no_reply(first, Code::NOT_EXECUTED)]);
        assert_eq!(cy.hears(), [no_reply(waiter, Code::NOT_EXECUTED)]);
        bo.hears();
        let again = cy.asks(command(PRINTER, 1));
        assert_eq!(bo.is_asked(), (cy.id, again), "it may be sent again");
        assert_eq!(open_requests(&world), 1);
    }

    #[test]
    fn who_comes_back_replies_as_if_nothing_had_been() {
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        let request = ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        bo.loses_connection(&world);
        assert_eq!(ana.hears(), []);
        bo.comes_back(&mut world);
        assert_eq!(bo.hears(), [], "it has it already");
        bo.replies(key, "done");
        assert_eq!(ana.hears(), [reply(&bo, request, "done")]);
    }

    #[test]
    fn nobody_is_left_waiting_when_the_callers_went_first() {
        for written in [false, true] {
            let mut world = World::default();
            let (mut ana, mut bo, _) = three(&mut world);
            ana.asks(command(PRINTER, 1));
            if written {
                bo.is_asked();
            }
            ana.departs(&world, Departure::Final(Code::GOODBYE));
            bo.departs(&world, Departure::Final(Code::GOODBYE));
            assert_eq!(open_requests(&world), 0);
            assert_eq!(known(&world).0, u64::from(written));
            world.pass(HOUR);
            assert_eq!(known(&world), (0, 0));
        }
    }

    #[test]
    fn a_client_may_send_itself_a_command() {
        let mut world = World::default();
        let mut ana = world.client("ana");
        ana.asks(command(Target::Name("ana"), 1));
        let waiter = ana.asks(command(Target::Name("ana"), 1));
        let seen = ana.hears();
        let [Seen::Request(caller, request, ..)] = seen[..] else {
            panic!("{seen:?}");
        };
        ana.replies((caller, request), "done");
        assert_eq!(
            ana.hears(),
            [reply(&ana, request, "done"), reply(&ana, waiter, "done")]
        );
        for n in 2..4 {
            ana.asks(command(Target::Name("ana"), n));
            ana.asks(command(Target::Name("ana"), n));
        }
        ana.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(open_requests(&world), 0);
    }
}

mod refused {
    use super::*;

    #[test]
    fn what_was_refused_can_be_sent_again() {
        // 12.14
        let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
        let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
        let large = Ask {
            payload: &[0; 3_000],
            ..command(PRINTER, 1)
        };
        let request = ana.asks(large);
        is_refused(&mut ana, request, Code::NO_SUCH_SERVICE);
        bo.serves("printer", ServeMode::Shared);
        for _ in 0..3 {
            ana.sends_to(Target::Id(bo.id), &"x".repeat(3_000));
        }
        let request = ana.asks(large);
        is_refused(&mut ana, request, Code::OUTBOX_FULL);
        assert_eq!(known(&world), (0, 0));
        bo.hears();
        let request = ana.asks(large);
        assert_eq!(bo.is_asked(), (ana.id, request));
        bo.replies((ana.id, request), "done");
        assert_eq!(ana.hears(), [reply(&bo, request, "done")]);
    }

    #[test]
    fn a_command_has_no_window() {
        // 12.15
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        let request = ana.asks(Ask {
            window: 1,
            ..command(PRINTER, 1)
        });
        is_refused(&mut ana, request, Code::BAD_REQUEST);
        assert_eq!(known(&world), (0, 0));
        // Nor parts.
        ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        let part = bo.replies_in_part(key, "1");
        is_refused(&mut bo, part, Code::BAD_REQUEST);
        world.hub.check();
    }

    #[test]
    fn so_many_users_may_send_commands() {
        let mut world = World::default();
        let (_, mut bo, _) = three(&mut world);
        for user in 0..256 {
            let identity = world.user(user);
            let mut puppet = world.try_client(None, identity).unwrap();
            let request = puppet.asks(command(PRINTER, 1));
            assert_eq!(bo.is_asked(), (puppet.id, request));
            puppet.departs(&world, Departure::Final(Code::GOODBYE));
        }
        let identity = world.user(256);
        let mut puppet = world.try_client(None, identity).unwrap();
        let request = puppet.asks(command(PRINTER, 1));
        is_refused(&mut puppet, request, Code::LIMIT_REACHED);
        bo.departs(&world, Departure::Final(Code::GOODBYE));
        assert_eq!(open_requests(&world), 0);
    }
}

mod kept {
    use super::*;

    /// Sends a command, and has it done.
    fn done(ana: &mut Puppet, bo: &mut Puppet, n: u32, payload: &str) {
        let request = ana.asks(command(PRINTER, n));
        let key = bo.is_asked();
        assert_eq!(key, (ana.id, request));
        bo.replies(key, payload);
        assert_eq!(ana.hears(), [reply(bo, request, payload)]);
    }

    #[test]
    fn an_outcome_is_known_for_an_hour() {
        // 12.13, 12.15
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        done(&mut ana, &mut bo, 5, "done");
        assert_eq!(known(&world).0, 1);
        assert!(known(&world).1 > 0);
        for passed in [HOUR - Duration::from_millis(1), Duration::from_millis(1)] {
            world.pass(passed);
            ana.looks_at_the_clock(&world);
            let request = ana.asks(command(PRINTER, 5));
            if world.now < HOUR {
                assert_eq!(ana.hears(), [reply(&bo, request, "done")]);
            } else {
                is_refused(&mut ana, request, Code::STALE_COMMAND);
            }
        }
        assert_eq!(known(&world), (0, 0));
        // 12.13: nobody knows of those below either, whether or not they were ever sent.
        let other = Ask {
            payload: b"another page",
            ..command(PRINTER, 5)
        };
        for ask in [command(PRINTER, 4), command(PRINTER, 0), other] {
            let request = ana.asks(ask);
            is_refused(&mut ana, request, Code::STALE_COMMAND);
        }
        assert_eq!(bo.hears(), []);
        done(&mut ana, &mut bo, 6, "the next one is new");
    }

    #[test]
    fn all_up_to_the_highest_that_is_forgotten_are_stale() {
        // 12.13: in whatever order they got their outcomes.
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        for n in [5, 3] {
            done(&mut ana, &mut bo, n, "done");
        }
        world.pass(HOUR);
        for n in [3, 4, 5] {
            let request = ana.asks(command(PRINTER, n));
            is_refused(&mut ana, request, Code::STALE_COMMAND);
        }
        done(&mut ana, &mut bo, 6, "done");
    }

    #[test]
    fn the_hour_begins_with_the_outcome_and_the_server_hears_of_it() {
        // 12.15
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        ana.asks(command(PRINTER, 1));
        let key = bo.is_asked();
        world.pass(HOUR * 3);
        bo.looks_at_the_clock(&world);
        assert_eq!(known(&world).0, 1, "without outcome it stays");
        assert!(!bo.rings());
        bo.replies(key, "at last");
        assert!(bo.rings(), "it is to be forgotten");
        let next = world.hub.expire(world.now, &mut Default::default());
        assert_eq!(next, Some(HOUR * 4));
        world.pass(HOUR - Duration::from_millis(1));
        assert_eq!(known(&world).0, 1);
        world.pass(Duration::from_millis(1));
        assert_eq!((open_requests(&world), known(&world)), (0, (0, 0)));
    }

    #[test]
    fn the_oldest_make_room() {
        // 12.15: 16 MiB of them.
        let mut world = World::default();
        let (mut ana, mut bo, mut cy) = three(&mut world);
        let pending = cy.asks(command(PRINTER, 0));
        let key = bo.is_asked();
        let large = "x".repeat(6 << 20);
        for n in [3, 1, 2] {
            done(&mut ana, &mut bo, n, &large);
        }
        assert!(known(&world).1 <= 16 << 20);
        // The third was the first to get its outcome: nobody knows now what lies below it, but what is kept.
        let refused = [
            ana.asks(command(PRINTER, 3)),
            ana.asks(command(Target::Name("bo"), 0)),
        ];
        assert_eq!(
            refusals(&ana.hears()),
            [
                (refused[0], Code::STALE_COMMAND),
                (refused[1], Code::ID_REUSE)
            ]
        );
        for n in [1, 2] {
            let request = ana.asks(command(PRINTER, n));
            assert_eq!(ana.hears(), [reply(&bo, request, &large)]);
        }
        bo.replies(key, "what has no outcome stays");
        assert_eq!(
            cy.hears(),
            [reply(&bo, pending, "what has no outcome stays")]
        );
        assert_eq!(bo.hears(), []);
        done(&mut ana, &mut bo, 4, "new");
    }

    #[test]
    fn so_many_are_kept() {
        // 12.15: 65,536 of a user.
        let mut world = World::default();
        let (mut ana, mut bo, _) = three(&mut world);
        for n in 1..=65_537 {
            ana.asks(command(PRINTER, n));
            bo.replies((ana.id, n.into()), "");
            if n % 4_096 == 0 {
                bo.hears();
                ana.hears();
            }
        }
        assert_eq!(known(&world).0, 65_536);
        bo.hears();
        ana.hears();
        let request = ana.asks(command(PRINTER, 1));
        is_refused(&mut ana, request, Code::STALE_COMMAND);
        let request = ana.asks(command(PRINTER, 2));
        assert_eq!(ana.hears(), [reply(&bo, request, "")]);
        world.pass(HOUR);
        assert_eq!((open_requests(&world), known(&world)), (0, (0, 0)));
    }
}

// Rule 12.14: a command that is refused was not executed, but for `stale_command`, which says nothing about it.
#[test]
fn a_command_that_runs_is_not_refused_when_it_is_sent_again_and_memory_is_short() {
    let mut world = World::new(|settings| settings.memory_bytes = 100_000);
    let (mut ana, mut bo, mut cy) = (world.client("ana"), world.client("bo"), world.client("cy"));
    let pay = Ask {
        command: Some([7; 16]),
        ..Ask::of(Target::Name("bo"))
    };
    let first = ana.asks(pay);
    assert!(
        matches!(bo.hears()[..], [Seen::Request(..)]),
        "it is with its handler"
    );
    // Somebody else fills what memory there is.
    let kiosk = cy.joins("kiosk");
    for n in 0.. {
        cy.publishes_as(kiosk, &n.to_string(), Retain::Set, b"");
        if cy
            .hears()
            .iter()
            .any(|seen| matches!(seen, Seen::Refusal(..)))
        {
            break;
        }
    }
    let again = ana.asks(pay);
    let seen = ana.hears();
    let refused = |seen: &Seen| matches!(seen, Seen::Refusal(of, ..) if *of == again);
    assert!(
        !seen.iter().any(refused),
        "it is being carried out: {seen:?}"
    );
    bo.replies((ana.id, first), "paid");
    assert!(ana.hears().contains(&reply(&bo, first, "paid")));
}
