//! Who is in a channel: rules 10.1 to 10.9.

use super::*;

#[test]
fn a_watcher_gets_the_members_and_then_every_change() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins_as("kiosk", false, b"\xa0");
    let request = ana.watches(kiosk);
    assert_eq!(
        ana.hears(),
        [Seen::Members(
            request,
            1,
            false,
            vec![("ana".into(), Status::Online)]
        )]
    );
    bo.joins_as("kiosk", false, b"\xa1\x61a\x01");
    bo.broadcasts(kiosk, "first");
    bo.says(&ClientFrame::PresenceSet {
        channel: kiosk,
        state: b"\xa0",
    });
    bo.says(&ClientFrame::PresenceSet {
        channel: kiosk,
        state: b"\xa0",
    });
    bo.says(&ClientFrame::Leave { channel: kiosk });
    let change = |revision, change, state: &[u8]| {
        let cause = (change == Change::Left).then_some(Code::GOODBYE);
        Seen::Presence(revision, change, cause, "bo".into(), state.to_vec())
    };
    assert_eq!(
        ana.hears(),
        [
            change(2, Change::Joined, b"\xa1\x61a\x01"),
            Seen::Channel(kiosk, bo.id, 1, None, b"first".to_vec()),
            change(3, Change::Updated, b"\xa0"),
            change(4, Change::Left, b"\xa0"),
        ],
        "the join before the joiner's first message, and no change where nothing changed"
    );
}

#[test]
fn a_lost_connection_shows_as_away_and_a_resume_as_back() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    ana.watches(kiosk);
    ana.hears();
    bo.loses_connection(&world);
    bo.comes_back(&mut world);
    bo.loses_connection(&world);
    world.pass(Duration::from_secs(121));
    let changes: Vec<_> = ana
        .hears()
        .into_iter()
        .map(|seen| match seen {
            Seen::Presence(_, change, ..) => change,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        changes,
        [Change::Away, Change::Back, Change::Away, Change::Left]
    );
    world.hub.check();
}

#[test]
fn a_hidden_member_hears_and_is_not_heard_of() {
    let mut world = World::default();
    let (mut ana, mut spy) = (world.client("ana"), world.client("spy"));
    let kiosk = ana.joins("kiosk");
    ana.watches(kiosk);
    ana.hears();
    spy.joins_as("kiosk", true, b"");
    ana.broadcasts(kiosk, "hello");
    assert_eq!(payloads(&spy.hears()), ["hello"]);
    spy.departs(&world, Departure::Final(Code::GOODBYE));
    assert_eq!(ana.hears(), []);
}

#[test]
fn many_members_come_in_pages() {
    let mut world = World::default();
    let puppets: Vec<Puppet> = (0..300)
        .map(|n| {
            let mut puppet = world.client(&format!("p{n}"));
            puppet.joins("kiosk");
            puppet
        })
        .collect();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.watches(kiosk);
    let pages: Vec<_> = ana
        .hears()
        .into_iter()
        .map(|seen| match seen {
            Seen::Members(_, _, more, members) => (more, members.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        pages,
        [
            (true, MEMBERS_PER_FRAME_MAX),
            (true, MEMBERS_PER_FRAME_MAX),
            (false, 45)
        ]
    );
    drop(puppets);
}
