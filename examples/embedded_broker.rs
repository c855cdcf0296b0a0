//! The broker inside an app: no daemon to install, the hub lives and dies with the program.
//!
//! ```console
//! $ cargo run --example embedded_broker
//! ```
//!
//! Other programs can join in as long as it runs: they set `LOCALHUB_ENDPOINT` to the endpoint
//! that it prints.

use std::process::ExitCode;

use anyhow::Context;
use localhub::{Broker, config::Config};
use localhub_client::{Options, endpoint::Endpoint};

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("embedded_broker", run().await)
}

async fn run() -> anyhow::Result<()> {
    // A private place for the socket: a new directory that only this user may enter. On Windows
    // the endpoint is the name of a pipe and needs no directory.
    let directory = tempfile::tempdir()?;
    let endpoint = if cfg!(windows) {
        format!(r"\\.\pipe\localhub-embedded-{}", std::process::id())
    } else {
        directory.path().join("hub.sock").display().to_string()
    };
    let config = Config {
        endpoint: Some(endpoint.clone()),
        ..Config::default()
    };
    let broker = Broker::start(&config).await?;
    println!(
        "the broker of this program listens at {}",
        broker.endpoint()
    );

    let options =
        || -> anyhow::Result<Options> { Ok(Options::new().endpoint(Endpoint::new(&endpoint)?)) };
    let engine = options()?.name("engine").connect().await?;
    let window = options()?.name("window").connect().await?;

    let mut progress = window.join("build").await?.subscribe("progress/#").await?;
    let build = engine.join("build").await?;
    for percent in [0, 50, 100] {
        build.retain("progress/app", format!("{percent} %")).await?;
    }
    for _ in 0..3 {
        let message = progress.next().await.context("the hub has gone")??;
        println!(
            "{} says {}: {}",
            message.sender().name,
            message.topic().unwrap_or_default(),
            message.text().unwrap_or_default(),
        );
    }

    engine.close().await?;
    window.close().await?;
    broker.stop().await;
    Ok(())
}
