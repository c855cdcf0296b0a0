//! A device controller: a camera, a printer and a payment terminal, made up, for any number of
//! kiosks.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example device_controller
//! $ cargo run --example kiosk              # in another terminal
//! ```
//!
//! A command is carried out once at most: the hub keeps its outcome and gives it to whoever sends
//! it again. Whoever waits for a command of a controller that dies is told that its outcome is
//! unknown. The states of the devices are the channel's, as long as the controller is there.
//! The contract is in `contract.rs`, and docs/recipes/device-controller.md tells more.

mod contract;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use contract::{Action, Body, CHANNEL, Device, DeviceType, Message, Outcome, Problem, SERVICE};
use localhub_client::{
    Channel, Client, CommandId, ConnectionState, ConnectionStates, Failure, Incoming, Payload, Put,
};
use localhub_examples::say;
use serde_json::{Value, json};
use tokio::{signal, sync::Mutex, time};

/// Controls devices for kiosks.
#[derive(Parser)]
struct Args {
    /// How long the printer takes for a page.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    page_ms: u64,
}

/// As many sheets as there are in the tray; somebody fills it up between jobs.
const SHEETS: u32 = 500;

/// What no card is good for.
const CENTS_MAX: u32 = 10_000;

/// How many commands go on at a time; those of one device wait for each other.
const CONCURRENCY: usize = 16;

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("device_controller", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    // The name is the lock: a second controller is told that it is taken.
    let client = Client::connect("device-controller").await?;
    let controller = Arc::new(Controller::new(client.join(CHANNEL).await?, &args));
    controller.show_all().await?;
    let mut service = client.serve(SERVICE).await?;
    say!(
        "serving {SERVICE}, version {} (ctrl-c ends it)",
        contract::VERSION
    );
    let answering = controller.clone();
    tokio::select! {
        () = service.run(CONCURRENCY, move |request| answer(answering.clone(), request)) => {}
        () = controller.show_again(client.connection()) => {}
        _ = signal::ctrl_c() => {}
    }
    Ok(client.close().await?)
}

async fn answer(controller: Arc<Controller>, request: Incoming) -> Result<Payload, Failure> {
    let format = request.content();
    let body = match request.method() {
        "command" => {
            let id = request.command_id();
            let id = id.ok_or_else(|| Failure::new("no_command", "send it as a command"))?;
            let value: Value = request.decode()?;
            // What is begun goes on to its end, whoever stops waiting for it.
            let response = tokio::spawn(async move { controller.respond(id, value).await });
            response
                .await
                .map_err(|error| Failure::new("panicked", error.to_string()))?
        }
        "snapshot" => controller.snapshot(request.decode()?).await?,
        other => return Err(Failure::new("unknown_method", other)),
    };
    Ok(Message::new(body).payload(format)?)
}

struct Controller {
    channel: Channel,
    devices: BTreeMap<String, Mutex<Device>>,
    page_time: Duration,
}

impl Controller {
    fn new(channel: Channel, args: &Args) -> Self {
        let types = [DeviceType::Camera, DeviceType::Payment, DeviceType::Printer];
        let devices = types.map(|device_type| Device {
            device_id: format!("{device_type}-1"),
            device_type,
            busy: false,
            done: 0,
        });
        let devices = devices.map(|device| (device.device_id.clone(), Mutex::new(device)));
        Self {
            channel,
            devices: devices.into(),
            page_time: Duration::from_millis(args.page_ms),
        }
    }

    async fn respond(&self, id: CommandId, value: Value) -> Body {
        // Known even if the rest cannot be read.
        let device_id = value["deviceId"].as_str().unwrap_or_default().to_owned();
        let outcome = self.carry_out(id, value).await;
        Body::Response {
            command_id: id.to_string(),
            device_id,
            outcome: outcome.unwrap_or_else(|error| Outcome::Rejected { error }),
        }
    }

    /// Carries out a command; an error is why it was not begun.
    async fn carry_out(&self, id: CommandId, value: Value) -> Result<Outcome, Problem> {
        let Body::Command {
            command_id,
            device_id,
            action,
        } = Message::read(value)?.body
        else {
            return Err(Problem::new("bad_payload", "not a command"));
        };
        if command_id != id.to_string() {
            return Err(Problem::new(
                "bad_payload",
                "commandId is not the id of the command",
            ));
        }
        let Some(device) = self.devices.get(&device_id) else {
            let known: Vec<_> = self.devices.keys().collect();
            let problem = Problem::new("unknown_device", device_id);
            return Err(problem.details(json!({ "deviceIds": known })));
        };
        let mut device = device.lock().await;
        let fits = matches!(
            (device.device_type, &action),
            (DeviceType::Camera, Action::TakePicture)
                | (DeviceType::Payment, Action::Charge { .. })
                | (DeviceType::Printer, Action::Print { .. })
        );
        if !fits {
            let message = format!("a {} does not do that", device.device_type);
            return Err(Problem::new("not_supported", message));
        }
        say!("{device_id} begins {id}");
        device.busy = true;
        self.tell(&device, "started", id).await;
        let done = self.act(action, device.done).await;
        device.busy = false;
        device.done += u32::from(done.is_ok());
        let event = if done.is_ok() { "finished" } else { "failed" };
        self.tell(&device, event, id).await;
        say!("{device_id} {event} {id}");
        Ok(match done {
            Ok(result) => Outcome::Ok { result },
            Err(error) => Outcome::Failed { error },
        })
    }

    /// What drivers of real devices would do.
    async fn act(&self, action: Action, done: u32) -> Result<Value, Problem> {
        match action {
            Action::TakePicture => Ok(json!({ "file": format!("picture-{}.jpg", done + 1) })),
            Action::Charge { amount_cents } if amount_cents > CENTS_MAX => {
                let details = json!({ "limitCents": CENTS_MAX });
                Err(Problem::new("card_declined", "over the limit of the card").details(details))
            }
            Action::Charge { amount_cents } => Ok(json!({ "chargedCents": amount_cents })),
            Action::Print { pages, .. } if pages > SHEETS => {
                let details = json!({ "sheets": SHEETS });
                Err(Problem::new("out_of_paper", "the tray is empty").details(details))
            }
            Action::Print { text, pages } => {
                for page in 1..=pages {
                    time::sleep(self.page_time).await;
                    say!("page {page} of {pages}: {text:?}");
                }
                Ok(json!({ "pages": pages }))
            }
        }
    }

    async fn snapshot(&self, value: Value) -> Result<Body, Failure> {
        let request = Message::read(value).map_err(|problem| {
            let failure = Failure::new(problem.code, problem.message);
            failure
                .details(&problem.details)
                .expect("JSON is CBOR as well")
        })?;
        let Body::SnapshotRequest { device_types } = request.body else {
            return Err(Failure::new("bad_payload", "not a snapshotRequest"));
        };
        // The states as the channel has them: a busy device is not waited for.
        let kept = self.channel.snapshot("device/+/+/state").await?;
        let mut devices = Vec::new();
        for value in &kept.values {
            if let Ok(Message {
                body: Body::State(device),
                ..
            }) = value.decode()
                && (device_types.is_empty() || device_types.contains(&device.device_type))
            {
                devices.push(device);
            }
        }
        Ok(Body::Snapshot { devices })
    }

    /// Tells everybody what a device does, and how it is now.
    async fn tell(&self, device: &Device, event: &str, id: CommandId) {
        let told = async {
            self.show(device).await?;
            let event = Message::new(Body::Event {
                // Told again, it would have the same id.
                event_id: format!("{id}/{event}"),
                device_id: device.device_id.clone(),
                event: event.to_owned(),
            });
            self.channel
                .publish(&topic(device, "event"), Payload::cbor(&event)?)
                .await
        };
        if let Err(error) = told.await {
            // The device does its work with or without an audience.
            eprintln!("device_controller: {error}");
        }
    }

    /// Shows the devices again in each new session: the states were those of the one before.
    async fn show_again(&self, mut connection: ConnectionStates) {
        let mut known = 1;
        while let Some(state) = connection.next().await {
            if let ConnectionState::Connected { session, .. } = state
                && session > known
            {
                known = session;
                if let Err(error) = self.show_all().await {
                    eprintln!("device_controller: {error}");
                }
            }
        }
    }

    async fn show_all(&self) -> Result<(), localhub_client::Error> {
        for device in self.devices.values() {
            // A busy one shows itself when it is done.
            if let Ok(device) = device.try_lock() {
                self.show(&device).await?;
            }
        }
        Ok(())
    }

    /// Has the channel keep the state of a device, until the controller is gone.
    async fn show(&self, device: &Device) -> Result<(), localhub_client::Error> {
        let state = Payload::cbor(&Message::new(Body::State(device.clone())))?;
        let put = Put::new().owned();
        self.channel
            .put(&topic(device, "state"), state, put)
            .await?;
        Ok(())
    }
}

fn topic(device: &Device, what: &str) -> String {
    format!("device/{}/{}/{what}", device.device_type, device.device_id)
}
