//! A sidecar: publishes this machine's readings for whoever wants to see them.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example sysmon -- --interval-ms 500
//! $ cargo run --example dashboard        # or: localhub watch sysmon
//! ```
//!
//! Every reading is the *retained* value of its topic, so a program that subscribes later is told
//! the last one at once:
//!
//! | topic | value |
//! | --- | --- |
//! | `cpu/total`, `cpu/0`, `cpu/1`, ... | `{"percent": 12.5}` |
//! | `memory`, `disk/<mount point>` | `{"used": 8123456, "size": 16777216}`, in bytes |
//! | `net/<interface>` | `{"received": 1200, "sent": 300}`, in bytes per second |

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Parser;
use localhub_client::{Channel, Client, ConnectionState, Error, Join, Payload};
use localhub_examples::say;
use serde_json::{Value, json};
use sysinfo::{Disks, Networks, System};
use tokio::{signal, time, time::Instant};

/// Publishes this machine's readings in the channel `sysmon`.
#[derive(Parser)]
struct Args {
    /// From one round of readings to the next, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(200..))]
    interval_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("sysmon", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::connect("sysmon").await?;
    // Presence state: every member of the channel sees it beside our name.
    let state = json!({ "host": System::host_name(), "interval_ms": args.interval_ms });
    let channel = client
        .join_with("sysmon", Join::new().state(&state)?)
        .await?;
    say!(
        "publishing every {} ms in channel sysmon (ctrl-c ends it)",
        args.interval_ms
    );

    let mut machine = Machine::new();
    tokio::select! {
        outcome = machine.report(&channel, Duration::from_millis(args.interval_ms)) => outcome?,
        _ = signal::ctrl_c() => {}
    }
    machine.forget(&channel).await?;
    Ok(client.close().await?)
}

/// The source of the readings, and what was published so far.
struct Machine {
    system: System,
    disks: Disks,
    networks: Networks,
    refreshed: Instant,
    topics: BTreeSet<String>,
}

impl Machine {
    fn new() -> Self {
        Self {
            system: System::new(),
            disks: Disks::new(),
            networks: Networks::new_with_refreshed_list(),
            refreshed: Instant::now(),
            topics: BTreeSet::new(),
        }
    }

    /// Publishes a round of readings at every interval, until the client is closed.
    async fn report(&mut self, channel: &Channel, interval: Duration) -> Result<(), Error> {
        let mut rounds = time::interval(interval);
        loop {
            rounds.tick().await;
            match channel.client().connection().current() {
                ConnectionState::Connected { .. } => self.publish(channel).await?,
                ConnectionState::Closed { .. } => return Ok(()),
                _ => {} // what cannot be sent now is worth nothing later
            }
        }
    }

    /// Publishes one round of readings, and takes back those of what has gone since the last.
    async fn publish(&mut self, channel: &Channel) -> Result<(), Error> {
        let readings = self.read();
        let topics = readings.iter().map(|(topic, _)| topic.clone()).collect();
        for gone in self.topics.difference(&topics) {
            channel.clear(gone).await?;
        }
        self.topics = topics;
        for (topic, value) in readings {
            channel.retain(&topic, Payload::json(&value)?).await?;
        }
        Ok(())
    }

    /// Takes all readings back: a value nobody refreshes any more must not look like a live one.
    async fn forget(&self, channel: &Channel) -> Result<(), Error> {
        for topic in &self.topics {
            channel.clear(topic).await?;
        }
        Ok(())
    }

    fn read(&mut self) -> Vec<(String, Value)> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let seconds = self.refreshed.elapsed().as_secs_f64().max(0.001);
        self.refreshed = Instant::now();
        let per_second = |bytes: u64| (bytes as f64 / seconds) as u64;

        let mut readings = vec![
            (
                "cpu/total".to_owned(),
                json!({ "percent": tenths(self.system.global_cpu_usage()) }),
            ),
            (
                "memory".to_owned(),
                json!({ "used": self.system.used_memory(), "size": self.system.total_memory() }),
            ),
        ];
        for (number, cpu) in self.system.cpus().iter().enumerate() {
            readings.push((
                format!("cpu/{number}"),
                json!({ "percent": tenths(cpu.cpu_usage()) }),
            ));
        }
        for disk in &self.disks {
            let (size, free) = (disk.total_space(), disk.available_space());
            readings.push((
                format!("disk/{}", level(&disk.mount_point().to_string_lossy())),
                json!({ "used": size.saturating_sub(free), "size": size }),
            ));
        }
        for (interface, traffic) in &self.networks {
            readings.push((
                format!("net/{}", level(interface)),
                json!({
                    "received": per_second(traffic.received()),
                    "sent": per_second(traffic.transmitted()),
                }),
            ));
        }
        readings
    }
}

/// Rounds to what is worth telling; more digits would only be noise.
fn tenths(percent: f32) -> f64 {
    (f64::from(percent) * 10.0).round() / 10.0
}

/// A name as one level of a topic, which has no slashes and no wildcards: `/home/media` becomes
/// `home-media`, and `/` becomes `root`.
fn level(name: &str) -> String {
    match name.trim_matches(['/', '\\']) {
        "" => "root".to_owned(),
        name => name.replace(['/', '\\', '+', '#'], "-"),
    }
}
