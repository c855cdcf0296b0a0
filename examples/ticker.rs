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
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use localhub_client::{Client, Message, Options, Payload};
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
    let outcome = match Args::parse().role {
        Role::Feed => feed().await,
        Role::View { symbol } => view(&symbol).await,
    };
    localhub_examples::exit_code("ticker", outcome)
}

async fn feed() -> anyhow::Result<()> {
    // The name is the lock: a second feed is told that the name is taken.
    let client = Client::connect("ticker").await?;
    let channel = client.join("ticker").await?;
    println!(
        "feeding channel ticker at {} (ctrl-c ends it)",
        client.endpoint()
    );

    let mut prices = [("ACME", 12_000_i64), ("GLOBEX", 4_550), ("INITECH", 980)];
    let mut rounds = time::interval(Duration::from_millis(250));
    let mut ctrl_c = pin!(signal::ctrl_c());
    for round in 0.. {
        tokio::select! {
            _ = rounds.tick() => {}
            _ = &mut ctrl_c => break,
        }
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
    }
    Ok(client.close().await?)
}

async fn view(symbol: &str) -> anyhow::Result<()> {
    let client = Options::new().connect().await?;
    let channel = client.join("ticker").await?;

    let filter = format!("price/{symbol}");
    let mut changes = channel.subscribe_live(&filter).await?;
    let snapshot = channel.snapshot(&filter).await?;
    println!(
        "{} symbols at offset {}",
        snapshot.values.len(),
        snapshot.offset
    );
    snapshot.values.iter().try_for_each(show)?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(message)) if message.offset() <= snapshot.offset => {} // in the snapshot
                Some(Ok(message)) => show(&message)?,
                Some(Err(gap)) => println!("{gap}"),
                None => break,
            },
            _ = &mut ctrl_c => break,
        }
    }
    // If the broker ended this client, its reason comes out here.
    Ok(client.close().await?)
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
