//! Prices: one program feeds them, viewers see a consistent snapshot first and then every change.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example ticker -- feed
//! $ cargo run --example ticker -- view '+'      # all symbols
//! $ cargo run --example ticker -- view ACME     # one
//! ```
//!
//! The viewer solves the old puzzle of "load, then subscribe": it starts to listen *first*, loads
//! the snapshot *second*, and passes over what the snapshot has already. Every message of a channel
//! has an offset, and a snapshot says at which offset it was taken, so nothing is missed and
//! nothing seen twice. (`Channel::subscribe` does the same in one call, for a program that does not
//! mind whether a value is old or new.)

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use localhub_client::{Channel, Message, Options, Payload};
use localhub_examples::say;
use serde::{Deserialize, Serialize};
use tokio::{signal, time};

/// Feeds or shows prices in the channel `ticker`.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Makes prices up and publishes them.
    Feed,
    /// Shows the prices of the symbols that match.
    View {
        /// A symbol, or + for all.
        symbol: String,
    },
}

#[derive(Deserialize, Serialize)]
struct Price {
    cents: i64,
    change: i64,
}

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("ticker", run(Args::parse().role).await)
}

async fn run(role: Role) -> anyhow::Result<()> {
    let options = match role {
        // The name is the lock: a second feed is told that the name is taken.
        Role::Feed => Options::new().name("ticker"),
        Role::View { .. } => Options::new(),
    };
    let client = options.connect().await?;
    let channel = client.join("ticker").await?;
    tokio::select! {
        outcome = async {
            match role {
                Role::Feed => feed(&channel).await,
                Role::View { symbol } => view(&channel, &format!("price/{symbol}")).await,
            }
        } => outcome?,
        _ = signal::ctrl_c() => {}
    }
    // If the broker ended this client, its reason comes out here.
    Ok(client.close().await?)
}

async fn feed(channel: &Channel) -> anyhow::Result<()> {
    say!("feeding channel {} (ctrl-c ends it)", channel.name());
    let mut prices = [("ACME", 12_000_i64), ("GLOBEX", 4_550), ("INITECH", 980)];
    let mut rounds = time::interval(Duration::from_millis(250));
    let mut round = 0;
    loop {
        rounds.tick().await;
        let (symbol, cents) = &mut prices[round % 3];
        // Not a market, but it goes up and down, and no two symbols alike.
        let change = ((round * (symbol.len() + 7)) % 41) as i64 - 20;
        *cents = (*cents + change).max(1);
        let price = Price {
            cents: *cents,
            change,
        };
        // Retained: the channel keeps the last price of each symbol for those who come later.
        channel
            .retain(&format!("price/{symbol}"), Payload::cbor(&price)?)
            .await?;
        round += 1;
    }
}

async fn view(channel: &Channel, filter: &str) -> anyhow::Result<()> {
    let mut changes = channel.subscribe_live(filter).await?;
    let snapshot = channel.snapshot(filter).await?;
    say!("snapshot of {filter} at offset {}", snapshot.offset);
    snapshot.values.iter().try_for_each(show)?;

    while let Some(change) = changes.next().await {
        match change {
            Ok(message) if message.offset() <= snapshot.offset => {} // in the snapshot
            Ok(message) => show(&message)?,
            Err(gap) => say!("{gap}"),
        }
    }
    Ok(())
}

fn show(message: &Message) -> anyhow::Result<()> {
    let price: Price = message.decode()?;
    writeln!(
        io::stdout(),
        "{:>8}  {:<14} {:>8.2} {:>+6.2}",
        message.offset(),
        message.topic().unwrap_or_default(),
        price.cents as f64 / 100.0,
        price.change as f64 / 100.0,
    )?;
    Ok(())
}
