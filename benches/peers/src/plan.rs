//! Which work is done with which broker, how much of it, and in which order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::protocol::{self, Protocol};
use crate::results::{self, Outcome, Work};
use crate::work;

/// One round of measurements.
pub struct Plan {
    directory: PathBuf,
    round: u64,
    quick: bool,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The payload of a message where nothing else is said.
pub const SMALL: usize = 64;

/// The payload of a large message.
pub const LARGE: usize = MIB;

/// How many sessions the storm has.
pub const STORM_SESSIONS: usize = 9_900;

/// The part of all round trips, in 1/1000, whose time is kept.
pub const PER_MILLE: [u64; 6] = [10, 500, 900, 990, 999, 1000];

/// The SDK is measured where the goals name it.
const SDK: &str = "localhub-sdk";

/// How long each measurement takes about.
const WANTED: Duration = Duration::from_millis(400);
/// The same for those that only fill a curve.
const WANTED_CURVE: Duration = Duration::from_millis(120);
const WANTED_QUICK: Duration = Duration::from_millis(40);

/// Throughput, work by work; the goals name those that are marked.
const THROUGHPUT: [(Work, usize, usize, bool); 15] = [
    (Work::OneToOne, SMALL, 1, true),
    (Work::FanOut, SMALL, 8, true),
    (Work::FanOut, SMALL, 64, true),
    (Work::OneToOne, KIB, 1, true),
    (Work::LargeFanOut, LARGE, 8, true),
    (Work::OneToOne, 16, 1, false),
    (Work::OneToOne, 256, 1, false),
    (Work::OneToOne, 4 * KIB, 1, false),
    (Work::OneToOne, 16 * KIB, 1, false),
    (Work::OneToOne, 64 * KIB, 1, false),
    (Work::OneToOne, 256 * KIB, 1, false),
    (Work::OneToOne, MIB, 1, false),
    (Work::FanOut, SMALL, 4, false),
    (Work::FanOut, SMALL, 16, false),
    (Work::FanOut, SMALL, 256, false),
];

impl Plan {
    /// The plan of a round, with the words of the command line.
    pub fn new(directory: &str, round: &str, extent: &str) -> Result<Self> {
        Ok(Self {
            directory: PathBuf::from(directory),
            round: round.parse().context("ROUND is a number")?,
            quick: match extent {
                "full" => false,
                "quick" => true,
                _ => bail!("a plan is `full` or `quick`"),
            },
        })
    }

    /// All that is counted per second, work by work, each with one broker after the other.
    pub fn throughput(&self, brokers: &[&str]) -> Result<()> {
        let brokers = self.connectors(brokers)?;
        for (work, size, subscribers, goal) in THROUGHPUT {
            let wanted = match (self.quick, goal) {
                (true, _) => WANTED_QUICK,
                (false, true) => WANTED,
                (false, false) => WANTED_CURVE,
            };
            for (name, protocol) in &brokers {
                if *name == SDK && (work, size) != (Work::OneToOne, SMALL) {
                    continue;
                }
                let outcome = work::throughput(protocol.as_ref(), size, subscribers, wanted)
                    .with_context(|| format!("{name}, {size} bytes to {subscribers}"))?;
                match work {
                    Work::OneToOne => self.keep(name, work, size, outcome)?,
                    Work::LargeFanOut => {
                        let value = outcome.value * size as f64;
                        self.keep(name, work, subscribers, Outcome { value, ..outcome })?;
                    }
                    _ => self.keep(name, work, subscribers, outcome)?,
                }
            }
        }
        Ok(())
    }

    /// Round trips, with one broker after the other.
    pub fn round_trips(&self, brokers: &[&str]) -> Result<()> {
        let count = if self.quick { 1_000 } else { 20_000 };
        for (name, protocol) in &self.connectors(brokers)? {
            let times = work::round_trips(protocol.as_ref(), SMALL, count)
                .with_context(|| format!("{name}, round trips"))?;
            for per_mille in PER_MILLE {
                let at = (times.len() - 1) * per_mille as usize / 1_000;
                self.keep(name, Work::RoundTrip, per_mille as usize, all(times[at]))?;
            }
        }
        Ok(())
    }

    /// The memory of a broker that has just been started, up to so many connections.
    pub fn memory(&self, broker: &str, process: u32, sessions: usize) -> Result<()> {
        let mut counts = vec![100, 1_000, 3_000, STORM_SESSIONS, sessions];
        counts.retain(|count| *count <= if self.quick { 1_000 } else { sessions });
        counts.dedup();
        let protocol = protocol::named(broker, &self.directory)?;
        work::memory(protocol.as_ref(), process, &counts, |count, bytes| {
            self.keep(broker, Work::Memory, count, all(bytes))
        })
        .with_context(|| format!("{broker}, memory"))
    }

    /// All connections lost, and all sessions resumed.
    pub fn storm(&self) -> Result<()> {
        let sessions = if self.quick { 1_000 } else { STORM_SESSIONS };
        let socket = self.directory.join("localhub.sock");
        let took = protocol::storm(&socket, sessions).context("the storm")?;
        self.keep("localhub", Work::Storm, sessions, all(took.as_secs_f64()))
    }

    /// The brokers in another order each round, so that none is always behind the same one.
    fn connectors<'a>(&self, names: &[&'a str]) -> Result<Vec<(&'a str, Box<dyn Protocol>)>> {
        let mut names = names.to_vec();
        let first = self.round as usize % names.len().max(1);
        names.rotate_left(first);
        let connectors = names
            .into_iter()
            .map(|name| Ok((name, protocol::named(name, &self.directory)?)));
        connectors.collect()
    }

    fn keep(&self, broker: &str, work: Work, x: usize, outcome: Outcome) -> Result<()> {
        results::append(
            &results_of(&self.directory),
            self.round,
            broker,
            work,
            x as u64,
            outcome,
        )
    }
}

/// Where the results of a run are.
pub fn results_of(directory: &Path) -> PathBuf {
    directory.join("results.tsv")
}

/// An outcome of which nothing is lost.
fn all(value: f64) -> Outcome {
    Outcome { value, lost: 0.0 }
}
