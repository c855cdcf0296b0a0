//! A small history of requests and leases that can be spoilt.

use crate::plan::SOLE;
use crate::record::{Event, NONE, Record, how, lease};
use crate::story::{EPOCH, LISTENERS, SENDER, Story, at, broken};

/// Who does what is asked for.
pub(crate) const HANDLER: u64 = LISTENERS[0];

/// The id of the command.
pub(crate) const ID: u64 = 7;

/// What each process wrote down.
pub(crate) struct Tale {
    pub(crate) told: Vec<(u64, Record)>,
    pub(crate) runner: Vec<Record>,
}

impl Tale {
    /// Nobody asked for anything.
    pub(crate) fn empty() -> Self {
        let (told, runner) = (Vec::new(), Vec::new());
        Self { told, runner }
    }

    /// A plain request (number 0), and a command (number 1) that is sent again (number 2).
    pub(crate) fn good() -> Self {
        Self::empty()
            .asks(100, 0, NONE, 10)
            .does(110, 0, (0, NONE, 10), (how::REPLIED, 50))
            .hears(120, 0, (how::REPLIED, NONE, 50))
            .asks(200, 1, ID, 11)
            .does(210, 1, (1, ID, 11), (how::FAILED, 51))
            .hears(220, 1, (how::FAILED, NONE, 51))
            .asks(300, 2, ID, 11)
            .hears(320, 2, (how::FAILED, NONE, 51))
    }

    pub(crate) fn with(mut self, sender: u64, time: u64, event: Event) -> Self {
        self.told.push((sender, at(time, event)));
        self
    }

    /// The caller makes a request to a service, with ten seconds for it.
    pub(crate) fn asks(self, time: u64, number: u64, id: u64, hash: u64) -> Self {
        let asked = Event::Asked {
            number,
            high: 0,
            id,
            to: 0,
            hash,
            timeout_ms: 10_000,
            of_sender: SENDER,
            of_number: number,
        };
        self.with(SENDER, time, asked)
    }

    /// The caller has an outcome: how, the code, and the hash.
    pub(crate) fn hears(self, time: u64, number: u64, outcome: (u64, u64, u64)) -> Self {
        let (how, code, hash) = outcome;
        let outcome = Event::Outcome {
            number,
            how,
            code,
            hash,
            by: 2,
        };
        self.with(SENDER, time, outcome)
    }

    /// The handler does something (number, id, hash), and answers at once: how, and the hash.
    pub(crate) fn does(
        self,
        time: u64,
        execution: u64,
        what: (u64, u64, u64),
        answer: (u64, u64),
    ) -> Self {
        let (how, hash) = answer;
        let answered = Event::Answered {
            execution,
            how,
            hash,
        };
        self.begins(time, execution, what, (0, NONE))
            .with(HANDLER, time + 1, answered)
    }

    /// The handler begins to do something in a place and with a lease, and no more is known.
    pub(crate) fn begins(
        self,
        time: u64,
        execution: u64,
        what: (u64, u64, u64),
        place: (u64, u64),
    ) -> Self {
        let (number, id, hash) = what;
        let (place, fence) = place;
        let executing = Event::Executing {
            execution,
            sender: SENDER,
            number,
            id,
            hash,
            place,
            fence,
        };
        self.with(HANDLER, time, executing)
    }

    /// A client sees that it has a lease, in one time of serving.
    pub(crate) fn holds(self, time: (u64, u64), sender: u64, service: u64, fence: u64) -> Self {
        let (asked_at, time) = time;
        let held = Event::Lease {
            service,
            state: lease::HELD,
            fence,
            epoch: EPOCH,
            session: sender >> 32,
            asked_at,
        };
        self.with(sender, time, held)
    }

    /// In the end a client has a lease, or waits for one.
    pub(crate) fn ends(self, sender: u64, state: u64, fence: u64) -> Self {
        let last = Event::Leased {
            state,
            fence,
            epoch: EPOCH,
            session: sender >> 32,
        };
        self.with(sender, 9_000, last)
    }

    /// The caller asks the holder of the lease for something, and the handler does that under a lease.
    pub(crate) fn asks_holder(self, asked_at: u64, time: u64, fence: u64) -> Self {
        let asked = Event::Asked {
            number: 9,
            high: 0,
            id: NONE,
            to: SOLE,
            hash: 19,
            timeout_ms: 10_000,
            of_sender: SENDER,
            of_number: 9,
        };
        self.with(SENDER, asked_at, asked)
            .begins(time, 9, (9, NONE, 19), (SOLE, fence))
            .hears(time + 9, 9, (how::GIVEN_UP, NONE, NONE))
    }

    /// The broker is killed, and there is another one.
    pub(crate) fn another_broker(mut self, time: u64) -> Self {
        for (time, event) in [
            (0, Event::BrokerUp { pid: 1 }),
            (time, Event::BrokerKilled { pid: 1 }),
            (time + 1, Event::BrokerUp { pid: 2 }),
        ] {
            self.runner.push(at(time, event));
        }
        self
    }

    /// The invariants that it breaks, each once.
    pub(crate) fn breaks(self) -> Vec<&'static str> {
        let mut history = Story::good().told();
        let mut senders: Vec<u64> = self.told.iter().map(|(sender, _)| *sender).collect();
        senders.sort_unstable();
        senders.dedup();
        for sender in senders {
            let records = self.told.iter().filter(|(of, _)| *of == sender);
            let records: Vec<_> = records.map(|(_, record)| *record).collect();
            history.add(sender, &records);
        }
        history.runner.extend(self.runner);
        history.index();
        let mut broken = broken(&history);
        broken.dedup();
        broken
    }
}
