//! Retained values and snapshots: rules 8.8 to 8.13.

use super::*;

#[test]
fn a_subscriber_gets_the_last_values_and_then_what_is_live() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    ana.publishes_as(kiosk, "a", Retain::Set, b"1");
    ana.publishes_as(kiosk, "a", Retain::Set, b"2");
    ana.publishes_as(kiosk, "b", Retain::Set, b"3");
    ana.publishes_as(kiosk, "b", Retain::Clear, b"");
    ana.publishes_as(kiosk, "c/d", Retain::Set, b"5");
    bo.joins("kiosk");
    let request = bo.subscribes(kiosk, "#");
    ana.publishes_as(kiosk, "a", Retain::Set, b"6");
    let topic = |text: &str| Some(text.to_owned());
    assert_eq!(
        bo.hears(),
        [
            Seen::Values(request, 5, 2, 5),
            Seen::Retained(kiosk, ana.id, 2, topic("a"), b"2".to_vec()),
            Seen::Retained(kiosk, ana.id, 5, topic("c/d"), b"5".to_vec()),
            Seen::Channel(kiosk, ana.id, 6, topic("a"), b"6".to_vec()),
        ]
    );
    world.hub.check();
}

#[test]
fn values_outlive_the_members() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.publishes_as(kiosk, "a", Retain::Set, b"1");
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    let mut bo = world.client("bo");
    assert_eq!(bo.joins("kiosk"), kiosk, "the channel is still the same");
    let request = bo.says(&ClientFrame::Snapshot {
        channel: kiosk,
        filter: "a",
    });
    let seen = bo.hears();
    assert_eq!(seen[0], Seen::Values(request, 1, 1, 1));
    bo.publishes_as(kiosk, "a", Retain::Clear, b"");
    bo.says(&ClientFrame::Leave { channel: kiosk });
    assert_eq!(
        world.hub.status(world.now).channels,
        0,
        "nothing keeps it any more"
    );
}

#[test]
fn a_channel_keeps_no_more_than_it_may() {
    let mut world = World::new(|settings| {
        settings.retained_topics = 2;
        settings.retained_bytes = 10_000;
    });
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.publishes_as(kiosk, "a", Retain::Set, b"1");
    ana.publishes_as(kiosk, "b", Retain::Set, b"1");
    let third = ana.publishes_as(kiosk, "c", Retain::Set, b"1");
    let large = ana.publishes_as(kiosk, "a", Retain::Set, &[0; 10_000]);
    assert_eq!(
        refusals(&ana.hears()),
        [(third, Code::RETAINED_FULL), (large, Code::RETAINED_FULL)]
    );
    world.hub.check();
}
