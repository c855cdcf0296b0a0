//! Members that are lost: what the others are told, and the wills that they leave. Rules 10.4 and 10.10 to 10.12.

use localhub_protocol::limits::WILLS_MAX;
use localhub_protocol::{ChannelId, ChannelSettings, Policy, Start, Will};

use super::*;

/// What is told of others' presence: name, change, cause.
fn told(puppet: &mut Puppet) -> Vec<String> {
    let seen = puppet.hears();
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Presence(_, change, cause, name, _) => {
                let cause = cause.map_or("-", Code::name);
                Some(format!("{name} {change:?} {cause}"))
            }
            _ => None,
        })
        .collect()
}

/// A watcher that also subscribes to everything, and a member.
fn pair(world: &mut World) -> (Puppet, Puppet, ChannelId) {
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let kiosk = ana.joins("kiosk");
    bo.joins("kiosk");
    ana.watches(kiosk);
    ana.subscribes(kiosk, "#");
    ana.hears();
    (ana, bo, kiosk)
}

fn leaves(puppet: &mut Puppet, channel: ChannelId, topic: &str, delay_ms: u32, payload: &[u8]) {
    let request = puppet.says(&ClientFrame::WillSet {
        channel,
        will: Will {
            delay_ms,
            retain: Retain::No,
            content: ContentType::TEXT,
            topic,
            payload,
        },
    });
    assert_eq!(puppet.hears(), [Seen::Done(request)]);
}

#[test]
fn why_a_member_left_is_told() {
    type End<'a> = &'a dyn Fn(&mut World, &mut Puppet);
    let ends: [(&str, End<'_>); 6] = [
        ("goodbye", &|world, bo| {
            bo.departs(world, Departure::Final(Code::GOODBYE));
        }),
        ("process_died", &|world, bo| {
            bo.departs(world, Departure::Final(Code::PROCESS_DIED));
        }),
        ("kicked", &|world, bo| {
            let mut wakes = localhub::hub::Wakes::default();
            world.hub.end(bo.id, Code::KICKED, world.now, &mut wakes);
        }),
        ("malformed_frame", &|world, bo| {
            bo.departs(world, Departure::Final(Code::MALFORMED_FRAME));
        }),
        ("session_expired", &|world, bo| {
            bo.departs(world, Departure::Lost(Code::PING_TIMEOUT));
            world.pass(Duration::from_secs(120));
        }),
        ("name_taken", &|world, bo| {
            bo.loses_connection(world);
            world.client("bo");
        }),
    ];
    for (cause, end) in ends {
        let mut world = World::default();
        let (mut ana, mut bo, _) = pair(&mut world);
        end(&mut world, &mut bo);
        let told = told(&mut ana);
        assert_eq!(told.last(), Some(&format!("bo Left {cause}")), "{told:?}");
    }
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    bo.departs(&world, Departure::Lost(Code::PING_TIMEOUT));
    bo.comes_back(&mut world);
    bo.says(&ClientFrame::Leave { channel: kiosk });
    assert_eq!(
        told(&mut ana),
        ["bo Away ping_timeout", "bo Back -", "bo Left goodbye"]
    );
}

#[test]
fn a_member_that_does_not_answer_is_told_to_have_stalled() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    bo.is_looked_at(true);
    bo.is_looked_at(true);
    assert_eq!(told(&mut ana), ["bo Stalled -"]);
    ana.watches(kiosk);
    let seen = ana.hears();
    assert!(
        matches!(&seen[..], [Seen::Members(.., members)] if members[1].1 == Status::Stalled),
        "{seen:?}"
    );
    bo.is_looked_at(false);
    assert_eq!(told(&mut ana), ["bo Back -"]);
    // Who is lost while it does not answer is away, and then back.
    bo.is_looked_at(true);
    bo.loses_connection(&world);
    bo.comes_back(&mut world);
    assert_eq!(
        told(&mut ana),
        ["bo Stalled -", "bo Away connection_lost", "bo Back -"]
    );
}

#[test]
fn a_connection_that_comes_back_soon_is_not_worth_a_word() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    let settings = ChannelSettings {
        debounce_ms: 2_000,
        ..ChannelSettings::default()
    };
    ana.says(&ClientFrame::ChannelSet {
        channel: kiosk,
        settings,
    });
    for _ in 0..3 {
        bo.loses_connection(&world);
        world.pass(Duration::from_millis(1_999));
        bo.comes_back(&mut world);
        world.pass(Duration::from_secs(10));
    }
    assert_eq!(told(&mut ana), [""; 0]);
    bo.loses_connection(&world);
    ana.watches(kiosk);
    let seen = ana.hears();
    assert!(
        matches!(&seen[..], [Seen::Members(.., members)] if members[1].1 == Status::Online),
        "listed as it was: {seen:?}"
    );
    world.pass(Duration::from_secs(2));
    assert_eq!(told(&mut ana), ["bo Away connection_lost"]);
    world.hub.check();
    bo.comes_back(&mut world);
    assert_eq!(told(&mut ana), ["bo Back -"]);
    // Who leaves for good has left, at once.
    bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
    assert_eq!(told(&mut ana), ["bo Left process_died"]);
}

#[test]
fn a_will_is_published_when_its_client_is_lost_for_so_long() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    leaves(&mut bo, kiosk, "state", 5_000, b"gone");
    bo.loses_connection(&world);
    world.pass(Duration::from_millis(4_999));
    bo.comes_back(&mut world);
    world.pass(Duration::from_secs(60));
    assert_eq!(payloads(&ana.hears()), [""; 0], "it came back in time");
    // The will stays for the next time.
    for _ in 0..2 {
        bo.loses_connection(&world);
        world.pass(Duration::from_secs(5));
        let seen = ana.hears();
        assert_eq!(payloads(&seen), ["gone"]);
        assert!(
            seen.iter()
                .any(|seen| matches!(seen, Seen::Channel(_, sender, ..) if *sender == bo.id)),
            "as if the client had published it"
        );
        bo.comes_back(&mut world);
        ana.hears();
        world.hub.check();
    }
}

#[test]
fn a_will_is_published_before_its_client_leaves_and_once() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    leaves(&mut bo, kiosk, "now", 0, b"at once");
    leaves(&mut bo, kiosk, "later", 60_000, b"later");
    leaves(&mut bo, kiosk, "never", 600_000, b"at the end");
    bo.departs(&world, Departure::Lost(Code::CONNECTION_LOST));
    world.pass(Duration::ZERO);
    assert_eq!(payloads(&ana.hears()), ["at once"]);
    world.pass(Duration::from_secs(60));
    assert_eq!(payloads(&ana.hears()), ["later"]);
    world.pass(Duration::from_secs(60));
    let seen = ana.hears();
    assert_eq!(payloads(&seen), ["at the end"], "the session is over");
    assert!(
        matches!(seen.last(), Some(Seen::Presence(_, Change::Left, ..))),
        "{seen:?}"
    );
    world.hub.check();
}

#[test]
fn only_a_goodbye_takes_the_wills_along() {
    for (cause, published) in [
        (Code::GOODBYE, false),
        (Code::PROCESS_DIED, true),
        (Code::MALFORMED_FRAME, true),
        (Code::KICKED, true),
    ] {
        let mut world = World::default();
        let (mut ana, mut bo, kiosk) = pair(&mut world);
        leaves(&mut bo, kiosk, "state", 5_000, b"gone");
        bo.departs(&world, Departure::Final(cause));
        assert_eq!(payloads(&ana.hears()) == ["gone"], published, "{cause:?}");
        world.hub.check();
    }
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    leaves(&mut bo, kiosk, "state", 0, b"gone");
    bo.says(&ClientFrame::Leave { channel: kiosk });
    bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
    assert_eq!(payloads(&ana.hears()), [""; 0], "it had left before");
}

#[test]
fn a_will_can_clear_a_value_and_be_taken_back() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    bo.publishes_as(kiosk, "job", Retain::Set, b"7");
    bo.says(&ClientFrame::WillSet {
        channel: kiosk,
        will: Will {
            delay_ms: 0,
            retain: Retain::Clear,
            content: ContentType::BYTES,
            topic: "job",
            payload: b"",
        },
    });
    bo.hears();
    leaves(&mut bo, kiosk, "state", 0, b"first");
    leaves(&mut bo, kiosk, "state", 0, b"second");
    leaves(&mut bo, kiosk, "other", 0, b"taken back");
    bo.says(&ClientFrame::WillClear {
        channel: kiosk,
        topic: "other",
    });
    bo.says(&ClientFrame::WillClear {
        channel: kiosk,
        topic: "nothing",
    });
    ana.hears();
    bo.departs(&world, Departure::Final(Code::PROCESS_DIED));
    assert_eq!(payloads(&ana.hears()), ["", "second"]);
    let request = ana.subscribes_with(kiosk, "#", Start::Retained, Policy::DropOldest);
    assert!(
        matches!(ana.hears()[..], [Seen::Values(of, _, 0, _)] if of == request),
        "the value is cleared"
    );
}

#[test]
fn wills_have_limits_and_rules_as_messages_have() {
    let mut world = World::new(|settings| settings.memory_bytes = 100_000);
    let (_ana, mut bo, kiosk) = pair(&mut world);
    let mut refused = |channel, topic: &str, payload: &[u8]| {
        bo.says(&ClientFrame::WillSet {
            channel,
            will: Will {
                delay_ms: 0,
                retain: Retain::No,
                content: ContentType::BYTES,
                topic,
                payload,
            },
        });
        refusals(&bo.hears()).first().map(|(_, code)| *code)
    };
    assert_eq!(refused(ChannelId(99), "a", b""), Some(Code::NOT_A_MEMBER));
    assert_eq!(refused(kiosk, "a/+", b""), Some(Code::BAD_TOPIC));
    assert_eq!(
        refused(kiosk, "a", &[0; 100_000]),
        Some(Code::LIMIT_REACHED),
        "the broker's memory"
    );
    for n in 0..WILLS_MAX {
        assert_eq!(refused(kiosk, &format!("t{n}"), b"x"), None);
    }
    assert_eq!(refused(kiosk, "one more", b"x"), Some(Code::LIMIT_REACHED));
    world.hub.check();
}

#[test]
fn a_broker_that_stops_publishes_no_wills() {
    let mut world = World::default();
    let (mut ana, mut bo, kiosk) = pair(&mut world);
    leaves(&mut bo, kiosk, "state", 0, b"gone");
    let mut wakes = localhub::hub::Wakes::default();
    world.hub.stop(&mut wakes);
    bo.departs(&world, Departure::Final(Code::SHUTTING_DOWN));
    ana.listens();
    assert_eq!(payloads(&ana.hears()), [""; 0]);
}

#[test]
fn who_shows_wrong_tokens_has_to_wait_and_nobody_else() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let mut thief = world.client("thief");
    let mut guess = ana.resume();
    guess.token.0 = [9; 32];
    let mut stranger = world.user(1_000);
    stranger.pid = Some(4_711);
    let mut last = String::new();
    for _ in 0..10 {
        let refused = thief.tries_as(&mut world, guess.clone(), stranger.clone());
        let close = refused.unwrap_err();
        assert_eq!(close.code, Code::BAD_TOKEN);
        last = close.detail;
    }
    assert!(last.contains("wait 60 s"), "{last}");
    ana.loses_connection(&world);
    assert!(ana.comes_back(&mut world).recovered, "another process");
    world.pass(Duration::from_secs(60));
    let close = thief.tries_as(&mut world, guess, stranger).unwrap_err();
    assert!(close.detail.contains("of ana"), "{}", close.detail);
}
