//! What befalls a run.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::plan::{AUDITOR, CLIENTS};
use crate::proxy::Order;
use crate::record::Event;
use crate::runner::Run;

/// What has to be undone, and when.
struct Undo {
    at: Instant,
    client: u64,
    how: How,
}

enum How {
    /// Make the process go on.
    Continue,
    /// Let the connection be, or end it.
    Order(Order),
}

/// The broker is killed once in this time, and at least once in a run.
const BROKER_LIFE: Duration = Duration::from_secs(60);

/// How often the broker is measured.
const SAMPLE: Duration = Duration::from_millis(100);

/// Lets things go wrong until it is time to stop. Every fourth second is quiet.
///
/// # Errors
/// A process cannot be started.
pub(crate) async fn torment(run: &mut Run, time: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut broker_dies = began + time.mul_f64(0.4).min(BROKER_LIFE / 2);
    let mut undos: Vec<Undo> = Vec::new();
    let mut next = began;
    let mut sampled = began - SAMPLE;
    while began.elapsed() < time {
        let now = Instant::now();
        if now - sampled >= SAMPLE {
            run.sample();
            sampled = now;
        }
        let due = |undo: &mut Undo| undo.at <= now;
        for undo in undos.extract_if(.., due).collect::<Vec<_>>() {
            undone(run, &undo);
        }
        if now >= broker_dies {
            broker_dies = now + BROKER_LIFE;
            run.restart_broker().await?;
        }
        if now >= next && began.elapsed().as_secs() % 4 != 3 {
            next = now + Duration::from_millis(20 + run.rng.below(200));
            let client = AUDITOR + 1 + run.rng.below(CLIENTS - AUDITOR - 1);
            let other = AUDITOR + 1 + run.rng.below(CLIENTS - AUDITOR - 1);
            let free = |client| undos.iter().all(|undo| undo.client != client);
            if free(client) {
                let other = (other != client && free(other)).then_some(other);
                undos.extend(strike(run, client, other)?);
            }
        }
        let wait = undos.iter().map(|undo| undo.at).chain([next]).min();
        let wait = wait.map_or(SAMPLE, |at| at.saturating_duration_since(Instant::now()));
        sleep(wait.clamp(Duration::from_millis(5), SAMPLE)).await;
    }
    for undo in undos {
        undone(run, &undo);
    }
    for client in 0..CLIENTS {
        if let Some(proxy) = run.proxy(client) {
            proxy.order(Order::Pass, Duration::ZERO);
        }
    }
    Ok(())
}

/// Does something to a client; now and then to another one, too.
fn strike(run: &mut Run, client: u64, other: Option<u64>) -> io::Result<Option<Undo>> {
    // One who asks and one who is asked may die at once.
    let both: Vec<u64> = [client].into_iter().chain(other).collect();
    let killed = &both[..1 + run.rng.below(both.len() as u64) as usize];
    let lasts = match run.rng.below(4) {
        0 => Duration::from_millis(1_000 + run.rng.below(2_500)),
        _ => Duration::from_millis(run.rng.below(500)),
    };
    let undo = |how| {
        Some(Undo {
            at: Instant::now() + lasts,
            client,
            how,
        })
    };
    let chance = run.rng.below(20);
    let Some(proxy) = run.proxy(client) else {
        return Ok(match chance {
            0..4 => {
                run.restart(killed)?;
                None
            }
            4..12 => {
                run.stop(client, true);
                undo(How::Continue)
            }
            _ => {
                run.flood(client);
                None
            }
        });
    };
    Ok(match chance {
        0..2 => {
            run.restart(killed)?;
            None
        }
        2..3 => {
            run.stop(client, true);
            undo(How::Continue)
        }
        3..9 => {
            proxy.order(Order::Cut, lasts);
            run.recorder.note(Event::Cut { client, zombie: 0 });
            None
        }
        9..13 => {
            proxy.order(Order::Zombie, Duration::ZERO);
            run.recorder.note(Event::Cut { client, zombie: 1 });
            None
        }
        13..15 => {
            proxy.order(Order::Trickle, Duration::ZERO);
            run.recorder.note(Event::Hindered { client, held: 0 });
            undo(How::Order(Order::Pass))
        }
        15..18 => {
            proxy.order(Order::Hold, Duration::ZERO);
            run.recorder.note(Event::Hindered { client, held: 1 });
            let end = [Order::Pass, Order::Cut][run.rng.below(2) as usize];
            undo(How::Order(end))
        }
        _ => {
            run.flood(client);
            None
        }
    })
}

fn undone(run: &Run, undo: &Undo) {
    match undo.how {
        How::Continue => run.stop(undo.client, false),
        How::Order(order) => {
            if let Some(proxy) = run.proxy(undo.client) {
                proxy.order(order, Duration::ZERO);
            }
            if order == Order::Cut {
                let client = undo.client;
                run.recorder.note(Event::Cut { client, zombie: 0 });
            }
        }
    }
}
