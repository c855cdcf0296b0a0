//! What may come between a resume and its end: it lets go of the hub's lock until the turn of the connection before
//! is over.

use std::sync::atomic::AtomicBool;
use std::task::{Context, Waker};
use std::thread;

use bytes::BytesMut;
use localhub_protocol::{ClientFrame, Resume};

use super::*;

/// A race that is lost once in a hundred times: the more rounds, the surer it is seen.
const ROUNDS: u64 = 60;

const T0: ResumeToken = ResumeToken([1; 32]);

fn hub() -> Arc<Hub> {
    Hub::new(testing::settings())
}

fn attach(hub: &Arc<Hub>, resume: Option<ClientId>, token: ResumeToken) -> Result<Peer, Close> {
    let hello = Hello {
        versions: (Version::CURRENT, Version::CURRENT),
        features: vec![],
        name: None,
        resume: resume.map(|client| Resume {
            epoch: hub.settings.epoch,
            client,
            token: T0,
            received: 0,
        }),
        ttl_ms: None,
    };
    hub.attach(
        &hello,
        testing::identity(),
        token,
        Duration::ZERO,
        &mut Wakes::default(),
    )
}

/// A client with something in its outbox.
fn client(hub: &Arc<Hub>) -> Peer {
    let mut peer = attach(hub, None, T0).unwrap();
    let mut said = Vec::new();
    ClientFrame::Join {
        name: "kiosk",
        hidden: false,
        state: &[],
    }
    .encode(&mut said);
    let mut said = BytesMut::from(&said[..]);
    let pinned = said.capacity();
    peer.receive(&mut said, pinned, Duration::ZERO, &mut Wakes::default())
        .unwrap();
    peer
}

fn let_others_run() {
    // On a busy machine each of these may take a while.
    (0..10).for_each(|_| thread::yield_now());
}

/// A connection that resumes the session, and waits for the turn of the one before.
fn resumes(
    hub: &Arc<Hub>,
    session: &Session,
    token: u8,
) -> thread::JoinHandle<Result<Peer, Close>> {
    let before = session.generation();
    let (hub, id) = (hub.clone(), session.id);
    let resuming = thread::spawn(move || attach(&hub, Some(id), ResumeToken([token; 32])));
    while session.generation() == before {
        thread::yield_now();
    }
    // It is about to wait for the turn. If it does not yet, the test shows less, and passes.
    let_others_run();
    resuming
}

#[test]
fn who_resumes_while_the_hub_stops_is_told_so() {
    let hub = hub();
    let old = client(&hub);
    let session = old.session().clone();
    let turn = session.turn.lock();
    let resuming = resumes(&hub, &session, 2);
    hub.stop(&mut Wakes::default());
    drop(turn);
    let told = match resuming.join().unwrap() {
        Ok(peer) => peer.closing(),
        Err(close) => Some(close.code),
    };
    assert_eq!(told, Some(Code::SHUTTING_DOWN));
}

#[test]
fn who_resumes_while_it_is_kicked_is_told_so_and_nothing_is_held_for_it() {
    let hub = hub();
    let old = client(&hub);
    let session = old.session().clone();
    let turn = session.turn.lock();
    let resuming = resumes(&hub, &session, 2);
    hub.end(
        session.id,
        Code::KICKED,
        Duration::ZERO,
        &mut Wakes::default(),
    );
    drop(turn);
    let told = match resuming.join().unwrap() {
        Ok(peer) => peer.closing(),
        Err(close) => Some(close.code),
    };
    assert_eq!(
        hub.budget.used(),
        0,
        "bytes that nobody will ever give back"
    );
    assert_eq!(told, Some(Code::KICKED));
}

#[test]
fn the_outbox_is_with_the_newest_connection() {
    let mut overtaken = 0;
    for round in 0..ROUNDS {
        let hub = hub();
        let old = client(&hub);
        let session = old.session().clone();
        let turn = session.turn.lock();
        // Its welcome will never be read: the client has given up on it, and tries once more.
        let first = resumes(&hub, &session, 2);
        let go = Arc::new(AtomicBool::new(false));
        let second = thread::spawn({
            let (hub, go, id) = (hub.clone(), go.clone(), session.id);
            move || {
                while !go.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                attach(&hub, Some(id), ResumeToken([3; 32]))
            }
        });
        let_others_run();
        go.store(true, Ordering::Relaxed);
        // About when the old turn ends.
        for _ in 0..round * 300 {
            std::hint::spin_loop();
        }
        drop(turn);
        let _first = first.join().unwrap();
        let mut newest = second.join().unwrap().unwrap();
        assert_eq!(newest.closing(), None);
        let mut batch = Batch::default();
        newest.take(&mut batch, usize::MAX);
        let cx = &mut Context::from_waker(Waker::noop());
        // The server goes on as long as this is ready, whatever there is to take: for ever.
        overtaken += u32::from(newest.poll_ready(cx).is_ready());
    }
    assert_eq!(
        overtaken, 0,
        "of {ROUNDS}: its task spins, and its client hears nothing more"
    );
}
