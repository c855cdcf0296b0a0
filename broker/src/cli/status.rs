//! `localhub status`.

use localhub_client::admin::{self, HubView};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::units::{bytes, count, duration, full};
use super::shared::{block_on, link};

/// Show the broker as a whole: uptime, clients, traffic, memory
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub status\n  localhub status --json | jq .connected")]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let hub: HubView = client.admin(admin::STATUS, &()).await?;
        link::close(client).await;
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&hub)?;
        } else {
            out.line(text(&hub))?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

fn text(hub: &HubView) -> String {
    let memory = bytes(hub.memory_limit_bytes);
    // This command is one of the clients, and gone when the answer is read.
    let mut lines = vec![
        format!("localhub {} at {}", hub.version, hub.endpoint),
        format!("running   {}, pid {}", duration(hub.uptime_ms), hub.pid),
        format!(
            "clients   {} connected, {} away",
            full(hub.connected.saturating_sub(1)),
            full(hub.parked)
        ),
        format!("channels  {}", full(hub.channels)),
        format!(
            "messages  {} in, {} out, {} lost",
            full(hub.messages_in),
            full(hub.messages_out),
            full(hub.messages_lost)
        ),
        format!(
            "memory    {} waiting, {} retained, of at most {memory}",
            bytes(hub.queued_bytes),
            bytes(hub.retained_bytes)
        ),
    ];
    if hub.requests + hub.commands > 0 {
        lines.push(format!(
            "requests  {} without outcome, {} known in {}",
            full(hub.requests),
            count(hub.commands, "command"),
            bytes(hub.command_bytes)
        ));
    }
    if hub.connections_refused > 0 {
        lines.push(format!(
            "refused   {} connections",
            full(hub.connections_refused)
        ));
    }
    if hub.log_lines_lost > 0 {
        lines.push(format!("log       {} lines lost", full(hub.log_lines_lost)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_shown_only_if_there_is_any() {
        let mut hub = HubView {
            version: "1.2.3".into(),
            pid: 4711,
            endpoint: "/run/hub.sock".into(),
            uptime_ms: 7_500_000,
            connected: 13,
            parked: 1,
            channels: 3,
            messages_in: 1_204,
            messages_out: 4_816,
            queued_bytes: 1_300_000,
            memory_limit_bytes: 1 << 30,
            ..HubView::default()
        };
        let calm = "\
localhub 1.2.3 at /run/hub.sock
running   2 h 5 min, pid 4711
clients   12 connected, 1 away
channels  3
messages  1,204 in, 4,816 out, 0 lost
memory    1.2 MiB waiting, 0 B retained, of at most 1 GiB";
        assert_eq!(text(&hub), calm);
        hub.connections_refused = 2;
        hub.log_lines_lost = 1_000;
        let trouble = "\nrefused   2 connections\nlog       1,000 lines lost";
        assert_eq!(text(&hub), format!("{calm}{trouble}"));
        hub.commands = 1;
        hub.command_bytes = 320;
        let known = "\nrequests  0 without outcome, 1 command known in 320 B";
        assert_eq!(text(&hub), format!("{calm}{known}{trouble}"));
    }
}
