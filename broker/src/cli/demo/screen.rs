//! How the demo looks: redrawn in place on a terminal, lines of text elsewhere, silent for `--json`.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::readings::Reading;
use super::report::{Role, State};
use super::story::{Member, NEWS_KEPT, Story};
use crate::cli::shared::units;

/// Where the demo is shown.
pub(super) struct Screen {
    mode: Mode,
    /// When, in the time of the story, the next picture or line of readings is due.
    due: Duration,
}

enum Mode {
    /// On a terminal: pictures, the last one of so many lines.
    Live { drawn: usize, paint: Paint },
    /// A line of text for each thing that happens; how many were printed.
    Lines { printed: usize },
    /// Nothing but the summary.
    Silent,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let (mode, due) = if json {
            (Mode::Silent, Duration::ZERO)
        } else if can_redraw() {
            let colours = env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            (
                Mode::Live {
                    drawn: 0,
                    paint: Paint(colours),
                },
                Duration::ZERO,
            )
        } else {
            (Mode::Lines { printed: 0 }, LINE_OF_READINGS)
        };
        Self { mode, due }
    }

    /// Shows the story if something is due. To be called whenever something happened, and now and
    /// then.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn show(&mut self, story: &Story, length: Duration) -> io::Result<()> {
        match &self.mode {
            Mode::Live { .. } if story.age() < self.due => Ok(()),
            _ => self.draw(story, length),
        }
    }

    /// Shows the story as it is now.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn draw(&mut self, story: &Story, length: Duration) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let now = story.age();
        match &mut self.mode {
            Mode::Live { drawn, paint } => {
                self.due = now + FRAME;
                let lines = picture(story, length, *paint);
                out.write_all(over(*drawn, &lines).as_bytes())?;
                *drawn = lines.len();
            }
            Mode::Lines { printed } => {
                let new = (story.told - *printed).min(story.news.len());
                for news in story.news.iter().skip(story.news.len() - new) {
                    writeln!(out, "{}  {}", seconds(news.at), news.text)?;
                }
                *printed = story.told;
                if now >= self.due {
                    self.due = now + LINE_OF_READINGS;
                    writeln!(out, "{}  readings: {}", seconds(now), in_a_line(story))?;
                }
            }
            Mode::Silent => {}
        }
        out.flush()
    }
}

/// Whether standard output is a terminal on which the picture fits and stays in place.
fn can_redraw() -> bool {
    let out = io::stdout();
    if !out.is_terminal() || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb") {
        return false;
    }
    terminal_size::terminal_size_of(&out).is_some_and(|(_, rows)| rows.0 >= ROWS)
}

/// The text that draws `lines` over as many lines as were drawn before.
fn over(drawn: usize, lines: &[String]) -> String {
    let mut text = String::from("\x1b[?25l\x1b[?7l"); // no cursor, and cut off what is too long
    if drawn > 0 {
        let _ = write!(text, "\x1b[{drawn}A");
    }
    for line in lines {
        let _ = writeln!(text, "{line}\x1b[K");
    }
    text.push_str("\x1b[J\x1b[?7h\x1b[?25h");
    text
}

/// The whole picture.
fn picture(story: &Story, length: Duration, paint: Paint) -> Vec<String> {
    let heading = |word: &str, note: &str| paint.bold(word) + "  " + &paint.dim(note);
    let progress = format!(
        "a private hub and the programs on it, {} of {} s",
        seconds(story.age()).trim(),
        length.as_secs()
    );
    let mut lines = vec![heading("localhub demo", &progress), String::new()];

    lines.push(heading(
        "readings",
        "published by the sidecar, as the monitor receives them",
    ));
    for Row { name, part, text } in rows(story) {
        lines.push(match part {
            Some(part) => {
                format!(
                    "  {name:<12} {} {}  {text}",
                    paint.green(&bar(part)),
                    percent(part)
                )
            }
            None => format!("  {name:<12} {text}"),
        });
    }

    lines.push(String::new());
    lines.push(heading(
        "members",
        "of the channel, as the observer sees them",
    ));
    for role in [
        Role::Controller,
        Role::Monitor,
        Role::Observer,
        Role::Sidecar,
    ] {
        let of_role = |member: &&Member| member.name == role.name();
        lines.push(match story.members.values().find(of_role) {
            Some(member) => member_line(member, paint),
            // The place stays, so that nothing moves when one goes.
            None => paint.dim(&format!("  · {:<11} not there", role.name())),
        });
    }

    lines.push(String::new());
    lines.push(heading("messages", &counts(story)));
    for news in &story.news {
        lines.push(format!("  {}  {}", paint.dim(&seconds(news.at)), news.text));
    }
    lines.extend((story.news.len()..NEWS_KEPT).map(|_| String::new()));
    lines
}

fn member_line(member: &Member, paint: Paint) -> String {
    let (mark, status) = match member.away {
        false => (paint.green("●"), "online"),
        true => (paint.yellow("○"), "away"),
    };
    let State { pid, interval_ms } = member.state;
    let details = match interval_ms {
        Some(ms) => format!("pid {pid}, reads every {ms} ms"),
        None => format!("pid {pid}"),
    };
    format!(
        "  {mark} {:<11} {status:<7} {}",
        member.name,
        paint.dim(&details)
    )
}

/// A reading, or several of a kind, for people.
struct Row {
    name: &'static str,
    part: Option<f64>,
    text: String,
}

fn rows(story: &Story) -> Vec<Row> {
    let (mut cpu, mut processors) = (None, 0);
    let (mut memory, mut disk) = (None, None);
    let (mut received_per_s, mut sent_per_s, mut interfaces) = (0, 0, 0);
    for (topic, reading) in &story.readings {
        match *reading {
            Reading::Load(load) if topic == "cpu/total" => cpu = Some(f64::from(load)),
            Reading::Load(_) => processors += 1,
            Reading::Space { used, total } if topic == "memory" => memory = Some((total, used)),
            // Of several disks, the largest.
            Reading::Space { used, total } => disk = disk.max(Some((total, used))),
            Reading::Traffic { received, sent } => {
                received_per_s += received;
                sent_per_s += sent;
                interfaces += 1;
            }
        }
    }
    let cpu = cpu.map(|load| Row {
        name: "cpu",
        part: Some(load),
        text: units::count(processors, "processor"),
    });
    let network = (interfaces > 0).then(|| {
        let (received, sent) = (units::bytes(received_per_s), units::bytes(sent_per_s));
        let interfaces = units::count(interfaces, "interface");
        let text = format!("{received}/s in, {sent}/s out, {interfaces}");
        Row {
            name: "network",
            part: None,
            text,
        }
    });
    let memory = memory.map(|space| space_row("memory", space));
    let disk = disk.map(|space| space_row("disk", space));
    [cpu, memory, disk, network].into_iter().flatten().collect()
}

fn space_row(name: &'static str, (total, used): (u64, u64)) -> Row {
    let part = if total > 0 {
        used as f64 / total as f64
    } else {
        0.0
    };
    let (used, total) = (units::bytes(used), units::bytes(total));
    Row {
        name,
        part: Some(part),
        text: format!("{used} of {total}"),
    }
}

fn in_a_line(story: &Story) -> String {
    let parts: Vec<_> = rows(story)
        .into_iter()
        .map(|row| match row.part {
            Some(part) => format!("{} {}", row.name, percent(part).trim_start()),
            None => format!("{} {}", row.name, row.text),
        })
        .collect();
    parts.join(", ")
}

fn counts(story: &Story) -> String {
    format!(
        "{} readings, {} broadcasts, {} directs received",
        story.readings_received, story.broadcasts.received, story.directs.received
    )
}

/// A bar of [`BAR`] columns, in steps of an eighth of one.
fn bar(part: f64) -> String {
    let eighths = (part.clamp(0.0, 1.0) * BAR as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar += ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    bar + &"·".repeat(BAR - eighths.div_ceil(8))
}

fn percent(part: f64) -> String {
    format!("{:3.0} %", 100.0 * part)
}

fn seconds(time: Duration) -> String {
    format!("{:5.1} s", time.as_secs_f64())
}

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Columns of a bar.
const BAR: usize = 20;

/// From one picture to the next: often enough to look alive, seldom enough to read.
const FRAME: Duration = Duration::from_millis(100);

/// From one line of readings to the next, where there is no terminal.
const LINE_OF_READINGS: Duration = Duration::from_secs(1);

/// The picture and the line below it take so many rows.
const ROWS: u16 = 22;

#[cfg(test)]
mod tests {
    use super::super::report::{Report, Turn, Way, Word};
    use super::*;

    #[test]
    fn a_bar_is_always_as_wide() {
        for part in [-1.0, 0.0, 0.003, 0.01, 0.5, 0.999, 1.0, 7.0] {
            assert_eq!(bar(part).chars().count(), BAR, "{part}");
        }
        assert_eq!(bar(0.5), "██████████··········");
    }

    #[test]
    fn the_picture_fits_on_a_terminal_of_24_rows_and_80_columns() {
        let mut story = Story::new();
        let space = Reading::Space {
            used: u64::MAX / 2,
            total: u64::MAX,
        };
        for (topic, reading) in [
            ("cpu/total", Reading::Load(1.0)),
            ("cpu/0", Reading::Load(0.5)),
            ("memory", space),
            ("disk/root", space),
            (
                "net/eth0",
                Reading::Traffic {
                    received: 999_999,
                    sent: 999_999,
                },
            ),
        ] {
            let topic = topic.to_owned();
            story.hear(
                Role::Monitor,
                Report::Reading {
                    topic,
                    reading,
                    latency_ns: 1,
                },
            );
        }
        for (id, role) in [(1, Role::Monitor), (2, Role::Sidecar)] {
            let state = State {
                pid: 4_194_304,
                interval_ms: Some(100),
            };
            let (name, change) = (role.name().to_owned(), Some(Turn::Joined));
            story.hear(
                Role::Observer,
                Report::Presence {
                    id,
                    name,
                    change,
                    state,
                    seen_ns: 1,
                },
            );
        }
        for number in 720..740 {
            let refused = Some("unknown_client".to_owned());
            for (way, word) in [
                (Way::Broadcast, Word::RollCall(number)),
                (Way::Direct, Word::Interval(200)),
            ] {
                let (to, refused) = ("sidecar".to_owned(), refused.clone());
                story.hear(
                    Role::Controller,
                    Report::Sent {
                        way,
                        to,
                        word,
                        refused,
                    },
                );
            }
        }

        let lines = picture(&story, Duration::from_secs(10), Paint(false));
        assert!(lines.len() < usize::from(ROWS), "{} lines", lines.len());
        for line in lines {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
    }
}
