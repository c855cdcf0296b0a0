//! `localhub keep`.

use std::time::Duration;

use anyhow::bail;
use localhub_client::admin::{ChannelView, SettingsView};
use localhub_client::{ChannelName, ChannelSettings, Join};
use serde::Serialize;

use super::Globals;
use super::channel::kept_at_most;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::units::{bytes, count, duration, parse_bytes, parse_time};
use super::shared::{block_on, link};

/// Set how much a channel keeps of what is published in it
///
/// Subscribers can begin with it (`localhub sub CHANNEL --last N`). It counts for the whole channel, until
/// somebody sets it anew or the channel ends: when nobody is in it and it has nothing left. What is
/// not given stays as it is.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub keep logs --messages 1000 --age 10m\n  localhub keep logs --messages 0"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
    /// The messages that it keeps at most; 0 ends its history
    #[arg(long, value_name = "N")]
    messages: u64,
    /// Their bytes, such as 512KiB [at first: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// How long they stay, such as 30s or 12h [at first: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    age: Option<Duration>,
    /// How long a member may be without connection before others are told [at first: 0]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    debounce: Option<Duration>,
}

/// What a broker grants unless it is configured otherwise: the number of messages is the bound.
const BYTES: u64 = 16 << 20;
const AGE_MS: u64 = 86_400_000;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        let before = link::channel_named(&client, &args.channel).await?;
        channel.configure(settings(&args, &before.settings)).await?;
        let view = link::channel_named(&client, &args.channel).await?;
        link::close(client).await;
        if ends_with_this_command(&view) {
            bail!(
                "nobody is in channel {}: it ends now, and so does what was set; \
                 try again when somebody has joined",
                args.channel
            );
        }
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&Object {
                channel: args.channel.as_str(),
                settings: &view.settings,
                history: view.summary.history,
                history_bytes: view.summary.history_bytes,
            })?;
        } else {
            out.line(text(&view))?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

fn settings(args: &Args, before: &SettingsView) -> ChannelSettings {
    // What cannot be said on the wire is more than any broker grants.
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let ms = |ms: u64| millis(Duration::from_millis(ms));
    let debounce_ms = args.debounce.map_or_else(|| ms(before.debounce_ms), millis);
    if args.messages == 0 {
        return ChannelSettings {
            debounce_ms,
            ..ChannelSettings::default()
        };
    }
    let (bytes, age_ms) = match before.history_messages {
        0 => (BYTES, AGE_MS),
        _ => (before.history_bytes, before.history_age_ms),
    };
    ChannelSettings {
        history_messages: args.messages,
        history_bytes: args.bytes.unwrap_or(bytes),
        history_age_ms: args.age.map_or_else(|| ms(age_ms), millis),
        debounce_ms,
    }
}

/// Whether the channel has settings, and nothing that would keep it once this command has left.
fn ends_with_this_command(view: &ChannelView) -> bool {
    view.settings != SettingsView::default()
        && view.members.len() <= 1
        && view.retained.is_empty()
        && view.summary.history == 0
}

fn text(view: &ChannelView) -> String {
    let name = &view.summary.name;
    let mut text = match kept_at_most(&view.settings) {
        Some(kept) => format!(
            "{name} keeps at most {kept}; now {}, {}",
            count(view.summary.history, "message"),
            bytes(view.summary.history_bytes)
        ),
        None => format!("{name} keeps no history"),
    };
    if view.settings.debounce_ms > 0 {
        let debounce = duration(view.settings.debounce_ms);
        text += &format!("\nwho loses its connection is away after {debounce}");
    }
    text
}

#[derive(Serialize)]
struct Object<'a> {
    channel: &'a str,
    settings: &'a SettingsView,
    history: u64,
    history_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(messages: u64) -> Args {
        Args {
            channel: "kiosk".parse().unwrap(),
            messages,
            bytes: None,
            age: None,
            debounce: None,
        }
    }

    #[test]
    fn what_is_not_given_stays_as_it_is() {
        let nothing = SettingsView::default();
        let expected = ChannelSettings {
            history_messages: 5,
            history_bytes: BYTES,
            history_age_ms: 86_400_000,
            debounce_ms: 0,
        };
        assert_eq!(settings(&args(5), &nothing), expected);
        let before = SettingsView {
            history_messages: 9,
            history_bytes: 1_024,
            history_age_ms: 60_000,
            debounce_ms: 2_000,
        };
        let longer = Args {
            age: Some(Duration::from_secs(90)),
            ..args(5)
        };
        let expected = ChannelSettings {
            history_messages: 5,
            history_bytes: 1_024,
            history_age_ms: 90_000,
            debounce_ms: 2_000,
        };
        assert_eq!(settings(&longer, &before), expected);
        let ended = settings(&args(0), &before);
        assert_eq!((ended.history_messages, ended.debounce_ms), (0, 2_000));
    }

    #[test]
    fn an_age_that_has_no_number_on_the_wire_is_more_than_any_broker_grants() {
        let endless = Args {
            age: Some(Duration::MAX),
            ..args(1)
        };
        let asked = settings(&endless, &SettingsView::default());
        assert_eq!(asked.history_age_ms, u32::MAX);
    }
}
