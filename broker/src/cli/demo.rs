//! `localhub demo`: a private hub in this process, real programs on it, one of them killed half way.
//!
//! Nothing is staged: what is shown is what the programs see and report. They are processes of
//! this same executable, started as `localhub demo --role ROLE`.

mod apps;
mod program;
mod readings;
mod report;
mod screen;
mod story;
mod summary;

use std::{future, mem, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow, bail};
use localhub::Broker;
use localhub::config::Config;
use localhub_client::Options;
use localhub_client::admin::{self, HubView};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::shared::exit::{Exit, note};
use super::shared::interrupt::Interrupts;
use super::shared::output::{Output, OutputError};
use program::{Event, Program};
use report::{Report, Role, now_ns};
use screen::Screen;
use story::Story;
use summary::Summary;

/// Show a hub at work: real programs on it, one of them killed half way
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it runs
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// Be one of the programs of a running demo
    #[arg(long, hide = true)]
    role: Option<Role>,
}

/// Runs the demo, or one of its programs.
///
/// # Errors
/// The hub or a program could not be started, a program ended by itself, or the demo was stopped.
pub(crate) async fn run(args: Args, json: bool) -> anyhow::Result<ExitCode> {
    if let Some(role) = args.role {
        return Ok(apps::run(role).await);
    }
    let mut interrupts = Interrupts::new().context("cannot listen to signals")?;
    let mut demo = Demo::start(Duration::from_secs(args.seconds), json).await?;
    let outcome = tokio::select! {
        () = interrupts.next() => Err(anyhow!("stopped before the end")),
        () = hangup() => Err(anyhow!("the terminal has gone")),
        outcome = demo.perform() => outcome,
    };
    demo.end().await;
    let summary = outcome?;

    let mut out = Output::new(json);
    if out.is_json() {
        out.object(&summary)?;
    } else {
        out.line(format_args!("\n{summary}"))?;
    }
    out.flush()?;
    for failure in &summary.failures {
        note(&format!("not as it should be: {failure}"));
    }
    Ok(if summary.failures.is_empty() {
        Exit::Done.into()
    } else {
        Exit::Failed.into()
    })
}

/// A demo that runs. The fields are dropped in this order: the programs end before the hub, and the
/// hub before its directory.
struct Demo {
    programs: Vec<Program>,
    /// Whether the programs have been told to finish.
    finishing: bool,
    /// How many programs were started.
    started: usize,
    events: mpsc::Receiver<Event>,
    to_events: mpsc::Sender<Event>,
    broker: Broker,
    directory: TempDir,
    length: Duration,
    story: Story,
    screen: Screen,
}

impl Demo {
    /// Starts the hub, in a directory that only this user may enter.
    async fn start(length: Duration, json: bool) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("localhub-demo-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let endpoint = if cfg!(windows) {
            let name = directory
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            format!(r"\\.\pipe\{name}")
        } else {
            directory.path().join("hub.sock").display().to_string()
        };
        let broker = Broker::start(&Config {
            endpoint: Some(endpoint),
            ..Config::default()
        })
        .await?;
        let (to_events, events) = mpsc::channel(EVENTS);
        Ok(Self {
            programs: Vec::new(),
            finishing: false,
            started: 0,
            events,
            to_events,
            broker,
            directory,
            length,
            story: Story::new(),
            screen: Screen::new(json),
        })
    }

    /// The whole play. Whatever does not happen in time is missed in the summary.
    async fn perform(&mut self) -> anyhow::Result<Summary> {
        // The observer is first, so that it sees the others join.
        for role in [
            Role::Observer,
            Role::Monitor,
            Role::Sidecar,
            Role::Controller,
        ] {
            self.launch(role)?;
            if !self
                .within(PATIENCE, |demo| demo.story.is_ready(role))
                .await?
            {
                bail!(
                    "the {} is not ready after {} s",
                    role.name(),
                    PATIENCE.as_secs()
                );
            }
        }
        self.until(self.length / 2, |_| false).await?;

        self.kill_sidecar()?;
        self.within(PATIENCE, |demo| demo.story.kill_was_seen())
            .await?;
        self.within(ABSENCE, |_| false).await?;
        let started_ns = now_ns();
        let pid = self.launch(Role::Sidecar)?;
        self.story.restarted(pid, started_ns);
        self.within(PATIENCE, |demo| demo.story.restart_was_seen())
            .await?;
        self.until(self.length, |_| false).await?;

        self.finish().await?;
        self.screen
            .draw(&self.story, self.length)
            .map_err(OutputError)?;
        self.summary().await
    }

    fn launch(&mut self, role: Role) -> anyhow::Result<u32> {
        let endpoint = self.broker.endpoint().path().as_os_str();
        let program = Program::start(role, endpoint, self.to_events.clone())
            .with_context(|| format!("cannot start the {}", role.name()))?;
        let pid = program.pid();
        self.programs.push(program);
        self.started += 1;
        Ok(pid)
    }

    /// Kills the sidecar; it cannot say goodbye.
    fn kill_sidecar(&mut self) -> anyhow::Result<()> {
        let at = self
            .place(Role::Sidecar)
            .context("there is no sidecar to kill")?;
        let mut sidecar = self.programs.swap_remove(at);
        self.story.killed(sidecar.pid(), now_ns());
        Ok(sidecar.kill()?)
    }

    /// Lets the programs finish one by one: who speaks first, then who listens.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.finishing = true;
        for role in [
            Role::Controller,
            Role::Sidecar,
            Role::Monitor,
            Role::Observer,
        ] {
            if let Some(at) = self.place(role) {
                self.programs[at].dismiss();
            }
            if !self
                .within(PATIENCE, |demo| demo.place(role).is_none())
                .await?
            {
                bail!(
                    "the {} has not finished after {} s",
                    role.name(),
                    PATIENCE.as_secs()
                );
            }
        }
        Ok(())
    }

    /// Where among the running programs the one of that role is.
    fn place(&self, role: Role) -> Option<usize> {
        self.programs
            .iter()
            .position(|program| program.role() == role)
    }

    /// Asks the hub for its numbers as an operator would, and sums up.
    async fn summary(&mut self) -> anyhow::Result<Summary> {
        let operator = Options::new()
            .endpoint(self.broker.endpoint().clone())
            .connect()
            .await?;
        let hub: HubView = operator.admin(admin::STATUS, &()).await?;
        operator.close().await?;
        let story = mem::replace(&mut self.story, Story::new());
        Ok(Summary::new(story, &hub, 1 + self.started))
    }

    /// Ends what still runs: the programs, then the hub, then its directory.
    async fn end(self) {
        let Self {
            programs,
            broker,
            directory,
            ..
        } = self;
        drop(programs);
        broker.stop().await;
        if let Err(error) = directory.close() {
            note(&format!("cannot remove the directory of the demo: {error}"));
        }
    }

    /// As [`until`](Self::until), from now on.
    async fn within(
        &mut self,
        time: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        self.until(self.story.age() + time, done).await
    }

    /// Follows the story until all is done, or until it is so old; whether it was done in time.
    async fn until(&mut self, age: Duration, done: impl Fn(&Self) -> bool) -> anyhow::Result<bool> {
        let deadline = Instant::now() + age.saturating_sub(self.story.age());
        let mut pictures = time::interval(PICTURE_EVERY);
        pictures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !done(self) {
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event)?,
                _ = pictures.tick() => {}
                () = time::sleep_until(deadline) => return Ok(false),
            }
            self.screen
                .show(&self.story, self.length)
                .map_err(OutputError)?;
        }
        Ok(true)
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Report(role, Report::Failed { reason }) => {
                bail!("the {}: {reason}", role.name())
            }
            Event::Report(role, report) => self.story.hear(role, report),
            Event::Ended(pid) => {
                let Some(at) = self
                    .programs
                    .iter()
                    .position(|program| program.pid() == pid)
                else {
                    return Ok(()); // the one that was killed
                };
                let mut program = self.programs.swap_remove(at);
                if !self.finishing || !program.ended_well()? {
                    bail!("the {} (pid {pid}) ended by itself", program.role().name());
                }
            }
        }
        Ok(())
    }
}

/// Resolves when the terminal is closed, which would otherwise leave the directory behind. On
/// Windows that is one of the interrupts.
async fn hangup() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        if let Ok(mut hangups) = signal(SignalKind::hangup()) {
            hangups.recv().await;
            return;
        }
    }
    future::pending().await
}

/// How long anything in the demo may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the sidecar stays away after it was killed, so that the others are seen without it.
const ABSENCE: Duration = Duration::from_secs(1);

/// How often the screen is looked after when nothing happens.
const PICTURE_EVERY: Duration = Duration::from_millis(100);

/// As many reports of programs may wait; a full queue makes the programs wait.
const EVENTS: usize = 1_024;
