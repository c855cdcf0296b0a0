//! What becomes of messages that are read too slowly: rules 15.2 to 15.8.

use std::ops::RangeInclusive;

use localhub::hub::Pace;
use localhub_protocol::{ChannelId, Policy, Start};

use super::*;

/// A publisher, and a subscriber under a policy whose outbox holds so many messages.
fn pair(world: &mut World, policy: Policy) -> (Puppet, Puppet, ChannelId) {
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.subscribes_with(kiosk, "#", Start::Live, policy);
    bo.hears();
    (ana, bo, kiosk)
}

fn publishes_numbers(puppet: &mut Puppet, channel: ChannelId, numbers: RangeInclusive<u32>) {
    for n in numbers {
        puppet.publishes(channel, "t", &n.to_string());
    }
}

fn world_of(outbox_messages: u64) -> World {
    World::new(|settings| settings.limits.outbox_messages = outbox_messages)
}

/// What was heard, each message as its payload and each gap as its number and cause.
fn heard(puppet: &mut Puppet) -> Vec<String> {
    let seen = puppet.hears();
    seen.iter()
        .map(|seen| match seen {
            Seen::Gap(gap) => format!("{} {}", gap.lost, gap.cause.name()),
            other => payloads(std::slice::from_ref(other)).join(""),
        })
        .collect()
}

#[test]
fn drop_oldest_keeps_what_is_new() {
    let mut world = world_of(3);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::DropOldest);
    publishes_numbers(&mut ana, kiosk, 1..=7);
    assert_eq!(heard(&mut bo), ["4 slow_consumer", "5", "6", "7"]);
}

#[test]
fn drop_newest_keeps_what_was_there_first() {
    let mut world = world_of(3);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::DropNewest);
    publishes_numbers(&mut ana, kiosk, 1..=7);
    assert_eq!(heard(&mut bo), ["1", "2", "3", "4 slow_consumer"]);
    ana.publishes(kiosk, "t", "8");
    assert_eq!(heard(&mut bo), ["8"]);
    world.hub.check();
}

#[test]
fn latest_has_one_message_of_each_topic_and_counts_the_others() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Latest);
    for (topic, payload) in [
        ("a", "a1"),
        ("b", "b1"),
        ("a", "a2"),
        ("c", "c1"),
        ("a", "a3"),
        ("b", "b2"),
    ] {
        ana.publishes(kiosk, topic, payload);
    }
    assert_eq!(
        heard(&mut bo),
        ["3 conflated", "c1", "a3", "b2"],
        "each gap stands where the message was"
    );
    // What is on its way is not taken back.
    ana.publishes(kiosk, "a", "a4");
    bo.listens();
    ana.publishes(kiosk, "a", "a5");
    assert_eq!(heard(&mut bo), ["a4", "a5"]);
    world.hub.check();
}

#[test]
fn a_run_of_one_topic_becomes_its_last_message() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Latest);
    let mut frames = Vec::new();
    for payload in ["1", "2", "3"] {
        publish(kiosk, payload.as_bytes()).encode(&mut frames);
    }
    ana.sends(&frames).unwrap();
    assert_eq!(heard(&mut bo), ["2 conflated", "3"]);
    world.hub.check();
}

#[test]
fn what_a_policy_left_out_is_no_loss_for_a_resume() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Latest);
    bo.loses_connection(&world);
    publishes_numbers(&mut ana, kiosk, 1..=5);
    let resumed = bo.comes_back(&mut world);
    assert_eq!(
        (resumed.recovered, resumed.replayed, resumed.lost),
        (true, 1, Some(0))
    );
    assert_eq!(heard(&mut bo), ["4 conflated", "5"]);
}

#[test]
fn of_several_subscriptions_the_policy_that_gives_up_least_counts() {
    let mut world = world_of(3);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Latest);
    bo.subscribes_with(kiosk, "a/+", Start::Live, Policy::DropNewest);
    bo.hears();
    for (topic, payload) in [
        ("b", "b1"),
        ("a/x", "a1"),
        ("b", "b2"),
        ("a/x", "a2"),
        ("a/x", "a3"),
    ] {
        ana.publishes(kiosk, topic, payload);
    }
    assert_eq!(
        heard(&mut bo),
        ["1 conflated", "a1", "b2", "a2", "1 slow_consumer"]
    );
}

#[test]
fn to_subscribe_again_sets_another_policy() {
    let mut world = world_of(3);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::DropOldest);
    bo.subscribes_with(kiosk, "#", Start::Live, Policy::DropNewest);
    bo.hears();
    publishes_numbers(&mut ana, kiosk, 1..=4);
    assert_eq!(heard(&mut bo), ["1", "2", "3", "1 slow_consumer"]);
}

#[test]
fn park_closes_the_connection_while_everything_can_still_be_sent_again() {
    let mut world = world_of(4);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Park);
    publishes_numbers(&mut ana, kiosk, 1..=3);
    bo.listens();
    bo.heard -= 3; // Written, and never arrived.
    publishes_numbers(&mut ana, kiosk, 4..=5);
    let peer = bo.peer.as_ref().expect("still connected");
    assert_eq!(peer.closing(), Some(Code::SLOW_CONSUMER));
    bo.departs(&world, Departure::Lost(Code::SLOW_CONSUMER));
    let resumed = bo.comes_back(&mut world);
    assert_eq!((resumed.recovered, resumed.lost), (false, Some(1)));
    world.hub.check();
}

#[test]
fn publishers_wait_longer_for_who_asks_for_it() {
    for (policy, patience_ms) in [(Policy::DropOldest, 100), (Policy::Block, 2_000)] {
        let mut world = World::new(|settings| settings.limits.outbox_bytes = 10_000);
        let (mut ana, mut bo, kiosk) = pair(&mut world, policy);
        let payload = "x".repeat(3_000);
        ana.publishes(kiosk, "t", &payload);
        assert!(ana.has_to_wait().is_zero());
        ana.publishes(kiosk, "t", &payload);
        let patience = Duration::from_millis(patience_ms);
        assert_eq!(ana.has_to_wait(), patience);
        ana.waits_in_vain(patience - Duration::from_millis(1));
        assert_eq!(ana.has_to_wait(), patience, "it goes on waiting");
        assert_eq!(bo.is_looked_at(false), None);
        ana.waits_in_vain(patience);
        assert!(ana.has_to_wait().is_zero());
        ana.publishes(kiosk, "t", &payload);
        assert!(ana.has_to_wait().is_zero(), "not again until there is room");
        assert!(matches!(bo.is_looked_at(false), Some(Pace::Stalled { .. })));
        bo.hears();
        assert!(matches!(
            bo.is_looked_at(false),
            Some(Pace::Recovered { lost: 0 })
        ));
        for _ in 1..=2 {
            ana.publishes(kiosk, "t", &payload);
        }
        assert_eq!(ana.has_to_wait(), patience);
    }
}

#[test]
fn nobody_waits_for_a_client_that_is_away() {
    let mut world = World::new(|settings| settings.limits.outbox_bytes = 4_000);
    let (mut ana, mut bo, kiosk) = pair(&mut world, Policy::Block);
    bo.loses_connection(&world);
    publishes_numbers(&mut ana, kiosk, 1..=30);
    assert!(ana.has_to_wait().is_zero());
    bo.comes_back(&mut world);
    publishes_numbers(&mut ana, kiosk, 31..=60);
    assert!(!ana.has_to_wait().is_zero());
    // It has to be let go when the client that it waits for is lost.
    bo.loses_connection(&world);
    assert!(!ana.is_held_up());
}

#[test]
fn nobody_waits_for_a_client_that_reads_nothing_unless_it_asked_for_that() {
    for (policy, waited) in [(Policy::DropOldest, false), (Policy::Block, true)] {
        let mut world = World::new(|settings| settings.limits.outbox_bytes = 4_000);
        let (mut ana, mut bo, kiosk) = pair(&mut world, policy);
        bo.stands_still();
        assert!(matches!(bo.is_looked_at(false), Some(Pace::Stalled { .. })));
        publishes_numbers(&mut ana, kiosk, 1..=30);
        assert_eq!(!ana.has_to_wait().is_zero(), waited, "{policy:?}");
        bo.hears();
        assert!(matches!(
            bo.is_looked_at(false),
            Some(Pace::Recovered { .. })
        ));
        publishes_numbers(&mut ana, kiosk, 31..=60);
        assert!(!ana.has_to_wait().is_zero(), "it reads again");
    }
}
