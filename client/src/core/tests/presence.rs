//! Who is in a channel.

use localhub_protocol::Change;

use super::*;

fn member(id: u64, name: &str) -> Member<'_> {
    Member {
        client: ClientId(id),
        name,
        status: Status::Online,
        state: &[],
    }
}

fn changed(revision: u64, change: Change, member: Member<'_>) -> BrokerFrame<'_> {
    BrokerFrame::Presence {
        channel: KIOSK,
        revision,
        change,
        cause: None,
        member,
    }
}

fn told<'a>(request: u64, revision: u64, members: &[Member<'a>]) -> BrokerFrame<'a> {
    let (more, members) = (false, members.to_vec());
    BrokerFrame::Members {
        request,
        channel: KIOSK,
        revision,
        more,
        members,
    }
}

impl World {
    fn names(&mut self, ticket: Ticket) -> Vec<String> {
        match self.outcome(ticket) {
            Some(Ok(Answer::Members(members))) => members
                .iter()
                .map(|member| member.name.to_string())
                .collect(),
            other => panic!("no members: {other:?}"),
        }
    }

    /// What a watcher finds, in words.
    fn sees(&mut self, watcher: StreamId) -> Vec<String> {
        let cx = &Context::from_waker(Waker::noop());
        match self.core.poll_watcher(watcher, cx) {
            Poll::Pending => vec![],
            Poll::Ready(Seen::End) => vec!["end".to_owned()],
            Poll::Ready(Seen::Events(events)) => events
                .iter()
                .map(|event| format!("{:?} {}", event.change, event.member.name))
                .collect(),
            Poll::Ready(Seen::Anew { members, .. }) => members
                .iter()
                .map(|member| format!("anew {}", member.name))
                .collect(),
        }
    }
}

#[test]
fn the_members_come_first_and_then_the_changes() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let (watcher, ticket) = world.core.members(room, true).unwrap();
    let watcher = watcher.unwrap();
    assert_eq!(world.says(), ["watch 7 true"]);
    world.hears(&[
        changed(4, Change::Joined, member(5, "bo")),
        BrokerFrame::Members {
            request: 2,
            channel: KIOSK,
            revision: 4,
            more: true,
            members: vec![member(1, "ana")],
        },
        told(2, 4, &[member(5, "bo")]),
    ]);
    assert_eq!(world.names(ticket), ["ana", "bo"]);
    assert_eq!(world.sees(watcher), ["anew ana", "anew bo"]);

    world.hears(&[
        changed(5, Change::Left, member(5, "bo")),
        changed(6, Change::Joined, member(6, "cy")),
    ]);
    assert_eq!(world.sees(watcher), ["Left bo", "Joined cy"]);
    assert_eq!(world.sees(watcher), [""; 0]);
}

#[test]
fn members_alone_are_watched_no_longer_than_it_takes() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let (_, ticket) = world.core.members(room, false).unwrap();
    assert_eq!(world.says(), ["watch 7 true"]);
    world.hears(&[told(2, 4, &[member(1, "ana")])]);
    assert_eq!(world.names(ticket), ["ana"]);
    assert_eq!(world.says(), ["watch 7 false"]);

    let (watcher, _) = world.core.members(room, true).unwrap();
    assert_eq!(world.says(), ["watch 7 true"]);
    world.hears(&[
        BrokerFrame::Done { request: 3 },
        told(4, 4, &[member(1, "ana")]),
    ]);
    let (_, ticket) = world.core.members(room, false).unwrap();
    assert_eq!(
        world.names(ticket),
        ["ana"],
        "a watched channel need not be asked about"
    );
    world.core.close_watcher(watcher.unwrap());
    assert_eq!(world.says(), ["watch 7 false"]);
}

#[test]
fn a_missing_change_has_the_members_told_anew() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let watcher = world.core.members(room, true).unwrap().0.unwrap();
    world.says();
    world.hears(&[told(2, 4, &[member(1, "ana")])]);
    world.sees(watcher);

    world.hears(&[changed(6, Change::Joined, member(6, "cy"))]);
    assert_eq!(world.sees(watcher), [""; 0]);
    assert_eq!(world.says(), ["watch 7 true"]);
    world.hears(&[
        changed(7, Change::Joined, member(7, "dee")),
        told(3, 7, &[member(6, "cy"), member(7, "dee")]),
    ]);
    assert_eq!(world.sees(watcher), ["anew cy", "anew dee"]);
}

#[test]
fn a_gap_has_the_members_told_anew() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let watcher = world.core.members(room, true).unwrap().0.unwrap();
    world.says();
    world.hears(&[told(2, 4, &[member(1, "ana")])]);
    world.sees(watcher);
    let lost = localhub_protocol::Gap {
        channel: Some(KIOSK),
        lost: 1,
        cause: Code::SLOW_CONSUMER,
    };
    world.hears(&[BrokerFrame::Gap(lost)]);
    assert_eq!(world.says(), ["watch 7 true"]);
}

#[test]
fn a_new_session_has_the_members_told_anew() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let watcher = world.core.members(room, true).unwrap().0.unwrap();
    world.says();
    world.hears(&[told(2, 4, &[member(1, "ana")])]);
    world.sees(watcher);

    world.loses_connection();
    world.starts_anew();
    world.says();
    world.hears(&[BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    }]);
    assert_eq!(world.says(), ["watch 7 true"]);
    world.hears(&[told(2, 1, &[member(2, "ana")])]);
    assert_eq!(world.sees(watcher), ["anew ana"]);
}

#[test]
fn a_watcher_that_does_not_read_finds_who_is_there() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let watcher = world.core.members(room, true).unwrap().0.unwrap();
    world.says();
    world.hears(&[told(2, 0, &[])]);
    world.sees(watcher);
    for revision in 1..=2_001 {
        let change = if revision % 2 == 1 {
            Change::Joined
        } else {
            Change::Left
        };
        world.hears(&[changed(revision, change, member(5, "bo"))]);
    }
    assert_eq!(world.sees(watcher), ["anew bo"]);
    world.hears(&[changed(2_002, Change::Left, member(5, "bo"))]);
    assert_eq!(world.sees(watcher), ["Left bo"]);
}

#[test]
fn leaving_ends_what_was_watched() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let watcher = world.core.members(room, true).unwrap().0.unwrap();
    world.says();
    world.hears(&[told(2, 0, &[])]);
    world.sees(watcher);
    world.core.leave(room).unwrap();
    assert_eq!(world.sees(watcher), ["end"]);
}
