//! Lost connections and resumes: section 14, and gaps: section 15.

use super::*;

#[test]
fn whoever_comes_back_gets_what_it_missed_once_and_in_order() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.subscribes(kiosk, "#");
    bo.hears();
    ana.publishes(kiosk, "a", "heard");
    assert_eq!(payloads(&bo.hears()), ["heard"]);
    ana.publishes(kiosk, "a", "on the way");
    bo.listens();
    bo.loses_connection(&world);
    ana.publishes(kiosk, "a", "missed");
    ana.broadcasts(kiosk, "missed too");
    ana.sends_to(Target::Name("bo"), "and this");

    let resumed = bo.comes_back(&mut world);

    assert_eq!(
        resumed,
        Resumed {
            recovered: true,
            replayed: 3,
            lost: Some(0)
        }
    );
    assert_eq!(
        payloads(&bo.hears()),
        ["on the way", "missed", "missed too", "and this"]
    );
    assert_eq!(bo.hears(), []);
    world.hub.check();
}

#[test]
fn what_was_written_but_never_arrived_is_sent_again() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.hears();
    for n in 0..10 {
        ana.broadcasts(kiosk, &n.to_string());
    }
    let heard = bo.heard;
    bo.listens();
    bo.heard = heard + 4;
    bo.loses_connection(&world);
    bo.hears();
    bo.comes_back(&mut world);
    assert_eq!(payloads(&bo.hears()), ["4", "5", "6", "7", "8", "9"]);
    world.hub.check();
}

#[test]
fn a_run_is_cut_where_the_client_stopped_hearing() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.subscribes(kiosk, "#");
    bo.hears();
    let mut wire = Vec::new();
    for n in 0..6_u8 {
        publish(kiosk, &[b'0' + n]).encode(&mut wire);
    }
    ana.sends(&wire).unwrap();
    let heard = bo.heard;
    bo.listens();
    bo.heard = heard + 2;
    bo.hears();
    bo.loses_connection(&world);
    bo.comes_back(&mut world);
    let offsets: Vec<_> = bo
        .hears()
        .into_iter()
        .map(|seen| match seen {
            Seen::Channel(_, _, offset, _, payload) => (offset, payload[0]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, [(3, b'2'), (4, b'3'), (5, b'4'), (6, b'5')]);
    world.hub.check();
}

#[test]
fn what_the_hub_has_of_the_client_is_told() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    ana.publishes(kiosk, "a", "1");
    ana.publishes(kiosk, "a", "2");
    ana.loses_connection(&world);
    ana.comes_back(&mut world);
    assert_eq!(ana.confirmed, 3, "a join and two publishes");
}

#[test]
fn beyond_the_window_the_number_lost_is_exact_and_in_its_place() {
    let mut world = World::new(|settings| settings.limits.outbox_messages = 4);
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.hears();
    bo.loses_connection(&world);
    for n in 0..10 {
        ana.broadcasts(kiosk, &n.to_string());
    }
    let resumed = bo.comes_back(&mut world);
    assert!(!resumed.recovered);
    let seen = bo.hears();
    let lost: u64 = gaps(&seen).iter().map(|gap| gap.lost).sum();
    assert_eq!(Some(lost), resumed.lost);
    assert!(matches!(seen[0], Seen::Gap(_)), "the oldest are lost");
    assert_eq!(lost + payloads(&seen).len() as u64, 10);
    assert_eq!(payloads(&seen).last().unwrap(), "9");
    world.hub.check();
}

#[test]
fn a_client_that_does_not_read_loses_its_oldest_and_is_told() {
    let mut world = World::new(|settings| settings.limits.outbox_messages = 5);
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.hears();
    for n in 0..100 {
        ana.broadcasts(kiosk, &n.to_string());
        world.hub.check();
    }
    ana.sends_to(Target::Id(bo.id), "direct");
    let seen = bo.hears();
    let lost: u64 = gaps(&seen).iter().map(|gap| gap.lost).sum();
    assert_eq!(gaps(&seen).len(), 1, "one gap, however many were lost");
    assert_eq!(gaps(&seen)[0].channel, Some(kiosk));
    assert_eq!(
        lost + payloads(&seen).len() as u64,
        100,
        "the direct message was refused"
    );
    ana.broadcasts(kiosk, "after");
    assert_eq!(payloads(&bo.hears()), ["after"]);
}

#[test]
fn a_token_is_good_once_and_for_one_user() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let stolen = ana.resume();
    ana.loses_connection(&world);
    ana.comes_back(&mut world);
    ana.says(&ClientFrame::Ack { received: 0 });
    let mut thief = world.client("thief");
    assert_eq!(
        thief
            .tries_to_come_back(&mut world, stolen)
            .unwrap_err()
            .code,
        Code::BAD_TOKEN,
        "the token was rotated"
    );
    let mut wrong = ana.resume();
    wrong.token.0[5] ^= 1;
    assert_eq!(
        thief
            .tries_to_come_back(&mut world, wrong)
            .unwrap_err()
            .code,
        Code::BAD_TOKEN
    );
    ana.says(&ClientFrame::Ack {
        received: ana.heard,
    });
}

#[test]
fn a_welcome_that_never_arrived_costs_nothing() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    ana.loses_connection(&world);
    let resume = ana.resume();
    ana.tries_to_come_back(&mut world, resume.clone()).unwrap();
    ana.loses_connection(&world);
    ana.tries_to_come_back(&mut world, resume.clone()).unwrap();
    ana.listens();
    assert!(
        ana.resumed.unwrap().recovered,
        "the token before is good until the next is known"
    );
    ana.says(&ClientFrame::Ack { received: 0 });
    let mut thief = world.client("thief");
    let error = thief.tries_to_come_back(&mut world, resume).unwrap_err();
    assert_eq!(error.code, Code::BAD_TOKEN, "and not any longer");
}

#[test]
fn a_newer_connection_fences_the_older() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    bo.hears();
    let resume = ana.resume();
    let mut newer = world.client("newer");
    newer.tries_to_come_back(&mut world, resume).unwrap();
    let frame = publish(kiosk, b"from the grave");
    assert_eq!(ana.tries(&frame).unwrap_err().code, Code::SUPERSEDED);
    assert_eq!(ana.peer.as_ref().unwrap().closing(), Some(Code::SUPERSEDED));
    bo.broadcasts(kiosk, "live");
    ana.listens();
    assert_eq!(ana.hears(), [], "the fenced connection is given nothing");
    ana.loses_connection(&world);
    newer.listens();
    assert_eq!(payloads(&newer.hears()), ["live"]);
    world.hub.check();
}

#[test]
fn a_session_that_is_over_is_not_resumed_but_replaced() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let kiosk = ana.joins("kiosk");
    let before = ana.id;
    ana.loses_connection(&world);
    world.pass(Duration::from_secs(121));
    let resumed = ana.comes_back(&mut world);
    assert_eq!(
        resumed,
        Resumed {
            recovered: false,
            replayed: 0,
            lost: None
        }
    );
    assert_ne!(ana.id, before);
    ana.publishes(kiosk, "a", "1");
    assert_eq!(refusals(&ana.hears()).len(), 1, "it has to join again");
    world.hub.check();
}

#[test]
fn a_goodbye_ends_the_session_at_once() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    ana.joins("kiosk");
    let resume = ana.resume();
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    assert_eq!(world.hub.status(world.now).parked, 0);
    let mut other = world.client("other");
    other.tries_to_come_back(&mut world, resume).unwrap();
    other.listens();
    assert_eq!(other.resumed.unwrap().lost, None);
    world.hub.check();
}

#[test]
fn a_name_has_one_holder_but_an_absent_one_gives_way() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let user = world.user(1_000);
    let error = world.try_client(Some("ana"), user.clone()).unwrap_err();
    assert_eq!(
        (error.code, &*error.detail),
        (Code::NAME_TAKEN, "held by process 1")
    );
    ana.loses_connection(&world);
    let second = world.try_client(Some("ana"), user.clone()).unwrap();
    assert_ne!(second.id, ana.id);
    assert_eq!(world.hub.status(world.now).parked, 0);
    let error = world.try_client(Some("Ana!"), user.clone()).unwrap_err();
    assert_eq!(error.code, Code::BAD_CLIENT_NAME);
    for name in ["hub", "17"] {
        let error = world.try_client(Some(name), user.clone()).unwrap_err();
        assert_eq!(error.code, Code::BAD_CLIENT_NAME);
    }
    let nameless = world.try_client(None, user).unwrap();
    assert_eq!(nameless.name, format!("client-{}", nameless.id));
    world.hub.check();
}

#[test]
fn a_position_that_was_never_sent_closes_the_connection() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let error = ana.tries(&ClientFrame::Ack { received: 1 }).unwrap_err();
    assert_eq!(error.code, Code::BAD_POSITION);
    let mut bo = world.client("bo");
    let mut resume = bo.resume();
    bo.loses_connection(&world);
    resume.received = 1_000;
    let error = bo.tries_to_come_back(&mut world, resume).unwrap_err();
    assert_eq!(error.code, Code::BAD_POSITION);
}

#[test]
fn there_may_be_so_many_sessions_and_no_more() {
    let mut world = World::new(|settings| settings.sessions = 2);
    let _ana = world.client("ana");
    let _bo = world.client("bo");
    let user = world.user(1_000);
    let error = world.try_client(Some("cy"), user).unwrap_err();
    assert_eq!(error.code, Code::TOO_MANY_CONNECTIONS);
}
