//! A small history that can be spoilt.

use crate::check::{CHECKS, Violation};
use crate::history::History;
use crate::record::{Event, Record, outcome, welcome};

pub(crate) const EPOCH: u64 = 0xe;

/// The processes of a small history: c1 sends, c2 and c3 listen.
pub(crate) const SENDER: u64 = 1 << 32;
pub(crate) const LISTENERS: [u64; 2] = [2 << 32, 3 << 32];

/// What c1 sends, in order; the hash of a message is its number.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) done_at: u64,
    pub(crate) outcome: u64,
}

/// A small history that can be spoilt.
pub(crate) struct Story {
    pub(crate) calls: Vec<Call>,
    /// What comes out of the streams of the two listeners.
    pub(crate) heard: [Vec<Event>; 2],
    pub(crate) runner: Vec<Event>,
}

impl Story {
    /// Five messages, confirmed one after the other, which both listeners hear.
    pub(crate) fn good() -> Self {
        let call = |number| Call {
            number,
            at: 100 * number,
            done_at: 100 * number + 50,
            outcome: outcome::OK,
        };
        let heard = || (1..=5).map(|number| message(number, number)).collect();
        Self {
            calls: (1..=5).map(call).collect(),
            heard: [heard(), heard()],
            runner: vec![
                Event::Sample {
                    rss: 20 << 20,
                    descriptors: 20,
                    connections: 5,
                },
                Event::Ended {
                    code: 0,
                    socket_left: 0,
                },
            ],
        }
    }

    pub(crate) fn told(self) -> History {
        let mut history = History::default();
        let mut told = vec![at(
            1,
            Event::Session {
                epoch: EPOCH,
                session: 1,
            },
        )];
        for call in &self.calls {
            let number = call.number;
            told.push(at(
                call.at,
                Event::Invoke {
                    number,
                    channel: 0,
                    to: 0,
                    topic: number % 8,
                    hash: number,
                    bytes: 16,
                },
            ));
            told.push(at(
                call.done_at,
                Event::Done {
                    number,
                    outcome: call.outcome,
                },
            ));
        }
        told.push(at(
            9_000,
            Event::Final {
                epoch: EPOCH,
                session: 1,
            },
        ));
        history.add(SENDER, &told);
        for (listener, heard) in LISTENERS.into_iter().zip(self.heard) {
            let session = listener >> 32;
            let opened = Event::Opened {
                stream: 0,
                channel: 0,
                filter: 0,
                offset: 0,
                epoch: EPOCH,
                session,
            };
            let closed = Event::Closed {
                stream: 0,
                offset: 5,
                asked_at: 5_000,
            };
            let mut told = vec![
                at(
                    1,
                    Event::Session {
                        epoch: EPOCH,
                        session,
                    },
                ),
                at(10, opened),
            ];
            told.extend(heard.into_iter().map(|event| at(4_000, event)));
            told.push(at(8_000, closed));
            told.push(at(
                9_000,
                Event::Final {
                    epoch: EPOCH,
                    session,
                },
            ));
            told.extend((1..=3).map(|session| at(9_001, viewed(session))));
            history.add(listener, &told);
        }
        let runner = self.runner.into_iter().enumerate();
        history.runner = runner
            .map(|(n, event)| at(1_000 * (n as u64 + 1), event))
            .collect();
        history.index();
        history
    }

    /// The invariants that it breaks.
    pub(crate) fn breaks(self) -> Vec<&'static str> {
        broken(&self.told())
    }
}

pub(crate) fn broken(history: &History) -> Vec<&'static str> {
    let broken = CHECKS.iter().filter(|(_, _, check)| {
        let violations: Vec<Violation> = check(history);
        violations
            .iter()
            .all(|violation| !violation.what.is_empty())
            && !violations.is_empty()
    });
    broken.map(|(number, _, _)| *number).collect()
}

pub(crate) fn at(at: u64, event: Event) -> Record {
    Record { at, event }
}

pub(crate) fn message(offset: u64, number: u64) -> Event {
    Event::Heard {
        stream: 0,
        offset,
        session: 1,
        sender: SENDER,
        number,
        hash: number,
        topic: number % 8,
        bytes: 16,
    }
}

pub(crate) fn gap(lost: u64) -> Event {
    Event::Gap {
        stream: 0,
        lost,
        scoped: 1,
    }
}

pub(crate) fn viewed(session: u64) -> Event {
    Event::Viewed {
        source: 0,
        session,
        status: 0,
    }
}

pub(crate) fn welcomed(how: u64, away_ns: u64, lost: u64, messages: u64) -> Event {
    Event::Welcomed {
        client: 7,
        how,
        away_ns,
        lost,
        replayed: 0,
        messages,
        bytes: 0,
        before: welcome::RECOVERED,
    }
}
