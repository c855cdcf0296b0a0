//! Positions, pings and closes: sections 5, 16 and 17.

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
    let payload = "x".repeat(1024);
    let publishes = (1..=1_000).find(|_| {
        ana.publishes(kiosk, "a", &payload);
        ana.hears();
        ana.acked > 0
    });
    let publishes = publishes.expect("an Ack without anything else to send");
    assert!((240..=256).contains(&publishes), "{publishes} times 1 KiB");
    assert_eq!(ana.acked, 1 + publishes);

    for _ in 0..4 {
        ana.publishes(kiosk, "a", &payload);
        ana.hears();
    }
    assert_eq!(ana.acked, 1 + publishes, "4 KiB are not worth a write");
    ana.joins("desk");
    assert_eq!(ana.acked, publishes + 6, "but go with the answer to a join");
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
