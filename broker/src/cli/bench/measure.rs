//! The workloads: who does what, in which order, and what follows from the counts.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use localhub_client::Join;
use tokio::time;

use super::super::shared::clock::now_ns;
use super::crew::{Crew, Milestone};
use super::hub::Hub;
use super::outcome::{Figures, Plan};
use super::pace::SECOND_NS;
use super::tally::Tally;
use super::task::{Job, Order, Task, Way};
use super::{IDLE, LATENCY, PATIENCE, RESUME, RESUME_PATIENCE, TOPIC};

/// Carries out a plan.
pub(super) async fn measure(plan: &Plan, hub: &Hub) -> anyhow::Result<Figures> {
    let run = Run::new(plan, hub);
    match (plan.workload, plan.rate) {
        ("connect", _) => run.calls(Job::Connect).await,
        ("request", _) if plan.way == Some(Way::Status) => run.calls(Job::Request).await,
        ("request", _) => run.requests().await,
        (IDLE, _) => run.idle().await,
        (LATENCY, None) => run.ping_pong().await,
        (RESUME, _) => run.resume().await,
        _ => run.stream().await,
    }
}

/// A run of a plan.
struct Run<'a> {
    plan: &'a Plan,
    hub: &'a Hub,
    crew: Crew,
    channel: String,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, hub: &'a Hub) -> Self {
        // Two runs on one broker do not meet.
        let channel = format!("bench/{}", std::process::id());
        Self {
            plan,
            hub,
            crew: Crew::new(),
            channel,
        }
    }

    /// Publishers and subscribers.
    async fn stream(mut self) -> anyhow::Result<Figures> {
        let subscribers = self.plan.subscribers.unwrap_or(1);
        self.enlist(Job::Subscribe, subscribers, 1)?;
        self.enlist(Job::Publish, self.plan.publishers.unwrap_or(1), 1)?;
        self.crew.reach(Milestone::Ready).await?;
        let start_ns = self.crew.go()?;
        let bar = Bar::of_time(self.length());
        let published = self.crew.done(Job::Publish, self.patience()).await?;
        let expected = published.sent - published.refused;
        self.crew
            .order(Job::Subscribe, Order::Finish { expected })?;
        let came = self.crew.done(Job::Subscribe, self.patience()).await?;
        drop(bar);

        let size = self.plan.size_bytes.unwrap_or(0) as f64;
        let received_per_s = per_s(came.received, start_ns, came.ended_ns);
        Ok(Figures {
            sent: Some(published.sent),
            sent_per_s: Some(per_s(published.sent, start_ns, published.ended_ns)),
            received: Some(came.received),
            received_per_s: Some(received_per_s),
            payload_bytes_per_s: Some(received_per_s * size),
            lost: came.lost,
            missing: (expected * subscribers).saturating_sub(came.received + came.lost),
            refused: published.refused,
            latency: came.latencies.percentiles(),
            ..Figures::default()
        })
    }

    /// One message at a time, there and back.
    async fn ping_pong(mut self) -> anyhow::Result<Figures> {
        self.enlist(Job::Pong, 1, 1)?;
        self.enlist(Job::Ping, 1, 1)?;
        self.crew.reach(Milestone::Ready).await?;
        let start_ns = self.crew.go()?;
        let bar = Bar::of_time(self.length());
        let pings = self.crew.done(Job::Ping, self.patience()).await?;
        self.crew.order(Job::Pong, Order::Finish { expected: 0 })?;
        self.crew.done(Job::Pong, self.patience()).await?;
        drop(bar);
        Ok(round_trips(&pings, start_ns))
    }

    /// Requests to another client.
    async fn requests(mut self) -> anyhow::Result<Figures> {
        self.enlist(Job::Answer, 1, 1)?;
        self.enlist(Job::Request, self.plan.clients.unwrap_or(1), 1)?;
        self.crew.reach(Milestone::Ready).await?;
        let start_ns = self.crew.go()?;
        let bar = Bar::of_time(self.length());
        let calls = self.crew.done(Job::Request, self.patience()).await?;
        self.crew
            .order(Job::Answer, Order::Finish { expected: 0 })?;
        self.crew.done(Job::Answer, self.patience()).await?;
        drop(bar);
        Ok(round_trips(&calls, start_ns))
    }

    /// Something that each client does again and again.
    async fn calls(mut self, job: Job) -> anyhow::Result<Figures> {
        self.enlist(job, self.plan.clients.unwrap_or(1), 1)?;
        self.crew.reach(Milestone::Ready).await?;
        let start_ns = self.crew.go()?;
        let bar = Bar::of_time(self.length());
        let calls = self.crew.done(job, self.patience()).await?;
        drop(bar);
        Ok(round_trips(&calls, start_ns))
    }

    /// Sessions that do nothing.
    async fn idle(mut self) -> anyhow::Result<Figures> {
        let sessions = self.plan.sessions.unwrap_or(1);
        self.enlist(Job::Idle, sessions, SESSIONS_PER_PROCESS)?;
        self.crew.reach(Milestone::Ready).await?;
        let before = self.hub.resident_bytes()?;
        let start_ns = self.crew.go()?;
        let bar = Bar::of_things("opening sessions");
        self.crew.reach(Milestone::Settled).await?;
        let opened_ns = now_ns();
        drop(bar);
        let with_all = self.hub.resident_bytes()?;
        // This process is a client, too.
        let connected = self.hub.status().await?.connected.saturating_sub(1);
        self.crew.order(Job::Idle, Order::Finish { expected: 0 })?;
        self.crew.done(Job::Idle, self.patience()).await?;
        let more = with_all.saturating_sub(before);
        Ok(Figures {
            sessions: Some(connected),
            all_sessions_ns: Some(opened_ns.saturating_sub(start_ns)),
            resident_before_bytes: Some(before),
            resident_bytes: Some(with_all),
            resident_bytes_per_session: Some(more as f64 / sessions as f64),
            sessions_lost: sessions.saturating_sub(connected),
            ..Figures::default()
        })
    }

    /// Sessions that lose their connections at once.
    async fn resume(mut self) -> anyhow::Result<Figures> {
        let sessions = self.plan.sessions.unwrap_or(1);
        let join = Join::new().hidden();
        let channel = self.hub.operator().join_with(&self.channel, join).await?;
        let away_before = self.hub.status().await?.parked;
        self.enlist(Job::Resume, sessions, SESSIONS_PER_PROCESS)?;
        self.crew.reach(Milestone::Ready).await?;
        self.crew.go()?;
        let bar = Bar::of_things("cutting connections");
        self.crew.reach(Milestone::Settled).await?;
        let all_away = async {
            let mut looks = time::interval(LOOK_EVERY);
            while self.hub.status().await?.parked < away_before + sessions {
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        time::timeout(PATIENCE, all_away)
            .await
            .context("the broker has not seen all connections end")??;
        for _ in 0..MISSED {
            channel.publish_confirmed(TOPIC, "missed").await?;
        }
        bar.say("waiting for the sessions");
        let start_ns = now_ns();
        self.crew
            .order(Job::Resume, Order::Return { missed: MISSED })?;
        let back = self.crew.done(Job::Resume, RESUME_PATIENCE * 2).await?;
        drop(bar);
        channel.leave().await?;

        let sessions_lost = sessions.saturating_sub(back.sessions);
        let expected = MISSED * sessions;
        Ok(Figures {
            received: Some(back.received),
            sessions: Some(back.sessions),
            all_sessions_ns: Some(back.ended_ns.saturating_sub(start_ns)),
            lost: back.lost,
            missing: expected.saturating_sub(back.received + back.lost),
            sessions_lost,
            latency: back.latencies.percentiles(),
            ..Figures::default()
        })
    }

    fn enlist(&mut self, job: Job, clients: u64, most: u64) -> anyhow::Result<()> {
        let task = Task {
            job,
            endpoint: self.hub.endpoint(),
            raw: self.plan.raw,
            clients: 0,
            before: 0,
            all_clients: clients,
            channel: self.channel.clone(),
            size_bytes: self.plan.size_bytes.unwrap_or(0),
            length_ns: self.plan.seconds.unwrap_or(0) * SECOND_NS,
            way: self.plan.way,
            rate: self.plan.rate,
        };
        self.crew.enlist(&task, most)
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.plan.seconds.unwrap_or(0))
    }

    /// How long the workers may be silent: all the time that the run takes, and some more for what waits.
    fn patience(&self) -> Duration {
        self.length() + REST
    }
}

/// The figures of things that were done one after the other.
fn round_trips(tally: &Tally, start_ns: u64) -> Figures {
    Figures {
        sent: Some(tally.sent),
        sent_per_s: Some(per_s(tally.sent, start_ns, tally.ended_ns)),
        lost: tally.lost,
        missing: tally.sent.saturating_sub(tally.received),
        latency: tally.latencies.percentiles(),
        ..Figures::default()
    }
}

fn per_s(number: u64, start_ns: u64, end_ns: u64) -> f64 {
    match end_ns.saturating_sub(start_ns) {
        0 => 0.0,
        time_ns => number as f64 * SECOND_NS as f64 / time_ns as f64,
    }
}

/// Shows on a terminal that a long run goes on.
struct Bar {
    bar: ProgressBar,
    clock: Option<tokio::task::JoinHandle<()>>,
}

impl Bar {
    /// A run that takes so long.
    fn of_time(length: Duration) -> Self {
        if length < LONG {
            return Self {
                bar: ProgressBar::hidden(),
                clock: None,
            };
        }
        let bar = ProgressBar::new(length.as_millis() as u64);
        bar.set_style(
            ProgressStyle::with_template("measuring {wide_bar} {elapsed} of {msg}")
                .expect("the template is valid"),
        );
        bar.set_message(format!("{} s", length.as_secs()));
        let shown = bar.clone();
        let clock = tokio::spawn(async move {
            let mut steps = time::interval(STEP);
            while shown.elapsed() < length {
                shown.set_position(shown.elapsed().as_millis() as u64);
                steps.tick().await;
            }
            shown.set_position(length.as_millis() as u64);
        });
        Self {
            bar,
            clock: Some(clock),
        }
    }

    /// A run of which nobody knows how long it takes.
    fn of_things(text: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_message(text);
        bar.enable_steady_tick(STEP);
        Self { bar, clock: None }
    }

    fn say(&self, text: &'static str) {
        self.bar.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(clock) = &self.clock {
            clock.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// As many sessions as one process holds, in spite of its limit of open files.
const SESSIONS_PER_PROCESS: u64 = 250;

/// As many messages are published while all connections are cut.
const MISSED: u64 = 10;

/// How often the broker is asked whether it has seen all connections end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// From this on a run is so long that somebody wants to see it go on.
const LONG: Duration = Duration::from_secs(5);

/// How often a bar moves.
const STEP: Duration = Duration::from_millis(200);

/// How long what waits may take when the publishers are done.
const REST: Duration = Duration::from_secs(60);
