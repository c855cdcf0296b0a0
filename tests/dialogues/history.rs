//! What a channel keeps of what was published: rules 8.10 to 8.18.

use localhub_protocol::{ChannelId, ChannelSettings, Policy, Start};

use super::*;

fn keeps(puppet: &mut Puppet, channel: ChannelId, messages: u64, age_secs: u32) {
    let settings = ChannelSettings {
        history_messages: messages,
        history_bytes: 1 << 20,
        history_age_ms: age_secs * 1_000,
        debounce_ms: 0,
    };
    let request = puppet.says(&ClientFrame::ChannelSet { channel, settings });
    assert_eq!(puppet.hears(), [Seen::Done(request)]);
}

/// What a new subscriber is told, and the payloads that follow at once.
fn begins(puppet: &mut Puppet, channel: ChannelId, start: Start) -> ((u64, u64), Vec<String>) {
    puppet.subscribes_with(channel, "#", start, Policy::DropOldest);
    let seen = puppet.hears();
    let Seen::Values(_, _, count, since) = seen[0] else {
        panic!("{seen:?}");
    };
    let follow: Vec<_> = seen[1..]
        .iter()
        .map(|seen| match seen {
            Seen::Retained(.., payload) => String::from_utf8_lossy(payload).into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        count,
        follow.len() as u64,
        "as many follow as were announced"
    );
    ((count, since), follow)
}

#[test]
fn a_newcomer_begins_with_the_last_messages_and_goes_on_without_a_seam() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    ana.publishes(kiosk, "n", "before the history");
    keeps(&mut ana, kiosk, 3, 60);
    for n in 1..=5 {
        ana.publishes(kiosk, "n", &n.to_string());
        ana.broadcasts(kiosk, "not kept");
    }
    bo.joins("kiosk");
    let (told, follow) = begins(&mut bo, kiosk, Start::Last(2));
    // The offsets of 1 to 5 are 2, 4, .. 10.
    assert_eq!((told, follow), ((2, 7), vec!["4".into(), "5".into()]));
    ana.publishes(kiosk, "n", "6");
    assert_eq!(payloads(&bo.hears()), ["6"]);
    world.hub.check();
}

#[test]
fn whoever_knows_an_offset_gets_what_came_after_it_or_is_told_that_it_misses_something() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    keeps(&mut ana, kiosk, 3, 60);
    for n in 1..=5 {
        ana.publishes(kiosk, "n", &n.to_string());
    }
    bo.joins("kiosk");
    assert_eq!(
        begins(&mut bo, kiosk, Start::After(3)),
        ((2, 3), vec!["4".into(), "5".into()])
    );
    let all = vec!["3".into(), "4".into(), "5".into()];
    assert_eq!(
        begins(&mut bo, kiosk, Start::After(1)),
        ((3, 2), all),
        "2 is not kept any more"
    );
    assert_eq!(begins(&mut bo, kiosk, Start::After(5)), ((0, 5), vec![]));
    let request = bo.subscribes_with(kiosk, "#", Start::After(6), Policy::DropOldest);
    assert_eq!(refusals(&bo.hears()), [(request, Code::UNKNOWN_OFFSET)]);
}

#[test]
fn a_channel_without_a_history_says_so() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.publishes(kiosk, "n", "1");
    assert_eq!(begins(&mut ana, kiosk, Start::Last(9)), ((0, 1), vec![]));
    assert_eq!(begins(&mut ana, kiosk, Start::After(0)), ((0, 1), vec![]));
    keeps(&mut ana, kiosk, 3, 60);
    ana.publishes(kiosk, "n", "2");
    ana.hears();
    keeps(&mut ana, kiosk, 0, 0);
    assert_eq!(begins(&mut ana, kiosk, Start::Last(9)), ((0, 2), vec![]));
}

#[test]
fn a_history_outlives_the_members_and_ends_with_its_age() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    keeps(&mut ana, kiosk, 3, 60);
    ana.publishes(kiosk, "n", "1");
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    world.pass(Duration::from_secs(59));
    assert_eq!(bo.joins("kiosk"), kiosk, "the channel is still there");
    assert_eq!(
        begins(&mut bo, kiosk, Start::Last(9)),
        ((1, 0), vec!["1".into()])
    );
    bo.says(&ClientFrame::Leave { channel: kiosk });
    world.hub.check();
    world.pass(Duration::from_secs(1));
    assert_ne!(bo.joins("kiosk"), kiosk, "and now it is a new one");
    world.hub.check();
}

#[test]
fn a_server_is_told_when_a_history_without_members_ends() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    keeps(&mut ana, kiosk, 3, 60);
    ana.publishes(kiosk, "n", "1");
    assert!(!ana.rings());
    ana.says(&ClientFrame::Leave { channel: kiosk });
    assert!(ana.rings());
    let next = world.hub.expire(world.now, &mut Default::default());
    assert_eq!(next, Some(Duration::from_secs(60)));
}

#[test]
fn a_channel_keeps_no_more_than_the_broker_allows() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    let most = world.hub.settings().history_messages;
    let settings = ChannelSettings {
        history_messages: most + 1,
        ..ChannelSettings::default()
    };
    let request = ana.says(&ClientFrame::ChannelSet {
        channel: kiosk,
        settings,
    });
    let seen = ana.hears();
    assert_eq!(refusals(&seen), [(request, Code::LIMIT_REACHED)]);
    let Seen::Refusal(_, _, detail) = &seen[0] else {
        panic!("{seen:?}");
    };
    assert!(
        detail.contains("history") && detail.contains(&most.to_string()),
        "{detail}"
    );
}
