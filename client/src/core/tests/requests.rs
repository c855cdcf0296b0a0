//! Requests of the application: each has one outcome, in whatever session.

use localhub_protocol::Target;

use super::*;

/// What a request is made of in these tests, in short.
#[derive(Clone, Copy)]
struct Ask {
    command: Option<u8>,
    window: u32,
    wanted: bool,
}

const PLAIN: Ask = Ask {
    command: None,
    window: 0,
    wanted: true,
};

impl World {
    fn asks_with(&mut self, method: &str, ask: Ask) -> RequestId {
        let asking = Asking {
            to: Target::Service("printer"),
            timeout: Duration::from_secs(5),
            command: ask.command.map(|id| [id; 16]),
            window: ask.window,
            method,
            content: ContentType::TEXT,
            payload: b"",
            wanted: ask.wanted,
        };
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_ask(&asking, self.now, cx) {
            Poll::Ready(Ok(id)) => id,
            other => panic!("not queued: {other:?}"),
        }
    }

    fn asks(&mut self, method: &str) -> RequestId {
        self.asks_with(method, PLAIN)
    }

    fn commands(&mut self, method: &str, id: u8) -> RequestId {
        let command = Some(id);
        self.asks_with(method, Ask { command, ..PLAIN })
    }

    /// The outcome of a request in words, if there is one.
    fn reply_to(&mut self, id: RequestId) -> Option<String> {
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_reply(id, cx) {
            Poll::Ready(Ok(reply)) => {
                let name = reply.sender().name.as_str();
                Some(format!("{name}: {}", reply.text().unwrap()))
            }
            Poll::Ready(Err(error)) => {
                let code = error.code().map_or("none", Code::name);
                Some(format!("{code}: {error}"))
            }
            Poll::Pending => None,
        }
    }

    fn replies(&mut self, request: u64, text: &str) {
        self.replies_with(ClientId(5), request, None, text.as_bytes());
    }

    fn replies_with(
        &mut self,
        sender: ClientId,
        request: u64,
        error: Option<Code>,
        payload: &[u8],
    ) {
        let to = self.core.id();
        let run = Run {
            channel: None,
            sender,
            name: "bo",
            first: 1,
            count: 1,
            retained: false,
        };
        let reply = Message::Reply {
            to,
            request,
            error,
            more: false,
            content: ContentType::TEXT,
            payload,
        };
        self.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(reply)]);
    }

    /// As [`World::starts_anew`], but the broker was started anew.
    fn starts_in_another_epoch(&mut self) {
        let resumed = Resumed {
            recovered: false,
            replayed: 0,
            lost: None,
        };
        let welcome = Welcome {
            version: Version::CURRENT,
            features: vec![],
            epoch: Epoch([10; 16]),
            client: ClientId(3),
            name: "ana",
            token: ResumeToken([3; 32]),
            resumed: Some(resumed),
            received: 0,
            ttl_ms: 120_000,
            ping_ms: 10_000,
            limits: Limits::default(),
        };
        self.core.welcome(&welcome, self.now).unwrap();
    }

    fn passes_and_expires(&mut self, millis: u64) {
        self.passes(millis);
        self.core.expire_requests(self.now);
    }
}

const UNKNOWN: &str = "outcome_unknown: no reply (outcome_unknown): the connection was lost before the reply came: \
                       the request may have been carried out or not";

// protocol.md 12.2
#[test]
fn outcomes_come_in_any_order_and_several_in_one_run() {
    let mut world = World::new();
    let (one, two) = (world.asks("one"), world.asks("two"));
    assert_eq!(
        world.says(),
        ["request printer one 5000 ms", "request printer two 5000 ms"]
    );
    let run = Run {
        channel: None,
        sender: ClientId(5),
        name: "bo",
        first: 8,
        count: 3,
        retained: false,
    };
    let reply = |request, payload| {
        BrokerFrame::Message(Message::Reply {
            to: ClientId(1),
            request,
            error: None,
            more: false,
            content: ContentType::TEXT,
            payload,
        })
    };
    let direct = BrokerFrame::Message(Message::Direct {
        to: Target::Id(ClientId(1)),
        content: ContentType::TEXT,
        payload: b"hello",
    });
    world.hears(&[
        BrokerFrame::Run(run),
        direct,
        reply(2, b"second"),
        reply(1, b"first"),
    ]);
    assert_eq!(world.reply_to(one).unwrap(), "bo: first");
    assert_eq!(world.reply_to(two).unwrap(), "bo: second");
    assert_eq!(world.core.received, 3);
}

// protocol.md 12.3, 12.5
#[test]
fn errors_say_who_failed_and_how() {
    let mut world = World::new();
    let requests: Vec<_> = ["a", "b", "c", "d"].map(|method| world.asks(method)).into();
    world.says();
    let failure = crate::Failure::new("jam", "the paper is stuck").encode();
    let failed = Some(Code::FAILED);
    world.replies_with(ClientId(5), 1, failed, b"just text");
    let gone = Some(Code::PEER_GONE);
    world.replies_with(ClientId::HUB, 2, gone, b"the client is gone");
    world.hears(&[BrokerFrame::Refusal {
        request: 3,
        code: Code::NO_SUCH_SERVICE,
        detail: "",
    }]);
    let run = Run {
        channel: None,
        sender: ClientId(5),
        name: "bo",
        first: 2,
        count: 1,
        retained: false,
    };
    let reply = Message::Reply {
        to: ClientId(1),
        request: 4,
        error: failed,
        more: false,
        content: failure.content(),
        payload: failure.bytes(),
    };
    world.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(reply)]);
    let outcomes: Vec<_> = requests
        .into_iter()
        .map(|id| world.reply_to(id).unwrap())
        .collect();
    assert_eq!(
        outcomes,
        [
            "failed: just text (failed)",
            "peer_gone: no reply (peer_gone): the client is gone",
            "no_such_service: refused: nobody serves that now (start it, or try again later)",
            "failed: the paper is stuck (jam)",
        ]
    );
}

#[test]
fn a_request_that_nobody_waits_for_any_more_is_cancelled_once() {
    let mut world = World::new();
    let request = world.asks("print");
    world.says();
    world.core.drop_request(request);
    assert_eq!(world.says(), ["cancel 1"]);
    let listener = world.core.listen_to_refusals();
    world.replies_with(ClientId::HUB, 1, Some(Code::CANCELLED), b"");
    assert_eq!(world.refusals(listener), [""; 0], "it was to be expected");

    let request = world.asks("print");
    world.says();
    world.replies(3, "done");
    assert_eq!(world.reply_to(request).unwrap(), "bo: done");
    world.core.drop_request(request);
    assert_eq!(world.says(), [""; 0], "it is over");
}

#[test]
fn a_forgotten_request_is_not_cancelled_and_its_failure_is_reported() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let wanted = false;
    let request = world.asks_with("print", Ask { wanted, ..PLAIN });
    world.core.drop_request(request);
    assert_eq!(world.says(), ["request printer print 5000 ms"]);
    world.hears(&[BrokerFrame::Refusal {
        request: 1,
        code: Code::NO_SUCH_SERVICE,
        detail: "",
    }]);
    assert_eq!(world.refusals(listener).len(), 1);
    assert!(world.core.requests_deadline().is_none(), "it is forgotten");
}

#[test]
fn the_broker_keeps_the_deadline_while_it_is_there_and_the_client_when_not() {
    let mut world = World::new();
    let request = world.asks("print");
    world.says();
    world.passes_and_expires(5_000);
    assert!(world.reply_to(request).is_none(), "the broker will say it");

    world.loses_connection();
    world.passes_and_expires(0);
    let deadline = "deadline: no reply (deadline): there was no reply in time";
    assert_eq!(world.reply_to(request).unwrap(), deadline);
    world.core.drop_request(request);
    world.resumes(1);
    assert_eq!(world.says(), ["cancel 1"], "and once");
}

#[test]
fn an_outcome_that_is_lost_on_its_way_does_not_hold_the_caller_for_ever() {
    let mut world = World::new();
    let request = world.asks("print");
    world.says();
    let due = world.core.deadline(false).unwrap();
    assert!(due <= world.now + Duration::from_secs(10));
    world.passes_and_expires(9_999);
    assert!(world.reply_to(request).is_none());
    world.passes_and_expires(1);
    assert!(world.reply_to(request).unwrap().starts_with("deadline"));
}

#[test]
fn a_resumed_session_costs_a_request_nothing() {
    let mut world = World::new();
    let (sent, unsent) = (world.asks("one"), {
        world.says();
        world.asks("two")
    });
    world.loses_connection();
    world.resumes(0);
    assert_eq!(world.says().len(), 2, "both go out again");
    world.replies(1, "first");
    world.replies(2, "second");
    assert_eq!(world.reply_to(sent).unwrap(), "bo: first");
    assert_eq!(world.reply_to(unsent).unwrap(), "bo: second");
}

#[test]
fn in_a_new_session_what_was_sent_is_unknown_and_what_was_not_is_sent() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let sent = world.asks("one");
    world.says();
    world.loses_connection();
    let unsent = world.asks("two");
    let dropped = world.asks("three");
    world.core.drop_request(dropped);
    world.passes(1_000);
    world.starts_anew();
    assert_eq!(world.reply_to(sent).unwrap(), UNKNOWN);
    assert_eq!(world.says(), ["request printer two 4000 ms"]);
    world.replies(1, "done");
    assert_eq!(world.reply_to(unsent).unwrap(), "bo: done");
    assert_eq!(world.refusals(listener), [""; 0], "all were told");
}

// protocol.md 12.13, 12.15
#[test]
fn a_command_is_sent_again_until_it_has_an_outcome_but_not_in_another_epoch() {
    let mut world = World::new();
    let one = world.commands("one", 1);
    world.says();
    world.loses_connection();
    let two = world.commands("two", 2);
    world.starts_anew();
    assert_eq!(
        world.says(),
        [
            "request printer one 5000 ms command 1",
            "request printer two 5000 ms command 2"
        ]
    );
    world.replies(1, "done");
    assert_eq!(world.reply_to(one).unwrap(), "bo: done");

    world.loses_connection();
    let three = world.commands("three", 3);
    world.starts_in_another_epoch();
    assert_eq!(world.reply_to(two).unwrap(), UNKNOWN);
    assert_eq!(world.says(), ["request printer three 5000 ms command 3"]);
    world.replies(1, "done");
    assert_eq!(world.reply_to(three).unwrap(), "bo: done");
}

#[test]
fn a_command_that_waited_to_be_sent_again_is_unknown_in_another_epoch() {
    let mut world = World::new();
    let command = world.commands("one", 1);
    world.says();
    world.loses_connection();
    world.starts_anew();
    // It is queued in this session, and not written before that is lost as well.
    world.core.lost("test".to_owned(), Duration::ZERO);
    world.starts_in_another_epoch();
    assert_eq!(world.reply_to(command).unwrap(), UNKNOWN);
    assert_eq!(world.says(), [""; 0]);
}

#[test]
fn a_command_that_waited_to_be_sent_again_after_a_gap_is_unknown_in_another_epoch() {
    let mut world = World::new();
    let command = world.commands("one", 1);
    world.says();
    world.loses_connection();
    world.resumes(1);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 1,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    world.says();
    world.hears(&[BrokerFrame::Pong {
        nonce: 1,
        received: 1,
    }]);
    // It is queued again, and not written before the session is lost.
    world.core.lost("test".to_owned(), Duration::ZERO);
    world.starts_in_another_epoch();
    assert_eq!(world.reply_to(command).unwrap(), UNKNOWN);
    assert_eq!(world.says(), [""; 0]);
}

// protocol.md 15.7
#[test]
fn a_command_whose_outcome_may_be_lost_is_sent_again() {
    let mut world = World::new();
    let (plain, command) = (world.asks("plain"), world.commands("one", 1));
    world.says();
    world.loses_connection();
    world.resumes(2);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 2,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    assert_eq!(world.says(), ["ping 2, ack 2"]);
    world.hears(&[BrokerFrame::Pong {
        nonce: 2,
        received: 2,
    }]);
    assert_eq!(
        world.says(),
        ["request printer one 5000 ms command 1", "cancel 2"],
        "nobody waits for it twice"
    );
    world.replies(3, "done");
    assert_eq!(world.reply_to(command).unwrap(), "bo: done");
    world.replies(1, "late");
    assert_eq!(world.reply_to(plain).unwrap(), "bo: late");
}

// protocol.md 12.15
#[test]
fn a_command_whose_outcome_may_be_lost_is_unknown_in_another_epoch() {
    let mut world = World::new();
    let command = world.commands("one", 1);
    world.says();
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 2,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    assert_eq!(world.says(), ["ping 1, ack 2"]);
    world.hears(&[BrokerFrame::Pong {
        nonce: 1,
        received: 1,
    }]);
    // It is queued again, and not written before the broker is started anew: but it was written before.
    world.core.lost("test".to_owned(), Duration::ZERO);
    world.starts_in_another_epoch();
    assert_eq!(world.reply_to(command).unwrap(), UNKNOWN);
    assert_eq!(world.says(), [""; 0]);
}

// protocol.md 15.7
#[test]
fn a_request_whose_outcome_is_lost_is_forgotten_when_nobody_waits_for_it_any_more() {
    let mut world = World::new();
    let dropped = world.asks("one");
    let expires = world.asks("two");
    let wanted = false;
    let forgotten = world.asks_with("three", Ask { wanted, ..PLAIN });
    world.core.drop_request(forgotten);
    world.says();
    world.loses_connection();
    world.resumes(3);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 3,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    world.says();
    world.hears(&[BrokerFrame::Pong {
        nonce: 3,
        received: 3,
    }]);
    world.core.drop_request(dropped);
    assert_eq!(world.says(), ["cancel 1"], "the broker may still have it");
    world.passes_and_expires(10_000);
    assert!(world.reply_to(expires).unwrap().starts_with("deadline"));
    world.core.drop_request(expires);
    assert_eq!(world.says()[..2], ["cancel 2", "cancel 3"]);
    let holds = world.core.holds();
    assert!(holds.iter().all(|(_, count)| *count == 0), "{holds:?}");
}

// protocol.md 12.14
#[test]
fn a_command_goes_on_when_its_time_is_over() {
    let mut world = World::new();
    let command = world.commands("one", 1);
    world.says();
    world.loses_connection();
    world.passes_and_expires(5_000);
    assert!(world.reply_to(command).unwrap().starts_with("deadline"));
    world.core.drop_request(command);
    world.resumes(1);
    assert_eq!(world.says(), [""; 0], "it is not cancelled");
}

#[test]
fn a_client_that_ends_tells_who_waits() {
    let mut world = World::new();
    let request = world.asks("print");
    world.core.finish(None, "over".to_owned());
    let closed = world.reply_to(request).unwrap();
    assert_eq!(closed, "none: the client is closed: over");
}

#[test]
fn parts_are_taken_before_the_outcome_and_allow_as_many_again() {
    let mut world = World::new();
    let request = world.asks_with("tail", Ask { window: 8, ..PLAIN });
    assert_eq!(world.says(), ["request printer tail 5000 ms window 8"]);
    let cx = &Context::from_waker(Waker::noop());
    for text in ["abcd", "ef"] {
        part(&mut world, 1, text);
    }
    assert!(world.core.requests_deadline().is_none(), "a part has come");
    let next = |world: &mut World| match world.core.poll_part(request, cx) {
        Poll::Ready(Some(part)) => part.text().unwrap().to_owned(),
        Poll::Ready(None) => "end".to_owned(),
        Poll::Pending => "nothing yet".to_owned(),
    };
    assert_eq!(next(&mut world), "abcd");
    assert_eq!(world.says(), ["credit 1/1 4"], "half of the window");
    assert_eq!(next(&mut world), "ef");
    assert_eq!(world.says(), ["credit 1/1 2"], "there is nothing left");
    assert_eq!(next(&mut world), "nothing yet");
    part(&mut world, 1, "gh");
    world.replies(1, "bye");
    assert_eq!(next(&mut world), "gh");
    assert_eq!(next(&mut world), "end");
    assert_eq!(world.reply_to(request).unwrap(), "bo: bye");
    assert_eq!(world.says(), [""; 0], "no credit after the outcome");
}

// protocol.md 12.17
#[test]
fn a_handler_that_sends_too_much_is_cut_off() {
    let mut world = World::new();
    let request = world.asks_with("tail", Ask { window: 8, ..PLAIN });
    world.says();
    part(&mut world, 1, "abcdefgh");
    part(&mut world, 1, "i");
    assert_eq!(world.says(), ["cancel 1"]);
    let outcome = world.reply_to(request).unwrap();
    assert!(
        outcome.ends_with("more than it was allowed to"),
        "{outcome}"
    );
}

/// A part of a reply of another client.
pub(super) fn part(world: &mut World, request: u64, text: &str) {
    let to = world.core.id();
    let run = Run {
        channel: None,
        sender: ClientId(5),
        name: "bo",
        first: 1,
        count: 1,
        retained: false,
    };
    let reply = Message::Reply {
        to,
        request,
        error: None,
        more: true,
        content: ContentType::TEXT,
        payload: text.as_bytes(),
    };
    world.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(reply)]);
}
