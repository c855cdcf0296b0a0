//! What has happened in the demo so far, as its programs reported it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::readings::Reading;
use super::report::{Report, Role, State, Turn, Way, Word};

/// The demo so far.
pub(super) struct Story {
    began: Instant,
    /// The last reading of each topic.
    pub(super) readings: BTreeMap<String, Reading>,
    /// Who is in the channel, by session.
    pub(super) members: BTreeMap<u64, Member>,
    /// What is worth a line, the last [`NEWS_KEPT`] of it.
    pub(super) news: VecDeque<News>,
    /// How much news there was in all.
    pub(super) told: usize,
    /// From the sending in one process to the receipt in another, of every message.
    pub(super) latencies: Vec<Duration>,
    pub(super) readings_received: u64,
    pub(super) broadcasts: Count,
    pub(super) directs: Count,
    pub(super) presence_changes: u64,
    /// What was done to the sidecar, and when it was seen.
    pub(super) kill: Option<Kill>,
    pub(super) restart: Option<Restart>,
    /// What went wrong.
    pub(super) failures: Vec<String>,
    ready: Vec<Role>,
    roll_call: Option<RollCall>,
}

/// A line of the story.
pub(super) struct News {
    /// When, counted from the beginning of the demo.
    pub(super) at: Duration,
    pub(super) text: String,
}

/// A member of the channel, as the observer sees it.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) away: bool,
    pub(super) state: State,
}

/// How many messages of a kind went through the hub.
#[derive(Clone, Copy, Default, serde::Serialize)]
pub(super) struct Count {
    pub(super) sent: u64,
    pub(super) refused: u64,
    pub(super) received: u64,
}

/// The end of the first sidecar.
pub(super) struct Kill {
    at_ns: u64,
    pid: u32,
    /// How long it took until the observer saw it away, or saw it leave, whichever came first.
    pub(super) seen_after: Option<Duration>,
}

/// The start of the second sidecar.
pub(super) struct Restart {
    at_ns: u64,
    pid: u32,
    pub(super) joined_after: Option<Duration>,
    /// Whether the monitor has had readings since.
    pub(super) readings: bool,
}

struct RollCall {
    number: u64,
    answers: Vec<String>,
}

impl Story {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            readings: BTreeMap::new(),
            members: BTreeMap::new(),
            news: VecDeque::new(),
            told: 0,
            latencies: Vec::new(),
            readings_received: 0,
            broadcasts: Count::default(),
            directs: Count::default(),
            presence_changes: 0,
            kill: None,
            restart: None,
            failures: Vec::new(),
            ready: Vec::new(),
            roll_call: None,
        }
    }

    /// How long the demo has been running.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether a program has said that it is there.
    pub(super) fn is_ready(&self, role: Role) -> bool {
        self.ready.contains(&role)
    }

    /// Whether the observer saw that the sidecar was killed.
    pub(super) fn kill_was_seen(&self) -> bool {
        self.kill
            .as_ref()
            .is_some_and(|kill| kill.seen_after.is_some())
    }

    /// Whether the observer saw the second sidecar join.
    pub(super) fn restart_was_seen(&self) -> bool {
        self.restart
            .as_ref()
            .is_some_and(|restart| restart.joined_after.is_some())
    }

    /// Notes that the sidecar is killed now, and starts to wait for what the others see of it.
    pub(super) fn killed(&mut self, pid: u32, at_ns: u64) {
        self.kill = Some(Kill {
            at_ns,
            pid,
            seen_after: None,
        });
        self.ready.retain(|role| *role != Role::Sidecar);
        self.tell(format!("kill -9 {pid}, the sidecar"));
    }

    /// Notes that the sidecar is started again.
    pub(super) fn restarted(&mut self, pid: u32, at_ns: u64) {
        self.restart = Some(Restart {
            at_ns,
            pid,
            joined_after: None,
            readings: false,
        });
        self.tell(format!("the sidecar is started again, as pid {pid}"));
    }

    /// Adds a line of news.
    pub(super) fn tell(&mut self, text: String) {
        if self.news.len() == NEWS_KEPT {
            self.news.pop_front();
        }
        self.told += 1;
        self.news.push_back(News {
            at: self.age(),
            text,
        });
    }

    /// Takes in what a program reports.
    pub(super) fn hear(&mut self, role: Role, report: Report) {
        match report {
            // The end of the demo, so no longer part of the story.
            Report::Failed { .. } => {}
            Report::Lost { what } => self
                .failures
                .push(format!("the {} misses {what}", role.name())),
            Report::Presence {
                id,
                name,
                change,
                state,
                seen_ns,
            } => {
                self.presence(id, name, change, state, seen_ns);
            }
            Report::Ready => self.ready.push(role),
            Report::Reading {
                topic,
                reading,
                latency_ns,
            } => {
                self.readings_received += 1;
                self.latencies.push(Duration::from_nanos(latency_ns));
                self.readings.insert(topic, reading);
                if let Some(restart) = &mut self.restart
                    && restart.joined_after.is_some()
                {
                    restart.readings = true;
                }
            }
            Report::Received {
                way,
                from,
                word,
                latency_ns,
            } => {
                self.count(way).received += 1;
                self.latencies.push(Duration::from_nanos(latency_ns));
                if let Word::Here(number) = word {
                    self.answered(number, from);
                }
            }
            Report::Sent {
                way,
                to,
                word,
                refused,
            } => self.sent(role, way, &to, word, refused),
        }
    }

    fn count(&mut self, way: Way) -> &mut Count {
        match way {
            Way::Broadcast => &mut self.broadcasts,
            Way::Direct => &mut self.directs,
        }
    }

    fn sent(&mut self, role: Role, way: Way, to: &str, word: Word, refused: Option<String>) {
        let count = self.count(way);
        count.sent += 1;
        count.refused += u64::from(refused.is_some());
        match word {
            Word::Here(_) => {}
            Word::Interval(_) => {
                let outcome = refused
                    .map(|why| format!(" (refused: {why})"))
                    .unwrap_or_default();
                self.tell(format!("{} to {to}: {word}{outcome}", role.name()));
            }
            Word::RollCall(number) => {
                self.close_roll_call();
                self.roll_call = Some(RollCall {
                    number,
                    answers: Vec::new(),
                });
            }
        }
    }

    /// Notes an answer to a roll call; one line tells of all of them.
    fn answered(&mut self, number: u64, name: String) {
        let Some(roll_call) = self.roll_call.as_mut().filter(|call| call.number == number) else {
            return;
        };
        roll_call.answers.push(name);
        if roll_call.answers.len() == ANSWERERS.len() {
            self.close_roll_call();
        }
    }

    fn close_roll_call(&mut self) {
        let Some(RollCall { number, answers }) = self.roll_call.take() else {
            return;
        };
        let missing: Vec<_> = ANSWERERS
            .iter()
            .map(|role| role.name())
            .filter(|name| !answers.iter().any(|answer| answer == name))
            .collect();
        let outcome = match missing.as_slice() {
            [] => "all are here".to_owned(),
            _ => format!("missing: {}", missing.join(", ")),
        };
        self.tell(format!("controller to all: roll call {number}, {outcome}"));
    }

    fn presence(&mut self, id: u64, name: String, change: Option<Turn>, state: State, at: u64) {
        self.presence_changes += u64::from(change.is_some());
        let kill = self.kill.as_mut().filter(|kill| kill.pid == state.pid);
        let restart = self
            .restart
            .as_mut()
            .filter(|restart| restart.pid == state.pid);
        let text = match (change, kill, restart) {
            (Some(turn @ (Turn::Away | Turn::Left)), Some(kill), _)
                if kill.seen_after.is_none() =>
            {
                let after = elapsed(kill.at_ns, at);
                kill.seen_after = Some(after);
                let how = if turn == Turn::Away {
                    "is away"
                } else {
                    "left"
                };
                format!("{name} {how}, seen {} after the kill", brief(after))
            }
            (Some(Turn::Joined), _, Some(restart)) => {
                let after = elapsed(restart.at_ns, at);
                restart.joined_after = Some(after);
                format!("{name} joined, seen {} after its start", brief(after))
            }
            (Some(Turn::Updated), ..) => match state.interval_ms {
                Some(ms) => format!("{name} reads every {ms} ms from now on"),
                None => format!("{name} changed its state"),
            },
            (Some(Turn::Away), ..) => format!("{name} is away"),
            (Some(Turn::Back), ..) => format!("{name} is back"),
            (Some(Turn::Joined) | None, ..) => format!("{name} joined"),
            (Some(Turn::Left), ..) => format!("{name} left"),
            (Some(Turn::Stalled), ..) => format!("{name} does not answer"),
        };
        if change == Some(Turn::Left) {
            self.members.remove(&id);
        } else {
            let away = change == Some(Turn::Away);
            self.members.insert(id, Member { name, away, state });
        }
        self.tell(text);
    }
}

fn elapsed(from_ns: u64, to_ns: u64) -> Duration {
    Duration::from_nanos(to_ns.saturating_sub(from_ns))
}

/// A duration with the precision that a person wants.
pub(super) fn brief(duration: Duration) -> String {
    match duration.as_nanos() {
        0..1_000_000 => format!("{} us", duration.as_micros()),
        1_000_000..10_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        10_000_000..1_000_000_000 => format!("{} ms", duration.as_millis()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// Who answers a roll call.
const ANSWERERS: [Role; 3] = [Role::Monitor, Role::Observer, Role::Sidecar];

/// As much news as a screen shows.
pub(super) const NEWS_KEPT: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(change: Turn, pid: u32, seen_ns: u64) -> Report {
        let state = State {
            pid,
            interval_ms: None,
        };
        let (id, name) = (u64::from(pid), "sidecar".to_owned());
        Report::Presence {
            id,
            name,
            change: Some(change),
            state,
            seen_ns,
        }
    }

    fn last_news(story: &Story) -> &str {
        &story.news.back().expect("some news").text
    }

    #[test]
    fn a_kill_counts_as_seen_at_its_first_sign() {
        let mut story = Story::new();
        story.killed(7, 1_000_000);
        story.hear(Role::Observer, presence(Turn::Left, 8, 2_000_000));
        assert!(!story.kill_was_seen(), "another process left");

        story.hear(Role::Observer, presence(Turn::Away, 7, 3_000_000));
        story.hear(Role::Observer, presence(Turn::Left, 7, 900_000_000));
        let seen_after = story.kill.as_ref().and_then(|kill| kill.seen_after);
        assert_eq!(seen_after, Some(Duration::from_millis(2)));
        assert_eq!(last_news(&story), "sidecar left");
    }

    #[test]
    fn only_the_second_sidecar_counts_as_the_restart() {
        let mut story = Story::new();
        story.hear(Role::Observer, presence(Turn::Joined, 7, 1_000_000));
        story.restarted(9, 2_000_000);
        assert!(!story.restart_was_seen());
        story.hear(Role::Observer, presence(Turn::Joined, 9, 7_000_000));
        assert!(story.restart_was_seen());
        assert_eq!(
            last_news(&story),
            "sidecar joined, seen 5.0 ms after its start"
        );
    }

    #[test]
    fn a_roll_call_names_who_does_not_answer() {
        let mut story = Story::new();
        let call = |number| Report::Sent {
            way: Way::Broadcast,
            to: "all".into(),
            word: Word::RollCall(number),
            refused: None,
        };
        let answer = |from: &str| Report::Received {
            way: Way::Direct,
            from: from.into(),
            word: Word::Here(1),
            latency_ns: 1_000,
        };
        story.hear(Role::Controller, call(1));
        story.hear(Role::Controller, answer("observer"));
        story.hear(Role::Controller, answer("monitor"));
        story.hear(Role::Controller, call(2));
        assert_eq!(
            last_news(&story),
            "controller to all: roll call 1, missing: sidecar"
        );
    }

    #[test]
    fn durations_have_two_or_three_digits() {
        let of = |ns| brief(Duration::from_nanos(ns));
        assert_eq!(of(62_300), "62 us");
        assert_eq!(of(1_340_000), "1.3 ms");
        assert_eq!(of(41_900_000), "41 ms");
        assert_eq!(of(1_040_000_000), "1.0 s");
    }
}
