//! A whole hub and many clients on one thread, replayable from a seed, judged by a naive model.
//!
//! The hub is the real one. Some of the clients are the SDK's core and a program that uses it
//! through the same handles as any program; the others keep to the protocol and no more. They join,
//! publish, subscribe under every policy and from every start, leave wills, say what channels keep,
//! lose their connections in the middle of frames, come back with bytes of the old connection still
//! on their way or with a wrong token, read slowly, are stopped, kicked, crash, and expire.
//!
//! The model shares no code with the hub: it is told each frame when the hub has carried it out, and
//! says what each client must hear. Every message must arrive once, in order, unchanged, or be
//! counted by a gap in its place. What the programs are told by the SDK is held against that:
//! `docs/testing.md` lists it.
//!
//! `SEED=n cargo test --test simulation` repeats a run, and `SEED=n..m` the runs from n to m;
//! `SEEDS=n` tries that many fresh ones. A run that nobody asked anything of has a few fresh ones, too.

use std::time::Instant;

use localhub_tests::simulation::{Counts, Plan, Simulation};
use localhub_tests::{named, seeds};

/// Runs one seed.
fn run(seed: u64, plan: Plan, steps: u64) -> Counts {
    named(seed, || {
        let mut simulation = Simulation::new(seed, plan);
        for _ in 0..steps {
            simulation.step();
        }
        simulation.finish()
    })
}

/// Runs the first few seeds, or those that were asked for, and shows what happened.
fn run_all(few: u64, plan: Plan, steps: u64) -> Counts {
    run_all_and(few, 0, plan, steps)
}

/// As `run_all`, and some fresh seeds.
fn run_all_and(few: u64, fresh: u64, plan: Plan, steps: u64) -> Counts {
    let mut counts = Counts::default();
    let seeds = seeds(few, fresh);
    let start = Instant::now();
    for seed in &seeds {
        counts += run(*seed, plan, steps);
    }
    let rate = (seeds.len() as u64 * steps) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} steps/s, {counts:?}");
    counts
}

/// A run in which nothing happened proves nothing. One seed alone may be asked for.
fn enough(what: &str, count: u64, least: u64, counts: &Counts) {
    if std::env::var_os("SEED").is_none() {
        assert!(count >= least, "too few {what}: {counts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan::default();
    let counts = run(7, plan, 20_000);
    assert_eq!(counts, run(7, plan, 20_000));
    assert_ne!(counts, run(8, plan, 20_000));
}

#[test]
fn nothing_is_lost_untold_or_doubled_for_any_seed() {
    let counts = run_all_and(40, 10, Plan::default(), 20_000);
    enough("messages", counts.messages, 10_000, &counts);
    enough("messages to programs", counts.given, 10_000, &counts);
    enough("resumes without loss", counts.recovered, 100, &counts);
    enough("resumes with loss", counts.lossy, 10, &counts);
    enough("sessions that were gone", counts.replaced, 10, &counts);
    enough("connections that were fenced", counts.fenced, 10, &counts);
    enough("messages lost", counts.lost, 1_000, &counts);
    enough(
        "direct messages refused",
        counts.direct_refused,
        10,
        &counts,
    );
    enough("clients that hung", counts.hung, 10, &counts);
    enough("full inboxes", counts.blocked, 1, &counts);
    policies_were_used(&counts);
    histories_were_used(&counts);
    absences_were_noticed(&counts);
    sessions_ended_in_every_way(&counts);
}

fn policies_were_used(counts: &Counts) {
    enough("changes of policies", counts.policy_changes, 500, counts);
    enough("messages that made way", counts.conflated, 500, counts);
    enough("stalls", counts.stalls, 500, counts);
    enough("waits in vain", counts.waits_in_vain, 100, counts);
    enough("long waits in vain", counts.long_waits, 10, counts);
    enough("parks", counts.parks, 100, counts);
}

fn histories_were_used(counts: &Counts) {
    enough("starts with history", counts.history_starts, 100, counts);
    enough("starts with a loss", counts.history_losses, 100, counts);
    enough("unknown offsets", counts.unknown_offsets, 10, counts);
}

fn absences_were_noticed(counts: &Counts) {
    enough("wills published", counts.wills_published, 100, counts);
    enough("wills at the end", counts.wills_at_end, 20, counts);
    enough("wills cancelled", counts.wills_cancelled, 100, counts);
    enough("absences that nobody saw", counts.debounced, 100, counts);
    enough("absences told late", counts.told_late, 100, counts);
    enough("clients that stalled", counts.stalled, 100, counts);
}

fn sessions_ended_in_every_way(counts: &Counts) {
    enough("goodbyes", counts.goodbyes, 5, counts);
    enough("kicks", counts.kicked, 50, counts);
    enough("dead processes", counts.died, 20, counts);
    enough("sessions that expired", counts.expired, 50, counts);
    enough("names taken", counts.names_taken, 20, counts);
    enough("wrong tokens", counts.wrong_tokens, 20, counts);
    enough("lock-outs", counts.locked_out, 1, counts);
}

#[test]
fn with_room_for_everything_nothing_is_lost_at_all() {
    let plan = Plan {
        outbox_messages: 1 << 20,
        outbox_bytes: 1 << 30,
        ..Plan::default()
    };
    let counts = run_all(10, plan, 20_000);
    enough("messages", counts.messages, 10_000, &counts);
    enough("messages to programs", counts.given, 10_000, &counts);
    enough("resumes without loss", counts.recovered, 50, &counts);
    assert_eq!(
        (counts.lost, counts.lossy, counts.direct_refused),
        (0, 0, 0),
        "{counts:?}"
    );
}

#[test]
fn programs_alone_keep_what_they_want() {
    let plan = Plan {
        sdk_share: 1,
        clients: 6,
        channels: 2,
        outbox_messages: 200,
        outbox_bytes: 50_000,
        ..Plan::default()
    };
    let counts = run_all(10, plan, 20_000);
    enough("messages to programs", counts.given, 10_000, &counts);
    enough("resumes without loss", counts.recovered, 50, &counts);
    enough("sessions that were gone", counts.replaced, 5, &counts);
}

#[test]
fn when_memory_is_tight_what_is_lost_is_told() {
    let plan = Plan {
        memory_bytes: 100_000,
        outbox_messages: 1_000,
        outbox_bytes: 1 << 20,
        ..Plan::default()
    };
    let counts = run_all(10, plan, 20_000);
    enough("messages lost", counts.lost, 1_000, &counts);
    enough("resumes with loss", counts.lossy, 10, &counts);
}

#[test]
fn thousands_of_clients_fit_on_one_thread() {
    let plan = Plan {
        clients: 2_000,
        channels: 200,
        sdk_share: 0,
        ..Plan::default()
    };
    let counts = run_all(1, plan, 400_000);
    enough("messages", counts.messages, 10_000, &counts);
}

#[test]
fn a_thousand_programs_fit_on_one_thread() {
    let plan = Plan {
        clients: 1_000,
        channels: 100,
        sdk_share: 1,
        ..Plan::default()
    };
    let counts = run_all(1, plan, 200_000);
    enough("messages to programs", counts.given, 10_000, &counts);
}
