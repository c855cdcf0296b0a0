//! Admin requests: section 13.

use super::*;

pub(super) fn ask(puppet: &mut Puppet, method: &str, arguments: &[u8]) -> (Option<Code>, Vec<u8>) {
    let request = puppet.says(&ClientFrame::Message(Message::Request {
        to: Target::Id(ClientId::HUB),
        deadline_ms: 1_000,
        command: None,
        window: 0,
        method,
        content: ContentType::CBOR,
        payload: arguments,
    }));
    puppet
        .hears()
        .into_iter()
        .find_map(|seen| match seen {
            Seen::Reply(_, of, error, payload) if of == request => Some((error, payload)),
            _ => None,
        })
        .expect("a reply")
}

#[test]
fn the_clients_are_listed_by_the_page() {
    let mut world = World::default();
    let mut puppets: Vec<_> = (0..5).map(|n| world.client(&format!("p{n}"))).collect();
    let kiosk = puppets[3].joins("kiosk");
    puppets[3].subscribes(kiosk, "#");
    let mut op = world.client("op");
    let page = admin::Page {
        after: None,
        limit: Some(4),
    };
    let (error, answer) = ask(&mut op, admin::CLIENTS, &admin::encode(&page));
    assert_eq!(error, None);
    let first: admin::Clients = admin::decode(&answer).unwrap();
    assert!(first.more);
    let names: Vec<_> = first
        .clients
        .iter()
        .map(|client| client.name.as_str())
        .collect();
    assert_eq!(names, ["p0", "p1", "p2", "p3"]);
    assert_eq!(first.clients[3].channels, ["kiosk"]);
    assert_eq!(first.clients[3].subscriptions, 1);
    let page = admin::Page {
        after: Some(first.clients[3].id.to_string()),
        limit: None,
    };
    let (_, answer) = ask(&mut op, admin::CLIENTS, &admin::encode(&page));
    let second: admin::Clients = admin::decode(&answer).unwrap();
    assert!(!second.more);
    assert_eq!(second.clients.len(), 2);
}

#[test]
fn a_kick_ends_the_session_and_tells_the_client() {
    let mut world = World::default();
    let (mut ana, mut op) = (world.client("ana"), world.client("op"));
    let kiosk = op.joins("kiosk");
    ana.joins("kiosk");
    op.watches(kiosk);
    op.hears();
    let named = admin::encode(&admin::Named { name: "ana".into() });
    let (error, answer) = ask(&mut op, admin::KICK, &named);
    assert_eq!(error, None);
    let view: admin::ClientView = admin::decode(&answer).unwrap();
    assert_eq!(view.id, ana.id);
    let peer = ana.peer.as_ref().unwrap();
    assert_eq!(peer.closing(), Some(Code::KICKED));
    assert_eq!(
        ana.tries(&publish(kiosk, b"x")).unwrap_err().code,
        Code::KICKED
    );
    ana.departs(&world, Departure::Final(Code::GOODBYE));
    let (error, text) = ask(&mut op, admin::KICK, &named);
    assert_eq!(error, Some(Code::UNKNOWN_CLIENT));
    assert_eq!(text, b"no such client is connected");
    world.hub.check();
}

#[test]
fn the_last_ends_are_listed_the_newest_first() {
    let mut world = World::default();
    let mut op = world.client("op");
    for n in 0..3 {
        let mut puppet = world.client(&format!("p{n}"));
        puppet.peer.as_mut().unwrap().ends("goodbye", "");
        puppet.departs(&world, Departure::Final(Code::GOODBYE));
    }
    let mut away = world.client("away");
    away.peer.as_mut().unwrap().ends("lost", "");
    away.loses_connection(&world);
    let page = admin::Page {
        after: None,
        limit: None,
    };
    let (_, answer) = ask(&mut op, admin::SESSIONS, &admin::encode(&page));
    let sessions: admin::Sessions = admin::decode(&answer).unwrap();
    assert_eq!(sessions.sessions[0].client.name, "away");
    assert_eq!(sessions.sessions[0].expires_ms, 120_000);
    world.pass(Duration::from_secs(121));
    let page = admin::Page {
        after: None,
        limit: Some(3),
    };
    let (_, answer) = ask(&mut op, admin::CLOSED, &admin::encode(&page));
    let first: admin::Closed = admin::decode(&answer).unwrap();
    let seen = |page: &admin::Closed| -> Vec<_> {
        let end = |end: &admin::ClosedView| (end.name.clone().unwrap(), end.reason.clone());
        page.closed.iter().map(end).collect()
    };
    let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
    assert_eq!(
        seen(&first),
        [
            pair("away", "expired"),
            pair("away", "lost"),
            pair("p2", "goodbye")
        ]
    );
    assert!(first.more && first.closed[1].parked && !first.closed[0].parked);
    let after = Some(first.closed[2].number.to_string());
    let (_, answer) = ask(
        &mut op,
        admin::CLOSED,
        &admin::encode(&admin::Page { after, limit: None }),
    );
    let second: admin::Closed = admin::decode(&answer).unwrap();
    assert_eq!(
        seen(&second),
        [pair("p1", "goodbye"), pair("p0", "goodbye")]
    );
    assert!(!second.more);
}

#[test]
fn what_the_hub_does_not_know_is_refused() {
    let mut world = World::default();
    let mut op = world.client("op");
    assert_eq!(ask(&mut op, "dance", b"\xa0").0, Some(Code::BAD_REQUEST));
    assert_eq!(
        ask(&mut op, admin::CLIENT, b"\xff").0,
        Some(Code::BAD_REQUEST)
    );
    let named = admin::encode(&admin::Named {
        name: "nowhere".into(),
    });
    assert_eq!(
        ask(&mut op, admin::CHANNEL, &named).0,
        Some(Code::UNKNOWN_CHANNEL)
    );
}
