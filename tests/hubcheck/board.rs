//! The board: a channel whose values everybody changes, some only if they are what they think, and
//! everybody follows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use localhub_client::{Channel, Error, LiveMap, MapChange, Message, Put, ValueVersion};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Actor, Phase};
use crate::plan::{BOARD, BRIEF, COUNTERS, MINE, board_topic, board_topic_number, client_of};
use crate::record::{Event, NONE, now, outcome};
use crate::watcher::at_once;

/// So many changes of one client have no outcome at a time.
const IN_FLIGHT_MAX: usize = 16;

/// The board, as one client sees it.
pub(crate) struct Board {
    channel: Channel,
    values: BTreeMap<u64, Value>,
}

/// A value, as its payload tells.
#[derive(Clone, Copy, Debug)]
struct Value {
    /// The process that set it, and its number for that.
    sender: u64,
    number: u64,
    /// Counters: which line of values it is of, each of which began when there was no value, and how many of
    /// the line were before it.
    line: u64,
    count: u64,
    version: ValueVersion,
    epoch: u64,
}

/// What a client wants to do to a topic.
#[derive(Clone, Copy, Debug)]
struct Wish {
    topic: u64,
    line: u64,
    count: u64,
    expect: Option<ValueVersion>,
    deletes: bool,
    ttl: Option<Duration>,
    owned: bool,
}

impl Value {
    /// What a message says; `None` if it is none of a client of this run.
    fn of(message: &Message) -> Option<Self> {
        let (words, rest) = message.payload().as_chunks::<8>();
        let &[sender, number, line, count] = words else {
            return None;
        };
        // The first half is unlike enough.
        let cursor = message.cursor()?.to_string();
        let epoch = u64::from_str_radix(cursor.get(..16)?, 16).ok()?;
        rest.is_empty().then_some(Self {
            sender: u64::from_le_bytes(sender),
            number: u64::from_le_bytes(number),
            line: u64::from_le_bytes(line),
            count: u64::from_le_bytes(count),
            version: message.into(),
            epoch,
        })
    }
}

/// Follows the board until the end, leaves it now and then, and says in the end what is there.
pub(crate) async fn follow(actor: Rc<Actor>) {
    while !actor.is_closed() {
        let Ok(channel) = actor.client.join(BOARD).await else {
            continue;
        };
        let number = actor.next_stream();
        let drained = match channel.live_map("#").await {
            Ok(map) => follow_map(&actor, &channel, map, number).await,
            Err(_) => false,
        };
        if drained {
            return;
        }
        actor.board.take();
        let asked_at = now();
        // It fails only if the client is over, which the loop sees.
        let _ = channel.leave().await;
        actor.recorder.note(Event::LeftBoard { asked_at });
    }
}

/// Follows one map; `true` if it was followed to the end.
async fn follow_map(actor: &Actor, channel: &Channel, mut map: LiveMap, number: u64) -> bool {
    let mut values = BTreeMap::new();
    for (_, message) in map.iter() {
        note(actor, number, &MapChange::Set(message.clone()), &mut values);
    }
    actor.board.replace(Some(Board {
        channel: channel.clone(),
        values,
    }));
    let change = |change: &MapChange| {
        if let Some(board) = &mut *actor.board.borrow_mut() {
            note(actor, number, change, &mut board.values);
        }
    };
    let mut phase = actor.phase.clone();
    let leaves = Instant::now() + Duration::from_millis(2_000 + actor.below(20_000));
    loop {
        let may_leave = *actor.phase.borrow() == Phase::Run && !actor.is_auditor();
        tokio::select! {
            biased;
            changed = map.changed() => match changed {
                Ok(changed) => change(&changed),
                Err(_) => return false,
            },
            () = sleep_until(leaves), if may_leave => return false,
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => break,
        }
    }
    // Nobody sets anything any more, but what has its time still goes.
    while map.iter().any(|(topic, _)| is_brief(topic)) {
        match map.changed().await {
            Ok(changed) => change(&changed),
            Err(_) => return false,
        }
    }
    let listed = loop {
        match channel.snapshot("#").await {
            Ok(snapshot) if snapshot.values.iter().all(|it| !is_brief(topic_of(it))) => {
                break snapshot.values;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    };
    while let Some(Ok(changed)) = at_once(map.changed()).await {
        change(&changed);
    }
    keep(actor, 0, &listed.iter().collect::<Vec<_>>());
    keep(actor, 1, &map.iter().map(|(_, it)| it).collect::<Vec<_>>());
    true
}

fn topic_of(message: &Message) -> &str {
    message.topic().unwrap_or_default()
}

fn is_brief(topic: &str) -> bool {
    board_topic_number(topic).is_some_and(|topic| topic >= BRIEF)
}

/// Writes down a change of a map.
fn note(actor: &Actor, map: u64, change: &MapChange, values: &mut BTreeMap<u64, Value>) {
    let (topic, value) = match change {
        MapChange::Set(message) => (topic_of(message), Some(Value::of(message))),
        MapChange::Deleted { topic } => (topic.as_str(), None),
    };
    let topic = board_topic_number(topic).unwrap_or(NONE);
    match value.flatten() {
        Some(value) => values.insert(topic, value),
        None => values.remove(&topic),
    };
    let event = match value {
        None => Event::Unset { map, topic },
        Some(value) => Event::Set {
            map,
            topic,
            sender: value.map_or(NONE, |value| value.sender),
            number: value.map_or(NONE, |value| value.number),
            version: value.map_or(NONE, |value| value.version.offset()),
            epoch: value.map_or(NONE, |value| value.epoch),
        },
    };
    actor.recorder.note(event);
}

/// Writes down what there is in the end: `source` is 0 for what the hub lists, 1 for the map.
fn keep(actor: &Actor, source: u64, messages: &[&Message]) {
    let values = messages.len() as u64;
    actor.recorder.note(Event::Board { source, values });
    for message in messages {
        let value = Value::of(message);
        actor.recorder.note(Event::Kept {
            source,
            topic: board_topic_number(topic_of(message)).unwrap_or(NONE),
            sender: value.map_or(NONE, |value| value.sender),
            number: value.map_or(NONE, |value| value.number),
            version: message.offset(),
        });
    }
}

/// Changes values until it is time to be quiet, and waits for all outcomes.
pub(crate) async fn change(actor: Rc<Actor>) {
    let mut changes = JoinSet::new();
    while *actor.phase.borrow() == Phase::Run {
        while changes.try_join_next().is_some() {}
        let room = actor
            .board
            .borrow()
            .as_ref()
            .map(|board| board.channel.clone());
        if let Some(channel) = room
            && changes.len() < IN_FLIGHT_MAX
        {
            for _ in 0..=actor.below(3) {
                let wish = wish(&actor);
                changes.spawn_local(carry_out(actor.clone(), channel.clone(), wish));
            }
        }
        let pause = Duration::from_millis(40 + actor.below(200));
        let mut phase = actor.phase.clone();
        // It is quiet time, or time for more.
        let _ = timeout(pause, phase.wait_for(|phase| *phase >= Phase::Quiet)).await;
    }
    while changes.join_next().await.is_some() {}
}

fn wish(actor: &Actor) -> Wish {
    let client = client_of(actor.sender);
    let whatever = Wish {
        topic: 0,
        line: NONE,
        count: 0,
        expect: None,
        deletes: false,
        ttl: None,
        owned: false,
    };
    match actor.below(8) {
        0 => Wish {
            topic: MINE + client,
            owned: true,
            ..whatever
        },
        1 => Wish {
            topic: BRIEF + client,
            ttl: Some(Duration::from_millis(50 + actor.below(2_000))),
            ..whatever
        },
        _ => {
            let topic = actor.below(COUNTERS);
            let board = actor.board.borrow();
            let value = board.as_ref().and_then(|board| board.values.get(&topic));
            match value.copied() {
                Some(value) => Wish {
                    topic,
                    line: value.line,
                    count: value.count + 1,
                    expect: Some(value.version),
                    deletes: actor.draw(60),
                    ..whatever
                },
                None => Wish {
                    topic,
                    line: actor.rng.borrow_mut().draw() >> 1,
                    expect: Some(ValueVersion::NONE),
                    ..whatever
                },
            }
        }
    }
}

/// Does it, and writes down what becomes of it.
async fn carry_out(actor: Rc<Actor>, channel: Channel, wish: Wish) {
    let number = actor.changes.replace(actor.changes.get() + 1);
    // Whose a value is has to be known of those that end with their owner.
    let before = match wish.owned {
        true => actor.identify().await,
        false => None,
    };
    actor.recorder.note(Event::Put {
        number,
        topic: wish.topic,
        line: wish.line,
        count: wish.count,
        expect: wish.expect.map_or(NONE, ValueVersion::offset),
        deletes: u64::from(wish.deletes),
        ttl_ms: wish.ttl.map_or(NONE, |ttl| ttl.as_millis() as u64),
        owned: u64::from(wish.owned),
    });
    let topic = board_topic(wish.topic);
    let done = match (wish.deletes, wish.expect) {
        (true, Some(version)) => channel.delete(&topic, version).await,
        _ => {
            let words = [actor.sender, number, wish.line, wish.count];
            let payload = words.map(u64::to_le_bytes).concat();
            channel.put(&topic, payload, conditions(&wish)).await
        }
    };
    let (outcome, code, version) = match done {
        Ok(version) => (outcome::OK, NONE, version.offset()),
        Err(Error::Refused { code, .. }) => (outcome::REFUSED, code.0.into(), NONE),
        Err(_) => (outcome::UNKNOWN, NONE, NONE),
    };
    let after = match wish.owned {
        true => actor.identify().await,
        false => None,
    };
    let (epoch, session) = before.filter(|_| before == after).unwrap_or((NONE, NONE));
    actor.recorder.note(Event::PutOver {
        number,
        outcome,
        code,
        version,
        epoch,
        session,
    });
}

fn conditions(wish: &Wish) -> Put {
    let mut put = Put::new();
    if let Some(version) = wish.expect {
        put = put.expect_version(version);
    }
    if let Some(ttl) = wish.ttl {
        put = put.ttl(ttl);
    }
    match wish.owned {
        true => put.owned(),
        false => put,
    }
}
