//! `localhub sub`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use localhub::logging::escaped;
use localhub_client::{ChannelName, Client, Gap, Join, Message, Messages, TopicFilter};
use tokio::time::{Instant, sleep_until};

use super::Globals;
use super::shared::content::shown;
use super::shared::exit::{Exit, note};
use super::shared::interrupt::Interrupts;
use super::shared::link::Connection;
use super::shared::message::{GapObject, MessageObject};
use super::shared::output::{Output, reader_left};
use super::shared::{block_on, link, units};

/// Print what is published to topics of a channel
///
/// First the retained values, then what is published, each as a line with topic and payload: JSON
/// and text as they are, CBOR in diagnostic notation, other bytes in hexadecimal. Goes on through
/// restarts of the broker. Other members do not see this command join.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub sub kiosk 'device/+/state'\n  localhub sub kiosk report --count 1 --raw > report.pdf"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
    /// Which topics: + is one level, a final # any number
    #[arg(default_value = "#")]
    filter: TopicFilter,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, such as 10s or 500ms; a failure if --count is not reached by then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Leave out the retained values
    #[arg(long)]
    no_retained: bool,
    /// Print payloads only, as they are and with nothing between them
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// A terminal is shown as much of a payload; pipes and files get all.
const TERMINAL_LENGTH_MAX: usize = 4_096;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        // A time beyond all clocks is none.
        let deadline = args
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let (client, mut messages) = tokio::select! {
            subscribed = subscribe(&args, globals) => subscribed?,
            () = at(deadline) => bail!("no answer of the broker came in time"),
        };
        let mut connection = Connection::new(&client);
        let mut interrupts = Interrupts::new()?;
        let mut lines = Lines {
            out: Output::new(globals.json),
            raw: args.raw,
            count: 0,
        };
        let mut reader_left = std::pin::pin!(reader_left());
        let end = loop {
            tokio::select! {
                biased;
                () = interrupts.next() => break Ok(()),
                () = &mut reader_left => break Ok(()),
                () = at(deadline) => match args.count {
                    Some(wanted) => {
                        lines.out.flush()?;
                        bail!("{} of {wanted} came in time", units::count(lines.count, "message"));
                    }
                    None => break Ok(()),
                },
                Some(message) = messages.next() => {
                    match message {
                        Ok(message) => lines.message(&message)?,
                        Err(gap) => lines.gap(&gap)?,
                    }
                    if args.count == Some(lines.count) {
                        break Ok(());
                    }
                }
                // Nothing more is there to be written with it.
                () = std::future::ready(()), if lines.out.is_dirty() => lines.out.flush()?,
                error = connection.ended() => break Err(error),
            }
        };
        lines.out.flush()?;
        end?;
        link::close(client).await;
        Ok(Exit::Done)
    })
}

async fn subscribe(args: &Args, globals: &Globals) -> anyhow::Result<(Client, Messages)> {
    let client = globals.connect_stream().await?;
    let channel = client
        .join_with(args.channel.as_str(), Join::new().hidden())
        .await?;
    let messages = match args.no_retained {
        true => channel.subscribe_live(args.filter.as_str()).await?,
        false => channel.subscribe(args.filter.as_str()).await?,
    };
    Ok((client, messages))
}

struct Lines {
    out: Output,
    raw: bool,
    /// Messages so far.
    count: u64,
}

impl Lines {
    fn message(&mut self, message: &Message) -> anyhow::Result<()> {
        self.count += 1;
        if self.raw {
            return Ok(self.out.bytes(message.payload())?);
        }
        if self.out.is_json() {
            return Ok(self.out.object(&MessageObject::new(message, None))?);
        }
        let topic = escaped(message.topic().unwrap_or_default());
        if message.is_cleared() {
            return Ok(self.out.line(format_args!("{topic}  (cleared)"))?);
        }
        let length_max = if self.out.columns().is_some() {
            TERMINAL_LENGTH_MAX
        } else {
            usize::MAX
        };
        let payload = shown(message.content(), message.payload(), length_max);
        Ok(self.out.line(format_args!("{topic}  {payload}"))?)
    }

    fn gap(&mut self, gap: &Gap) -> anyhow::Result<()> {
        if self.out.is_json() {
            return Ok(self.out.object(&GapObject::new(gap, None))?);
        }
        self.out.flush()?;
        note(&gap.to_string());
        Ok(())
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A time with a unit; seconds without one.
fn parse_time(text: &str) -> anyhow::Result<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => bail!("use a number with ms, s, m or h"),
    };
    let number: f64 = number.parse().context("use a number with ms, s, m or h")?;
    Duration::try_from_secs_f64(number * seconds).context("that is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("5", 5_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("0.5h", 1_800_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_time(text).unwrap(),
                Duration::from_millis(ms),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1",
            "5 s",
            "5x",
            "1e400",
            "1.2.3",
            "99999999999999999999h",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
