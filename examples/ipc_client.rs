//! A client of `ipc_server`: it sends the lines of its input, or a file, and shows what comes back.
//!
//! ```console
//! $ cargo run --example ipc_client
//! hello
//! HELLO
//! $ cargo run --example ipc_client -- --file /bin/ls
//! /bin/ls: 151344 bytes there and back, the same
//! ```
//!
//! End the server between two lines and start it again: the client says so and goes on.

use std::{fs, path::Path, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use localhub_examples::{
    ipc::{Client, Message},
    say,
};
use tokio::sync::mpsc;

/// Sends the lines of its input to an `ipc_server`, and shows what comes back.
#[derive(Parser)]
struct Args {
    /// The server's name.
    #[arg(default_value = "echo")]
    server: String,

    /// Sends this file instead, and compares it with what comes back.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// The size of the messages that a file goes in: so small that neither side has much in memory, so
/// large that their number costs nothing.
const PIECE_BYTES: usize = 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("ipc_client", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.server).await?;
    if let Some(path) = &args.file {
        send_file(&mut client, path).await?;
    } else {
        let mut lines = lines_of_stdin();
        while let Some(line) = lines.recv().await {
            say!("{}", ask(&mut client, &line).await?);
        }
    }
    Ok(client.close().await?)
}

/// Sends a line and waits for the answer. If the server goes meanwhile, the next one is asked again:
/// this question can be asked twice.
async fn ask(client: &mut Client, line: &str) -> anyhow::Result<String> {
    loop {
        let answer = async {
            client.send(line).await?;
            client.next().await
        };
        match answer.await {
            Ok(Some(Message::Text(answer))) => return Ok(answer),
            Ok(Some(Message::Binary(_))) => bail!("the server answers text with bytes"),
            Ok(None) | Err(_) => {
                say!("* the server is gone");
                client.reconnect().await?;
                say!("* it is there again");
            }
        }
    }
}

/// Sends a file and takes it back at the same time, piece by piece.
async fn send_file(client: &mut Client, path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    let file = Bytes::from(fs::read(path).with_context(|| format!("cannot read {name}"))?);
    let connection = client.connection();
    let send = async {
        for piece in file.chunks(PIECE_BYTES) {
            connection.sender.send(file.slice_ref(piece)).await?;
        }
        anyhow::Ok(())
    };
    let receive = async {
        let mut returned = 0;
        while returned < file.len() {
            let message = connection.receiver.next().await?;
            let Some(Message::Binary(piece)) = message else {
                bail!("the server answers bytes with {message:?}")
            };
            ensure!(
                file[returned..].starts_with(&piece),
                "{name} comes back as something else"
            );
            returned += piece.len();
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    say!("{name}: {} bytes there and back, the same", file.len());
    Ok(())
}

/// The lines of standard input, read on a thread of their own: a read from a terminal cannot be
/// taken back, and must not keep the program from ending.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
