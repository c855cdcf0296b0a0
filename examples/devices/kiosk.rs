//! A kiosk: sends commands to the device controller, one of them twice, and shows how the devices
//! are meanwhile.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example device_controller
//! $ cargo run --example kiosk                        # in another terminal
//! $ cargo run --example kiosk -- --json --devices printer,payment
//! $ cargo run --example kiosk -- --protocol-version 2.0    # every command is refused
//! ```
//!
//! End the controller with `kill -9` while it prints (`--pages 50`): the kiosk is told that the
//! outcome is unknown, and that the devices are gone.

mod contract;

use std::{collections::HashSet, pin::pin, process::ExitCode};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use contract::{Action, Body, CHANNEL, Device, DeviceType, Message, Outcome, SERVICE};
use localhub_client::{
    Client, CommandId, ContentType, Gap, LiveMap, MapChange, Messages, Payload, Reply,
};
use localhub_examples::{Version, say};

/// Sends commands to the device controller, and shows what comes of them.
#[derive(Parser)]
struct Args {
    /// Speaks JSON instead of CBOR.
    #[arg(long)]
    json: bool,
    /// The types of devices to show (default: all).
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TYPE,..")]
    devices: Vec<DeviceType>,
    /// How many pages to print.
    #[arg(long, default_value_t = 2)]
    pages: u32,
    /// The version of the contract to claim.
    #[arg(long, value_name = "MAJOR.MINOR", default_value_t = contract::VERSION)]
    protocol_version: Version,
}

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("kiosk", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::connect(format!("kiosk-{}", std::process::id())).await?;
    let channel = client.join(CHANNEL).await?;
    let mut kiosk = Kiosk {
        states: channel.live_map("device/+/+/state").await?,
        events: channel.subscribe("device/+/+/event").await?,
        events_seen: HashSet::new(),
        client,
        args,
    };
    if let Err(error) = kiosk.snapshot().await {
        say!("no snapshot: {error:#}");
    }

    let pages = kiosk.args.pages;
    let text = "your ticket".to_owned();
    // Kept, so that the same command can be sent again: the id and every byte of it.
    let print = kiosk.command("printer-1", Action::Print { text, pages })?;
    let first = kiosk.send(&print).await?;
    let second = kiosk.send(&print).await?;
    ensure!(
        first.payload() == second.payload(),
        "another answer to the same command"
    );
    say!(
        "sent twice, printed once: the same {} bytes",
        second.payload().len()
    );

    for (device, action) in [
        ("camera-1", Action::TakePicture),
        (
            "payment-1",
            Action::Charge {
                amount_cents: 1_250,
            },
        ),
        (
            "payment-1",
            Action::Charge {
                amount_cents: 25_000,
            },
        ), // more than the card has
        ("camera-1", Action::Charge { amount_cents: 1 }), // not its business
        ("scanner-9", Action::TakePicture),               // there is none
    ] {
        let command = kiosk.command(device, action)?;
        kiosk.send(&command).await?;
    }
    for (_, state) in kiosk.states.iter() {
        kiosk.show_state("at the end", state)?;
    }
    Ok(kiosk.client.close().await?)
}

struct Kiosk {
    client: Client,
    states: LiveMap,
    events: Messages,
    events_seen: HashSet<String>,
    args: Args,
}

struct Command {
    id: CommandId,
    payload: Payload,
}

impl Kiosk {
    async fn snapshot(&self) -> anyhow::Result<()> {
        let device_types = self.args.devices.clone();
        let request = self.payload(Body::SnapshotRequest { device_types })?;
        let request = self.client.request(SERVICE, "snapshot").payload(request);
        // The kiosk may be started first.
        let reply = request.wait_for_handler().send().await?;
        let Body::Snapshot { devices } = Message::read(reply.decode()?)?.body else {
            bail!("the controller answers with something else than a snapshot");
        };
        devices.iter().for_each(|device| show("snapshot", device));
        Ok(())
    }

    fn command(&self, device: &str, action: Action) -> anyhow::Result<Command> {
        let id = CommandId::new();
        let payload = self.payload(Body::Command {
            command_id: id.to_string(),
            device_id: device.to_owned(),
            action,
        })?;
        Ok(Command { id, payload })
    }

    /// Sends a command, and shows what happens until there is a response.
    async fn send(&mut self, command: &Command) -> anyhow::Result<Reply> {
        let request = self.client.request(SERVICE, "command");
        let request = request
            .payload(command.payload.clone())
            .command_id(command.id);
        let mut response = pin!(request.send());
        loop {
            tokio::select! {
                // What comes first is shown first: the states before the response.
                biased;
                change = self.states.changed() => match change? {
                    MapChange::Set(state) => self.show_state("state", &state)?,
                    MapChange::Deleted { topic } => say!("gone  {topic}"),
                },
                event = self.events.next() => {
                    self.show_event(event.context("the hub has gone")?)?;
                }
                reply = &mut response => {
                    let reply = reply.map_err(|error| {
                        let code = error.code().map_or("", |code| code.name());
                        anyhow::Error::new(error).context(format!("{} {code}", command.id))
                    })?;
                    show_response(&reply)?;
                    return Ok(reply);
                }
            }
        }
    }

    fn payload(&self, body: Body) -> Result<Payload, localhub_client::Error> {
        let message = Message {
            protocol_version: self.args.protocol_version,
            ..Message::new(body)
        };
        let format = if self.args.json {
            ContentType::JSON
        } else {
            ContentType::CBOR
        };
        message.payload(format)
    }

    fn show_state(&self, what: &str, state: &localhub_client::Message) -> anyhow::Result<()> {
        if let Body::State(device) = Message::read(state.decode()?)?.body
            && (self.args.devices.is_empty() || self.args.devices.contains(&device.device_type))
        {
            show(what, &device);
        }
        Ok(())
    }

    fn show_event(&mut self, event: Result<localhub_client::Message, Gap>) -> anyhow::Result<()> {
        let event = match event {
            Ok(event) => event,
            Err(gap) => {
                say!("{gap}");
                return Ok(());
            }
        };
        if let Body::Event {
            event_id,
            device_id,
            event,
        } = Message::read(event.decode()?)?.body
            && self.events_seen.insert(event_id)
        {
            say!("event  {device_id} {event}");
        }
        Ok(())
    }
}

fn show(what: &str, device: &Device) {
    let Device {
        device_id,
        device_type,
        busy,
        done,
    } = device;
    let does = if *busy { "busy" } else { "idle" };
    say!("{what}  {device_id} ({device_type}) is {does}, {done} done");
}

fn show_response(reply: &Reply) -> anyhow::Result<()> {
    let message = Message::read(reply.decode()?)?;
    let Body::Response {
        device_id, outcome, ..
    } = message.body
    else {
        bail!("the controller answers with something else than a response");
    };
    match outcome {
        Outcome::Ok { result } => say!("OK  {device_id} {result}"),
        Outcome::Rejected { error } => say!("REJECTED  {device_id} {error}"),
        Outcome::Failed { error } => say!("FAILED  {device_id} {error}"),
    }
    Ok(())
}
