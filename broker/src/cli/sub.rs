//! `localhub sub`.

use std::time::Duration;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use localhub::logging::escaped;
use localhub_client::{
    ChannelName, Client, Cursor, Gap, Join, Message, Messages, Policy, StartAt, Subscribe,
    TopicFilter,
};
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
/// First the retained values, or what --last or --after say, then what is published, each as a line
/// with topic and payload: JSON and text as they are, CBOR in diagnostic notation, other bytes in
/// hexadecimal. Messages that were lost are told on stderr, or in their place with --json. Goes on
/// through restarts of the broker. Other members do not see this command join.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub sub kiosk 'device/+/state'\n  localhub sub logs --last 10 --policy latest"
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
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    timeout: Option<Duration>,
    /// Leave out the retained values
    #[arg(long, group = "start")]
    no_retained: bool,
    /// Begin with so many messages of the history instead (see `localhub keep`)
    #[arg(long, group = "start", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// Begin behind this message, as far as the history reaches: a `cursor` that --json showed
    #[arg(long, group = "start", value_name = "CURSOR")]
    after: Option<Cursor>,
    /// What becomes of messages that are read too slowly
    #[arg(long, default_value = Policy::DropOldest.name(), value_parser = policies())]
    policy: Policy,
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
    let start = match (args.last, args.after, args.no_retained) {
        (Some(count), ..) => StartAt::Last(count),
        (_, Some(cursor), _) => StartAt::After(cursor),
        (.., true) => StartAt::Now,
        _ => StartAt::Retained,
    };
    let how = Subscribe::new().start(start).policy(args.policy);
    let messages = channel.subscribe_with(args.filter.as_str(), how).await?;
    if args.last.is_some() {
        let view = link::channel_named(&client, &args.channel).await?;
        if view.settings.history_messages == 0 {
            note(&format!(
                "channel {0} keeps no history (`localhub keep {0}` changes that)",
                args.channel
            ));
        }
    }
    Ok((client, messages))
}

/// The policies by name.
fn policies() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.iter().map(|(_, name)| *name)).map(|name| {
        let named = Policy::ALL.iter().find(|(_, known)| *known == name);
        named.expect("clap lets no other name pass").0
    })
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
