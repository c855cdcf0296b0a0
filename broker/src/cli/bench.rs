//! `localhub bench`: what a broker can do on this machine.
//!
//! The bench starts the clients as processes of this same executable (`localhub bench worker`), has
//! them begin together, and adds up what they counted. Publishers say how much they sent, and each
//! subscriber has to account for all of it: as received, or as lost. What is neither is a bug, and shown.

mod crew;
mod hub;
mod measure;
mod outcome;
mod pace;
#[cfg(unix)]
mod raw;
#[cfg(unix)]
mod resume;
mod sdk;
mod tally;
mod task;
mod worker;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, Subcommand, value_parser};

use super::Globals;
use super::shared::exit::{Exit, note};
use super::shared::interrupt::Interrupts;
use super::shared::list::tell_left_out;
use super::shared::output::Output;
use super::shared::runtime;
use hub::Hub;
use outcome::{Outcome, Plan};
use task::Way;

/// Measure what a broker can do on this machine
///
/// The clients are processes of their own. The broker is a private one, started for this and ended after
/// it, unless --running asks for the one that runs: its other clients would notice. What is lost is
/// counted. On a machine that does other things at the same time, figures differ from run to run.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub bench throughput\n  localhub bench latency --rate 10000 --size 256",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Publish as fast as possible, or at a rate: messages a second
    #[command(
        before_help = "Examples:\n  localhub bench throughput --size 1024\n  localhub bench throughput --raw --rate 100000"
    )]
    Throughput {
        #[command(flatten)]
        messages: Messages,
        /// Clients that publish
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        publishers: u64,
        /// Clients that subscribe
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        subscribers: u64,
        #[command(flatten)]
        common: Common,
    },
    /// How long a message takes
    ///
    /// Without --rate, a message goes from A over the broker to B and another one back, one in flight:
    /// the figures are of whole round trips. With --rate, messages go one way and are sent when they are
    /// due, whatever became of those before them; the figures are from that moment until they came.
    #[command(
        before_help = "Examples:\n  localhub bench latency\n  localhub bench latency --rate 10000 --subscribers 8",
        group = ArgGroup::new("many").args(["publishers", "subscribers"]).multiple(true).requires("rate")
    )]
    Latency {
        #[command(flatten)]
        messages: Messages,
        /// Clients that publish, with --rate [default: 1]
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        publishers: Option<u64>,
        /// Clients that subscribe, with --rate [default: 1]
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        subscribers: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Publish to many subscribers: deliveries a second
    #[command(
        before_help = "Examples:\n  localhub bench fanout\n  localhub bench fanout --subscribers 64 --raw"
    )]
    Fanout {
        #[command(flatten)]
        messages: Messages,
        /// Clients that publish
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        publishers: u64,
        /// Clients that subscribe
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
        subscribers: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Ask a service, and wait for the reply: round trips a second
    ///
    /// Each client has one request in flight. With --rate, the time that a request waits for the one before it
    /// counts, too.
    #[command(
        before_help = "Examples:\n  localhub bench request\n  localhub bench request --way command --clients 4 --rate 2000"
    )]
    Request {
        /// What makes the round trip
        #[arg(long, value_enum, default_value_t = Way::Request)]
        way: Way,
        /// The payload of a request and of its reply
        #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = value_parser!(u32).range(0..=SIZE_MAX))]
        size: u32,
        #[command(flatten)]
        calls: Calls,
        #[command(flatten)]
        common: Common,
    },
    /// Connect, say hello and goodbye: connects a second
    ///
    /// The latency is that of the connect with its handshake. With --rate, the time that it waits for the
    /// one before it counts, too.
    #[command(
        before_help = "Examples:\n  localhub bench connect\n  localhub bench connect --clients 4 --raw"
    )]
    Connect {
        #[command(flatten)]
        calls: Calls,
        #[command(flatten)]
        common: Common,
    },
    /// Hold many sessions that do nothing: memory for each
    ///
    /// Each has one subscription. The memory is that of the broker's process, which is always a private
    /// one.
    #[command(
        before_help = "Examples:\n  localhub bench idle\n  localhub bench idle --sessions 10000 --raw"
    )]
    Idle {
        /// Sessions that are open at once
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=SESSIONS_MAX))]
        sessions: u64,
        /// Send frames made in advance instead of using the SDK
        #[arg(long)]
        raw: bool,
    },
    /// Cut many connections at once: time until all are back
    ///
    /// While they are away ten messages are published, which each has to get when it comes back. Through
    /// the SDK, the connections go over a relay that can be cut, which costs a little. Unix only.
    #[command(
        before_help = "Examples:\n  localhub bench resume\n  localhub bench resume --sessions 5000 --raw"
    )]
    Resume {
        /// Sessions that lose their connections
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = value_parser!(u64).range(1..=SESSIONS_MAX))]
        sessions: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Be one of the processes of a bench
    #[command(hide = true)]
    Worker,
    /// Be the private broker of a bench
    #[command(hide = true)]
    Hub,
}

#[derive(clap::Args, Clone, Copy, Debug)]
struct Messages {
    /// The payload of a message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = value_parser!(u32).range(0..=SIZE_MAX))]
    size: u32,
    /// Messages a second, all publishers together [default: as fast as possible]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
}

#[derive(clap::Args, Clone, Copy, Debug)]
struct Calls {
    /// Clients that do it at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
    clients: u64,
    /// How many a second, all clients together [default: as fast as possible]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
}

#[derive(clap::Args, Clone, Copy, Debug)]
struct Common {
    /// How long it goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args, Clone, Copy, Debug)]
struct Target {
    /// Send frames made in advance and count bytes, instead of using the SDK (Unix only)
    #[arg(long)]
    raw: bool,
    /// Measure the broker that runs [default: a private one, unless --endpoint is given]
    #[arg(long)]
    running: bool,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.workload {
        Workload::Worker => return worker::run(),
        Workload::Hub => return hub::serve(globals),
        _ => {}
    }
    let (plan, running) = args.workload.plan()?;
    if plan.raw && !cfg!(unix) {
        return Err(anyhow!(
            "--raw is for Unix sockets only (leave it out to measure through the SDK)"
        ));
    }
    if plan.workload == RESUME && !cfg!(unix) {
        return Err(anyhow!("resume is for Unix sockets only"));
    }
    runtime(1)?.block_on(async {
        let mut interrupts = Interrupts::new().context("cannot listen to signals")?;
        let outcome = tokio::select! {
            () = interrupts.next() => return Err(anyhow!("stopped before the end")),
            outcome = perform(plan, running, globals) => outcome?,
        };
        show(&outcome, globals.json)
    })
}

async fn perform(plan: Plan, running: bool, globals: &Globals) -> anyhow::Result<Outcome> {
    let private_only = plan.workload == IDLE;
    let hub = if !private_only && (running || globals.endpoint.is_some()) {
        Hub::running(globals).await?
    } else {
        Hub::private(globals).await?
    };
    let figures = measure::measure(&plan, &hub).await?;
    let about = hub.about();
    hub.end().await;
    Ok(Outcome::new(about, plan, figures))
}

/// Shows what came out. That something is lost without a word is a failure.
fn show(outcome: &Outcome, json: bool) -> anyhow::Result<Exit> {
    let mut out = Output::new(json);
    if out.is_json() {
        out.object(outcome)?;
    } else {
        out.line(outcome.headline())?;
        let table = outcome.table();
        let (fitted, left_out) = table.fitted(out.columns());
        out.line(fitted)?;
        out.flush()?;
        tell_left_out(&left_out);
    }
    out.flush()?;
    let figures = &outcome.figures;
    if figures.missing > 0 || figures.sessions_lost > 0 {
        note("messages or sessions are lost without a word, which must not be");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

impl Workload {
    /// What is asked for, and whether of the broker that runs.
    fn plan(&self) -> anyhow::Result<(Plan, bool)> {
        let plan = |workload, common: &Common| Plan {
            workload,
            raw: common.target.raw,
            seconds: Some(common.seconds),
            ..Plan::default()
        };
        let stream = |plan: Plan, messages: &Messages, publishers, subscribers| Plan {
            size_bytes: Some(messages.size as usize),
            publishers,
            subscribers,
            rate: messages.rate,
            ..plan
        };
        let calling = |plan: Plan, calls: &Calls| Plan {
            clients: Some(calls.clients),
            rate: calls.rate,
            ..plan
        };
        let (plan, target) = match self {
            Self::Throughput {
                messages,
                publishers,
                subscribers,
                common,
            } => (
                stream(
                    plan("throughput", common),
                    messages,
                    Some(*publishers),
                    Some(*subscribers),
                ),
                common.target,
            ),
            Self::Fanout {
                messages,
                publishers,
                subscribers,
                common,
            } => (
                stream(
                    plan("fanout", common),
                    messages,
                    Some(*publishers),
                    Some(*subscribers),
                ),
                common.target,
            ),
            Self::Latency {
                messages,
                publishers,
                subscribers,
                common,
            } => {
                let many = |number: &Option<u64>| messages.rate.map(|_| number.unwrap_or(1));
                (
                    stream(
                        plan(LATENCY, common),
                        messages,
                        many(publishers),
                        many(subscribers),
                    ),
                    common.target,
                )
            }
            Self::Request {
                way,
                size,
                calls,
                common,
            } => {
                if common.target.raw && *way != Way::Status {
                    return Err(anyhow!("--raw is there for --way status only"));
                }
                let plan = Plan {
                    way: Some(*way),
                    size_bytes: (*way != Way::Status).then_some(*size as usize),
                    ..plan("request", common)
                };
                (calling(plan, calls), common.target)
            }
            Self::Connect { calls, common } => {
                (calling(plan("connect", common), calls), common.target)
            }
            Self::Idle { sessions, raw } => {
                let plan = Plan {
                    workload: IDLE,
                    raw: *raw,
                    sessions: Some(*sessions),
                    ..Plan::default()
                };
                return Ok((plan, false));
            }
            Self::Resume { sessions, target } => {
                let plan = Plan {
                    workload: RESUME,
                    raw: target.raw,
                    sessions: Some(*sessions),
                    ..Plan::default()
                };
                (plan, *target)
            }
            Self::Worker | Self::Hub => unreachable!("these measure nothing"),
        };
        if let (Some(size), Some(_), None) = (plan.size_bytes, plan.rate, plan.way)
            && size < pace::STAMP_BYTES
        {
            return Err(anyhow!(
                "a message of --rate has in it when it was due: --size is at least {}",
                pace::STAMP_BYTES
            ));
        }
        Ok((plan, target.running))
    }
}

/// Names of workloads that are something special.
const IDLE: &str = "idle";
const LATENCY: &str = "latency";
const RESUME: &str = "resume";

/// Where messages are published, and in a ping-pong.
const TOPIC: &str = "bench";
const PING: &str = "ping";
const PONG: &str = "pong";

/// As many round trips are made before the first one counts.
const WARM_UP: usize = 100;

/// How long a client waits for something that should take no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a session that was cut is waited for.
const RESUME_PATIENCE: Duration = Duration::from_secs(30);

/// How long sessions outlive their connections: as long as all of them may take to come back.
#[cfg(unix)]
const RESUME_TTL: Duration = Duration::from_secs(60);

/// More clients than this would be more processes than a machine bears.
const CLIENTS_MAX: u64 = 1_024;
const SESSIONS_MAX: u64 = 200_000;

/// What any broker may be set to take.
const SIZE_MAX: i64 = localhub_protocol::limits::PAYLOAD_BYTES_MAX_CEILING as i64;
const RATE_MAX: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Verb};
    use super::*;

    fn plan(words: &str) -> anyhow::Result<(Plan, bool)> {
        let words = ["localhub", "bench"].into_iter().chain(words.split(' '));
        match Cli::try_parse_from(words)?.verb {
            Verb::Bench(args) => args.workload.plan(),
            other => panic!("not a bench: {other:?}"),
        }
    }

    #[test]
    fn every_workload_has_defaults() {
        for workload in [
            "throughput",
            "latency",
            "fanout",
            "request",
            "connect",
            "idle",
            "resume",
        ] {
            let (plan, running) = plan(workload).unwrap();
            assert_eq!(plan.workload, workload);
            assert_eq!(plan.rate, None, "{workload}");
            assert!(!plan.raw && !running, "{workload}");
            let timed = !["idle", "resume"].contains(&workload);
            assert_eq!(plan.seconds, timed.then_some(3), "{workload}");
        }
        let (throughput, _) = plan("throughput").unwrap();
        assert_eq!(
            (throughput.publishers, throughput.subscribers),
            (Some(1), Some(1))
        );
        assert_eq!(plan("fanout").unwrap().0.subscribers, Some(8));
    }

    #[test]
    fn flags_say_how_many_how_large_how_often_and_which_broker() {
        let (plan, running) = plan(
            "throughput --size 1024 --rate 500 --publishers 2 --subscribers 3 --seconds 9 --raw --running",
        )
        .unwrap();
        assert_eq!(plan.size_bytes, Some(1_024));
        assert_eq!((plan.rate, plan.seconds), (Some(500), Some(9)));
        assert_eq!((plan.publishers, plan.subscribers), (Some(2), Some(3)));
        assert!(plan.raw && running);
    }

    #[test]
    fn latency_is_a_ping_pong_of_two_unless_there_is_a_rate() {
        let (ping_pong, _) = plan("latency").unwrap();
        assert_eq!((ping_pong.publishers, ping_pong.subscribers), (None, None));
        let (one_way, _) = plan("latency --rate 100 --subscribers 4").unwrap();
        assert_eq!(
            (one_way.publishers, one_way.subscribers),
            (Some(1), Some(4))
        );
        assert!(plan("latency --subscribers 4").is_err());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for words in [
            "throughput --rate 0",
            "throughput --subscribers 0",
            "throughput --seconds 0",
            "throughput --rate 100 --size 7",
            "idle --running",
            "request --raw",
        ] {
            assert!(plan(words).is_err(), "{words}");
        }
        assert!(plan("throughput --rate 100 --size 8").is_ok());
        assert!(plan("throughput --size 0").is_ok());
        assert!(plan("request --raw --way status").is_ok());
    }
}
