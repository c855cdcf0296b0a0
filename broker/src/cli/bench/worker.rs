//! A worker: a process of this same executable that is one client of the broker, or several.
//!
//! Each client has a thread of its own, as if it were a program; the connections of the SDK share another.

use std::io::{self, BufRead as _, Write as _};
use std::process;
use std::thread;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::super::shared::exit::Exit;
use super::super::shared::runtime;
use super::pace::{Calls, Timetable, sleep_precisely, sleep_until};
use super::sdk;
use super::tally::{Tally, Told};
use super::task::{Job, Order, Task, Word};

/// Runs a worker until its task is done, or the bench has gone.
pub(super) fn run() -> anyhow::Result<Exit> {
    let runtime = runtime(1)?;
    // Ctrl-C reaches all processes of a terminal; the bench ends its workers itself.
    runtime.spawn(tokio::signal::ctrl_c());
    let word = match work(runtime.handle()) {
        Ok(tally) => Word::Done(Told::from(&tally)),
        Err(error) => Word::Failed {
            reason: format!("{error:#}"),
        },
    };
    runtime.shutdown_background();
    // If the bench does not listen any more, there is nobody left to tell.
    let told = tell(&word);
    Ok(match (word, told) {
        (Word::Done(_), Ok(())) => Exit::Done,
        _ => Exit::Failed,
    })
}

/// Ends this process when the bench closes our standard input, which also happens when it dies.
/// Until then, its lines.
pub(super) fn follow_stdin(mut line: impl FnMut(&str) + Send + 'static) {
    // A thread, because nothing can call back a read of standard input.
    thread::spawn(move || {
        for text in io::stdin().lock().lines().map_while(Result::ok) {
            line(&text);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "whoever this process works for is dead, and nothing here outlives it"
        )]
        process::exit(Exit::Failed as i32)
    });
}

fn work(handle: &Handle) -> anyhow::Result<Tally> {
    let mut first = String::new();
    io::stdin().read_line(&mut first)?;
    let task: Task = serde_json::from_str(&first)
        .context("a worker is started by `localhub bench` (run that instead)")?;
    raise_descriptors();

    let (stage, stages) = watch::channel(Stage::default());
    follow_stdin(move |line| {
        if let Ok(order) = serde_json::from_str(line) {
            stage.send_modify(|stage| stage.obey(order));
        }
    });
    let (to_events, mut events) = mpsc::channel(EVENTS);
    // Jobs of many clients that hardly do anything share a thread.
    let threads = match task.job {
        Job::Idle | Job::Resume => 1,
        _ => task.clients,
    };
    for number in 0..threads {
        let client = Client {
            task: task.clone(),
            number: task.before + number,
            stages: stages.clone(),
            events: to_events.clone(),
            handle: handle.clone(),
        };
        thread::spawn(move || {
            let events = client.events.clone();
            let _ = events.blocking_send(Event::Ended(client.run()));
        });
    }
    drop(to_events);

    let mut all = Tally::default();
    let (mut ready, mut settled) = (0, 0);
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Ready => {
                ready += 1;
                if ready == threads {
                    tell(&Word::Ready)?;
                }
            }
            Event::Settled => {
                settled += 1;
                if settled == threads {
                    tell(&Word::Settled)?;
                }
            }
            Event::Ended(tally) => all.merge(&tally?),
        }
    }
    Ok(all)
}

/// One client of a worker, or the thread of many.
pub(super) struct Client {
    pub(super) task: Task,
    /// Its number among those with the same job, in all processes.
    pub(super) number: u64,
    stages: watch::Receiver<Stage>,
    events: mpsc::Sender<Event>,
    handle: Handle,
}

impl Client {
    fn run(self) -> anyhow::Result<Tally> {
        sleep_precisely();
        if self.task.raw {
            return raw_job(self);
        }
        let handle = self.handle.clone();
        handle.block_on(sdk::run(self))
    }

    /// The moments at which this client publishes, if there is a rate.
    pub(super) fn timetable(&self, start_ns: u64) -> Option<Timetable> {
        let rate = self.task.rate?;
        Some(Timetable::new(
            start_ns,
            rate,
            self.number,
            self.task.all_clients,
        ))
    }

    /// What this client does one after the other.
    pub(super) fn calls(&self, start_ns: u64) -> Calls {
        sleep_until(start_ns);
        let end_ns = start_ns.saturating_add(self.task.length_ns);
        Calls::new(self.timetable(start_ns), end_ns)
    }

    /// Says that this client is prepared, and waits for the moment to begin.
    pub(super) async fn go(&mut self) -> anyhow::Result<u64> {
        let _ = self.events.send(Event::Ready).await;
        self.order(|stage| stage.go_ns).await
    }

    /// Says that the sessions are as they are to be looked at: all open, or all cut.
    pub(super) async fn settled(&self) {
        let _ = self.events.send(Event::Settled).await;
    }

    /// Waits until connections that were cut may come back, and tells how many messages were published
    /// meanwhile.
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "connections are cut on Unix only")
    )]
    pub(super) async fn missed(&mut self) -> anyhow::Result<u64> {
        self.order(|stage| stage.missed).await
    }

    /// How many messages there were for each subscriber, once that is known.
    pub(super) fn expected(&self) -> Option<u64> {
        self.stages.borrow().expected
    }

    /// Waits until it is time to finish.
    pub(super) async fn finish(&mut self) -> anyhow::Result<u64> {
        self.order(|stage| stage.expected).await
    }

    /// The runtime, for a thread without one to wait on.
    #[cfg(unix)]
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    async fn order(&mut self, given: impl Fn(&Stage) -> Option<u64>) -> anyhow::Result<u64> {
        let stage = self.stages.wait_for(|stage| given(stage).is_some()).await?;
        Ok(given(&stage).unwrap_or_default())
    }
}

#[cfg(unix)]
fn raw_job(client: Client) -> anyhow::Result<Tally> {
    super::raw::run(client)
}

#[cfg(not(unix))]
fn raw_job(_: Client) -> anyhow::Result<Tally> {
    anyhow::bail!("--raw is for Unix sockets only (leave it out to measure through the SDK)")
}

/// What the bench has ordered so far.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    go_ns: Option<u64>,
    missed: Option<u64>,
    expected: Option<u64>,
}

impl Stage {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Go { at_ns } => self.go_ns = Some(at_ns),
            Order::Return { missed } => self.missed = Some(missed),
            Order::Finish { expected } => self.expected = Some(expected),
        }
    }
}

/// What the threads of a worker tell.
enum Event {
    Ended(anyhow::Result<Tally>),
    Ready,
    Settled,
}

fn tell(word: &Word) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// Allows this process as many open files as the system lets it have.
fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // What is refused here shows when a socket cannot be opened.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// As many events of the threads may wait.
const EVENTS: usize = 64;
