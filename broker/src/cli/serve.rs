//! `localhub serve`: the broker itself.

use std::io::{self, Write as _};
use std::panic;
use std::sync::Arc;

use anyhow::Context as _;
use localhub::Broker;
use localhub::config::Config;
use localhub::logging::Logging;
use parking_lot::Mutex;
use tokio::runtime::Builder;

use super::Globals;
use super::shared::exit::{Exit, note};
use super::shared::interrupt::Interrupts;
use super::shared::runtime;

/// Run the broker until it is stopped
///
/// Prints one line when clients can connect. SIGTERM, SIGINT (ctrl-c) and `localhub stop` end it in
/// an orderly way: clients are told and get what waits for them. A second signal ends it at once.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub serve\n  localhub serve --endpoint /run/kiosk/hub.sock --log debug"
)]
pub(crate) struct Args {
    /// What to log: a level, or target=level,.. [default: $LOCALHUB_LOG, the configuration, info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Write READY=1 to this file descriptor once clients can connect
    ///
    /// It must be a pipe or a file. It stays open as long as the broker runs, so that its other end
    /// sees the broker end, too.
    #[cfg(unix)]
    #[arg(long, value_name = "N")]
    ready_fd: Option<u32>,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let config = globals.load(args.log.as_deref())?.config;
    #[cfg(unix)]
    let mut ready = args.ready_fd.map(open_descriptor).transpose()?;
    // Whatever this process makes is for this user alone: the log, and what nobody thought of.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);

    let (logging, problem) = Logging::start(&config.log);
    if let Some(problem) = problem {
        note(&format!("{:#}", anyhow::Error::new(problem)));
    }
    let lines_lost = logging.lines_lost();
    let logging = Arc::new(Mutex::new(Some(logging)));
    end_on_panic(&logging);

    keep_freed_memory();
    let threads = usize::try_from(config.runtime.worker_threads).unwrap_or(0);
    let runtime = match threads {
        // Then nothing is ever handed from one thread to another.
        1 => Builder::new_current_thread().enable_all().build(),
        threads => runtime(threads),
    };
    let runtime = runtime.context("cannot start the threads of the broker")?;
    let exit = runtime.block_on(async {
        let mut interrupts = Interrupts::new().context("cannot listen to signals")?;
        let broker = Broker::start(&config).await?;
        broker.set_log_lines_lost(lines_lost);
        announce(&broker, globals.json);
        #[cfg(unix)]
        if let Some(ready) = &mut ready {
            ready
                .write_all(b"READY=1\n")
                .context("cannot write to --ready-fd")?;
        }
        until_stopped(broker, &mut interrupts, &config).await
    });
    // What is left in the runtime has nothing to say any more.
    runtime.shutdown_background();
    drop(logging.lock().take());
    exit
}

/// What is read comes and goes in blocks, and an allocator that gives each block's pages back at once has to be given them
/// again: a third of the time at 64 bytes a message. glibc keeps up to twice as much as the largest block that
/// it was ever handed back (mallopt(3), `M_MMAP_THRESHOLD`); this one is never written to, so it takes no memory.
fn keep_freed_memory() {
    const BLOCK_BYTES: usize = 16 * 1024 * 1024;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}

async fn until_stopped(
    mut broker: Broker,
    interrupts: &mut Interrupts,
    config: &Config,
) -> anyhow::Result<Exit> {
    tokio::select! {
        () = broker.stopped() => {}
        () = interrupts.next() => tracing::info!("a signal stops the broker"),
    }
    tokio::select! {
        () = broker.stop() => Ok(Exit::Done),
        () = interrupts.next() => {
            tracing::warn!(grace_ms = config.timing.stop_grace_ms, "stopped without waiting for clients");
            Ok(Exit::Failed)
        }
    }
}

/// Says that clients can connect. That nobody listens is no reason to stop.
fn announce(broker: &Broker, json: bool) {
    let endpoint = broker.endpoint().to_string();
    let pid = std::process::id();
    let line = match json {
        true => serde_json::json!({ "endpoint": endpoint, "pid": pid }).to_string(),
        false => format!("localhub: listening at {endpoint} (pid {pid})"),
    };
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        tracing::debug!(%error, "nobody reads stdout");
    }
}

/// Opens a descriptor that was inherited a second time, which needs no promise about whose it is.
#[cfg(unix)]
fn open_descriptor(number: u32) -> anyhow::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/dev/fd/{number}"))
        .with_context(|| {
            format!("cannot write to file descriptor {number} (--ready-fd takes a pipe or a file)")
        })
}

/// Makes a panic anywhere the end of the process, after it is in the log: an invariant is broken,
/// and clients are better off with a new broker.
fn end_on_panic(logging: &Arc<Mutex<Option<Logging>>>) {
    let usual = panic::take_hook();
    let logging = logging.clone();
    panic::set_hook(Box::new(move |panic| {
        usual(panic);
        tracing::error!(%panic, "a bug ends the broker");
        // Whoever has the lock is about to write everything, too.
        if let Some(mut logging) = logging.try_lock() {
            drop(logging.take());
        }
        std::process::abort();
    }));
}
