//! What a client asks others for: plain requests, and commands in bursts, some of them sent again.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use localhub_client::{CommandId, Error, Failure, Request, To};
use localhub_tests::Rng;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{Actor, Phase};
use crate::plan::{
    AUDITOR, BY_CLIENT, BY_SESSION, CLIENTS, SERVICES, SOLE, client_name, service_name,
};
use crate::record::{Event, NONE, hash, how, left, read};

/// What is asked for. Of a command there may be several of the same.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// A command has one.
    id: Option<CommandId>,
    to: u64,
    /// Whose payload it is: a process, and the number of its request.
    of: (u64, u64),
}

/// So many requests of one client have no outcome at a time.
const IN_FLIGHT_MAX: usize = 160;

/// How many commands a flood has.
const FLOOD: u64 = 100;

/// So many commands are kept to be sent again much later.
const KEPT_MAX: usize = 400;

/// So many of the last commands of its life before are sent again by a process.
const LEFT_BEHIND_MAX: usize = 48;

/// The sender and its number for the request come first.
const HEADER_BYTES: usize = 16;

/// Asks until it is time to be quiet, and waits for all outcomes.
pub(crate) async fn ask(actor: Rc<Actor>) {
    let mut calls = JoinSet::new();
    for call in left_behind(&actor) {
        calls.spawn_local(submit(actor.clone(), call));
    }
    let (mut floods, mut kept) = (0, Vec::new());
    while *actor.phase.borrow() == Phase::Run {
        while calls.try_join_next().is_some() {}
        let flooded = actor.floods.get();
        if calls.len() < IN_FLIGHT_MAX {
            match actor.below(6) {
                0 => ask_plainly(&actor, &mut calls),
                _ if flooded > floods => command(&actor, FLOOD, &mut kept, &mut calls),
                _ => command(&actor, 3 + actor.below(22), &mut kept, &mut calls),
            }
        }
        floods = flooded;
        let pause = Duration::from_millis(5 + actor.below(75));
        let mut phase = actor.phase.clone();
        // It is quiet time, or time for more.
        let _ = timeout(pause, phase.wait_for(|phase| *phase >= Phase::Quiet)).await;
    }
    while calls.join_next().await.is_some() {}
}

fn ask_plainly(actor: &Rc<Actor>, calls: &mut JoinSet<()>) {
    for _ in 0..=actor.below(6) {
        let peers = actor.peers.borrow().clone();
        let to = match actor.below(8) {
            0 => BY_CLIENT + AUDITOR + 1 + actor.below(CLIENTS - AUDITOR - 1),
            1 if !peers.is_empty() => {
                BY_SESSION | peers[actor.below(peers.len() as u64) as usize].0
            }
            _ => place(actor),
        };
        let of = (actor.sender, next(actor));
        let call = Call { id: None, to, of };
        calls.spawn_local(submit_as(actor.clone(), call, of.1));
    }
}

/// Sends commands at once, some of them twice, again after a while, or with another body.
fn command(actor: &Rc<Actor>, count: u64, kept: &mut Vec<Call>, calls: &mut JoinSet<()>) {
    let to = place(actor);
    for _ in 0..count {
        let of = (actor.sender, next(actor));
        let id = Some(CommandId::new());
        let call = Call { id, to, of };
        calls.spawn_local(submit_as(actor.clone(), call, of.1));
        match actor.below(200) {
            0..10 => drop(calls.spawn_local(submit(actor.clone(), call))),
            10..20 => {
                let actor = actor.clone();
                calls.spawn_local(async move {
                    sleep(Duration::from_millis(actor.below(1_500))).await;
                    submit(actor, call).await;
                });
            }
            20..22 => {
                let of = (actor.sender, next(actor));
                let other = Call { of, ..call };
                calls.spawn_local(submit_as(actor.clone(), other, of.1));
            }
            22..26 => {
                let room = kept.len() < KEPT_MAX;
                let at = actor.below(kept.len() as u64 + 1) as usize;
                match kept.get_mut(at) {
                    Some(older) if !room => *older = call,
                    _ if room => kept.push(call),
                    _ => {}
                }
            }
            26..28 if !kept.is_empty() => {
                let call = kept[actor.below(kept.len() as u64) as usize];
                calls.spawn_local(submit(actor.clone(), call));
            }
            _ => {}
        }
    }
}

fn place(actor: &Actor) -> u64 {
    match actor.below(8) {
        0 => SOLE,
        _ => actor.below(SERVICES),
    }
}

fn next(actor: &Actor) -> u64 {
    actor.asked.replace(actor.asked.get() + 1)
}

/// The last commands of the process that was killed before this one, as far as it wrote them down.
fn left_behind(actor: &Actor) -> Vec<Call> {
    let before = actor.records.with_file_name((actor.sender - 1).to_string());
    // The first process of a client has none before it.
    let Ok((records, _)) = read(&before) else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let calls = records
        .iter()
        .rev()
        .filter_map(|record| match record.event {
            Event::Asked {
                high,
                id,
                to,
                of_sender,
                of_number,
                ..
            } if id != NONE && seen.insert(id) => Some(Call {
                id: Some(CommandId::from(
                    (u128::from(high) << 64 | u128::from(id)).to_be_bytes(),
                )),
                to,
                of: (of_sender, of_number),
            }),
            _ => None,
        });
    calls.take(LEFT_BEHIND_MAX).collect()
}

async fn submit(actor: Rc<Actor>, call: Call) {
    let number = next(&actor);
    submit_as(actor, call, number).await;
}

/// Makes a request, and writes down what becomes of it.
async fn submit_as(actor: Rc<Actor>, call: Call, number: u64) {
    let payload = payload(call.of);
    let wait = match actor.below(20) {
        0 => Duration::from_millis(1 + actor.below(60)),
        _ => Duration::from_secs(4),
    };
    let words = call.id.map(|id| u128::from_be_bytes(id.0));
    actor.recorder.note(Event::Asked {
        number,
        high: words.map_or(NONE, |id| (id >> 64) as u64),
        id: words.map_or(NONE, |id| id as u64),
        to: call.to,
        hash: hash(&payload),
        timeout_ms: wait.as_millis() as u64,
        of_sender: call.of.0,
        of_number: call.of.1,
    });
    let request = actor.client.request(recipient(call.to), "work");
    let mut request = request.payload(payload).timeout(wait);
    if let Some(id) = call.id {
        request = request.command_id(id);
    }
    let outcome = outcome(&actor, number, request).await;
    actor.recorder.note(outcome);
}

fn recipient(to: u64) -> To {
    match to {
        BY_SESSION.. => To::client(localhub_client::ClientId(to & !BY_SESSION)),
        BY_CLIENT.. => To::client(client_name(to - BY_CLIENT).as_str()),
        service => To::service(service_name(service)),
    }
}

async fn outcome(actor: &Actor, number: u64, request: Request) -> Event {
    let outcome = |how, code, hash, by| Event::Outcome {
        number,
        how,
        code,
        hash,
        by,
    };
    let sent = match actor.below(40) {
        0 => {
            let patience = Duration::from_millis(actor.below(30));
            match timeout(patience, request.send()).await {
                Ok(sent) => sent,
                // It is cancelled.
                Err(_) => return outcome(how::GIVEN_UP, NONE, NONE, NONE),
            }
        }
        1 => match request.forget().await {
            Ok(()) => return outcome(how::GIVEN_UP, NONE, NONE, NONE),
            Err(error) => Err(error),
        },
        _ => request.send().await,
    };
    match sent {
        Ok(reply) => outcome(
            how::REPLIED,
            NONE,
            hash(reply.payload()),
            reply.sender().id.0,
        ),
        Err(Error::Failed(failure)) => {
            let code = left::CODES.iter().position(|code| *code == failure.code());
            let kind = code.map_or(how::FAILED, |_| how::LEFT);
            let code = code.map_or(NONE, |code| code as u64);
            outcome(kind, code, hash_of(&failure), NONE)
        }
        Err(Error::Refused { code, .. }) => outcome(how::REFUSED, code.0.into(), NONE, NONE),
        Err(Error::NoReply { code, detail }) => {
            let said = hash(detail.as_bytes());
            outcome(how::NO_REPLY, code.0.into(), said, NONE)
        }
        Err(Error::Disconnected) => outcome(how::UNSENT, NONE, NONE, NONE),
        Err(_) => outcome(how::CLOSED, NONE, NONE, NONE),
    }
}

/// The hash of what a handler says went wrong.
pub(crate) fn hash_of(failure: &Failure) -> u64 {
    hash(failure.to_string().as_bytes())
}

/// Bytes that no other request has, and the same ones whoever makes them.
fn payload(of: (u64, u64)) -> Vec<u8> {
    let (sender, number) = of;
    let mut rng = Rng::new(sender.rotate_left(17) ^ number);
    let body = match rng.below(200) {
        0 => rng.below(8_192),
        _ => rng.below(128),
    };
    let mut payload = Vec::with_capacity(HEADER_BYTES + body as usize + 8);
    payload.extend_from_slice(&sender.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    while payload.len() < HEADER_BYTES + body as usize {
        payload.extend_from_slice(&rng.draw().to_le_bytes());
    }
    payload.truncate(HEADER_BYTES + body as usize);
    payload
}
