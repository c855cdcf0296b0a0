//! What a client sends: a bit of everything, in bursts.

use std::time::Duration;

use localhub_client::{ClientId, Error, Recipient};

use crate::client::{Actor, Phase};
use crate::plan::{CLIENTS, FIRST_MIXED, PAYLOAD_BYTES, TOPICS, client_name, topic_name};
use crate::record::{BY_NAME, DIRECT, Event, NONE, hash, outcome};

/// How many messages a flood has.
const FLOOD: u64 = 1_500;

/// The sender and its number for the message come first.
const HEADER_BYTES: usize = 16;

/// Sends until it is time to be quiet.
pub(crate) async fn send(actor: &Actor) {
    let mut floods = 0;
    while *actor.phase.borrow() == Phase::Run {
        let flooded = actor.floods.get();
        if flooded > floods {
            for _ in 0..FLOOD {
                send_one(actor, true).await;
            }
        }
        floods = flooded;
        for _ in 0..=actor.below(8) {
            send_one(actor, false).await;
        }
        let pause = Duration::from_millis(5 + actor.below(50));
        let mut phase = actor.phase.clone();
        // It is quiet time, or time for more.
        let _ = tokio::time::timeout(pause, phase.wait_for(|phase| *phase >= Phase::Quiet)).await;
    }
}

async fn send_one(actor: &Actor, flooding: bool) {
    if !flooding && actor.draw(6) {
        return send_direct(actor).await;
    }
    let channels = actor.channels.borrow().clone();
    let Some((number, channel)) = pick(actor, channels) else {
        return;
    };
    let broadcast = number >= FIRST_MIXED && actor.draw(3);
    let topic = actor.below(TOPICS);
    let (call, payload) = begin(actor, number, 0, (!broadcast).then_some(topic), flooding);
    let confirmed = !flooding && actor.draw(5);
    let sent = match (broadcast, confirmed) {
        (true, _) => channel.broadcast(payload).await,
        (false, true) => channel.publish_confirmed(&topic_name(topic), payload).await,
        (false, false) => channel.publish(&topic_name(topic), payload).await,
    };
    // What is only in the send buffer may come to anything.
    let queued = sent.is_ok() && (broadcast || !confirmed);
    end(actor, call, &sent, queued);
}

async fn send_direct(actor: &Actor) {
    let peers = actor.peers.borrow().clone();
    let by_name = || {
        let client = actor.below(CLIENTS);
        (
            BY_NAME | client,
            Recipient::from(client_name(client).as_str()),
        )
    };
    let (to, recipient) = match pick(actor, peers) {
        // Nobody has this id.
        _ if actor.draw(40) => (NONE >> 2, ClientId(NONE >> 2).into()),
        Some(peer) if actor.draw(2) => (peer.0, peer.into()),
        _ => by_name(),
    };
    let (call, payload) = begin(actor, DIRECT, to, None, false);
    let sent = actor.client.send(recipient, payload).await;
    end(actor, call, &sent, false);
}

fn begin(actor: &Actor, channel: u64, to: u64, topic: Option<u64>, small: bool) -> (u64, Vec<u8>) {
    let number = actor.number.replace(actor.number.get() + 1);
    let payload = payload(actor, number, small);
    actor.recorder.note(Event::Invoke {
        number,
        channel,
        to,
        topic: topic.unwrap_or(NONE),
        hash: hash(&payload),
        bytes: payload.len() as u64,
    });
    (number, payload)
}

fn end(actor: &Actor, number: u64, sent: &Result<(), Error>, queued: bool) {
    let outcome = match sent {
        Ok(()) if queued => outcome::UNKNOWN,
        Ok(()) => outcome::OK,
        Err(Error::Refused { .. }) => outcome::REFUSED,
        Err(_) => outcome::UNKNOWN,
    };
    actor.recorder.note(Event::Done { number, outcome });
}

/// Bytes that no other message has: mostly few, sometimes many, now and then as many as may be.
fn payload(actor: &Actor, number: u64, small: bool) -> Vec<u8> {
    let body = match actor.below(1_000) {
        _ if small => actor.below(64),
        0 => (PAYLOAD_BYTES - HEADER_BYTES) as u64,
        1..100 => actor.below(8_192),
        _ => actor.below(256),
    };
    let mut payload = Vec::with_capacity(HEADER_BYTES + body as usize);
    payload.extend_from_slice(&actor.sender.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    let mut rng = actor.rng.borrow_mut();
    while payload.len() < HEADER_BYTES + body as usize {
        payload.extend_from_slice(&rng.draw().to_le_bytes());
    }
    payload.truncate(HEADER_BYTES + body as usize);
    payload
}

fn pick<T>(
    actor: &Actor,
    from: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
) -> Option<T> {
    let mut from = from.into_iter();
    match from.len() {
        0 => None,
        length => from.nth(actor.below(length as u64) as usize),
    }
}
