//! `localhub state`.

use localhub_client::{ChannelName, Join, Message, TopicFilter};
use serde::Serialize;

use super::Globals;
use super::shared::content::{PayloadFields, shown};
use super::shared::exit::Exit;
use super::shared::list;
use super::shared::table::{Column, Table};
use super::shared::units::full;
use super::shared::{block_on, link};

/// Show the values that a channel keeps, as of one moment
///
/// The version of a value is what `localhub pub --if-version` takes.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub state kiosk\n  localhub state kiosk 'device/+/state' --json"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
    /// The topics: + is one level, a final # any number
    #[arg(default_value = "#")]
    filter: TopicFilter,
}

/// Values are shown up to this length; `--json` has all of them.
const VALUE_LENGTH_MAX: usize = 400;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        let mut values = channel.snapshot(args.filter.as_str()).await?.values;
        link::close(client).await;
        values.sort_by(|a, b| a.topic().cmp(&b.topic()));
        let rows: Vec<_> = values.iter().map(ValueObject::new).collect();
        let nothing = format!("channel {} keeps no such value", args.channel);
        list::show(globals.json, &rows, &nothing, |_| table(&values))?;
        Ok(Exit::Done)
    })
}

fn table(values: &[Message]) -> Table {
    let mut table = Table::new([
        Column::text("TOPIC").cut_to(12),
        Column::number("VERSION"),
        Column::text("SET BY").cut_to(6).spare(1),
        Column::text("VALUE").cut_to(8),
    ]);
    for value in values {
        table.row([
            value.topic().unwrap_or_default().to_owned(),
            full(value.offset()),
            value.sender().name.to_string(),
            shown(value.content(), value.payload(), VALUE_LENGTH_MAX),
        ]);
    }
    table
}

#[derive(Serialize)]
struct ValueObject<'a> {
    topic: &'a str,
    version: u64,
    sender: &'a str,
    content: &'static str,
    #[serde(flatten)]
    payload: PayloadFields,
}

impl<'a> ValueObject<'a> {
    fn new(value: &'a Message) -> Self {
        Self {
            topic: value.topic().unwrap_or_default(),
            version: value.offset(),
            sender: value.sender().name.as_str(),
            content: value.content().name(),
            payload: PayloadFields::new(value.content(), value.payload()),
        }
    }
}
