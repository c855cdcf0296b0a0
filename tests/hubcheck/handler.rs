//! What a client does for others: it answers soon, late, in anger or not at all.

use std::rc::Rc;
use std::time::Duration;

use localhub_client::{Failure, Incoming};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::asker::hash_of;
use crate::client::{Actor, Phase};
use crate::plan::{BY_CLIENT, client_name, client_of, served_by, service_name};
use crate::record::{Event, NONE, hash, how};

/// How long a plain request is left without an answer at most. Its caller waits for less.
const SILENCE: Duration = Duration::from_secs(20);

/// Serves a service with others until the client ends, with short pauses.
pub(crate) async fn serve(actor: Rc<Actor>) {
    let place = served_by(client_of(actor.sender));
    let mut desk = JoinSet::new();
    while !actor.is_closed() {
        let Ok(mut service) = actor.client.serve(&service_name(place)).await else {
            continue;
        };
        let mut rest = 500 + actor.below(4_000);
        while let Some(incoming) = service.next().await {
            desk.spawn_local(execute(actor.clone(), incoming, place, NONE));
            while desk.try_join_next().is_some() {}
            rest = rest.saturating_sub(1);
            if rest == 0 && *actor.phase.borrow() == Phase::Run {
                break;
            }
        }
        drop(service);
        sleep(Duration::from_millis(actor.below(100))).await;
    }
}

/// Takes the requests to the client itself until it ends.
pub(crate) async fn serve_itself(actor: Rc<Actor>) {
    let place = BY_CLIENT + client_of(actor.sender);
    let mut desk = JoinSet::new();
    let mut requests = actor.client.requests();
    while let Some(incoming) = requests.next().await {
        desk.spawn_local(execute(actor.clone(), incoming, place, NONE));
        while desk.try_join_next().is_some() {}
    }
}

/// Does what is asked for, and writes that down before and after.
pub(crate) async fn execute(actor: Rc<Actor>, incoming: Incoming, place: u64, fence: u64) {
    let execution = actor.executions.replace(actor.executions.get() + 1);
    let payload = incoming.payload();
    let word = |at: usize| {
        let bytes = payload.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    // Who wrote the payload must be who the hub says it is.
    let caller = incoming.caller().name.as_str();
    let sender = word(0).filter(|sender| caller == client_name(client_of(*sender)));
    let command = incoming.command_id();
    actor.recorder.note(Event::Executing {
        execution,
        sender: sender.unwrap_or(NONE),
        number: word(8).unwrap_or(NONE),
        id: command.map_or(NONE, |id| u128::from_be_bytes(id.0) as u64),
        hash: hash(payload),
        place,
        fence,
    });
    let answered = |how, hash| {
        actor.recorder.note(Event::Answered {
            execution,
            how,
            hash,
        });
    };
    match actor.below(240) {
        // A plain request gets no answer at all, a command a late one.
        0 if command.is_none() => {
            // Whether it was cancelled is all the same.
            let _ = timeout(SILENCE, incoming.cancelled()).await;
            return;
        }
        0 => sleep(Duration::from_millis(500 + actor.below(2_500))).await,
        1..10 => sleep(Duration::from_millis(actor.below(60))).await,
        10..13 => {
            let patience = Duration::from_millis(actor.below(200));
            if timeout(patience, incoming.cancelled()).await.is_ok() {
                return;
            }
        }
        13..18 => {
            let failure = Failure::new("odd", format!("{:x}/{execution}", actor.sender));
            answered(how::FAILED, hash_of(&failure));
            // If it cannot be answered, the caller sees.
            let _ = incoming.fail(failure).await;
            return;
        }
        18 => return answered(how::LEFT, NONE),
        _ => {}
    }
    let reply = reply(&actor, execution);
    answered(how::REPLIED, hash(&reply));
    // As above.
    let _ = incoming.reply(reply).await;
}

/// Bytes that no other reply has.
fn reply(actor: &Actor, execution: u64) -> Vec<u8> {
    let words = match actor.below(500) {
        0 => 1_024,
        _ => actor.below(8),
    };
    let mut rng = actor.rng.borrow_mut();
    let rest = (0..words).map(|_| rng.draw());
    let words = [actor.sender, execution].into_iter().chain(rest);
    words.flat_map(u64::to_le_bytes).collect()
}
