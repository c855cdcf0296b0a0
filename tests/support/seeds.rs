use crate::Rng;

/// The seeds of a simulation: those asked for (`SEED=n`, `SEED=n..m`), or so many fresh ones (`SEEDS=n`); else
/// the first `few`, which are the same everywhere, and some `fresh` ones.
pub fn seeds(few: u64, fresh: u64) -> Vec<u64> {
    let number = |text: &str| -> u64 {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("SEED=NUMBER, SEED=FROM..TO or SEEDS=NUMBER, not {text}"))
    };
    if let Ok(asked) = std::env::var("SEED") {
        return match asked.split_once("..") {
            Some((from, to)) => (number(from)..=number(to)).collect(),
            None => vec![number(&asked)],
        };
    }
    let (few, fresh) = match std::env::var("SEEDS") {
        Ok(asked) => (0, number(&asked)),
        Err(_) => (few, fresh),
    };
    // Each hasher of the standard library has keys that nobody chose.
    let fresh_start = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
    let mut rng = Rng::new(fresh_start);
    (1..=few).chain((0..fresh).map(|_| rng.draw())).collect()
}

/// Runs one seed; the panic of a failing run names it.
pub fn named<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    result.unwrap_or_else(|_| panic!("this run failed; repeat it with SEED={seed}"))
}
