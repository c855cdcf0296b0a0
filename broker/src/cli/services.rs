//! `localhub services`.

use localhub_client::ContentType;
use localhub_client::admin::{ServerView, ServiceView};
use serde::Serialize;

use super::Globals;
use super::shared::content::{PayloadFields, shown};
use super::shared::exit::Exit;
use super::shared::list;
use super::shared::table::{Column, Table};
use super::shared::units::short;
use super::shared::{block_on, link};

/// List the services: who serves them, how much, how fast
///
/// Times are those until the reply, of half of the requests (P50) and of 99 in 100 (P99), and may be too high by half.
/// Who waits for an exclusive service is in brackets, who is away has a question mark.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub services\n  localhub services --json | jq '.servers[].description'"
)]
pub(crate) struct Args {}

/// What a server says it offers is shown up to this length; `--json` has all of it.
const OFFER_LENGTH_MAX: usize = 200;

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let services = link::services(&client).await?;
        link::close(client).await;
        if globals.json {
            let objects: Vec<_> = services.iter().map(Object::new).collect();
            list::show(true, &objects, "", |_| Table::new([]))?;
        } else {
            list::show(false, &services, "there are no services", table)?;
        }
        Ok(Exit::Done)
    })
}

fn table(services: &[ServiceView]) -> Table {
    let mut table = Table::new([
        Column::text("SERVICE").cut_to(10),
        Column::text("SERVED BY").cut_to(10),
        Column::number("NOW"),
        Column::number("REQUESTS"),
        Column::number("FAILED"),
        Column::number("PER SECOND").spare(3),
        Column::number("P50").spare(2),
        Column::number("P99").spare(1),
        Column::text("OFFER").cut_to(8).spare(4),
    ]);
    for service in services {
        let offer = service
            .servers
            .first()
            .map_or(&[][..], |it| &it.description);
        let offer = match offer.is_empty() {
            true => String::new(),
            false => shown(ContentType::CBOR, offer, OFFER_LENGTH_MAX),
        };
        table.row([
            service.name.clone(),
            servers(service),
            short(service.in_flight),
            short(service.requests),
            short(service.failed),
            short(service.per_second),
            service.p50_us.map_or_else(String::new, micros),
            service.p99_us.map_or_else(String::new, micros),
            offer,
        ]);
    }
    table
}

/// Who serves it, and who waits to.
fn servers(service: &ServiceView) -> String {
    let name = |server: &ServerView| match server.state.as_str() {
        "online" => server.name.clone(),
        _ => format!("{}?", server.name),
    };
    let names: Vec<_> = service
        .servers
        .iter()
        .enumerate()
        .map(|(at, server)| match at > 0 && !service.shared {
            true => format!("({})", name(server)),
            false => name(server),
        })
        .collect();
    names.join(" ")
}

/// A time of so many microseconds.
fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A service as a JSON object, with what its servers offer as JSON and not as CBOR in bytes.
#[derive(Serialize)]
struct Object<'a> {
    name: &'a str,
    shared: bool,
    servers: Vec<ServerObject<'a>>,
    in_flight: u64,
    requests: u64,
    failed: u64,
    per_second: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
}

#[derive(Serialize)]
struct ServerObject<'a> {
    id: u64,
    name: &'a str,
    state: &'a str,
    in_flight: u64,
    fence: u64,
    description: Option<PayloadFields>,
}

impl<'a> Object<'a> {
    fn new(service: &'a ServiceView) -> Self {
        let servers = service.servers.iter().map(|server| ServerObject {
            id: server.id.0,
            name: &server.name,
            state: &server.state,
            in_flight: server.in_flight,
            fence: server.fence,
            description: (!server.description.is_empty())
                .then(|| PayloadFields::new(ContentType::CBOR, &server.description)),
        });
        Self {
            name: &service.name,
            shared: service.shared,
            servers: servers.collect(),
            in_flight: service.in_flight,
            requests: service.requests,
            failed: service.failed,
            per_second: service.per_second,
            p50_us: service.p50_us,
            p99_us: service.p99_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use localhub_client::ClientId;

    use super::*;

    fn server(id: u64, name: &str, state: &str) -> ServerView {
        ServerView {
            id: ClientId(id),
            name: name.into(),
            state: state.into(),
            in_flight: 0,
            fence: 0,
            description: vec![0xa1, 0x61, b'v', 0x01],
        }
    }

    fn service(name: &str, shared: bool) -> ServiceView {
        ServiceView {
            name: name.into(),
            shared,
            servers: vec![server(3, "one", "online"), server(4, "two", "away")],
            in_flight: 2,
            requests: 12_345,
            failed: 7,
            per_second: 40,
            p50_us: Some(96),
            p99_us: Some(3_072),
        }
    }

    #[test]
    fn who_waits_is_in_brackets_and_who_is_away_in_question() {
        let expected = "\
SERVICE  SERVED BY   NOW  REQUESTS  FAILED  PER SECOND    P50     P99  OFFER
printer  one (two?)    2       12k       7          40  96 us  3.1 ms  {\"v\": 1}
upper    one two?      2       12k       7          40  96 us  3.1 ms  {\"v\": 1}";
        let table = table(&[service("printer", false), service("upper", true)]);
        assert_eq!(table.fitted(Some(100)).0.to_string(), expected);
    }

    #[test]
    fn programs_get_the_offer_as_json() {
        let service = service("printer", false);
        let object = serde_json::to_value(Object::new(&service)).unwrap();
        assert_eq!(object["servers"][1]["description"]["payload"]["v"], 1);
        assert_eq!(object["p50_us"], 96);
    }
}
