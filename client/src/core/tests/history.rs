//! Streams that begin with history, and what is set in a channel.

use localhub_protocol::{ChannelSettings, Gap as WireGap, Policy};

use super::*;
use crate::{Payload, StartAt, Will};

fn from(start: StartAt, policy: Policy) -> Takes {
    Takes::Topics {
        filter: "#".parse().unwrap(),
        start,
        policy,
        broadcasts: false,
    }
}

impl World {
    /// Opens a stream, to which the broker answers with `texts`, the first at offset `first`.
    fn begins(&mut self, room: RoomId, takes: Takes, first: u64, texts: &[&str]) -> StreamId {
        let (stream, _) = self.core.open_stream(Some(room), takes).unwrap();
        self.says();
        self.position += 1;
        self.told(KIOSK, self.position, first, first - 1, texts);
        stream
    }

    /// The broker answers a subscription with kept messages, none of which is missing above `since`.
    fn told(&mut self, channel: ChannelId, request: u64, first: u64, since: u64, texts: &[&str]) {
        let count = texts.len() as u64;
        self.hears(&[BrokerFrame::Values {
            request,
            channel,
            offset: first + count - 1,
            count,
            since,
        }]);
        if count > 0 {
            self.hears(&run_in(channel, first, "t", texts, true));
        }
    }

    /// The session is gone; the channel has another id, or the same.
    fn joins_anew(&mut self, channel: ChannelId) -> Vec<String> {
        self.loses_connection();
        self.starts_anew();
        self.says();
        self.hears(&[BrokerFrame::Joined {
            request: 1,
            channel,
            offset: 40,
        }]);
        self.says()
    }
}

#[test]
fn a_new_session_goes_on_where_the_lost_one_was() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let takes = from(StartAt::Last(2), Policy::DropOldest);
    let stream = world.begins(room, takes, 8, &["eight", "nine"]);
    world.hears(&run(10, "t", &["ten"]));
    assert_eq!(
        world.got(stream),
        ["eight@8 (retained)", "nine@9 (retained)", "ten@10"]
    );
    assert_eq!(
        world.joins_anew(KIOSK),
        [format!("subscribe {KIOSK} # After(10)")]
    );
    world.told(KIOSK, 2, 11, 10, &["eleven"]);
    world.hears(&run(12, "t", &["twelve"]));
    assert_eq!(
        world.got(stream),
        ["eleven@11 (retained)", "twelve@12"],
        "no gap: nothing is missing"
    );
}

#[test]
fn what_the_history_does_not_have_any_more_is_a_gap() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let takes = from(StartAt::Last(2), Policy::DropOldest);
    let stream = world.begins(room, takes, 8, &["eight"]);
    world.got(stream);
    world.joins_anew(KIOSK);
    world.told(KIOSK, 2, 21, 20, &["twenty-one"]);
    assert_eq!(
        world.got(stream),
        [
            "an unknown number of messages of channel kiosk were lost: \
             the channel's history does not reach so far back",
            "twenty-one@21 (retained)"
        ]
    );
}

#[test]
fn another_channel_of_that_name_is_read_from_its_beginning() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let takes = from(StartAt::Last(2), Policy::DropOldest);
    let stream = world.begins(room, takes, 8, &["eight"]);
    world.got(stream);
    let other = ChannelId(70);
    assert_eq!(world.joins_anew(other), ["subscribe 70 # After(0)"]);
    world.told(other, 2, 1, 0, &["one"]);
    assert_eq!(
        world.got(stream),
        [
            "an unknown number of messages of channel kiosk were lost: \
             the session ended while there was no connection",
            "one@1 (retained)"
        ]
    );
}

#[test]
fn a_cursor_is_where_another_stream_goes_on() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let takes = from(StartAt::Last(2), Policy::DropOldest);
    let stream = world.begins(room, takes, 8, &["eight", "nine"]);
    let mut batch = VecDeque::new();
    let cx = &Context::from_waker(Waker::noop());
    assert!(world.core.poll_stream(stream, &mut batch, cx).is_ready());
    let Some(Entry::Run(mut piece)) = batch.pop_front() else {
        panic!("a message");
    };
    let eight = piece.next(&mut LastTopic::default()).unwrap();
    let cursor = eight.cursor().unwrap();
    assert_eq!(cursor.offset(), 8);
    assert_eq!(cursor.to_string().parse(), Ok(cursor));
    let after = from(StartAt::After(cursor), Policy::Park);
    world.core.open_stream(Some(room), after).unwrap();
    assert_eq!(world.says(), [format!("subscribe {KIOSK} # After(8) park")]);
    for text in ["", "1/2", "xyz/1/2", "00/1/2", "1/2/3/4"] {
        assert!(text.parse::<crate::Cursor>().is_err(), "{text}");
    }
}

#[test]
fn what_made_way_for_newer_messages_is_counted_and_no_gap() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let latest = world.begins(room, from(StartAt::Now, Policy::Latest), 1, &[]);
    let other = world.begins(room, from(StartAt::Now, Policy::DropOldest), 1, &[]);
    let gap = |cause, lost| {
        BrokerFrame::Gap(WireGap {
            channel: Some(KIOSK),
            lost,
            cause,
        })
    };
    world.hears(&[gap(Code::CONFLATED, 3)]);
    assert_eq!(world.core.conflated(latest), 3);
    assert_eq!(world.got(latest), [""; 0]);
    assert_eq!(world.got(other), [""; 0]);
    world.hears(&[gap(Code::SLOW_CONSUMER, 2)]);
    assert_eq!(world.got(latest).len(), 1);
    assert_eq!(world.got(other).len(), 1);
}

#[test]
fn streams_with_another_policy_ask_for_it() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    world.begins(room, from(StartAt::Now, Policy::Latest), 1, &[]);
    let same = from(StartAt::Now, Policy::Latest);
    let (_, ticket) = world.core.open_stream(Some(room), same).unwrap();
    assert!(ticket.is_none(), "it stands already");
    let other = from(StartAt::Now, Policy::Block);
    world.core.open_stream(Some(room), other).unwrap();
    assert_eq!(world.says(), [format!("subscribe {KIOSK} # block")]);
}

#[test]
fn what_was_set_in_a_channel_is_set_again_in_a_new_session() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let settings = ChannelSettings {
        history_messages: 10,
        ..ChannelSettings::default()
    };
    let set = world.core.set_channel(room, settings).unwrap();
    let will = |text: &str| Some(Will::publish(Payload::from(text)));
    world.core.set_will(room, "a", will("gone")).unwrap();
    world.core.set_will(room, "b", will("gone")).unwrap();
    world.core.set_will(room, "b", None).unwrap();
    let said = world.says();
    assert_eq!(said.len(), 4);
    assert!(said[0].starts_with("ChannelSet") && said[1].starts_with("WillSet"));
    assert!(said[3].starts_with("WillClear"), "{said:?}");
    world.hears(&[BrokerFrame::Done { request: 2 }]);
    assert!(matches!(world.outcome(set), Some(Ok(Answer::Done))));

    let listener = world.core.listen_to_refusals();
    let again = world.joins_anew(KIOSK);
    assert_eq!(again.len(), 5, "each of the unanswered, too: {again:?}");
    assert!(again.iter().any(|said| said.starts_with("ChannelSet")));
    assert!(again.iter().any(|said| said.contains("topic: \"a\"")));
    world.hears(&[BrokerFrame::Refusal {
        request: 2,
        code: Code::LIMIT_REACHED,
        detail: "",
    }]);
    let refusals = world.refusals(listener);
    let limit = "a limit of the broker is reached x1";
    assert_eq!(refusals.last().map(String::as_str), Some(limit));
}
