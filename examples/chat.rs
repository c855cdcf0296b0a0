//! A chat between terminals.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example chat -- ana
//! $ cargo run --example chat -- bo       # in another terminal
//! ```
//!
//! A line goes to everybody in the room, `/msg NAME TEXT` to one, `/who` lists who is there.
//! Joins and leaves are the channel's presence: end one side with `kill -9`, and the other sees it
//! leave at once. Stop the broker and start it again: both are back in the room by themselves.

use std::{io, process::ExitCode, thread};

use clap::Parser;
use localhub_client::{Change, Channel, Client, Code, Error, Gap, Message, PresenceEvent};
use localhub_examples::say;
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
    tokio::select! {
        outcome = chat(&channel) => outcome?,
        _ = signal::ctrl_c() => {}
    }
    // If the broker ended this client, its reason comes out here.
    Ok(client.close().await?)
}

/// Chats until the input ends or the client is closed.
async fn chat(channel: &Channel) -> Result<(), Error> {
    let mut room = channel.broadcasts();
    let mut directs = channel.client().directs();
    let mut presence = channel.presence().await?;
    let mut lines = lines_of_stdin();
    who(channel).await?;

    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => say(channel, line.trim()).await?,
                None => return Ok(()),
            },
            message = room.next() => match message {
                Some(message) => show(&message, ""),
                None => return Ok(()),
            },
            Some(message) = directs.next() => show(&message, " (to you)"),
            Some(event) = presence.next() => announce(&event),
        }
    }
}

/// Does what a line asks for. What the hub does not take is shown, and the chat goes on.
async fn say(channel: &Channel, line: &str) -> Result<(), Error> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let said = match (command, rest.split_once(' ')) {
        ("", _) => Ok(()),
        ("/who", _) => who(channel).await,
        ("/msg", Some((name, text))) => channel.client().send(name, text).await,
        _ if command.starts_with('/') => {
            say!("* there are the commands /who and /msg NAME TEXT");
            Ok(())
        }
        _ => channel.broadcast(line).await,
    };
    match said {
        Err(error @ Error::Closed { .. }) => return Err(error),
        Err(error) => say!("* {error}"),
        Ok(()) => {}
    }
    Ok(())
}

async fn who(channel: &Channel) -> Result<(), Error> {
    let members = channel.members().await?;
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    say!("* here: {}", names.join(", "));
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
            say!("{}{note}: {text}", message.sender().name);
        }
        Err(gap) => say!("* {gap}"),
    }
}

fn announce(event: &PresenceEvent) {
    let name = &event.member.name;
    match event.change {
        Change::Joined => say!("* {name} joined"),
        Change::Left => match event.cause {
            None | Some(Code::GOODBYE) => say!("* {name} left"),
            Some(cause) => say!("* {name} is gone: {cause}"),
        },
        Change::Away => say!("* {name} is away"),
        Change::Back => say!("* {name} is back"),
        Change::Stalled => say!("* {name} does not answer"),
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
