//! The hub's outbox under every order in which threads can take its lock, as far as `loom` finds them with at
//! most three preemptions: no wake is ever lost, and what comes out is what went in, once and in order.
//!
//! The outbox is the hub's own source with another lock.

#![allow(
    dead_code,
    reason = "of the hub's files, only what the outbox needs is used"
)]

#[path = "../../broker/src/hub/batch.rs"]
mod batch;
#[path = "../../broker/src/hub/budget.rs"]
mod budget;
#[path = "../../broker/src/hub/outbox.rs"]
mod outbox;
#[path = "../../broker/src/hub/wakes.rs"]
mod wakes;

mod session {
    pub(crate) const FIRST_GENERATION: u64 = 1;
}

mod sync {
    /// The lock that `loom` knows, as the hub uses it.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics")
        }
    }
}

pub use batch::Batch;
pub use wakes::Wakes;

use std::future::poll_fn;
use std::sync::Arc;

use budget::Budget;
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, ClientName, Code, ContentType, Message, Policy,
    RawFrame, Retain,
};
use loom::future::block_on;
use loom::thread;
use outbox::{Delivery, Entry, Origin, Outbox, OutboxLimits, Sender};
use session::FIRST_GENERATION;

const KIOSK: ChannelId = ChannelId(5);

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn outbox(messages: u64) -> Arc<Outbox> {
    let bytes = 1 << 20;
    let budget = Arc::new(Budget::new(1 << 30));
    Arc::new(Outbox::new(OutboxLimits { bytes, messages }, budget))
}

/// A publish whose payload is its number, which is its offset as well.
fn entry(n: u8) -> Entry {
    let mut frame = Vec::new();
    ClientFrame::Message(Message::Publish {
        channel: KIOSK,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic: "t",
        payload: &[n],
    })
    .encode(&mut frame);
    let origin = Origin::Channel {
        channel: KIOSK,
        sender: Some(Arc::new(Sender {
            client: ClientId(1),
            name: ClientName::hub(),
        })),
        first: n.into(),
        retained: false,
    };
    Entry::new(origin, frame, 1)
}

fn push(outbox: &Arc<Outbox>, n: u8, policy: Policy) {
    let mut wakes = Wakes::default();
    let entry = entry(n);
    let delivery = Delivery {
        entry: &entry,
        policy,
        topic: Some("t"),
    };
    outbox.push(delivery, &mut wakes);
    wakes.fire();
}

/// What a batch says: the payload of each message, and for a gap what it has lost.
fn said(batch: &Batch) -> Vec<Result<u8, u64>> {
    let wire: Vec<u8> = batch.pieces().flatten().copied().collect();
    let mut rest = &wire[..];
    let mut said = Vec::new();
    while let Some((frame, after)) = RawFrame::split(rest, usize::MAX).expect("a frame") {
        rest = after;
        match BrokerFrame::decode(frame.body()).expect("a frame of the broker") {
            BrokerFrame::Message(message) => said.push(Ok(message.payload()[0])),
            BrokerFrame::Gap(gap) => said.push(Err(gap.lost)),
            BrokerFrame::Run(_) => {}
            other => panic!("{other:?}"),
        }
    }
    said
}

/// Takes as a connection does, whenever it is woken, until so many messages are heard or lost; `None` if it is
/// told to end.
fn listen(outbox: &Outbox, generation: u64, until: u64) -> Option<Vec<Result<u8, u64>>> {
    let mut all = Vec::new();
    loop {
        let count = |said: &Result<u8, u64>| said.err().unwrap_or(1);
        if all.iter().map(count).sum::<u64>() >= until {
            return Some(all);
        }
        block_on(poll_fn(|cx| outbox.poll_ready(generation, cx.waker())));
        let mut batch = Batch::default();
        outbox.take(generation, &mut batch, usize::MAX);
        all.extend(said(&batch));
        if batch.is_empty() && outbox.closing().is_some() {
            return None;
        }
    }
}

#[test]
fn no_wake_is_lost_and_nothing_is_doubled() {
    model(|| {
        let outbox = outbox(10);
        let publishers: Vec<_> = [1, 2]
            .map(|n| {
                let outbox = outbox.clone();
                thread::spawn(move || push(&outbox, n, Policy::DropOldest))
            })
            .into();
        let mut heard = listen(&outbox, FIRST_GENERATION, 2).expect("nobody ends it");
        heard.sort_unstable();
        assert_eq!(heard, [Ok(1), Ok(2)]);
        for publisher in publishers {
            publisher.join().expect("it ends");
        }
        outbox.check();
    });
}

#[test]
fn messages_of_one_publisher_stay_in_order_and_losses_are_counted() {
    for policy in [Policy::DropOldest, Policy::DropNewest, Policy::Latest] {
        model(move || {
            let outbox = outbox(2);
            let publisher = {
                let outbox = outbox.clone();
                thread::spawn(move || (1..=3).for_each(|n| push(&outbox, n, policy)))
            };
            let heard = listen(&outbox, FIRST_GENERATION, 3).expect("nobody ends it");
            publisher.join().expect("it ends");
            let messages: Vec<_> = heard.iter().flatten().collect();
            assert!(messages.is_sorted(), "{policy:?}: {heard:?}");
            let lost: u64 = heard.iter().filter_map(|said| said.err()).sum();
            assert_eq!(messages.len() as u64 + lost, 3, "{policy:?}: {heard:?}");
            outbox.check();
        });
    }
}

#[test]
fn a_newer_connection_takes_over_and_the_older_one_gets_nothing_more() {
    model(|| {
        let outbox = outbox(10);
        push(&outbox, 1, Policy::DropOldest);
        let older = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                let mut batch = Batch::default();
                outbox.take(FIRST_GENERATION, &mut batch, usize::MAX);
                outbox.take(FIRST_GENERATION, &mut batch, usize::MAX);
            })
        };
        let publisher = {
            let outbox = outbox.clone();
            thread::spawn(move || push(&outbox, 2, Policy::DropOldest))
        };
        let rewound = outbox
            .rewind(FIRST_GENERATION + 1, 0)
            .expect("nothing was received");
        assert_eq!(rewound.lost, 0);
        let heard = listen(&outbox, FIRST_GENERATION + 1, 2).expect("nobody ends it");
        assert_eq!(heard, [Ok(1), Ok(2)], "whatever the older one had taken");
        older.join().expect("it ends");
        publisher.join().expect("it ends");
        outbox.check();
    });
}

#[test]
fn whoever_is_told_to_end_wakes_and_ends() {
    model(|| {
        let outbox = outbox(10);
        let hub = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                push(&outbox, 1, Policy::DropOldest);
                let mut wakes = Wakes::default();
                outbox.close(Code::KICKED, &mut wakes);
                wakes.fire();
            })
        };
        assert_eq!(listen(&outbox, FIRST_GENERATION, 9), None);
        hub.join().expect("it ends");
    });
}

#[test]
fn who_waits_for_room_is_woken_when_there_is_some() {
    model(|| {
        let budget = Arc::new(Budget::new(1 << 30));
        // One entry is more than half of it.
        let limits = OutboxLimits {
            bytes: 300,
            messages: 10,
        };
        let outbox = Arc::new(Outbox::new(limits, budget));
        let mut wakes = Wakes::default();
        let one = entry(1);
        let delivery = Delivery {
            entry: &one,
            policy: Policy::DropOldest,
            topic: None,
        };
        outbox.push(delivery, &mut wakes);
        assert!(wakes.is_stalled());
        let reader = {
            let outbox = outbox.clone();
            thread::spawn(move || listen(&outbox, FIRST_GENERATION, 1))
        };
        block_on(poll_fn(|cx| wakes.poll_relief(cx)));
        assert_eq!(reader.join().expect("it ends"), Some(vec![Ok(1)]));
    });
}

/// The tests above can fail: a wake that is never fired is found.
#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_would_be_found() {
    model(|| {
        let outbox = outbox(10);
        let publisher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                let entry = entry(1);
                let delivery = Delivery {
                    entry: &entry,
                    policy: Policy::DropOldest,
                    topic: None,
                };
                let mut unfired = Wakes::default();
                outbox.push(delivery, &mut unfired);
            })
        };
        listen(&outbox, FIRST_GENERATION, 1);
        publisher.join().expect("it ends");
    });
}
