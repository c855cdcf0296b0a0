//! What must hold when everything that is under way has arrived.

use localhub_client::Lease;
use localhub_tests::Counts;

use super::*;
use crate::acts::{EXCLUSIVE, PATIENCE};
use crate::judge::{Of, Who};

/// How long a round of a rest is: longer than the SDK waits before it confirms.
const ROUND: Duration = Duration::from_millis(150);

/// So many rounds without a byte are quiet.
const QUIET_ROUNDS: u32 = 4;

/// Rounds after which it should have been quiet long ago.
const ROUNDS_MAX: u32 = 2_000;

impl Simulation {
    /// Everybody comes back, and says and hears everything; then it is looked at who waits.
    pub(super) fn rest(&mut self) {
        self.judge.tell("a rest begins");
        for program in &mut self.programs {
            // Its handler is to hear of it.
            program.drop_call(&mut self.rng, &mut self.judge);
        }
        self.settle();
        self.world.hub.check();
        for n in 0..self.programs.len() {
            self.nobody_waits_in_vain(n);
            self.desk_is_up_to_date(n);
        }
        self.leases_are_held();
        self.judge.count("rests", "all");
        self.judge.tell("the rest is over");
    }

    /// Everybody answers and hears what is left, and goes; nothing stays behind.
    pub(crate) fn finish(mut self) -> Counts {
        self.rest();
        self.judge.tell("the end begins");
        for n in 0..self.programs.len() {
            while !self.programs[n].desk.is_empty() {
                self.programs[n].answer(0, &mut self.rng, &mut self.judge);
            }
        }
        self.rest();
        let calls = self.judge.calls.iter().enumerate();
        let open = calls.filter(|(_, call)| call.fate == Fate::Open);
        let open: Vec<_> = open.map(|(id, _)| id).collect();
        let lost = open.iter().all(|id| self.judge.is_lossy(*id));
        assert!(open.is_empty() || lost, "I12: {open:?} wait for ever");
        // What was lost on its way has no outcome but this, and parts that were lost have none.
        self.pass(PATIENCE);
        self.rest();
        for n in 0..self.programs.len() {
            let program = &mut self.programs[n];
            for job in &mut program.desk {
                // It was lost by the caller, who did not say so.
                assert!(self.tight, "e{} is still there", job.handling);
            }
            program.desk.clear();
            program.readers.clear();
            program.services.clear();
            program.own = None;
        }
        self.settle();
        // Long enough for pings, which tell what was carried out.
        self.pass(Duration::from_secs(18));
        self.settle();
        for program in &self.programs {
            let (name, holds) = (program.who.name, program.holds());
            assert!(holds.is_empty(), "{name} remembers {holds:?}");
            let waits = program.waits.first().map(|it| it.what);
            assert_eq!(waits, None, "{name} waits");
        }
        for n in 0..self.programs.len() {
            let program = &mut self.programs[n];
            program.say_goodbye(&mut self.judge);
        }
        self.settle();
        self.world.hub.check();
        let status = self.world.hub.status(self.world.now);
        assert_eq!(status.requests, 0, "{status:?}");
        std::mem::take(&mut self.judge.counts)
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        while !self.ghosts.is_empty() {
            self.haunt();
        }
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "it never becomes quiet");
            self.pass(ROUND);
            let mut moved = 0;
            for n in 0..self.programs.len() {
                if self.programs[n].connection.is_none() && !self.programs[n].closes {
                    self.connect(n);
                    moved += 1;
                }
                moved += self.write(n);
                self.hub_reads(n, usize::MAX);
                self.hub_writes(n);
                let down = |program: &Program| program.connection.as_ref().map(|it| it.down.len());
                moved += down(&self.programs[n]).unwrap_or(0);
                self.read(n, usize::MAX);
                moved += self.read_all(n);
            }
            while !self.ghosts.is_empty() {
                self.haunt();
            }
            quiet = if moved > 0 { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                return;
            }
        }
    }

    /// A program reads all parts and takes all requests that are there; how many.
    fn read_all(&mut self, n: usize) -> usize {
        let before = self.judge.counts.clone();
        let program = &mut self.programs[n];
        for at in (0..program.readers.len()).rev() {
            program.read_parts(at, usize::MAX, &mut self.judge);
        }
        program.take_requests(usize::MAX, &mut self.judge);
        usize::from(before != self.judge.counts)
    }

    /// Who waits, waits for somebody who works on it.
    fn nobody_waits_in_vain(&self, n: usize) {
        let program = &self.programs[n];
        let name = program.who.name;
        if program.closes {
            return;
        }
        assert!(program.connected, "{name} has no connection");
        let calls = program.waits.iter().filter_map(|it| match it.what {
            What::Call(call) => Some(call),
            What::Part(handling) => {
                self.part_may_wait(n, handling);
                None
            }
            what => panic!("{name} waits: {what:?}"),
        });
        for call in calls.chain(program.readers.iter().map(|it| it.call)) {
            let of = self.judge.calls[call].of(call);
            let works = self.programs.iter().any(|program| {
                program.desk.iter().any(|job| {
                    let handling = &self.judge.handlings[job.handling];
                    handling.of == of && handling.handler == program.who
                })
            });
            // A request that is lost on its way to its handler is so until its time is over.
            assert!(
                works || self.judge.is_lossy(call),
                "c{call} waits for nobody"
            );
            if let Of::Command(id) = of {
                let present = |who: Who| self.programs[who.seat].who == who;
                let answered = self.judge.is_answered_by(id, present);
                assert!(!answered, "c{call} waits, and o{id} has an outcome");
            }
        }
    }

    /// A part waits only for a caller that is not there any more.
    fn part_may_wait(&self, n: usize, handling: usize) {
        let program = &self.programs[n];
        let job = program.desk.iter().find(|it| it.handling == handling);
        let over = job.is_none_or(|job| job.incoming.is_cancelled());
        let Of::Call(call) = self.judge.handlings[handling].of else {
            panic!("e{handling} is a command");
        };
        let lossy = self.judge.is_lossy(call);
        assert!(
            over || lossy,
            "e{handling} waits to send a part, and all was read"
        );
    }

    /// A handler knows who does not wait any more.
    fn desk_is_up_to_date(&self, n: usize) {
        let program = &self.programs[n];
        for job in &program.desk {
            let handling = &self.judge.handlings[job.handling];
            let told = job.incoming.is_cancelled();
            let gone = handling.handler != program.who;
            match handling.of {
                Of::Call(id) => {
                    let call = &self.judge.calls[id];
                    let over = call.fate != Fate::Open;
                    // What became of a request whose outcome nobody waits for, nobody knows.
                    let unsure = call.fate == Fate::Nobody || self.judge.may_be_untold(handling);
                    assert!(
                        told == (over || gone) || unsure,
                        "e{} of c{id}: told to stop: {told}, {:?}",
                        job.handling,
                        call.fate
                    );
                }
                Of::Command(id) => {
                    let calls = &self.judge.commands[id].calls;
                    let [id] = calls[..] else {
                        continue;
                    };
                    let call = &self.judge.calls[id];
                    let must = match call.fate {
                        // It was there to say so, is still, and its time was not over.
                        Fate::Dropped(at, by) => {
                            let early = at + Duration::from_secs(60) < call.since + call.timeout;
                            early && by == self.programs[by.seat].who && !gone
                        }
                        _ => false,
                    };
                    let must = must && !self.judge.may_be_untold(handling);
                    assert!(
                        told || !must,
                        "e{} of c{id} is not told to stop",
                        job.handling
                    );
                    let may = matches!(call.fate, Fate::Dropped(..));
                    assert!(
                        may || !told || gone,
                        "e{} of c{id} is told to stop",
                        job.handling
                    );
                }
            }
        }
    }

    /// I14: of those who serve an exclusive service, one has it, with the newest lease.
    fn leases_are_held(&mut self) {
        for name in EXCLUSIVE {
            let programs = self.programs.iter().filter(|program| !program.closes);
            let served = programs.flat_map(|program| &program.services);
            let served = served.filter(|served| served.name == name);
            let leases: Vec<_> = served.map(|it| it.service.lease()).collect();
            let held = leases.iter().filter_map(|lease| match lease {
                Some(Lease::Held { fence }) => Some(*fence),
                _ => None,
            });
            let held: Vec<_> = held.collect();
            if leases.is_empty() {
                continue;
            }
            let newest = self.judge.newest_lease(self.epoch, name);
            assert_eq!(held, [newest], "I14: {name}: {leases:?}");
            self.judge.count("lease", "one at rest");
        }
    }
}
