//! Programs that make and handle requests through the SDK, replayable from a seed, judged by what they are
//! told.
//!
//! The hub is the real one, and so is the SDK's core: programs use it through the same handles as any
//! program ([`localhub_client::Client`], `Service`, `Incoming`), which are polled by hand, and only when they were
//! woken. They ask by id, by name and for services, themselves too; they send commands, and send them again, while
//! others do the same; they take replies in parts, slowly, and let go of requests; they serve, take over, take
//! requests and leave them lying, answer, fail and drop them. Connections are cut anywhere within frames, with bytes
//! on their way that the hub still reads; sessions are resumed, with and without loss, expire and are ended; programs
//! die and say goodbye; the broker is started anew and knows nothing. Time is simulated, and stops at each moment at
//! which the hub or a program has something to do.
//!
//! `judge.rs` looks only at what programs asked for, did, and were told; it knows no frame. Now and then everything
//! comes to rest, and `simulation/rest.rs` says who may still wait, and for whom.
//!
//! `SEED=n cargo test --test programs_simulation` repeats a run, and `SEED=n..m` the runs from n to m;
//! `SEEDS=n` tries that many fresh ones. A run that nobody asked anything of has a few fresh ones, too. One that fails
//! shows its last steps, and `STORY=n` of them.

mod acts;
mod clock;
mod connection;
mod judge;
mod program;
mod simulation;
mod story;
mod words;

use localhub_tests::{Counts, Enough, named, run_all, seeds};

use simulation::Simulation;

const STEPS: u64 = 6_000;

/// Runs one seed.
fn run(seed: u64) -> Counts {
    named(seed, || {
        let runtime = clock::stopped();
        let _entered = runtime.enter();
        let mut simulation = Simulation::new(seed);
        for _ in 0..STEPS {
            simulation.step();
        }
        simulation.finish()
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn programs_are_told_the_truth_about_every_request_for_any_seed() {
    run_all(&seeds(24, 6), STEPS, ENOUGH, run);
}

/// What must have happened, and how often at least.
const ENOUGH: &[Enough] = &[
    ("acts", &["drop", "forget"], 200),
    ("command", &["answered again"], 60),
    ("connections", &["lost"], 400),
    (
        "ends",
        &["broker restarted", "died", "goodbye", "kicked"],
        15,
    ),
    ("handled", &["command", "request"], 300),
    ("lease", &["held", "one at rest"], 100),
    ("outcome", &["deadline", "success"], 300),
    (
        "outcome",
        &["dropped", "failed", "lost track", "peer_gone"],
        40,
    ),
    ("outcome", &["outcome_unknown"], 20),
    ("outcome", &["handler stopped", "outbox_full"], 5),
    ("outcome", &["incomplete", "not_executed"], 1),
    ("parts", &["heard"], 100),
    (
        "refused",
        &["no_such_service", "outbox_full", "unknown_client"],
        30,
    ),
    ("rests", &["all"], 60),
    ("welcomes", &["anew", "resumed"], 200),
    ("welcomes", &["resumed with loss"], 5),
];
