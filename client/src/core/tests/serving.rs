//! What the client serves, and the requests that it handles.

use localhub_protocol::{LeaseState, ServeMode, Target};

use super::*;
use crate::{Failure, Lease, Payload};

impl World {
    /// Serves, and lets the broker agree; the client's next message has that position.
    fn serves(&mut self, mode: ServeMode, position: u64) -> PostId {
        let name = "printer".parse().unwrap();
        let (post, ticket) = self.core.serve(name, mode, Bytes::new()).unwrap();
        assert_eq!(self.says(), [format!("serve printer {mode:?} 0 bytes")]);
        self.hears(&[BrokerFrame::Done { request: position }]);
        if mode != ServeMode::Shared {
            assert!(self.outcome(ticket).is_none(), "the lease has yet to come");
            self.leases(LeaseState::Held, 3);
        }
        assert!(matches!(self.outcome(ticket), Some(Ok(Answer::Done))));
        post
    }

    fn leases(&mut self, state: LeaseState, fence: u64) {
        let service = "printer";
        self.hears(&[BrokerFrame::Lease {
            service,
            state,
            fence,
        }]);
    }

    /// A request of another client to the service arrives.
    fn is_asked(&mut self, position: u64, command: Option<[u8; 16]>, window: u32) {
        self.is_asked_as(Target::Service("printer"), position, command, window);
    }

    fn is_asked_as(
        &mut self,
        to: Target<'_>,
        position: u64,
        command: Option<[u8; 16]>,
        window: u32,
    ) {
        let run = Run {
            channel: None,
            sender: ClientId(5),
            name: "bo",
            first: position,
            count: 1,
            retained: false,
        };
        let request = Message::Request {
            to,
            deadline_ms: 2_000,
            command,
            window,
            method: "print",
            content: ContentType::TEXT,
            payload: b"page",
        };
        self.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(request)]);
    }

    fn takes(&mut self, post: PostId) -> HandlingId {
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_post(post, cx) {
            Poll::Ready(Some(id)) => id,
            other => panic!("no request: {other:?}"),
        }
    }

    fn answers(&mut self, id: HandlingId, text: &str) {
        let cx = &Context::from_waker(Waker::noop());
        let payload = Payload::from(text);
        let answered = self.core.poll_answer(id, &Said::Reply(&payload), cx);
        assert!(matches!(answered, Poll::Ready(Ok(()))), "{answered:?}");
    }

    fn is_told(&mut self, request: u64, cause: Code) {
        let caller = ClientId(5);
        self.hears(&[BrokerFrame::Cancelled {
            caller,
            request,
            cause,
        }]);
    }
}

#[test]
fn a_request_to_a_service_is_answered_once() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 0);
    let request = world.takes(post);
    let arrived = world.core.arrived(request);
    assert_eq!(&*arrived.method, "print");
    assert_eq!(arrived.service.as_deref(), Some("printer"));
    assert_eq!(arrived.caller.name.as_str(), "bo");
    assert_eq!(arrived.deadline, world.now + Duration::from_secs(2));
    world.answers(request, "done");
    world.answers(request, "again");
    world.core.drop_handling(request, DROPPED);
    assert_eq!(world.says(), ["reply 5/7 done"]);
}

#[test]
fn a_request_that_is_dropped_or_that_nobody_takes_fails_by_itself() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 0);
    world.is_asked(8, None, 0);
    world.is_asked_as(Target::Name("ana"), 9, None, 0);
    let request = world.takes(post);
    world.core.drop_handling(request, DROPPED);
    world.core.close_post(post);
    assert_eq!(
        world.says(),
        [
            "reply 5/9 this client does not take that request (not_served)",
            "reply 5/7 the handler gave no answer (dropped)",
            "unserve printer",
            "reply 5/8 this client does not take that request (not_served)",
        ]
    );
}

#[test]
fn requests_to_the_client_itself_go_to_who_takes_them() {
    let mut world = World::new();
    let own = world.core.take_own_requests().unwrap();
    assert_eq!(world.core.take_own_requests().unwrap(), own);
    world.is_asked_as(Target::Id(ClientId(1)), 7, None, 0);
    let request = world.takes(own);
    assert!(world.core.arrived(request).service.is_none());
    world.answers(request, "done");
    world.core.close_post(own);
    world.is_asked_as(Target::Id(ClientId(1)), 8, None, 0);
    assert_eq!(world.says(), ["reply 5/7 done"], "another still takes them");
    world.core.close_post(own);
    let refused = "reply 5/8 this client does not take that request (not_served)";
    assert_eq!(world.says(), [refused]);
}

#[test]
fn more_requests_than_fit_are_answered_at_once() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    for position in 1..=1_025 {
        world.is_asked(position, None, 0);
    }
    let overloaded = "reply 5/1025 too many requests wait for this client (overloaded)";
    let said = world.says();
    let replies: Vec<_> = said.iter().filter(|it| it.starts_with("reply")).collect();
    assert_eq!(replies, [overloaded]);
    world.takes(post);
    world.is_asked(1_026, None, 0);
    let said = world.says();
    assert!(!said.iter().any(|it| it.starts_with("reply")), "{said:?}");
}

// protocol.md 12.7
#[test]
fn a_cancelled_request_needs_no_answer() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 0);
    world.is_asked(8, None, 0);
    let request = world.takes(post);
    world.is_told(7, Code::DEADLINE);
    world.is_told(8, Code::CANCELLED);
    assert!(world.core.is_cancelled(request));
    world.answers(request, "late");
    world.core.drop_handling(request, DROPPED);
    let cx = &Context::from_waker(Waker::noop());
    assert!(world.core.poll_post(post, cx).is_pending());
    assert_eq!(world.says(), [""; 0]);
}

// protocol.md 12.14
#[test]
fn a_command_goes_on_unless_its_caller_cancels_and_has_an_outcome_in_any_case() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    for position in 7..10 {
        world.is_asked(position, Some([position as u8; 16]), 0);
    }
    let (one, two) = (world.takes(post), world.takes(post));
    world.is_told(7, Code::DEADLINE);
    world.is_told(8, Code::CANCELLED);
    world.is_told(9, Code::CANCELLED);
    assert!(!world.core.is_cancelled(one));
    assert!(world.core.is_cancelled(two));
    world.answers(one, "done");
    world.core.drop_handling(two, DROPPED);
    let stopped = "the handler stopped because the caller cancelled (cancelled)";
    assert_eq!(
        world.says(),
        [
            format!("reply 5/9 {stopped}"),
            "reply 5/7 done".to_owned(),
            format!("reply 5/8 {stopped}"),
        ]
    );
}

#[test]
fn services_are_served_again_in_a_new_session_and_old_requests_are_over() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let post = world.serves(ServeMode::Takeover, 1);
    world.is_asked(7, None, 0);
    world.is_asked(8, Some([1; 16]), 0);
    world.is_asked(9, None, 0);
    let (plain, command) = (world.takes(post), world.takes(post));
    world.answers(plain, "in doubt");
    world.says();
    world.loses_connection();
    world.starts_anew();
    assert_eq!(world.core.lease(post), Some(Lease::Queued));
    assert!(world.core.is_cancelled(plain));
    assert!(!world.core.is_cancelled(command), "it was begun");
    world.answers(command, "done");
    let cx = &Context::from_waker(Waker::noop());
    assert!(world.core.poll_post(post, cx).is_pending());
    assert_eq!(
        world.says(),
        ["serve printer Exclusive 0 bytes"],
        "not taken from who has it by now"
    );
    world.hears(&[BrokerFrame::Done { request: 1 }]);
    world.leases(LeaseState::Held, 9);
    assert_eq!(world.core.lease(post), Some(Lease::Held { fence: 9 }));
    assert_eq!(world.refusals(listener), [""; 0]);
    world.is_asked(7, None, 0);
    let again = world.takes(post);
    world.core.drop_handling(plain, DROPPED);
    world.answers(again, "new");
    assert_eq!(world.says(), ["reply 5/7 new"]);
}

// protocol.md 12.11
#[test]
fn a_lease_that_is_lost_ends_the_service() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Exclusive, 1);
    let cx = &Context::from_waker(Waker::noop());
    let mut seen = 0;
    let held = Poll::Ready(Some(Lease::Held { fence: 3 }));
    assert_eq!(world.core.poll_lease(post, &mut seen, cx), held);
    assert!(world.core.poll_lease(post, &mut seen, cx).is_pending());

    world.is_asked(7, None, 0);
    world.leases(LeaseState::Lost, 3);
    let lost = Poll::Ready(Some(Lease::Lost));
    assert_eq!(world.core.poll_lease(post, &mut seen, cx), lost);
    assert_eq!(
        world.core.poll_lease(post, &mut seen, cx),
        Poll::Ready(None)
    );
    let request = world.takes(post);
    world.answers(request, "still mine");
    assert_eq!(world.core.poll_post(post, cx), Poll::Ready(None));
    world.core.close_post(post);
    assert_eq!(world.says(), ["reply 5/7 still mine"], "nothing to give up");
    world.serves(ServeMode::Takeover, 3);
}

#[test]
fn a_lease_of_an_earlier_service_of_that_name_means_nothing() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Exclusive, 1);
    world.core.close_post(post);
    let name = "printer".parse().unwrap();
    let again = world.core.serve(name, ServeMode::Exclusive, Bytes::new());
    let (post, ticket) = again.unwrap();
    // It was on its way when the client gave the service up.
    world.leases(LeaseState::Lost, 3);
    assert!(world.outcome(ticket).is_none());
    world.says();
    world.hears(&[
        BrokerFrame::Done { request: 2 },
        BrokerFrame::Done { request: 3 },
    ]);
    world.leases(LeaseState::Queued, 0);
    assert!(matches!(world.outcome(ticket), Some(Ok(Answer::Done))));
    assert_eq!(world.core.lease(post), Some(Lease::Queued));
}

// protocol.md 15.7
#[test]
fn a_lease_that_may_be_lost_is_asked_for_again() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Takeover, 1);
    world.loses_connection();
    world.resumes(1);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 1,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    let said = world.says();
    assert_eq!(said[0], "serve printer Exclusive 0 bytes");
    world.hears(&[BrokerFrame::Done { request: 2 }]);
    world.leases(LeaseState::Queued, 0);
    assert_eq!(world.core.lease(post), Some(Lease::Queued));
}

// protocol.md 15.7
#[test]
fn what_was_said_of_a_lease_before_it_was_asked_for_again_is_said_again() {
    let mut world = World::new();
    let name = "printer".parse().unwrap();
    let serve = world.core.serve(name, ServeMode::Takeover, Bytes::new());
    let (post, ticket) = serve.unwrap();
    world.says();
    world.loses_connection();
    world.resumes(1);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 1,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    assert_eq!(
        world.says()[0],
        "serve printer Exclusive 0 bytes",
        "not taken over from who has it by now"
    );
    world.hears(&[BrokerFrame::Done { request: 1 }]);
    world.leases(LeaseState::Held, 4);
    world.leases(LeaseState::Lost, 4);
    assert!(world.outcome(ticket).is_none());
    world.hears(&[BrokerFrame::Done { request: 2 }]);
    world.leases(LeaseState::Queued, 0);
    assert!(matches!(world.outcome(ticket), Some(Ok(Answer::Done))));
    world.leases(LeaseState::Held, 6);
    assert_eq!(world.core.lease(post), Some(Lease::Held { fence: 6 }));
    world.is_asked(7, None, 0);
    world.takes(post);
}

#[test]
fn an_answer_that_waits_for_room_since_before_a_resume_asks_for_it() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 0);
    let request = world.takes(post);
    world.loses_connection();
    while world.core.has_room() {
        let outbound = Outbound::Direct {
            to: Target::Id(ClientId(5)),
            content: ContentType::TEXT,
            payload: &[b'x'; 900],
        };
        let cx = &Context::from_waker(Waker::noop());
        assert!(world.core.poll_send(&outbound, false, cx).is_ready());
    }
    let payload = Payload::from("done");
    let cx = &Context::from_waker(Waker::noop());
    let answer = world.core.poll_answer(request, &Said::Reply(&payload), cx);
    assert!(answer.is_pending());
    world.resumes(1);
    let said = world.says();
    assert!(said.last().unwrap().starts_with("ping"), "{said:?}");
}

#[test]
fn a_service_that_is_refused_is_not_served() {
    let mut world = World::new();
    let name = || "printer".parse().unwrap();
    let serve = |world: &mut World| world.core.serve(name(), ServeMode::Shared, Bytes::new());
    let (post, ticket) = serve(&mut world).unwrap();
    assert!(serve(&mut world).is_err(), "it is served already");
    world.says();
    world.hears(&[BrokerFrame::Refusal {
        request: 1,
        code: Code::BAD_REQUEST,
        detail: "it is exclusive",
    }]);
    assert!(matches!(world.outcome(ticket), Some(Err(_))));
    world.core.close_post(post);
    assert_eq!(world.says(), [""; 0]);
    assert!(serve(&mut world).is_ok(), "it can be tried again");
}

#[test]
fn parts_wait_for_the_caller() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 4);
    let request = world.takes(post);
    let cx = &Context::from_waker(Waker::noop());
    let send = |world: &mut World, text: &str| {
        let payload = Payload::from(text);
        world.core.poll_send_part(request, &payload, cx)
    };
    assert!(matches!(send(&mut world, "abc"), Poll::Ready(Ok(true))));
    assert!(send(&mut world, "de").is_pending());
    let too_large = send(&mut world, "abcde");
    assert!(matches!(
        too_large,
        Poll::Ready(Err(Error::PayloadTooLarge { max: 4, .. }))
    ));
    world.hears(&[BrokerFrame::Credit(localhub_protocol::Credit {
        of: ClientId(5),
        request: 7,
        bytes: 3,
    })]);
    assert!(matches!(send(&mut world, "de"), Poll::Ready(Ok(true))));
    let failure = Failure::new("jam", "stuck");
    let ended = world.core.poll_answer(request, &Said::Fail(&failure), cx);
    assert!(ended.is_ready());
    assert!(matches!(send(&mut world, "f"), Poll::Ready(Ok(false))));
    assert_eq!(
        world.says(),
        ["part 5/7 abc", "part 5/7 de", "reply 5/7 stuck (jam)"]
    );
}

#[test]
fn a_part_that_is_refused_breaks_the_reply() {
    let mut world = World::new();
    let post = world.serves(ServeMode::Shared, 1);
    world.is_asked(7, None, 4);
    let request = world.takes(post);
    let cx = &Context::from_waker(Waker::noop());
    let payload = Payload::from("abc");
    assert!(world.core.poll_send_part(request, &payload, cx).is_ready());
    world.says();
    world.hears(&[BrokerFrame::Refusal {
        request: 2,
        code: Code::OUTBOX_FULL,
        detail: "",
    }]);
    assert!(world.core.is_cancelled(request));
    let said = world.says();
    assert_eq!(said, ["reply 5/7 a part was lost on the way (incomplete)"]);
}
