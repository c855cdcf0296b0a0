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
                    .map(|why| format!(": refused, {why}"))
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
        let (here, missing): (Vec<_>, Vec<_>) = ANSWERERS
            .iter()
            .map(|role| role.name())
            .partition(|name| answers.iter().any(|answer| answer == name));
        let mut text = format!(
            "controller to all: roll call {number}; here: {}",
            here.join(", ")
        );
        if !missing.is_empty() {
            text += &format!("; no answer: {}", missing.join(", "));
        }
        self.tell(text);
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
        ..1_000_000 => format!("{} us", duration.as_micros()),
        ..10_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        ..1_000_000_000 => format!("{} ms", duration.as_millis()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// Who answers a roll call.
const ANSWERERS: [Role; 3] = [Role::Monitor, Role::Observer, Role::Sidecar];

/// As much news as a screen shows.
pub(super) const NEWS_KEPT: usize = 6;
