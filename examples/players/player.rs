//! A player that plays silence, and tells the host of players how far it is.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example player_host
//! $ cargo run --example player -- radio                     # in another terminal
//! $ cargo run --example player -- radio --device speaker-2
//! $ cargo run --example player -- radio --protocol-version 2.0   # ends at once, and says why
//! ```
//!
//! When the host was away, or this player for too long, it registers again.

#[expect(dead_code, reason = "a player asks, and does not answer")]
mod driver;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use driver::{
    Metadata, PLAYERS, PlayerDriver, PlayerInfo, PlayerState, PlayerStatus, RemoteDriver, Timeline,
    VERSION,
};
use localhub_client::{Client, Code, Error};
use localhub_examples::{Version, say};
use tokio::{signal, time};

/// Plays silence on a device.
#[derive(Parser)]
struct Args {
    /// The player's name, also at the hub: a-z 0-9 . _ -
    name: String,
    /// The device to play on.
    #[arg(long, default_value = "speaker-1")]
    device: String,
    /// The version of the contract to claim.
    #[arg(long, value_name = "MAJOR.MINOR", default_value_t = VERSION)]
    protocol_version: Version,
}

/// How often the host is told how far the music is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How long silence is.
const DURATION: Duration = Duration::from_secs(273);

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("player", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::connect(&args.name).await?;
    let host = RemoteDriver::connect(&client, args.protocol_version).await?;
    // The host sees in this channel that a player is there.
    client.join(PLAYERS).await?;
    tokio::select! {
        outcome = play(&host, &args) => outcome?,
        _ = signal::ctrl_c() => {} // who leaves is unregistered
    }
    Ok(client.close().await?)
}

/// Works with any driver: one in this program would do as well.
async fn play(host: &impl PlayerDriver, args: &Args) -> Result<(), Error> {
    register(host, args).await?;
    let mut ticks = time::interval(TELL_EVERY);
    let start = ticks.tick().await;
    loop {
        let position = (ticks.tick().await - start).min(DURATION);
        let timeline = Timeline {
            position_ms: position.as_millis() as u64,
            duration_ms: DURATION.as_millis() as u64,
        };
        match host
            .update_player_timeline(args.name.clone(), timeline)
            .await
        {
            Ok(()) => {}
            Err(Error::Failed(failure)) if failure.code() == "unknown_player" => {
                register(host, args).await?;
            }
            // There is no host now. The next may be another one.
            Err(
                Error::Refused {
                    code: Code::NO_SUCH_SERVICE,
                    ..
                }
                | Error::NoReply { .. },
            ) => {}
            Err(error) => return Err(error),
        }
        if position == DURATION {
            return host.unregister_player(args.name.clone()).await;
        }
    }
}

async fn register(host: &impl PlayerDriver, args: &Args) -> Result<(), Error> {
    let (player, title) = (args.name.clone(), "4'33\"".to_owned());
    let info = PlayerInfo {
        title: format!("plays {title}"),
    };
    let artist = Some("John Cage".to_owned());
    host.register_player(player.clone(), info).await?;
    host.assign_player_to_device(player.clone(), args.device.clone())
        .await?;
    host.update_player_metadata(player.clone(), Metadata { title, artist })
        .await?;
    host.update_player_status(player.clone(), PlayerStatus::Ready)
        .await?;
    host.update_player_state(player.clone(), PlayerState::Playing)
        .await?;
    say!("{player} plays on {}", args.device);
    Ok(())
}
