//! What was measured: one line of text for each number.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// What was done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Work {
    /// One publisher and one subscriber, by bytes: messages per second.
    OneToOne,
    /// 64-byte messages, by subscribers: deliveries per second.
    FanOut,
    /// 1 MiB messages, by subscribers: bytes per second.
    LargeFanOut,
    /// A round trip pinned to one core, by 1/1000 of all round trips: microseconds.
    RoundTrip,
    /// Idle connections with one subscription each, by connections: bytes of the broker's memory.
    Memory,
    /// Sessions dropped and resumed, by sessions: seconds.
    Storm,
}

impl Work {
    const ALL: [(Self, &str); 6] = [
        (Self::OneToOne, "one-to-one"),
        (Self::FanOut, "fan-out"),
        (Self::LargeFanOut, "large-fan-out"),
        (Self::RoundTrip, "round-trip"),
        (Self::Memory, "memory"),
        (Self::Storm, "storm"),
    ];

    fn name(self) -> &'static str {
        let all = Self::ALL.iter();
        all.clone()
            .find(|(work, _)| *work == self)
            .expect("all are listed")
            .1
    }

    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, other)| *other == name);
        found.map(|(work, _)| *work)
    }
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The measured value, in the unit of its work.
    pub value: f64,
    /// The part of the messages that did not arrive.
    pub lost: f64,
}

/// Appends one outcome to a file.
pub fn append(
    file: &Path,
    round: u64,
    broker: &str,
    work: Work,
    x: u64,
    outcome: Outcome,
) -> Result<()> {
    let Outcome { value, lost } = outcome;
    let line = format!("{round}\t{broker}\t{}\t{x}\t{value}\t{lost}\n", work.name());
    eprint!("  {line}");
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(line.as_bytes())?)
}

/// All outcomes of a run.
#[derive(Debug, Default)]
pub struct Results {
    /// By broker, work and x: the outcome of each round.
    outcomes: BTreeMap<(String, Work, u64), BTreeMap<u64, Outcome>>,
}

impl Results {
    /// Reads the file that [`append`] wrote.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut results = Self::default();
        for line in text.lines() {
            results
                .add(line)
                .with_context(|| format!("this is no result: {line}"))?;
        }
        Ok(results)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let mut columns = line.split('\t');
        let round = columns.next()?.parse().ok()?;
        let broker = columns.next()?.to_owned();
        let work = Work::named(columns.next()?)?;
        let x = columns.next()?.parse().ok()?;
        let outcome = Outcome {
            value: columns.next()?.parse().ok()?,
            lost: columns.next()?.parse().ok()?,
        };
        let rounds = self.outcomes.entry((broker, work, x)).or_default();
        rounds.insert(round, outcome);
        Some(())
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.outcomes.values().map(BTreeMap::len).max().unwrap_or(0)
    }

    /// The values of x at which a work was done with any broker.
    pub fn xs(&self, work: Work) -> Vec<u64> {
        let done = self.outcomes.keys().filter(|(_, other, _)| *other == work);
        let mut xs: Vec<u64> = done.map(|(_, _, x)| *x).collect();
        xs.sort_unstable();
        xs.dedup();
        xs
    }

    /// The measured values of all rounds.
    pub fn values(&self, broker: &str, work: Work, x: u64) -> Option<Spread> {
        let rounds = self.rounds_of(broker, work, x)?;
        Spread::of(rounds.values().map(|outcome| outcome.value))
    }

    /// The largest part of the messages that was lost in any round.
    pub fn lost(&self, broker: &str, work: Work, x: u64) -> f64 {
        let rounds = self.rounds_of(broker, work, x).into_iter().flatten();
        rounds.map(|(_, outcome)| outcome.lost).fold(0.0, f64::max)
    }

    /// How often one broker's value contains the other's, round by round: the two were measured
    /// one after the other, so a noisy moment often hits both.
    pub fn ratio(&self, work: Work, x: u64, broker: &str, other: &str) -> Option<Spread> {
        let (ours, theirs) = (
            self.rounds_of(broker, work, x)?,
            self.rounds_of(other, work, x)?,
        );
        Spread::of(
            ours.iter()
                .filter_map(|(round, our)| Some(our.value / theirs.get(round)?.value)),
        )
    }

    fn rounds_of(&self, broker: &str, work: Work, x: u64) -> Option<&BTreeMap<u64, Outcome>> {
        self.outcomes.get(&(broker.to_owned(), work, x))
    }
}

/// The median of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The lowest value.
    pub min: f64,
    /// The middle value; between the two middle ones if their number is even.
    pub median: f64,
    /// The highest value.
    pub max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0,
        };
        Some(Self {
            min: *values.first()?,
            median,
            max: *values.last()?,
        })
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            min: self.min * factor,
            median: self.median * factor,
            max: self.max * factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|of| of.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut results = Results::default();
        for line in [
            "1\ta\tfan-out\t8\t10\t0",
            "1\tb\tfan-out\t8\t5\t0",
            "2\ta\tfan-out\t8\t4\t0.5",
            "2\tb\tfan-out\t8\t1\t0",
        ] {
            results.add(line).expect("a result");
        }
        let ratio = results.ratio(Work::FanOut, 8, "a", "b").expect("both ran");
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 3.0, 4.0));
        assert_eq!(results.lost("a", Work::FanOut, 8), 0.5);
        assert_eq!(results.rounds(), 2);
    }
}
