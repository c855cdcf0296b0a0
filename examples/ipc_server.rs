//! A server by name that sends text back in capitals, and bytes as they are.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example ipc_server
//! $ cargo run --example ipc_client       # in another terminal, any number of them
//! ```
//!
//! A second server of the same name waits, and takes over when the first ends.

use std::process::ExitCode;

use clap::Parser;
use localhub_examples::{
    ipc::{Connection, Message, Server},
    say,
};
use tokio::signal;

/// Sends text back in capitals, and bytes as they are.
#[derive(Parser)]
struct Args {
    /// The name to serve under: a-z 0-9 . _ -
    #[arg(default_value = "echo")]
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::select! {
        outcome = run(&args.name) => outcome,
        _ = signal::ctrl_c() => Ok(()),
    };
    localhub_examples::exit_code("ipc_server", outcome)
}

async fn run(name: &str) -> anyhow::Result<()> {
    let mut server = Server::bind(name).await?;
    say!("serving as {name}");
    while let Some((client, connection)) = server.accept().await {
        say!("{client} has connected");
        tokio::spawn(async move {
            match echo(connection).await {
                Ok(messages) => say!("{client} has finished, messages: {messages}"),
                Err(error) => say!("{client} is gone: {error}"),
            }
        });
    }
    anyhow::bail!("the hub has ended us")
}

/// Answers one client to its end. Gives how many messages it sent.
async fn echo(mut connection: Connection) -> std::io::Result<usize> {
    let mut messages = 0;
    while let Some(message) = connection.receiver.next().await? {
        let answer = match message {
            Message::Text(text) => Message::Text(text.to_uppercase()),
            bytes @ Message::Binary(_) => bytes,
        };
        connection.sender.send(answer).await?;
        messages += 1;
    }
    connection.sender.finish().await?;
    Ok(messages)
}
