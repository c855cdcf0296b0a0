//! The workers, seen from the bench: processes that are prepared, begin together, and are never left behind.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::mpsc;
use tokio::time;

use super::super::shared::clock::now_ns;
use super::tally::Tally;
use super::task::{Job, Order, Task, Word};

/// All workers of a run. Dropping them kills those that still run.
pub(super) struct Crew {
    workers: Vec<Worker>,
    events: mpsc::Receiver<(usize, Option<Word>)>,
    to_events: mpsc::Sender<(usize, Option<Word>)>,
}

impl Crew {
    pub(super) fn new() -> Self {
        let (to_events, events) = mpsc::channel(EVENTS);
        Self {
            workers: Vec::new(),
            events,
            to_events,
        }
    }

    /// Starts processes for all the clients of a task, with `most` clients in each.
    pub(super) fn enlist(&mut self, task: &Task, most: u64) -> anyhow::Result<()> {
        let mut before = 0;
        while before < task.all_clients {
            let clients = most.min(task.all_clients - before);
            let task = Task {
                clients,
                before,
                ..task.clone()
            };
            let worker = Worker::start(&task, self.workers.len(), self.to_events.clone())
                .context("cannot start a process")?;
            self.workers.push(worker);
            before += clients;
        }
        Ok(())
    }

    /// Waits until all workers have come so far.
    pub(super) async fn reach(&mut self, milestone: Milestone) -> anyhow::Result<()> {
        while !self
            .workers
            .iter()
            .all(|worker| worker.reached >= milestone)
        {
            self.event(PREPARATION).await?;
        }
        Ok(())
    }

    /// Has all workers begin together, and tells when that is.
    pub(super) fn go(&mut self) -> anyhow::Result<u64> {
        let at_ns = now_ns() + START_NS * self.workers.len() as u64;
        for job in JOBS {
            self.order(job, Order::Go { at_ns })?;
        }
        Ok(at_ns)
    }

    /// Gives an order to all workers of a job. Those that have ended do not need it any more.
    pub(super) fn order(&mut self, job: Job, order: Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        for worker in &mut self.workers {
            if worker.job == job && worker.tally.is_none() {
                worker.orders.write_all(&line)?;
            }
        }
        Ok(())
    }

    /// Waits until all workers of a job are done, which takes at most so long, and adds up what they did.
    pub(super) async fn done(&mut self, job: Job, patience: Duration) -> anyhow::Result<Tally> {
        let of_job = |worker: &&Worker| worker.job == job;
        while self
            .workers
            .iter()
            .filter(of_job)
            .any(|worker| worker.tally.is_none())
        {
            self.event(patience).await?;
        }
        let mut all = Tally::default();
        for tally in self.workers.iter().filter(of_job) {
            tally.tally.iter().for_each(|tally| all.merge(tally));
        }
        Ok(all)
    }

    async fn event(&mut self, patience: Duration) -> anyhow::Result<()> {
        let event = time::timeout(patience, self.events.recv()).await;
        let (number, word) = event
            .map_err(|_| {
                anyhow!(
                    "the processes have not said anything for {} s",
                    patience.as_secs()
                )
            })?
            .context("there are no processes")?;
        let worker = &mut self.workers[number];
        match word {
            Some(Word::Ready) => worker.reached = Milestone::Ready,
            Some(Word::Settled) => worker.reached = Milestone::Settled,
            Some(Word::Done(told)) => worker.tally = Some(told.into()),
            Some(Word::Failed { reason }) => bail!("{:?}: {reason}", worker.job),
            None if worker.tally.is_some() => {}
            None => bail!("{:?}: the process has ended before its time", worker.job),
        }
        Ok(())
    }
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Milestone {
    Started,
    Ready,
    Settled,
}

/// One process of this executable. Dropping it kills it.
struct Worker {
    job: Job,
    child: Child,
    orders: ChildStdin,
    reached: Milestone,
    tally: Option<Tally>,
}

impl Worker {
    fn start(
        task: &Task,
        number: usize,
        events: mpsc::Sender<(usize, Option<Word>)>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["bench", "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(words)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are pipes");
        };
        thread::spawn(move || pass_on(number, words, &events));
        let mut worker = Self {
            job: task.job,
            child,
            orders,
            reached: Milestone::Started,
            tally: None,
        };
        let mut line = serde_json::to_vec(task)?;
        line.push(b'\n');
        worker.orders.write_all(&line)?;
        Ok(worker)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what a worker says, and then that it has ended.
fn pass_on(number: usize, words: ChildStdout, events: &mpsc::Sender<(usize, Option<Word>)>) {
    for line in BufReader::new(words).lines().map_while(io::Result::ok) {
        let word = serde_json::from_str(&line).unwrap_or_else(|error| Word::Failed {
            reason: format!("an unreadable word: {error}"),
        });
        if events.blocking_send((number, Some(word))).is_err() {
            return;
        }
    }
    let _ = events.blocking_send((number, None));
}

const JOBS: [Job; 9] = [
    Job::Answer,
    Job::Connect,
    Job::Idle,
    Job::Ping,
    Job::Pong,
    Job::Publish,
    Job::Request,
    Job::Resume,
    Job::Subscribe,
];

/// As many words of workers may wait; a full queue makes the workers wait.
const EVENTS: usize = 1_024;

/// How long the preparation may stand still.
const PREPARATION: Duration = Duration::from_secs(60);

/// How much later the beginning is for each process that has to hear of it.
const START_NS: u64 = 5_000_000;
