//! What one turn of a connection does, also of one that another replaces meanwhile.

use std::time::Instant;

use bytes::BytesMut;
use localhub::hub::Wakes;
use localhub_protocol::ChannelId;

use super::*;

/// Frames that take a turn a while, and a last one.
fn long_turn(channel: ChannelId, last: &ClientFrame<'_>) -> BytesMut {
    let mut said = Vec::new();
    for n in 0..8_000 {
        ClientFrame::Message(Message::Publish {
            channel,
            retain: Retain::No,
            content: ContentType::TEXT,
            topic: if n % 2 == 0 { "even" } else { "odd" },
            payload: b"a word",
        })
        .encode(&mut said);
    }
    last.encode(&mut said);
    assert!(said.len() < 512 * 1024, "one turn carries it out");
    BytesMut::from(&said[..])
}

/// Ana comes back while her old connection carries out what she had said. What she hears of the last of that.
fn comes_back_during_a_turn(last: impl Fn(ChannelId) -> Vec<u8>) -> Vec<Seen> {
    let mut world = World::new(|settings| settings.limits.outbox_messages = 100_000);
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.subscribes(kiosk, "#");
    ana.hears();
    bo.hears();
    let mut old = ana.peer.take().unwrap();
    let mut said = long_turn(kiosk, &ClientFrame::Ack { received: 0 });
    said.extend_from_slice(&last(kiosk));
    let now = world.now;
    let turn = std::thread::spawn(move || {
        let mut wakes = Wakes::default();
        let pinned = said.capacity();
        let result = old.receive(&mut said, pinned, now, &mut wakes);
        assert!(result.is_ok() && said.is_empty(), "one turn: {result:?}");
    });
    let began = Instant::now();
    while bo.hears().is_empty() {
        assert!(began.elapsed().as_secs() < 20, "the turn never began");
    }
    let resume = ana.resume();
    ana.tries_to_come_back(&mut world, resume).unwrap();
    turn.join().unwrap();
    ana.listens();
    let resumed = ana.resumed.expect("a resume was asked for");
    assert!(resumed.recovered, "the session goes on");
    assert_eq!(
        ana.confirmed,
        8_000 + 2,
        "all of the turn was carried out or refused"
    );
    ana.hears()
}

// Rules 14.8, 14.9: what was said before the resume is carried out, and its answers come.
#[test]
fn a_join_in_the_last_turn_of_an_old_connection_is_carried_out() {
    let seen = comes_back_during_a_turn(|_| {
        let mut join = Vec::new();
        ClientFrame::Join {
            name: "stage",
            hidden: false,
            state: &[],
        }
        .encode(&mut join);
        join
    });
    assert!(
        matches!(seen[..], [Seen::Joined(..)]),
        "it is carried out: {seen:?}"
    );
}

#[test]
fn a_leave_in_the_last_turn_of_an_old_connection_is_carried_out() {
    let seen = comes_back_during_a_turn(|kiosk| {
        let mut leave = Vec::new();
        ClientFrame::Leave { channel: kiosk }.encode(&mut leave);
        leave
    });
    assert!(
        matches!(seen[..], [Seen::Done(_)]),
        "it is carried out: {seen:?}"
    );
}

// Rules 2.8, 15.1: a client that does not read its answers is not read from.
#[test]
fn answers_that_nobody_reads_do_not_fill_the_memory() {
    let mut world = World::new(|settings| {
        settings.memory_bytes = 8 << 20;
        settings.limits.outbox_bytes = 1 << 20;
    });
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    let others: Vec<_> = (0..50)
        .map(|n| {
            let mut other = world.client(&format!("other-{n}"));
            other.says(&ClientFrame::Join {
                name: "kiosk",
                hidden: false,
                state: &[0; 4_096],
            });
            other
        })
        .collect();
    ana.hears();
    let mut said = Vec::new();
    while said.len() < 16 * 1024 {
        ClientFrame::PresenceWatch {
            channel: kiosk,
            on: true,
        }
        .encode(&mut said);
    }
    // One read has up to 128 KiB.
    let mut said = BytesMut::from(&said[..]);
    let mut wakes = Wakes::default();
    let peer = ana.peer.as_mut().unwrap();
    let pinned = said.capacity();
    peer.receive(&mut said, pinned, world.now, &mut wakes)
        .unwrap();
    let queued = world.hub.status(world.now).queued_bytes;
    assert!(
        queued <= 8 << 20,
        "16 KiB of questions, {queued} bytes of answers; the whole broker may have 8 MiB"
    );
    drop(others);
}
