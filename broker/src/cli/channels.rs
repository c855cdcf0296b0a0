//! `localhub channels`.

use localhub_client::admin::ChannelSummary;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::table::{Column, Table};
use super::shared::units::{bytes, short};
use super::shared::{block_on, link, list};

/// List the channels: members, messages, retained values, history
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub channels\n  localhub channels --json | jq -r .name")]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channels = link::channels(&client).await?;
        link::close(client).await;
        list::show(globals.json, &channels, "there are no channels", table)?;
        Ok(Exit::Done)
    })
}

fn table(channels: &[ChannelSummary]) -> Table {
    let mut table = Table::new([
        Column::text("CHANNEL").cut_to(12),
        Column::number("MEMBERS"),
        Column::number("FILTERS").spare(1),
        Column::number("MESSAGES"),
        Column::number("RETAINED"),
        Column::number("HISTORY").spare(3),
        Column::number("BYTES").spare(2),
    ]);
    for channel in channels {
        table.row([
            channel.name.clone(),
            short(channel.members),
            short(channel.subscriptions),
            short(channel.offset),
            short(channel.retained),
            short(channel.history),
            bytes(channel.retained_bytes + channel.history_bytes),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_what_is_in_the_channels() {
        let channel = |name: &str, offset| ChannelSummary {
            name: name.into(),
            members: 3,
            subscriptions: 4,
            offset,
            retained: 2,
            retained_bytes: 31,
            history: 5,
            history_bytes: 900,
        };
        let expected = "\
CHANNEL      MEMBERS  FILTERS  MESSAGES  RETAINED  HISTORY  BYTES
build/web-1        3        4       12k         2        5  931 B
kiosk              3        4         0         2        5  931 B";
        let table = table(&[channel("build/web-1", 12_345), channel("kiosk", 0)]);
        assert_eq!(table.fitted(Some(80)).0.to_string(), expected);
    }
}
