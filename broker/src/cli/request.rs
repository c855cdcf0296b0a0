//! `localhub request`.

use std::time::Duration;

use anyhow::{anyhow, bail};
use localhub_client::{Client, CommandId, Error, Recipient, Reply, To, admin};
use serde::Serialize;

use super::Globals;
use super::shared::content::{PayloadFields, shown};
use super::shared::exit::Exit;
use super::shared::input::Single;
use super::shared::output::Output;
use super::shared::units::parse_time;
use super::shared::{block_on, link};

/// Ask a service for something, and print its reply
///
/// Fails, with what the service says, if that went wrong. With --command-id the request is carried out once at most,
/// however often it is made: who makes it again gets the same reply.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub request printer status\n  localhub request printer print '{\"pages\": 2}' --command-id new"
)]
pub(crate) struct Args {
    /// The service, or with --client the name or id of a client
    #[arg(value_name = "SERVICE")]
    to: String,
    /// What is asked for
    method: String,
    #[command(flatten)]
    input: Single,
    /// Ask a client and not a service
    #[arg(long)]
    client: bool,
    /// How long to wait for the reply, at most an hour
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30s")]
    timeout: Duration,
    /// Make it a command: a UUID that is higher than earlier ones, as those of version 7 are, or `new`
    #[arg(long, value_name = "UUID|new", value_parser = command_id, conflicts_with = "stream")]
    command_id: Option<CommandId>,
    /// Take a reply in parts, each printed as it comes
    #[arg(long)]
    stream: bool,
    /// Print payloads only, as they are and with nothing between them
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// What the sender of a reply in parts may send ahead of what is printed, in bytes.
const WINDOW: u32 = 1 << 20;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let mut out = Output::new(globals.json);
        let outcome = ask(&client, args, &mut out).await;
        link::close(client).await;
        out.flush()?;
        outcome.map(|()| Exit::Done)
    })
}

async fn ask(client: &Client, args: Args, out: &mut Output) -> anyhow::Result<()> {
    let to = match args.client {
        true => {
            let found = link::client_named(client, admin::CLIENT, &args.to).await?;
            To::client(Recipient::from(found.id))
        }
        false => To::service(&args.to),
    };
    let payload = args.input.payload(client.limits().payload_bytes)?;
    let mut request = client
        .request(to, &args.method)
        .payload(payload)
        .timeout(args.timeout);
    if let Some(id) = args.command_id {
        request = request.command_id(id);
    }
    let kind = if args.client { "client" } else { "service" };
    let explain = |error| explain(error, kind, &args.to);
    if !args.stream {
        let reply = request.send().await.map_err(explain)?;
        return show(out, &reply, args.raw);
    }
    let mut parts = request.stream(WINDOW).await.map_err(explain)?;
    while let Some(part) = parts.next().await {
        show(out, &part.map_err(explain)?, args.raw)?;
        out.flush()?;
    }
    Ok(())
}

fn show(out: &mut Output, reply: &Reply, raw: bool) -> anyhow::Result<()> {
    if out.is_json() {
        return Ok(out.object(&ReplyObject::new(reply))?);
    }
    if raw {
        return Ok(out.bytes(reply.payload())?);
    }
    match reply.payload().is_empty() {
        true => Ok(()),
        false => Ok(out.line(shown(reply.content(), reply.payload(), usize::MAX))?),
    }
}

/// What went wrong, and with whom.
fn explain(error: Error, kind: &str, to: &str) -> anyhow::Error {
    match error {
        Error::Failed(failure) => anyhow!("{kind} {to} says: {failure}"),
        error => anyhow::Error::from(error).context(format!("{kind} {to}")),
    }
}

fn command_id(text: &str) -> anyhow::Result<CommandId> {
    if text == "new" {
        return Ok(CommandId::new());
    }
    let Ok(id) = text.parse() else {
        bail!("use 32 hexadecimal digits, as of a UUID, or `new`");
    };
    Ok(id)
}

#[derive(Serialize)]
struct ReplyObject<'a> {
    sender: &'a str,
    bytes: usize,
    content: &'static str,
    #[serde(flatten)]
    payload: PayloadFields,
}

impl<'a> ReplyObject<'a> {
    fn new(reply: &'a Reply) -> Self {
        Self {
            sender: reply.sender().name.as_str(),
            bytes: reply.payload().len(),
            content: reply.content().name(),
            payload: PayloadFields::new(reply.content(), reply.payload()),
        }
    }
}
