//! Real threads on one hub: messages, requests, arrivals, resumes, expiry and operators, all at once. What one
//! thread cannot show: that no two locks are ever taken in each other's order.
//!
//! `LAPS=n` goes on for that many laps, of a second or two each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use localhub::hub::Departure;
use localhub_protocol::{ClientFrame, Code, ContentType, Message, Put, Retain, ServeMode, Target};
use localhub_tests::process::until;
use localhub_tests::{Ask, Seen, World};

/// How many rounds every thread must get through in a lap.
const ROUNDS: u64 = 2_000;

#[test]
fn every_thread_keeps_moving() {
    let world = World::new(|settings| {
        settings.ttl = Duration::from_millis(5);
        settings.limits.outbox_messages = 1_000;
    });
    let rounds: Arc<[AtomicU64; 6]> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..rounds.len())
        .map(|n| {
            let (mut world, rounds, done) = (world.share(n as u8), rounds.clone(), done.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    match n {
                        0..=2 => talk(&mut world, n),
                        3 => come_and_go(&mut world),
                        4 => look(&world),
                        _ => world.pass(Duration::from_millis(1)),
                    }
                    rounds[n].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let laps = std::env::var("LAPS").map_or(1, |laps| laps.parse().expect("LAPS=NUMBER"));
    for _ in 0..laps {
        let before: Vec<_> = rounds.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        until("every thread gets through its rounds", || {
            assert!(
                threads.iter().all(|thread| !thread.is_finished()),
                "a thread panicked"
            );
            // Rounds differ in size; the one that talks does a hundred things in each.
            rounds
                .iter()
                .zip(&before)
                .enumerate()
                .all(|(n, (rounds, before))| {
                    let rounds = rounds.load(Ordering::Relaxed) - before;
                    rounds >= if n <= 2 { ROUNDS / 20 } else { ROUNDS }
                })
        });
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no thread panicked");
    }
    world.hub.check();
}

/// A client that joins, publishes, sends, reads, loses its connection and comes back.
fn talk(world: &mut World, n: usize) {
    let mut me = world.client(&format!("talker-{n}"));
    let room = me.joins("room");
    me.subscribes(room, "#");
    me.watches(room);
    me.serves("all", ServeMode::Shared);
    me.serves("one", ServeMode::Takeover);
    for round in 0..100 {
        let to = format!("talker-{}", round % 3);
        me.says(&ClientFrame::Message(Message::Direct {
            to: Target::Name(&to),
            content: ContentType::TEXT,
            payload: b"direct",
        }));
        let retain = if round % 10 == 0 {
            Retain::Set
        } else {
            Retain::No
        };
        me.publishes_as(room, "topic", retain, b"published");
        let to = match round % 3 {
            0 => Target::Service("all"),
            1 => Target::Service("one"),
            _ => Target::Name(&to),
        };
        let mut command = [n as u8; 16];
        command[8..].copy_from_slice(&(round as u64 / 2).to_be_bytes());
        let asked = me.asks(Ask {
            deadline_ms: 1,
            command: (round % 4 == 0).then_some(command),
            ..Ask::of(to)
        });
        if round % 7 == 0 {
            me.cancels(asked);
        }
        me.puts(
            room,
            Put {
                expect: None,
                ttl_ms: 1,
                owned: true,
                retain: Retain::Set,
                content: ContentType::TEXT,
                topic: "mine",
                payload: b"value",
            },
        );
        if round % 8 == 0 {
            for seen in me.hears() {
                if let Seen::Request(caller, request, ..) = seen {
                    me.replies((caller, request), "done");
                }
            }
        }
        if round % 50 == 49 {
            me.loses_connection(world);
            if me.tries_to_come_back(world, me.resume()).is_err() {
                return;
            }
            me.listens();
            if me.resumed.is_none_or(|resumed| resumed.lost.is_none()) {
                break;
            }
        }
    }
    me.departs(world, Departure::Final(Code::GOODBYE));
}

/// Clients that join and are gone, some for good and some for a while.
fn come_and_go(world: &mut World) {
    let user = world.user(1_000);
    let mut guest = world.try_client(None, user).expect("there is room");
    guest.joins("room");
    guest.loses_connection(world);
}

/// An operator who looks at everything.
fn look(world: &World) {
    let status = world.hub.status(world.now);
    assert!(status.connected <= 10);
    if let Ok(channel) = world.hub.channel("room") {
        assert!(channel.summary.members as usize == channel.members.len());
    }
}
