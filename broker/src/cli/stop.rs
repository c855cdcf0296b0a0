//! `localhub stop`.

use std::time::Duration;

use anyhow::bail;
use localhub_client::admin::{self, HubView};
use localhub_client::endpoint::{self, ConnectError, Endpoint};
use tokio::time::{Instant, sleep};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::{block_on, link, units};

/// Stop the broker in an orderly way
///
/// Clients are told, get what waits for them, and connect again when a broker is back. Returns
/// once the broker is gone.
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub stop\n  localhub stop --json")]
pub(crate) struct Args {}

/// The longest grace that a broker may be configured to, and a little more.
const PATIENCE: Duration = Duration::from_secs(65);

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let at = client.endpoint().clone();
        let hub: HubView = client.admin(admin::STOP, &()).await?;
        link::close(client).await;
        if !is_gone(&at).await {
            bail!(
                "the broker at {at} (pid {}) still runs after {} s (see its log, or end the process)",
                hub.pid,
                PATIENCE.as_secs()
            );
        }
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&hub)?;
        } else {
            // This command was one of them.
            let clients = units::count(hub.connected.saturating_sub(1), "client");
            let uptime = units::duration(hub.uptime_ms);
            out.line(format_args!(
                "stopped the broker at {at} (pid {}): it was up for {uptime}, with {clients} connected",
                hub.pid
            ))?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

/// Whether nobody listens any more, at last.
async fn is_gone(at: &Endpoint) -> bool {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if let Err(ConnectError::NotRunning { .. }) = endpoint::connect(at).await {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}
