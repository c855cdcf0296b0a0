//! Requests, services, commands and values of eight clients, replayable from a seed, judged by a naive
//! model.
//!
//! The hub is the real one. The clients belong to two users. They ask by id, by name and for services,
//! reply early, late, twice and in place of others, feed and credit streams, cancel, send commands
//! again or change them, serve, take over, set values on conditions and with an end; they read in
//! pieces, lose their connections in the middle of frames and with messages unread, come back, take
//! over their own connections, expire, say goodbye and are kicked. Time is simulated, and stops at
//! each moment at which the hub has something to do, and shortly before.
//!
//! `model.rs` says what each client must hear next, byte for byte; `judge.rs` looks only at what was heard
//! and holds it against I12 to I14 (`docs/testing.md`).
//!
//! `SEED=n cargo test --test requests_simulation` repeats a run, and `SEED=n..m` the runs from n to m;
//! `SEEDS=n` tries that many fresh ones. A run that nobody asked anything of has a few fresh ones, too.

mod judge;
mod model;
mod outbox;
mod simulation;

use localhub_tests::{Counts, Enough, named, run_all, seeds};

use simulation::Simulation;

const STEPS: u64 = 1_500;

/// Runs one seed.
fn run(seed: u64) -> Counts {
    named(seed, || {
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
fn every_request_has_one_outcome_and_every_command_is_carried_out_once_for_any_seed() {
    run_all(&seeds(36, 10), STEPS, ENOUGH, run);
}

/// What must have happened, and how often at least.
const ENOUGH: &[Enough] = &[
    ("cancelled", &["cancelled", "deadline", "peer_gone"], 200),
    ("channel", &["left", "values deleted", "values set"], 300),
    ("command", &["handed over", "waited for by another"], 300),
    (
        "command",
        &["answered again", "replied to after the wait"],
        100,
    ),
    ("command", &["handed over after not_executed"], 5),
    ("command", &["made room"], 30),
    (
        "connections",
        &[
            "lost",
            "lost in the middle of a frame",
            "lost with unread messages",
            "superseded",
        ],
        300,
    ),
    ("ends", &["expired", "goodbye", "kicked", "name taken"], 80),
    ("heard", &["credit", "feed", "request", "stored"], 100),
    ("heard", &["gap"], 15),
    ("lease", &["held", "lost", "queued"], 100),
    (
        "outcome",
        &["cancelled", "deadline", "failed", "peer_gone", "success"],
        150,
    ),
    ("outcome", &["not_executed", "outcome_unknown"], 20),
    ("outcome", &["outbox_full"], 20),
    ("parts", &["failed", "success"], 30),
    ("refused", &["bad_request", "id_reuse"], 300),
    ("refused", &["no_such_service", "unknown_client"], 300),
    ("refused", &["not_a_member", "not_serving"], 30),
    ("refused", &["outbox_full", "version_conflict"], 200),
    ("refused", &["stale_command"], 20),
    ("refused", &["unknown_request"], 1_000),
    (
        "replies",
        &[
            "by a stranger",
            "by the handler",
            "to what is over",
            "to what was not read",
        ],
        50,
    ),
    ("resumes", &["too late", "whole"], 200),
    ("resumes", &["with loss"], 15),
];
