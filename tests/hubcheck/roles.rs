//! The parts that this executable plays, and what the runner can be told.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::client::{Part, play};
use crate::history::History;
use crate::nemesis::torment;
use crate::processes::{ROLE, become_broker, die_with_parent};
use crate::report::report;
use crate::runner::Run;

/// How long a run lasts if nobody says.
const SECONDS: u64 = 20;

const USAGE: &str = "\
usage: hubcheck [--seconds N | --minutes N] [--seed N] [--keep]

  --seconds N  how long things go wrong (default: $LOCALHUB_HUBCHECK_SECONDS, or 20)
  --minutes N  the same in minutes
  --seed N     which faults and messages there are (default: the time); the times of processes
               are their own, so that the same seed gives a similar run and not the same one
  --keep       keep the folder with the records";

/// What a run was asked to be.
#[derive(Debug)]
struct Flags {
    time: Duration,
    seed: u64,
    keep: bool,
}

/// Plays the part that this process was started for.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match std::env::var(ROLE).as_deref() {
        Ok("client") => client(&arguments),
        Ok(_) => die_with_parent().and_then(|()| {
            let folder = PathBuf::from(arguments.first().map_or("", String::as_str));
            Err(become_broker(&folder))
        }),
        Err(_) => match Flags::parse(&arguments) {
            Ok(Some(flags)) => run(&flags),
            Ok(None) => Ok(true),
            Err(problem) => {
                eprintln!("hubcheck: {problem}\n{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hubcheck: {error}");
            ExitCode::FAILURE
        }
    }
}

fn client(arguments: &[String]) -> io::Result<bool> {
    die_with_parent()?;
    let [sender, endpoint, records, seed] = arguments else {
        return Err(io::Error::other("a client is started by the runner only"));
    };
    let number = |text: &str| text.parse().map_err(io::Error::other);
    let part = Part {
        sender: number(sender)?,
        endpoint: endpoint.into(),
        records: records.into(),
        seed: number(seed)?,
    };
    play(part).map(|()| true).map_err(io::Error::other)
}

fn run(flags: &Flags) -> io::Result<bool> {
    let mut folder = localhub_tests::process::private_directory();
    folder.disable_cleanup(flags.keep);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // Children are started by this thread: they end with it.
    let finished = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = async {
            let mut run = Run::start(folder.path(), flags.seed).await?;
            torment(&mut run, flags.time).await?;
            run.finish().await;
            Ok::<_, io::Error>(true)
        };
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => Ok(false),
            _ = terminate.recv() => Ok(false),
        }
    })?;
    runtime.shutdown_background();
    if !finished {
        return Err(io::Error::other("interrupted"));
    }
    let began = Instant::now();
    let history = History::load(&folder.path().join("records"))?;
    let (report, good) = report(&history, flags.time, flags.seed);
    print!("{report}");
    println!("  checked in {:.1} s", began.elapsed().as_secs_f64());
    for complaints in ["broker.err", "clients.err"] {
        let said = std::fs::read_to_string(folder.path().join(complaints)).unwrap_or_default();
        if !good && !said.is_empty() {
            println!("{complaints}:\n{said}");
        }
    }
    if flags.keep {
        println!("the records are in {}", folder.path().display());
    }
    Ok(good)
}

impl Flags {
    /// What was asked for; `None` if it was something else than a run.
    fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let seconds = std::env::var("LOCALHUB_HUBCHECK_SECONDS");
        let seconds = seconds.map_or(Ok(SECONDS), |text| number(&text))?;
        let seed = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |time| time.as_secs());
        let mut flags = Self {
            time: Duration::from_secs(seconds),
            seed,
            keep: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || number(arguments.next().map_or("", String::as_str));
            match argument.as_str() {
                "--seconds" => flags.time = Duration::from_secs(value()?),
                "--minutes" => flags.time = Duration::from_secs(60 * value()?),
                "--seed" => flags.seed = value()?,
                "--keep" => flags.keep = true,
                // What `cargo test` and other runners say to every test.
                "--list" => {
                    println!("hubcheck: test");
                    return Ok(None);
                }
                "--nocapture" | "--quiet" | "-q" | "--exact" | "--include-ignored" => {}
                "--ignored" => return Ok(None),
                "--skip" | "--test-threads" => drop(arguments.next()),
                other if other.starts_with("--test-threads=") => {}
                other if other.starts_with('-') => return Err(format!("{other} is unknown")),
                // A test was asked for by name.
                other if !"hubcheck".contains(other) => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(flags))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number"))
}
