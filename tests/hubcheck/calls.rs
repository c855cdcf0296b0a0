//! The requests, commands and leases of a run, put together so that questions can be asked of them.

use std::collections::HashMap;

use crate::record::{Event, NONE, Record, how};

/// What was asked for: a command by its id, anything else by who asked and the number of the request.
pub(crate) type Subject = (u64, u64);

/// All requests, what handlers did, and who had leases.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// By subject, and then in time.
    pub(crate) asked: Vec<Asked>,
    /// In the same order.
    pub(crate) executed: Vec<Executed>,
    pub(crate) leases: Vec<Leased>,
    /// What was written down of a request or execution that was not.
    pub(crate) loose: Vec<(u64, Record)>,
}

/// A request, as its caller made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) subject: Subject,
    pub(crate) at: u64,
    /// The process that asked, and its number for it.
    pub(crate) sender: u64,
    pub(crate) number: u64,
    pub(crate) to: u64,
    pub(crate) hash: u64,
    pub(crate) timeout_ms: u32,
    /// How many outcomes were written down; the first is `outcome`.
    pub(crate) outcomes: u32,
    pub(crate) outcome: Option<Outcome>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) at: u64,
    pub(crate) how: u64,
    pub(crate) code: u64,
    pub(crate) hash: u64,
}

/// A handler began to do something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Executed {
    pub(crate) subject: Subject,
    pub(crate) at: u64,
    /// The process that did it.
    pub(crate) handler: u64,
    pub(crate) hash: u64,
    pub(crate) place: u64,
    /// The lease that it had, if it had one.
    pub(crate) fence: Option<u64>,
    /// How it was about to answer, and with what.
    pub(crate) answered: Option<(u64, u64)>,
}

/// A look at the lease of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased {
    /// The look began, or what it looks at, and it was over.
    pub(crate) asked_at: u64,
    pub(crate) at: u64,
    pub(crate) epoch: u64,
    /// Who has it, or looks.
    pub(crate) session: u64,
    pub(crate) fence: u64,
    pub(crate) seen: Seen,
}

/// Who looked, and what there was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// The client itself, in a certain time of serving: it has one of the states of a lease.
    Own {
        sender: u64,
        service: u64,
        state: u64,
    },
    /// The client itself, at the end.
    Last { state: u64 },
    /// Another one asked the broker: so many have it.
    Listed { holders: u64 },
}

/// Whose subject a command is: no process has this number.
const COMMAND: u64 = NONE;

impl Asked {
    pub(crate) fn is_command(&self) -> bool {
        self.subject.0 == COMMAND
    }

    /// Whether the request ended in this way.
    pub(crate) fn ended(&self, how: u64) -> bool {
        self.outcome.is_some_and(|outcome| outcome.how == how)
    }

    /// The code, if it ended in this way.
    pub(crate) fn code(&self, how: u64) -> Option<u64> {
        let outcome = self.outcome.filter(|outcome| outcome.how == how);
        outcome.map(|outcome| outcome.code)
    }
}

impl Executed {
    pub(crate) fn is_command(&self) -> bool {
        self.subject.0 == COMMAND
    }
}

impl Calls {
    /// Takes in what one process told.
    pub(crate) fn add(&mut self, sender: u64, records: &[Record]) {
        let (mut numbers, mut executions) = (HashMap::new(), HashMap::new());
        for record in records {
            let at = record.at;
            match record.event {
                Event::Asked {
                    number,
                    id,
                    to,
                    hash,
                    timeout_ms,
                    ..
                } => {
                    numbers.insert(number, self.asked.len());
                    self.asked.push(Asked {
                        subject: subject(id, (sender, number)),
                        at,
                        sender,
                        number,
                        to,
                        hash,
                        timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
                        outcomes: 0,
                        outcome: None,
                    });
                }
                Event::Outcome {
                    number,
                    how,
                    code,
                    hash,
                    ..
                } => {
                    let Some(at_index) = numbers.get(&number) else {
                        self.loose.push((sender, *record));
                        continue;
                    };
                    let asked = &mut self.asked[*at_index];
                    asked.outcomes += 1;
                    asked.outcome.get_or_insert(Outcome {
                        at,
                        how,
                        code,
                        hash,
                    });
                }
                Event::Executing {
                    execution,
                    sender: of,
                    number,
                    id,
                    hash,
                    place,
                    fence,
                } => {
                    executions.insert(execution, self.executed.len());
                    self.executed.push(Executed {
                        subject: subject(id, (of, number)),
                        at,
                        handler: sender,
                        hash,
                        place,
                        fence: (fence != NONE).then_some(fence),
                        answered: None,
                    });
                }
                Event::Answered {
                    execution,
                    how,
                    hash,
                } => match executions.get(&execution) {
                    Some(index) => self.executed[*index].answered = Some((how, hash)),
                    None => self.loose.push((sender, *record)),
                },
                _ => self.leases.extend(leased(sender, record)),
            }
        }
    }

    /// Puts it in order. To be called when all is there.
    pub(crate) fn index(&mut self) {
        self.asked.sort_unstable_by_key(|it| (it.subject, it.at));
        self.executed.sort_unstable_by_key(|it| (it.subject, it.at));
        self.leases.sort_unstable_by_key(|it| it.at);
    }

    /// What was asked for and done, by subject.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = (&[Asked], &[Executed])> {
        let (mut asked, mut executed) = (&self.asked[..], &self.executed[..]);
        std::iter::from_fn(move || {
            let subjects = [
                asked.first().map(|it| it.subject),
                executed.first().map(|it| it.subject),
            ];
            let subject = subjects.into_iter().flatten().min()?;
            let ours = asked.iter().take_while(|it| it.subject == subject).count();
            let theirs = executed
                .iter()
                .take_while(|it| it.subject == subject)
                .count();
            let found = (&asked[..ours], &executed[..theirs]);
            (asked, executed) = (&asked[ours..], &executed[theirs..]);
            Some(found)
        })
    }

    /// The commands, with what was done of them.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&[Asked], &[Executed])> {
        self.subjects().filter(|(asked, executed)| {
            asked.first().is_some_and(Asked::is_command)
                || executed.first().is_some_and(Executed::is_command)
        })
    }

    /// The plain requests, with what was done of them.
    pub(crate) fn plain(&self) -> impl Iterator<Item = (&[Asked], &[Executed])> {
        self.subjects().filter(|(asked, executed)| {
            asked.first().is_none_or(|it| !it.is_command())
                && executed.first().is_none_or(|it| !it.is_command())
        })
    }
}

fn subject(id: u64, plain: Subject) -> Subject {
    match id {
        NONE => plain,
        id => (COMMAND, id),
    }
}

fn leased(sender: u64, record: &Record) -> Option<Leased> {
    let at = record.at;
    Some(match record.event {
        Event::Lease {
            service,
            state,
            fence,
            epoch,
            session,
            asked_at,
        } => Leased {
            asked_at,
            at,
            epoch,
            session,
            fence,
            seen: Seen::Own {
                sender,
                service,
                state,
            },
        },
        Event::Leased {
            state,
            fence,
            epoch,
            session,
        } => Leased {
            asked_at: at,
            at,
            epoch,
            session,
            fence,
            seen: Seen::Last { state },
        },
        Event::Listed {
            holders,
            fence,
            epoch,
            session,
            asked_at,
        } => Leased {
            asked_at,
            at,
            epoch,
            session,
            fence,
            seen: Seen::Listed { holders },
        },
        _ => return None,
    })
}

/// The lives of the broker, by what the runner did.
#[derive(Debug)]
pub(crate) struct Lives {
    ups: Vec<u64>,
    kills: Vec<u64>,
}

impl Lives {
    pub(crate) fn new(runner: &[Record]) -> Self {
        let when = |which: fn(&Event) -> bool| {
            let records = runner.iter().filter(|record| which(&record.event));
            records.map(|record| record.at).collect()
        };
        Self {
            ups: when(|event| matches!(event, Event::BrokerUp { .. })),
            kills: when(|event| matches!(event, Event::BrokerKilled { .. })),
        }
    }

    /// What begins at that time meets no life before this one.
    pub(crate) fn first(&self, begun_at: u64) -> usize {
        let ups = self.ups.partition_point(|up| *up <= begun_at);
        ups.saturating_sub(1)
    }

    /// What is over by that time met no life behind this one.
    pub(crate) fn last(&self, over_at: u64) -> usize {
        self.kills.partition_point(|kill| *kill <= over_at)
    }

    /// The one life that both ends of something were in, if that is certain.
    pub(crate) fn only(&self, begun_at: u64, over_at: u64) -> Option<usize> {
        let first = self.first(begun_at);
        (first == self.last(over_at)).then_some(first)
    }
}

impl Outcome {
    /// What the handler, or the SDK in its place, has answered: how, and with what.
    pub(crate) fn answer(&self) -> Option<(u64, u64)> {
        let answered = matches!(self.how, how::REPLIED | how::FAILED | how::LEFT);
        answered.then_some((self.how, self.hash))
    }
}
