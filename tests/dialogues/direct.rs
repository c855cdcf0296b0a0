//! Messages to one client: section 11.

use super::*;

#[test]
fn a_message_finds_a_client_by_id_and_by_name() {
    let mut world = World::default();
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    let first = ana.sends_to(Target::Id(bo.id), "one");
    let second = ana.sends_to(Target::Name("bo"), "two");
    assert_eq!(
        bo.hears(),
        [
            Seen::Direct(ana.id, first, b"one".to_vec()),
            Seen::Direct(ana.id, second, b"two".to_vec()),
        ]
    );
    ana.sends_to(Target::Id(ana.id), "me");
    assert_eq!(payloads(&ana.hears()), ["me"]);
}

#[test]
fn nobody_there_is_told_at_once() {
    let mut world = World::default();
    let mut ana = world.client("ana");
    let requests = [
        ana.sends_to(Target::Id(ClientId(99)), "x"),
        ana.sends_to(Target::Name("nobody"), "x"),
        ana.sends_to(Target::Name("Not a Name"), "x"),
    ];
    let expected = requests.map(|request| (request, Code::UNKNOWN_CLIENT));
    assert_eq!(refusals(&ana.hears()), expected);
}

#[test]
fn a_full_outbox_refuses_the_sender_and_loses_nothing() {
    let mut world = World::new(|settings| settings.limits.outbox_messages = 3);
    let (mut ana, mut bo) = (world.client("ana"), world.client("bo"));
    for n in 1..=5 {
        ana.sends_to(Target::Id(bo.id), &n.to_string());
    }
    let codes: Vec<_> = refusals(&ana.hears())
        .into_iter()
        .map(|(_, code)| code)
        .collect();
    assert_eq!(codes, [Code::OUTBOX_FULL, Code::OUTBOX_FULL]);
    assert_eq!(payloads(&bo.hears()), ["1", "2", "3"]);
    ana.sends_to(Target::Id(bo.id), "6");
    assert_eq!(payloads(&bo.hears()), ["6"]);
}
