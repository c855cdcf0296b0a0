//! Scripted dialogues with a hub in memory. Each test says which rule of `docs/protocol.md` it shows.

use std::time::Duration;

use localhub::hub::Departure;
use localhub_protocol::limits::MEMBERS_PER_FRAME_MAX;
use localhub_protocol::{
    Change, ClientFrame, ClientId, Code, ContentType, Gap, Message, Policy, Resumed, Retain, Start,
    Status, Target, admin,
};
use localhub_tests::{Puppet, Seen, World};

/// The payloads of channel and direct messages, as text.
fn payloads(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Channel(.., payload) | Seen::Direct(.., payload) => Some(payload),
            _ => None,
        })
        .map(|payload| String::from_utf8_lossy(payload).into_owned())
        .collect()
}

fn refusals(seen: &[Seen]) -> Vec<(u64, Code)> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Refusal(request, code, _) => Some((*request, *code)),
            _ => None,
        })
        .collect()
}

fn gaps(seen: &[Seen]) -> Vec<Gap> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Gap(gap) => Some(*gap),
            _ => None,
        })
        .collect()
}

fn publish<'a>(channel: localhub_protocol::ChannelId, payload: &'a [u8]) -> ClientFrame<'a> {
    ClientFrame::Message(Message::Publish {
        channel,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic: "t",
        payload,
    })
}

/// What a client hears when another has done what it asked for.
fn reply(from: &Puppet, request: u64, payload: &str) -> Seen {
    Seen::Reply(from.id, request, None, payload.into())
}

/// What it hears when the hub says why there is no reply.
fn no_reply(request: u64, why: Code) -> Seen {
    Seen::Reply(ClientId::HUB, request, Some(why), why.description().into())
}

/// How many requests have no outcome, once the hub has shown that it is in order.
fn open_requests(world: &World) -> u64 {
    world.hub.check();
    world.hub.status(world.now).requests
}

/// The end of a session without a word of the client.
fn kicks(world: &World, puppet: &Puppet) {
    let mut wakes = localhub::hub::Wakes::default();
    assert!(
        world
            .hub
            .end(puppet.id, Code::KICKED, world.now, &mut wakes)
    );
    wakes.fire();
}

mod absence;
mod channels;
mod commands;
mod control;
mod direct;
mod history;
mod operators;
mod policies;
mod presence;
mod requests;
mod retained;
mod services;
mod sessions;
mod streams;
mod turns;
mod values;
