//! A whole hub and many clients on one thread, replayable from a seed, judged by a naive model.
//!
//! Clients join, publish, subscribe, lose their connections in the middle of frames, come back with
//! bytes of the old connection still on their way, read slowly, and expire. The model
//! ([`model::Model`]) shares no code with the hub: it is told each frame when the hub has carried it
//! out, and says what each client must hear. Every message must arrive once, in order, unchanged, or
//! be counted by a gap in its place.
//!
//! `SEED=n cargo test --test simulation` repeats a run; `SEEDS=n` tries that many fresh ones.

use std::time::Instant;

use localhub_tests::Rng;
use localhub_tests::simulation::{Counts, Plan, Simulation};

/// Runs one seed; the panic of a failing run names it.
fn run(seed: u64, plan: Plan, steps: u64) -> Counts {
    let result = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed, plan);
        for _ in 0..steps {
            simulation.step();
        }
        simulation.finish()
    });
    result.unwrap_or_else(|_| panic!("this run failed; repeat it with SEED={seed}"))
}

/// The seed asked for, or fresh ones: which they are does not matter, that they differ does.
fn seeds(fresh: u64) -> Vec<u64> {
    let asked = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}=NUMBER")))
    };
    if let Some(seed) = asked("SEED") {
        return vec![seed];
    }
    // Each hasher of the standard library has keys that nobody chose.
    let fresh_start = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
    let mut rng = Rng::new(fresh_start);
    (0..asked("SEEDS").unwrap_or(fresh))
        .map(|_| rng.draw())
        .collect()
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
    let mut counts = Counts::default();
    for seed in seeds(40) {
        counts += run(seed, Plan::default(), 20_000);
    }
    println!("{counts:?}");
    // A run in which nothing happened proves nothing.
    assert!(counts.messages > 10_000, "too few messages: {counts:?}");
    assert!(
        counts.recovered > 100,
        "too few resumes that lost nothing: {counts:?}"
    );
    assert!(
        counts.lossy > 10,
        "too few resumes that lost something: {counts:?}"
    );
    assert!(
        counts.replaced > 10,
        "too few sessions that were gone: {counts:?}"
    );
    assert!(
        counts.fenced > 10,
        "too few connections that were fenced: {counts:?}"
    );
    assert!(counts.lost > 1_000, "too few messages lost: {counts:?}");
    assert!(
        counts.direct_refused > 10,
        "too few direct messages refused: {counts:?}"
    );
}

#[test]
fn with_room_for_everything_nothing_is_lost_at_all() {
    let plan = Plan {
        outbox_messages: 1 << 20,
        ..Plan::default()
    };
    let mut counts = Counts::default();
    for seed in seeds(10) {
        counts += run(seed, plan, 20_000);
    }
    println!("{counts:?}");
    assert!(
        counts.messages > 10_000 && counts.recovered > 50,
        "{counts:?}"
    );
    assert_eq!(
        (counts.lost, counts.lossy, counts.direct_refused),
        (0, 0, 0),
        "{counts:?}"
    );
}

#[test]
fn thousands_of_clients_fit_on_one_thread() {
    let plan = Plan {
        clients: 2_000,
        channels: 200,
        ..Plan::default()
    };
    let steps = 200_000;
    let start = Instant::now();
    let counts = run(seeds(1)[0], plan, steps);
    let rate = steps as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} steps/s, {counts:?}");
    assert!(counts.messages > 10_000, "{counts:?}");
}
