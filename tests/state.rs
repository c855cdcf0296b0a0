//! The values of a channel as programs use them: a real broker in this process, and real connections.

use std::time::Duration;

use localhub::{Broker, config::Config};
use localhub_client::{
    Channel, Client, Code, Error, LiveMap, MapChange, Options, Policy, Put, Subscribe,
    ValueVersion, Will,
};

struct World {
    broker: Broker,
    config: Config,
    // Removed when the test is over.
    directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = localhub_tests::process::private_directory();
        let endpoint = match cfg!(windows) {
            true => format!(r"\\.\pipe\localhub-test-{}", word()),
            false => directory.path().join("hub.sock").display().to_string(),
        };
        let config = Config {
            endpoint: Some(endpoint),
            ..Config::default()
        };
        Self {
            broker: Broker::start(&config).await.unwrap(),
            config,
            directory,
        }
    }

    /// Ends the broker, and starts another in its place.
    async fn starts_anew(self) -> Self {
        self.broker.stop().await;
        Self {
            broker: Broker::start(&self.config).await.unwrap(),
            config: self.config,
            directory: self.directory,
        }
    }

    async fn client(&self, name: &str) -> (Client, Channel) {
        let options = Options::new().endpoint(self.broker.endpoint().clone());
        let client = options.name(name).connect().await.unwrap();
        let channel = client.join("kiosk").await.unwrap();
        (client, channel)
    }
}

/// A word that no other test has.
fn word() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id())
}

/// The next change, in words.
async fn change(map: &mut LiveMap) -> String {
    match map.changed().await.unwrap() {
        MapChange::Set(value) => {
            format!("{} = {}", value.topic().unwrap(), value.text().unwrap())
        }
        MapChange::Deleted { topic } => format!("{topic} is gone"),
    }
}

fn contents(map: &LiveMap) -> Vec<(&str, &str)> {
    map.iter()
        .map(|(topic, value)| (topic, value.text().unwrap()))
        .collect()
}

fn code<T>(outcome: Result<T, Error>) -> Option<Code> {
    match outcome {
        Err(Error::Refused { code, .. }) => Some(code),
        _ => None,
    }
}

#[tokio::test]
async fn a_live_map_begins_with_what_there_is_and_follows() {
    let world = World::new().await;
    let (_ana, there) = world.client("ana").await;
    there.put("a", "1", Put::new()).await.unwrap();
    there.retain("b/x", "2").await.unwrap();
    there.put("c", "3", Put::new()).await.unwrap();
    let (_bo, here) = world.client("bo").await;
    let mut map = here.live_map("#").await.unwrap();
    assert_eq!(contents(&map), [("a", "1"), ("b/x", "2"), ("c", "3")]);

    there.publish("a", "said, not kept").await.unwrap();
    there.retain("a", "4").await.unwrap();
    there.clear("c").await.unwrap();
    let version = there.put("d", "5", Put::new()).await.unwrap();
    assert_eq!(change(&mut map).await, "a = 4");
    assert_eq!(change(&mut map).await, "c is gone");
    assert_eq!(change(&mut map).await, "d = 5");
    assert_eq!(contents(&map), [("a", "4"), ("b/x", "2"), ("d", "5")]);
    assert_eq!(map.version("d"), version);
    assert!(map.get("c").is_none());
    assert_eq!(map.version("c"), ValueVersion::NONE);
}

#[tokio::test]
async fn of_those_who_want_a_value_first_one_gets_it() {
    let world = World::new().await;
    let (_ana, mine) = world.client("ana").await;
    let (_bo, theirs) = world.client("bo").await;
    let first = Put::new().expect_none();
    let version = mine.put("job/7", "ana", first).await.unwrap();
    let late = theirs.put("job/7", "bo", first).await;
    assert_eq!(code(late), Some(Code::VERSION_CONFLICT));
    let next = Put::new().expect_version(version);
    assert_ne!(next, Put::new().expect_version(version.offset()));
    let newer = theirs.put("job/7", "bo", next).await.unwrap();
    assert!(newer.offset() > version.offset());
    assert_eq!(
        code(mine.delete("job/7", version).await),
        Some(Code::VERSION_CONFLICT)
    );
    mine.delete("job/7", newer).await.unwrap();
    mine.put("job/7", "ana", first).await.unwrap();
}

#[tokio::test]
async fn what_a_client_owns_and_what_has_its_time_ends_without_it() {
    let world = World::new().await;
    let (_ana, here) = world.client("ana").await;
    let mut map = here.live_map("#").await.unwrap();
    let (bo, theirs) = world.client("bo").await;
    theirs
        .put("worker", "bo", Put::new().owned())
        .await
        .unwrap();
    theirs.put("said", "hello", Put::new()).await.unwrap();
    let brief = Put::new().ttl(Duration::from_millis(20));
    theirs.put("beat", "1", brief).await.unwrap();
    for expected in ["worker = bo", "said = hello", "beat = 1", "beat is gone"] {
        assert_eq!(change(&mut map).await, expected);
    }
    bo.close().await.unwrap();
    assert_eq!(change(&mut map).await, "worker is gone");
    assert_eq!(contents(&map), [("said", "hello")]);
}

#[tokio::test]
async fn a_map_whose_session_is_gone_tells_what_is_different_now() {
    let world = World::new().await;
    let (_ana, here) = world.client("ana").await;
    let (_bo, theirs) = world.client("bo").await;
    for topic in ["a", "b"] {
        theirs.put(topic, "1", Put::new()).await.unwrap();
    }
    let mut map = here.live_map("#").await.unwrap();
    let world = world.starts_anew().await;
    // Offsets begin anew as well: these are not what the map knows.
    theirs.put("b", "2", Put::new()).await.unwrap();
    theirs.put("c", "3", Put::new()).await.unwrap();
    let mut left = vec!["a is gone", "b = 2", "c = 3"];
    while !left.is_empty() {
        let seen = change(&mut map).await;
        // If the map was the first to come back, it sees that there is nothing.
        if seen != "b is gone" {
            assert!(left.contains(&seen.as_str()), "{seen}");
            left.retain(|expected| *expected != seen);
        }
    }
    assert_eq!(contents(&map), [("b", "2"), ("c", "3")]);
    drop(world);
}

#[tokio::test]
async fn a_map_ends_with_its_client() {
    let world = World::new().await;
    let (ana, here) = world.client("ana").await;
    let mut map = here.live_map("#").await.unwrap();
    ana.close().await.unwrap();
    assert!(matches!(map.changed().await, Err(Error::Closed { .. })));
}

// A value that is too large is the caller's mistake; the client has others to serve.
#[tokio::test]
async fn a_value_or_will_that_is_too_large_is_refused_and_nothing_else() {
    let world = World::new().await;
    let (ana, here) = world.client("ana").await;
    here.put("mine", "kept", Put::new().owned()).await.unwrap();
    let large = vec![0_u8; ana.limits().payload_bytes as usize + 100_000];
    let put = here.put("a", large.clone(), Put::new()).await;
    assert!(matches!(put, Err(Error::PayloadTooLarge { .. })), "{put:?}");
    let will = here.set_will("a", Will::publish(large)).await;
    assert!(
        matches!(will, Err(Error::PayloadTooLarge { .. })),
        "{will:?}"
    );
    let after = here.put("b", "1", Put::new()).await;
    assert!(after.is_ok(), "the client is as before: {after:?}");
    assert_eq!(here.snapshot("#").await.unwrap().values.len(), 2);
}

// The streams of one filter share a subscription, and so a policy.
#[tokio::test]
async fn a_live_map_has_every_value_whatever_other_streams_of_its_filter_give_up() {
    let world = World::new().await;
    let (_ana, there) = world.client("ana").await;
    let (bo, here) = world.client("bo").await;
    let mut map = here.live_map("#").await.unwrap();
    let latest = Subscribe::new().policy(Policy::Latest);
    let _screen = here.subscribe_with("#", latest).await.unwrap();
    // The messages reach the broker together, and so wait together.
    for n in 0..1_000 {
        let text = format!("value {n}");
        there.retain("a", text).await.unwrap();
        there.publish("a", "said, not kept").await.unwrap();
    }
    there.client().flush().await.unwrap();
    there.put("z", "end", Put::new()).await.unwrap();
    while change(&mut map).await != "z = end" {}
    bo.flush().await.unwrap();
    assert_eq!(contents(&map), [("a", "value 999"), ("z", "end")]);
}

// `changed` may stand in a `select!`: what it has asked for once it does not ask for again at every turn of it.
#[tokio::test]
async fn a_live_map_that_is_dropped_and_asked_again_asks_the_broker_once() {
    let world = World::new().await;
    let (_ana, there) = world.client("ana").await;
    let options = Options::new().endpoint(world.broker.endpoint().clone());
    let bo = options.name("bo").inbox_messages(4);
    let bo = bo.connect().await.unwrap();
    let here = bo.join("kiosk").await.unwrap();
    let mut map = here.live_map("#").await.unwrap();
    for n in 0..100 {
        there.put("a", n.to_string(), Put::new()).await.unwrap();
    }
    bo.flush().await.unwrap();
    // Some of that is lost, so the map has to ask; and the broker is away for a second.
    let world = {
        let World {
            broker,
            config,
            directory,
        } = world;
        broker.stop().await;
        for _ in 0..300 {
            let _ = tokio::time::timeout(Duration::from_millis(1), map.changed()).await;
        }
        World {
            broker: Broker::start(&config).await.unwrap(),
            config,
            directory,
        }
    };
    // What it asks is carried out in the order in which it asks.
    while bo.flush().await.is_err() {}
    let status = world.broker.hub().status(Duration::from_secs(1));
    assert!(
        status.messages_in < 50,
        "{} messages of two idle clients",
        status.messages_in
    );
}
