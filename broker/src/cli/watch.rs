//! `localhub watch`.

use anyhow::Context as _;
use localhub::logging::escaped;
use localhub_client::{
    Change, ChannelName, ContentType, Gap, Join, Message, Messages, PresenceEvent,
};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use unicode_width::UnicodeWidthStr as _;

use super::Globals;
use super::shared::content::shown;
use super::shared::exit::{Exit, note};
use super::shared::interrupt::Interrupts;
use super::shared::link::Connection;
use super::shared::message::{GapObject, MessageObject, PresenceObject, change};
use super::shared::output::{Output, reader_left};
use super::shared::table::cut;
use super::shared::units::{bytes, count};
use super::shared::{block_on, link};

/// Watch everything in a channel: messages, broadcasts, who comes and goes
///
/// One line each, from now on: time, sender, topic, size and type, payload. Payloads are cut to the
/// width of the terminal; pipes and --json get all of them. Goes on through restarts of the broker.
/// Members do not see this command, and it does not slow them: should it not keep up, it says how
/// much it missed. Topics that start with $ are left out.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub watch kiosk\n  localhub watch kiosk --json | jq -r .topic"
)]
pub(crate) struct Args {
    /// The channel
    channel: ChannelName,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    // The system tells it only as long as there is one thread.
    let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
    block_on(async {
        let client = globals.connect_stream().await?;
        let mut connection = Connection::new(&client);
        let channel = client
            .join_with(args.channel.as_str(), Join::new().hidden())
            .await?;
        let mut presence = channel.presence().await?;
        let mut traffic = channel.everything().await?;
        let mut interrupts = Interrupts::new()?;
        let out = Output::new(globals.json);
        if out.columns().is_some() {
            let members = count(presence.members().len() as u64, "member");
            note(&format!(
                "watching {} with {members}; ctrl-c ends",
                args.channel
            ));
        }
        let mut lines = Lines {
            layout: Layout::new(out.columns()),
            out,
            channel: args.channel.to_string(),
            offset,
        };
        let mut reader_left = std::pin::pin!(reader_left());
        let end = loop {
            tokio::select! {
                biased;
                () = interrupts.next() => break Ok(()),
                () = &mut reader_left => break Ok(()),
                Some(event) = presence.next() => {
                    if event.change == Change::Left {
                        lines.last_words(&mut traffic).await?;
                    }
                    lines.presence(&event)?;
                }
                Some(message) = traffic.next() => lines.traffic(message)?,
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

struct Lines {
    out: Output,
    channel: String,
    offset: UtcOffset,
    layout: Layout,
}

/// As many messages may wait from before somebody left; with more, the order is not worth a halt.
const LAST_WORDS_MAX: usize = 10_000;

impl Lines {
    /// What was received by now: whoever leaves said it, or their will, before.
    async fn last_words(&mut self, traffic: &mut Messages) -> anyhow::Result<()> {
        for _ in 0..LAST_WORDS_MAX {
            tokio::select! {
                biased;
                Some(message) = traffic.next() => self.traffic(message)?,
                () = std::future::ready(()) => break,
            }
        }
        Ok(())
    }

    fn traffic(&mut self, message: Result<Message, Gap>) -> anyhow::Result<()> {
        match message {
            Ok(message) => self.message(&message),
            Err(gap) => self.gap(&gap),
        }
    }

    fn message(&mut self, message: &Message) -> anyhow::Result<()> {
        let now = self.now();
        if self.out.is_json() {
            let time = stamp(now)?;
            return Ok(self.out.object(&MessageObject::new(message, Some(&time)))?);
        }
        let topic = match message.topic() {
            Some(topic) => escaped(topic).into_owned(),
            None => "(broadcast)".into(),
        };
        let size = match message.is_cleared() {
            true => String::new(),
            false => {
                let size = bytes(message.payload().len() as u64);
                match self.layout.is_narrow() {
                    true => size,
                    false => format!("{size} {}", message.content().name()),
                }
            }
        };
        let length_max = self.out.columns().map_or(usize::MAX, |columns| 4 * columns);
        let payload = match message.is_cleared() {
            true => "(cleared)".into(),
            false => shown(message.content(), message.payload(), length_max),
        };
        self.line(now, message.sender().name.as_str(), &topic, &size, &payload)
    }

    fn gap(&mut self, gap: &Gap) -> anyhow::Result<()> {
        let now = self.now();
        if self.out.is_json() {
            let time = stamp(now)?;
            return Ok(self.out.object(&GapObject::new(gap, Some(&time)))?);
        }
        let lost = match gap.lost {
            Some(lost) => count(lost, "message"),
            None => "an unknown number of messages".into(),
        };
        self.line(now, "", "(gap)", "", &format!("{lost} lost: {}", gap.cause))
    }

    fn presence(&mut self, event: &PresenceEvent) -> anyhow::Result<()> {
        let now = self.now();
        if self.out.is_json() {
            let time = stamp(now)?;
            return Ok(self
                .out
                .object(&PresenceObject::new(&self.channel, event, &time))?);
        }
        let word = match event.cause {
            Some(cause) => format!("({}: {})", change(event.change), cause.name()),
            None => format!("({})", change(event.change)),
        };
        let state = match event.member.state.is_empty() {
            true => String::new(),
            false => shown(ContentType::CBOR, &event.member.state, usize::MAX),
        };
        self.line(now, event.member.name.as_str(), &word, "", &state)
    }

    fn line(
        &mut self,
        now: OffsetDateTime,
        sender: &str,
        what: &str,
        size: &str,
        payload: &str,
    ) -> anyhow::Result<()> {
        let line = self.layout.line(&clock(now), [sender, what, size], payload);
        Ok(self.out.line(line)?)
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().to_offset(self.offset)
    }
}

/// Keeps lines aligned: each column is as wide as the widest so far.
struct Layout {
    /// Those of the terminal, if there is one: nothing is longer.
    columns: Option<usize>,
    widths: [usize; 3],
}

/// One long topic shall not push everything after it to the right for good.
const WIDTHS_MAX: [usize; 3] = [16, 32, 14];

impl Layout {
    fn new(columns: Option<usize>) -> Self {
        Self {
            columns,
            widths: [0; 3],
        }
    }

    /// Whether there is no room for what can be guessed.
    fn is_narrow(&self) -> bool {
        self.columns.is_some_and(|columns| columns < 90)
    }

    fn line(&mut self, time: &str, cells: [&str; 3], payload: &str) -> String {
        let mut widths_max = WIDTHS_MAX;
        if let Some(columns) = self.columns {
            widths_max[0] = (columns / 6).clamp(8, WIDTHS_MAX[0]);
            widths_max[1] = (columns * 3 / 10).clamp(10, WIDTHS_MAX[1]);
        }
        let mut line = String::from(time);
        for (at, cell) in cells.into_iter().enumerate() {
            self.widths[at] = self.widths[at].max(cell.width().min(widths_max[at]));
            let cell = match self.columns {
                Some(_) => cut(cell, self.widths[at]),
                None => cell.into(),
            };
            let space = " ".repeat(self.widths[at].saturating_sub(cell.width()));
            line.extend(["  ", &cell, &space]);
        }
        line.extend(["  ", payload]);
        let line = line.trim_end();
        match self.columns {
            Some(columns) => cut(line, columns),
            None => line.into(),
        }
    }
}

/// The time for programs.
fn stamp(time: OffsetDateTime) -> anyhow::Result<String> {
    time.format(&Rfc3339)
        .context("the clock shows a year that has no name")
}

/// The time of day, to the millisecond.
fn clock(time: OffsetDateTime) -> String {
    let (hour, minute, second, ms) = time.to_hms_milli();
    format!("{hour:02}:{minute:02}:{second:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(columns: Option<usize>) -> Vec<String> {
        let mut layout = Layout::new(columns);
        [
            (["ui", "tick", "9 B"], "{}"),
            (
                [
                    "a-printer-with-a-long-name",
                    "device/of/the/second/floor/state",
                    "1023 KiB",
                ],
                "ready",
            ),
            (["ui", "(joined)", ""], ""),
            (
                ["ui", "größe", "9 B"],
                "it is too long for a narrow terminal, and is cut",
            ),
        ]
        .into_iter()
        .map(|(cells, payload)| layout.line("01:02:03.045", cells, payload))
        .collect()
    }

    #[test]
    fn lines_are_aligned_and_cut_to_the_terminal() {
        let expected = [
            "01:02:03.045  ui  tick  9 B  {}",
            "01:02:03.045  a-printer-w…  device/of/the/second…  1023 KiB  ready",
            "01:02:03.045  ui            (joined)",
            "01:02:03.045  ui            größe                  9 B       it is too …",
        ];
        assert_eq!(lines(Some(72)), expected);
    }

    #[test]
    fn nothing_is_cut_without_a_terminal() {
        let expected = [
            "01:02:03.045  ui  tick  9 B  {}",
            "01:02:03.045  a-printer-with-a-long-name  device/of/the/second/floor/state  1023 KiB  ready",
            "01:02:03.045  ui                (joined)",
            "01:02:03.045  ui                größe                             9 B       \
             it is too long for a narrow terminal, and is cut",
        ];
        assert_eq!(lines(None), expected);
    }

    #[test]
    fn the_time_of_day_has_milliseconds() {
        let time = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(3_723_045);
        assert_eq!(clock(time), "01:02:03.045");
        let there = UtcOffset::from_hms(-1, -30, 0).unwrap();
        assert_eq!(clock(time.to_offset(there)), "23:32:03.045");
    }
}
