//! What becomes of requests whose answers were lost, or come when nobody wants them any more.

use super::*;

/// Lets messages be lost that nobody can name, and then be settled what that means.
fn loses_answers(world: &mut World) {
    world.loses_connection();
    world.resumes(world.position);
    world.hears(&[BrokerFrame::Gap(localhub_protocol::Gap {
        channel: None,
        lost: 3,
        cause: Code::SLOW_CONSUMER,
    })]);
}

fn pong(world: &mut World) {
    let (nonce, received) = (world.position, world.position);
    world.hears(&[BrokerFrame::Pong { nonce, received }]);
}

fn not_a_member(outcome: Option<Outcome>) -> bool {
    matches!(
        outcome,
        Some(Err(Failure::Refused {
            code: Code::NOT_A_MEMBER,
            ..
        }))
    )
}

// Found by the simulation: both waited for ever.
#[test]
fn who_waits_for_an_answer_that_was_lost_is_told_when_the_channel_is_left() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let state = world
        .core
        .set_state_of(room, Bytes::from_static(b"\xa0"))
        .unwrap();
    let snapshot = world.core.snapshot(room, "#".parse().unwrap()).unwrap();
    assert_eq!(world.says(), ["state 7 [160]", "snapshot 7 #"]);
    world.position += 2;
    loses_answers(&mut world);

    let left = world.core.leave(room).unwrap();
    assert_eq!(
        world.says(),
        ["leave 7", "ping 4, ack 4"],
        "the membership ends, and the broker is asked what became of the others"
    );
    world.position += 1;
    world.hears(&[BrokerFrame::Done { request: 4 }]);
    assert!(matches!(world.outcome(left), Some(Ok(Answer::Done))));
    pong(&mut world);
    assert!(not_a_member(world.outcome(state)));
    assert!(not_a_member(world.outcome(snapshot)));
}

// Found by the simulation: the broker kept the subscription, and sent what nobody wanted.
#[test]
fn a_subscription_that_is_refused_when_asked_for_again_is_given_up() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let (stream, ticket) = world
        .core
        .open_stream(Some(room), topics("a", true))
        .unwrap();
    assert_eq!(world.says(), ["subscribe 7 a retained"]);
    world.position += 1;
    loses_answers(&mut world);
    assert_eq!(world.says(), ["ping 2, ack 4"]);
    pong(&mut world);
    assert_eq!(world.says(), ["subscribe 7 a retained"]);

    world.hears(&[BrokerFrame::Refusal {
        request: 3,
        code: Code::OUTBOX_FULL,
        detail: "",
    }]);
    assert!(matches!(
        world.outcome(ticket.unwrap()),
        Some(Err(Failure::Refused { .. }))
    ));
    assert_eq!(world.got(stream), ["end"]);
    assert_eq!(
        world.says(),
        ["unsubscribe 7 a"],
        "the first one may have been carried out"
    );
}

// Found by the simulation: values came in a stream that had ended, from a channel without a name.
#[test]
fn a_stream_of_a_channel_that_was_left_gets_no_values_any_more() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let open = |world: &mut World, filter| {
        let opened = world.core.open_stream(Some(room), topics(filter, true));
        opened.unwrap().0
    };
    let (one, other) = (open(&mut world, "a"), open(&mut world, "b"));
    world.says();
    let values = |request, count| BrokerFrame::Values {
        request,
        channel: KIOSK,
        offset: 3,
        count,
        since: 0,
    };
    // The first one has its answer, and waits for the value.
    world.hears(&[values(2, 1)]);
    world.core.leave(room).unwrap();
    world.hears(&run_in(KIOSK, 1, "a", &["late"], true));
    world.hears(&[values(3, 1)]);
    world.hears(&run_in(KIOSK, 2, "b", &["later"], true));
    assert_eq!(world.got(one), ["end"]);
    assert_eq!(world.got(other), ["end"]);
}

#[test]
fn who_is_refused_a_subscription_that_another_stream_left_behind_ends_it() {
    let mut world = World::new();
    let room = world.joins("kiosk");
    let live = world.subscribes(room, "a");
    let (_, ticket) = world
        .core
        .open_stream(Some(room), topics("a", true))
        .unwrap();
    world.core.close_stream(live);
    assert_eq!(
        world.says(),
        ["subscribe 7 a retained"],
        "the second stream has the subscription of the first"
    );
    world.hears(&[BrokerFrame::Refusal {
        request: 3,
        code: Code::OUTBOX_FULL,
        detail: "",
    }]);
    assert!(matches!(
        world.outcome(ticket.unwrap()),
        Some(Err(Failure::Refused { .. }))
    ));
    assert_eq!(world.says(), ["unsubscribe 7 a"]);
}

// Found by the simulation.
#[test]
fn a_subscription_that_is_refused_after_its_channel_was_left_is_nobodys_concern() {
    let mut world = World::new();
    let listener = world.core.listen_to_refusals();
    let room = world.joins("kiosk");
    world
        .core
        .open_stream(Some(room), topics("a", true))
        .unwrap();
    world.core.leave(room).unwrap();
    world.hears(&[BrokerFrame::Refusal {
        request: 2,
        code: Code::OUTBOX_FULL,
        detail: "",
    }]);
    assert_eq!(world.refusals(listener), [""; 0]);
}
