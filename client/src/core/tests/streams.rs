//! Streams of bytes, at both ends.

use localhub_protocol::{Credit, Target};

use super::requests::part;
use super::*;
use crate::METHOD_STREAM;

/// The window of the streams of these tests.
const WINDOW: u32 = 8;

impl World {
    /// Opens a stream, which another client accepts.
    fn opens(&mut self) -> End {
        let asking = Asking {
            to: Target::Service("shell"),
            timeout: Duration::from_secs(30),
            command: None,
            window: WINDOW,
            method: METHOD_STREAM,
            content: ContentType::BYTES,
            payload: b"",
            wanted: true,
        };
        let cx = &Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(id)) = self.core.poll_ask(&asking, self.now, cx) else {
            panic!("the request was not queued");
        };
        self.says();
        part(self, 1, "");
        assert!(matches!(
            self.core.poll_part(id, cx),
            Poll::Ready(Some(part)) if part.payload().is_empty()
        ));
        self.is_allowed(ClientId(1), 1, WINDOW.into());
        End::Caller(id)
    }

    /// Accepts a stream that another client opens.
    fn accepts(&mut self) -> End {
        let own = self.core.take_own_requests().unwrap();
        let request = Message::Request {
            to: Target::Id(ClientId(1)),
            deadline_ms: 0,
            command: None,
            window: WINDOW,
            method: METHOD_STREAM,
            content: ContentType::BYTES,
            payload: b"",
        };
        self.hears_of_bo(7, request);
        let cx = &Context::from_waker(Waker::noop());
        let Poll::Ready(Some(id)) = self.core.poll_post(own, cx) else {
            panic!("no request");
        };
        assert!(self.core.accept_bytes(id));
        assert_eq!(self.says(), ["part 5/7", "credit 5/7 8"]);
        End::Handler(id)
    }

    fn hears_of_bo(&mut self, first: u64, message: Message<'_>) {
        let run = Run {
            channel: None,
            sender: ClientId(5),
            name: "bo",
            first,
            count: 1,
            retained: false,
        };
        self.hears(&[BrokerFrame::Run(run), BrokerFrame::Message(message)]);
    }

    fn is_fed(&mut self, text: &str, more: bool) {
        let feed = Message::Feed {
            request: 7,
            more,
            content: ContentType::BYTES,
            payload: text.as_bytes(),
        };
        self.hears_of_bo(8, feed);
    }

    fn is_allowed(&mut self, of: ClientId, request: u64, bytes: u64) {
        self.hears(&[BrokerFrame::Credit(Credit { of, request, bytes })]);
    }

    fn is_over(&mut self, error: Option<Code>) {
        let reply = Message::Reply {
            to: ClientId(1),
            request: 1,
            error,
            more: false,
            content: ContentType::BYTES,
            payload: b"",
        };
        self.hears_of_bo(9, reply);
    }

    fn reads_bytes(&mut self, end: End) -> String {
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_read_bytes(end, cx) {
            Poll::Ready(Read::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            Poll::Ready(other) => format!("{other:?}"),
            Poll::Pending => "nothing yet".to_owned(),
        }
    }

    /// How many bytes are taken; `None` if it is to be waited.
    fn writes(&mut self, end: End, text: &str) -> Option<usize> {
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_write_bytes(end, text.as_bytes(), cx) {
            Poll::Ready(written) => Some(written),
            Poll::Pending => None,
        }
    }
}

#[test]
fn a_caller_writes_as_much_as_the_handler_has_room_for() {
    let mut world = World::new();
    let end = world.opens();
    assert_eq!(world.writes(end, "abcdefghij"), Some(8));
    assert_eq!(world.writes(end, "ij"), None);
    world.is_allowed(ClientId(1), 1, 5);
    assert_eq!(world.writes(end, "ij"), Some(2));
    world.core.shut_down(end);
    world.core.shut_down(end);
    assert_eq!(world.writes(end, "k"), Some(0), "it was shut down");
    assert_eq!(world.says(), ["feed 1 abcdefgh", "feed 1 ij", "feed 1 end"]);
}

#[test]
fn a_caller_reads_to_the_end_while_it_still_writes() {
    let mut world = World::new();
    let end = world.opens();
    part(&mut world, 1, "abcdefgh");
    part(&mut world, 1, "");
    assert_eq!(world.reads_bytes(end), "abcdefgh");
    assert_eq!(world.says(), ["credit 1/1 8"]);
    assert_eq!(world.reads_bytes(end), "Over");
    assert_eq!(world.reads_bytes(end), "Over");
    assert_eq!(world.writes(end, "x"), Some(1));
    world.core.shut_down(end);
    world.is_over(None);
    assert_eq!(world.reads_bytes(end), "Over");
    let End::Caller(id) = end else { unreachable!() };
    world.says();
    world.core.drop_request(id);
    assert_eq!(world.says(), [""; 0], "both directions are over");
}

#[test]
fn the_outcome_ends_what_the_caller_reads() {
    for (error, read) in [(None, "Over"), (Some(Code::FAILED), "CutOff")] {
        let mut world = World::new();
        let end = world.opens();
        part(&mut world, 1, "abc");
        world.is_over(error);
        assert_eq!(world.reads_bytes(end), "abc");
        assert_eq!(world.reads_bytes(end), read);
        assert_eq!(world.writes(end, "x"), Some(0));
    }
}

#[test]
fn a_stream_that_is_dropped_is_cancelled() {
    let mut world = World::new();
    let End::Caller(id) = world.opens() else {
        unreachable!()
    };
    world.core.drop_request(id);
    assert_eq!(world.says(), ["cancel 1"]);
}

#[test]
fn a_handler_ends_its_direction_and_replies_when_both_have_ended() {
    let mut world = World::new();
    let end = world.accepts();
    assert_eq!(world.writes(end, "abcdefghij"), Some(8));
    assert_eq!(world.writes(end, "ij"), None);
    world.core.shut_down(end);
    assert_eq!(world.says(), ["part 5/7 abcdefgh", "part 5/7"]);
    world.is_fed("hello", true);
    assert_eq!(world.reads_bytes(end), "hello");
    assert_eq!(world.says(), ["credit 5/7 5"]);
    assert_eq!(world.reads_bytes(end), "nothing yet");
    world.is_fed("!", false);
    assert_eq!(world.says(), ["reply 5/7"]);
    assert_eq!(world.reads_bytes(end), "!");
    assert_eq!(world.reads_bytes(end), "Over");
    let End::Handler(id) = end else {
        unreachable!()
    };
    world.core.drop_handling(id, DROPPED);
    assert_eq!(world.says(), [""; 0], "it is over");
}

#[test]
fn a_handler_that_ends_last_replies_at_once() {
    let mut world = World::new();
    let end = world.accepts();
    world.is_fed("", false);
    assert_eq!(world.reads_bytes(end), "Over");
    assert_eq!(world.writes(end, "abc"), Some(3));
    world.core.shut_down(end);
    assert_eq!(world.says(), ["part 5/7 abc", "reply 5/7"]);
}

#[test]
fn a_handler_reads_what_came_before_the_caller_let_go() {
    for (ended, read) in [(true, "Over"), (false, "CutOff")] {
        let mut world = World::new();
        let end = world.accepts();
        world.is_fed("abc", !ended);
        world.hears(&[BrokerFrame::Cancelled {
            caller: ClientId(5),
            request: 7,
            cause: Code::CANCELLED,
        }]);
        assert_eq!(world.reads_bytes(end), "abc");
        assert_eq!(world.reads_bytes(end), read);
        assert_eq!(world.writes(end, "x"), Some(0));
        assert_eq!(world.says(), [""; 0]);
    }
}

#[test]
fn a_caller_that_feeds_too_much_is_cut_off() {
    let mut world = World::new();
    let end = world.accepts();
    world.is_fed("abcdefgh", true);
    world.is_fed("i", true);
    assert_eq!(world.reads_bytes(end), "abcdefgh");
    assert_eq!(world.reads_bytes(end), "CutOff");
    let overrun = "reply 5/7 the caller sent more than it was allowed to (overrun)";
    assert_eq!(world.says(), [overrun]);
}

#[test]
fn no_stream_goes_on_with_bytes_missing() {
    let mut world = World::new();
    let (opened, accepted) = (world.opens(), world.accepts());
    world.loses_connection();
    world.resumes(3);
    let gap = localhub_protocol::Gap {
        channel: None,
        lost: 2,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(gap)]);
    assert_eq!(world.reads_bytes(opened), "CutOff");
    assert_eq!(world.reads_bytes(accepted), "CutOff");
    let said = world.says();
    let lost = "reply 5/7 a part was lost on the way (incomplete)";
    assert_eq!(said[..2], ["cancel 1", lost]);
}

#[test]
fn a_new_session_cuts_streams_off_at_both_ends() {
    let mut world = World::new();
    let (opened, accepted) = (world.opens(), world.accepts());
    world.loses_connection();
    world.starts_anew();
    assert_eq!(world.reads_bytes(opened), "CutOff");
    assert_eq!(world.reads_bytes(accepted), "CutOff");
    assert_eq!(world.writes(opened, "x"), Some(0));
    assert_eq!(world.writes(accepted, "x"), Some(0));
    assert_eq!(world.says(), [""; 0]);
}
