//! A chat between terminals.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example chat -- ana
//! $ cargo run --example chat -- bo       # in another terminal
//! ```
//!
//! A line goes to everybody in the room, `/msg NAME TEXT` to one, `/who` lists who is there.
//! Joins and leaves are the channel's presence. Suspend one side with ctrl-z or cut its connection:
//! it is shown as away, and gets what it missed when it comes back.

use std::{io, pin::pin, process::ExitCode, thread};

use clap::Parser;
use localhub_client::{Change, Channel, Client, Error, Gap, Message, PresenceEvent};
use tokio::{signal, sync::mpsc};

/// Talks in the channel `chat`.
#[derive(Parser)]
struct Args {
    /// Who you are: a-z 0-9 . _ -
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("chat", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::connect(&args.name).await?;
    let channel = client.join("chat").await?;
    let mut room = channel.broadcasts();
    let mut directs = client.directs();
    let mut presence = channel.presence().await?;
    let mut lines = lines_of_stdin();
    who(&channel).await?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => say(&channel, line.trim()).await?,
                None => break,
            },
            message = room.next() => match message {
                Some(message) => show(&message, ""),
                None => break,
            },
            Some(message) = directs.next() => show(&message, " (to you)"),
            Some(event) = presence.next() => announce(&event),
            _ = &mut ctrl_c => break,
        }
    }
    // If the broker ended this client, its reason comes out here.
    Ok(client.close().await?)
}

/// Does what a line asks for. A refusal is shown, and the chat goes on.
async fn say(channel: &Channel, line: &str) -> Result<(), Error> {
    let said = match line.split_once(' ').unwrap_or((line, "")) {
        ("", _) => return Ok(()),
        ("/who", _) => return who(channel).await,
        ("/msg", rest) => match rest.split_once(' ') {
            Some((name, text)) => channel.client().send(name, text).await,
            None => {
                println!("* /msg NAME TEXT");
                return Ok(());
            }
        },
        (command, _) if command.starts_with('/') => {
            println!("* {command} is not a command (there are /who and /msg NAME TEXT)");
            return Ok(());
        }
        _ => channel.broadcast(line).await,
    };
    match said {
        Err(error @ Error::Refused { .. }) => println!("* not sent: {error}"),
        said => return said,
    }
    Ok(())
}

async fn who(channel: &Channel) -> Result<(), Error> {
    let members = channel.members().await?;
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    println!("* here: {}", names.join(", "));
    Ok(())
}

fn show(message: &Result<Message, Gap>, note: &str) {
    match message {
        Ok(message) => {
            // Control characters could do things to the terminal.
            let text = message
                .text()
                .unwrap_or("(not a text)")
                .replace(char::is_control, " ");
            println!("{}{note}: {text}", message.sender().name);
        }
        Err(gap) => println!("* {gap}"),
    }
}

fn announce(event: &PresenceEvent) {
    let name = &event.member.name;
    match event.change {
        Change::Joined => println!("* {name} joined"),
        Change::Left => println!("* {name} left"),
        Change::Away => println!("* {name} is away"),
        Change::Back => println!("* {name} is back"),
        Change::Updated => {}
    }
}

/// The lines of standard input, read on a thread of their own: a read from a terminal cannot be
/// taken back, and must not keep the program from ending.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
