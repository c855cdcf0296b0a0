//! Shows what the sidecar `sysmon` publishes, live.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example sysmon
//! $ cargo run --example dashboard        # in another terminal, before or after the sidecar
//! ```
//!
//! On a terminal the readings stay in place and change; into a pipe or file they are one line each.
//! Kill the sidecar with `kill -9` and see what the presence of the channel says about it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use localhub_client::{Change, Channel, Member, Message, Options, Status};
use serde::Deserialize;
use tokio::signal;

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("dashboard", run().await)
}

async fn run() -> anyhow::Result<()> {
    // No name: there may be any number of dashboards, the broker tells them apart.
    let client = Options::new().connect().await?;
    let channel = client.join("sysmon").await?;
    tokio::select! {
        outcome = show(&channel) => outcome?,
        _ = signal::ctrl_c() => {}
    }
    // If the broker ended this client, its reason comes out here.
    Ok(client.close().await?)
}

/// Shows the channel until the client is closed.
async fn show(channel: &Channel) -> anyhow::Result<()> {
    let mut presence = channel.presence().await?;
    // The retained values come first, so a dashboard that starts late shows all of them at once.
    let mut readings = channel.subscribe("#").await?;

    let mut screen = Screen::default();
    match presence.members().iter().find(|member| is_sidecar(member)) {
        Some(sidecar) => screen.say(&describe(sidecar))?,
        None => screen.say("no sidecar yet (start one with `cargo run --example sysmon`)")?,
    }
    loop {
        tokio::select! {
            reading = readings.next() => match reading {
                Some(Ok(message)) => screen.show(&message)?,
                Some(Err(gap)) => screen.say(&gap.to_string())?,
                None => return Ok(()),
            },
            Some(event) = presence.next() => match event.change {
                _ if !is_sidecar(&event.member) => {}
                Change::Left => screen.say("the sidecar has gone")?,
                _ => screen.say(&describe(&event.member))?,
            },
        }
    }
}

fn is_sidecar(member: &Member) -> bool {
    member.name.as_str() == "sysmon"
}

fn describe(sidecar: &Member) -> String {
    /// What the sidecar shows of itself as its presence state.
    #[derive(Deserialize)]
    struct About {
        host: Option<String>,
        interval_ms: u64,
    }

    match (sidecar.status, sidecar.state::<About>()) {
        (Status::Away, _) => "the sidecar is away: these are its last readings".to_owned(),
        (_, Ok(About { host, interval_ms })) => {
            let host = host.as_deref().unwrap_or("this machine");
            format!("readings of {host}, every {interval_ms} ms")
        }
        (_, Err(error)) => format!("the sidecar says nothing of itself: {error}"),
    }
}

/// A value of any topic of the sidecar.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reading {
    Load { percent: f64 },
    Space { used: f64, size: f64 },
    Traffic { received: f64, sent: f64 },
}

impl Reading {
    fn text(&self) -> String {
        const GIB: f64 = 1_073_741_824.0;
        match *self {
            Self::Load { percent } => format!("{}{percent:6.1} %", bar(percent / 100.0)),
            Self::Space { used, size } => {
                let part = if size > 0.0 { used / size } else { 0.0 };
                let (used, size) = (used / GIB, size / GIB);
                format!(
                    "{}{:6.1} %  {used:.1} of {size:.1} GiB",
                    bar(part),
                    100.0 * part
                )
            }
            Self::Traffic { received, sent } => {
                format!("{:.1} kB/s in, {:.1} kB/s out", received / 1e3, sent / 1e3)
            }
        }
    }
}

fn bar(part: f64) -> String {
    const WIDTH: usize = 20;
    let full = (part.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full))
}

/// What is on the terminal: a line for each topic, and the news below them.
#[derive(Default)]
struct Screen {
    lines: BTreeMap<String, String>,
    news: String,
    drawn: usize,
}

impl Screen {
    fn show(&mut self, message: &Message) -> anyhow::Result<()> {
        let topic = message.topic().unwrap_or_default();
        let line = if message.is_cleared() {
            self.lines.remove(topic);
            format!("{topic:<16} no longer there")
        } else {
            let line = format!("{topic:<16} {}", message.decode::<Reading>()?.text());
            self.lines.insert(topic.to_owned(), line.clone());
            line
        };
        Ok(self.draw(&line)?)
    }

    fn say(&mut self, news: &str) -> io::Result<()> {
        news.clone_into(&mut self.news);
        self.draw(news)
    }

    /// Draws all lines over the old ones; where there is no terminal, prints what is new.
    fn draw(&mut self, new: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !out.is_terminal() {
            return writeln!(out, "{new}");
        }
        let mut frame = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"), // up to the first line
        };
        for line in self.lines.values().chain([&self.news]) {
            let _ = writeln!(frame, "{line}\x1b[K"); // and clear what was longer
        }
        self.drawn = self.lines.len() + 1;
        write!(out, "{frame}\x1b[J")?;
        out.flush()
    }
}
