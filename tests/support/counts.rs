use std::collections::BTreeMap;
use std::time::Instant;

/// How often what happened in a simulation, by kind.
pub type Counts = BTreeMap<(&'static str, &'static str), u64>;

/// Things of one kind, and how often each of them must have happened at least.
pub type Enough = (&'static str, &'static [&'static str], u64);

/// Runs all seeds, of so many steps each, and sees to it that enough happened: a run in which nothing did proves
/// nothing. One seed alone may be asked for.
pub fn run_all(seeds: &[u64], steps: u64, enough: &[Enough], run: impl Fn(u64) -> Counts) {
    let mut counts = Counts::new();
    let start = Instant::now();
    for seed in seeds {
        for (what, count) in run(*seed) {
            *counts.entry(what).or_default() += count;
        }
    }
    let rate = (seeds.len() as u64 * steps) as f64 / start.elapsed().as_secs_f64();
    let lines = counts.iter();
    let lines = lines.map(|((kind, what), count)| format!("{kind}, {what}: {count}"));
    let all = lines.collect::<Vec<_>>().join("\n");
    println!("{rate:.0} steps/s\n{all}");
    if std::env::var_os("SEED").is_some() {
        return;
    }
    for (kind, whats, least) in enough {
        for what in *whats {
            let count = counts.get(&(*kind, *what)).copied().unwrap_or(0);
            assert!(count >= *least, "too few of {kind}, {what}:\n{all}");
        }
    }
}
