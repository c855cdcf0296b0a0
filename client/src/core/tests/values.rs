//! Values and wills: what is set in a channel, and not said.

use super::*;

fn large() -> Payload {
    // The broker of these tests takes 1,000 bytes.
    Payload::from(vec![0_u8; 20_000])
}

#[test]
fn a_value_that_is_too_large_does_not_cost_the_session() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let put = PutValue {
        topic: "a".parse().unwrap(),
        retain: Retain::Set,
        payload: large(),
        expect: None,
        ttl_ms: 0,
        owned: false,
    };
    let _ = world.core.put(room, put);
    assert!(world.says().is_empty(), "the broker would end the session");
}

#[test]
fn a_will_that_is_too_large_does_not_cost_the_session() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let _ = world
        .core
        .set_will(room, "a", Some(crate::Will::publish(large())));
    assert!(world.says().is_empty(), "the broker would end the session");
}

// A live map asks for the values when it sees the gap of a lost session. What comes behind that answer has to come,
// or be told as a gap.
#[test]
fn nothing_is_missed_untold_between_a_snapshot_and_a_subscription_whose_answer_was_lost() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let stream = world.subscribes(room, "#");
    world.core.tell_restarts(stream);
    world.loses_connection();
    world.starts_anew();
    world.says();
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 9,
    }]);
    assert_eq!(world.got(stream).len(), 1, "the gap of the lost session");
    let snapshot = world.core.snapshot(room, "#".parse().unwrap()).unwrap();
    assert_eq!(world.says()[..2], ["subscribe 7 #", "snapshot 7 #"]);
    // Both were carried out at offset 10; the first answer had to make room while the client was away.
    world.core.lost("test".to_owned(), Duration::ZERO);
    let resumed = Resumed {
        recovered: false,
        replayed: 1,
        lost: Some(1),
    };
    world.welcome(2, Some(resumed), 3);
    world.hears(&[BrokerFrame::Gap(localhub_protocol::Gap {
        channel: None,
        lost: 1,
        cause: Code::SLOW_CONSUMER,
    })]);
    let values = |request, offset| BrokerFrame::Values {
        request,
        channel: KIOSK,
        offset,
        count: 0,
        since: offset,
    };
    world.hears(&[values(3, 10)]);
    assert!(matches!(
        world.outcome(snapshot),
        Some(Ok(Answer::Values(of))) if of.offset == 10
    ));
    world.hears(&run(11, "a", &["missed"]));
    let said = world.says();
    let (nonce, received) = (3, 3);
    world.hears(&[BrokerFrame::Pong { nonce, received }]);
    assert_eq!(world.says(), ["subscribe 7 #"], "{said:?}");
    world.hears(&[values(4, 11)]);
    world.hears(&run(12, "a", &["next"]));
    let got = world.got(stream);
    assert!(got.len() == 2, "11 comes, or a gap in its place: {got:?}");
}

// A program that sets a value every second, and waits no longer than that, while there is no broker.
#[test]
fn values_that_cannot_be_sent_do_not_pile_up() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    world.loses_connection();
    for _ in 0..100 {
        let put = PutValue {
            topic: "beat".parse().unwrap(),
            retain: Retain::Set,
            payload: Payload::from(vec![0_u8; 900]),
            expect: None,
            ttl_ms: 0,
            owned: false,
        };
        if let Ok(ticket) = world.core.put(room, put) {
            world.core.forget_ticket(ticket);
        }
    }
    // `unconfirmed_bytes` of these tests is 4,096.
    let bytes = world.core.outgoing.bytes();
    assert!(
        bytes <= 2 * 4_096,
        "{bytes} bytes wait, and nobody for them"
    );
}
