//! The world, and what happens in it, in which order.

mod rest;

use std::time::Duration;

use localhub::hub::{Batch, Departure, Wakes};
use localhub_protocol::{ClientFrame, Code, Epoch, ResumeToken};
use localhub_tests::{Rng, World};

use crate::acts::{NAMES, Order};
use crate::clock;
use crate::connection::Connection;
use crate::judge::{Fate, Judge};
use crate::program::{Program, What};

/// A broker, the programs, and who judges what these are told.
pub(crate) struct Simulation {
    rng: Rng,
    world: World,
    /// Which life of the broker it is.
    epoch: u8,
    /// Whether outboxes hold so little that messages are refused and lost.
    tight: bool,
    programs: Vec<Program>,
    /// Connections that their programs gave up, and the hub does not know it yet.
    ghosts: Vec<Connection>,
    /// The commands that were sent.
    orders: Vec<Order>,
    judge: Judge,
    batch: Batch,
}

const TTL: Duration = Duration::from_secs(20);

/// The most that a step takes.
const STEP_MICROS: u64 = 8_000;

impl Simulation {
    /// Makes the world of a seed. The clock stands still, and the thread is in its runtime.
    pub(crate) fn new(seed: u64) -> Self {
        let tight = seed.is_multiple_of(2);
        let now = Duration::ZERO;
        // The last name is of nobody.
        let names = NAMES[..NAMES.len() - 1].iter().enumerate();
        Self {
            rng: Rng::new(seed),
            world: world(1, tight, now),
            epoch: 1,
            tight,
            programs: names
                .map(|(seat, name)| Program::new(name, seat, 1, now))
                .collect(),
            ghosts: Vec::new(),
            orders: Vec::new(),
            judge: Judge::new(tight),
            batch: Batch::default(),
        }
    }

    /// Lets one thing happen.
    pub(crate) fn step(&mut self) {
        let micros = self.rng.below(STEP_MICROS);
        self.pass(Duration::from_micros(micros));
        let n = self.any();
        match self.rng.below(1_000) {
            0..=3 => self.cut(n),
            4..=7 if self.tight => self.cut(n),
            8..=12 => self.haunt(),
            13 if self.rng.once_in(2) => self.kill(n),
            14 if self.rng.once_in(2) => self.kick(n),
            15 if self.rng.once_in(2) => self.say_goodbye(n),
            16 if self.rng.once_in(4) => self.restart(),
            17 if self.rng.once_in(2) => self.time_passes(),
            18 => self.rest(),
            19..=219 => self.act(n),
            220..=399 => {
                self.write(n);
            }
            400..=599 => {
                let bytes = 1 + self.rng.below(1_500) as usize;
                self.hub_reads(n, bytes);
            }
            600..=779 => self.hub_writes(n),
            _ => {
                let bytes = 1 + self.rng.below(1_500) as usize;
                self.read(n, bytes);
            }
        }
    }

    fn any(&mut self) -> usize {
        self.rng.below(self.programs.len() as u64) as usize
    }

    /// A program that has no connection makes one; one that has does something.
    fn act(&mut self, n: usize) {
        let program = &mut self.programs[n];
        // Who stays away for longer loses more.
        let patience = if self.tight { 12 } else { 3 };
        if program.connection.is_none() && self.rng.once_in(patience) {
            return self.connect(n);
        }
        program.act(&mut self.rng, &mut self.orders, &mut self.judge);
    }

    // Time.

    /// Time passes, and whatever is due in it happens at its time.
    fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        loop {
            let now = self.world.now;
            let mut wakes = Wakes::default();
            let alarm = self.world.hub.expire(now, &mut wakes);
            wakes.fire();
            for n in 0..self.programs.len() {
                if !self.programs[n].elapse(&mut self.judge) {
                    self.judge.count("connections", "silent");
                    self.cut(n);
                }
                self.is_in_time(n);
            }
            if now >= until {
                return;
            }
            let deadlines = self.programs.iter().filter_map(Program::deadline);
            let next = deadlines.chain(alarm).filter(|at| *at > now).min();
            let next = next.map_or(until, |at| at.min(until));
            clock::advance(next - now);
            (self.world.now, self.judge.now) = (next, next);
        }
    }

    /// No request waits for longer than it was to.
    fn is_in_time(&self, n: usize) {
        let program = &self.programs[n];
        for it in &program.waits {
            let What::Call(call) = it.what else {
                continue;
            };
            let due = self.judge.due(call, program.connected);
            let late = due.is_some_and(|due| due <= self.world.now);
            let waits = self.judge.calls[call].fate == Fate::Open;
            assert!(!late || !waits, "c{call} waits for too long");
        }
    }

    /// Much time passes, in which all that was written arrives, or nothing.
    fn time_passes(&mut self) {
        let most = if self.rng.once_in(4) { 100 } else { 12 };
        let (seconds, quiet) = (self.rng.below(most), self.rng.once_in(3));
        self.judge.tell(format_args!("{seconds} s pass"));
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            for n in 0..self.programs.len() {
                if !quiet {
                    self.write(n);
                    self.hub_reads(n, usize::MAX);
                    self.hub_writes(n);
                    self.read(n, usize::MAX);
                }
            }
        }
    }

    // Connections and programs.

    fn connect(&mut self, n: usize) {
        let program = &mut self.programs[n];
        let hello = program.hello();
        let Ok(ClientFrame::Hello(hello)) = ClientFrame::decode(&hello[4..]) else {
            panic!("not a hello: {hello:?}");
        };
        let mut token = [0; 32];
        token[..8].copy_from_slice(&self.rng.draw().to_be_bytes());
        let mut identity = self.world.user(1_000);
        identity.pid = Some(1_000 + n as u32);
        let mut wakes = Wakes::default();
        let (hub, now) = (&self.world.hub, self.world.now);
        let peer = hub.attach(&hello, identity, ResumeToken(token), now, &mut wakes);
        wakes.fire();
        match peer {
            Ok(peer) => program.connection = Some(Connection::new(peer)),
            Err(close) => {
                // Its own earlier connection has it, or that of the program before.
                assert_eq!(close.code, Code::NAME_TAKEN, "{close:?}");
                program.lost(&mut self.judge);
            }
        }
    }

    /// A connection breaks. The hub hears of it at once, or goes on reading what is on its way.
    fn cut(&mut self, n: usize) {
        let program = &mut self.programs[n];
        let Some(mut connection) = program.connection.take() else {
            return;
        };
        let name = program.who.name;
        self.judge.tell(format_args!("{name} loses its connection"));
        self.judge.count("connections", "lost");
        if self.tight || self.rng.once_in(2) {
            // What is on its way is lost with it.
            connection.hub_writes(&self.world, &mut self.batch);
        }
        program.lost(&mut self.judge);
        if self.rng.once_in(2) {
            self.ghosts.push(connection);
        } else {
            let lost = Departure::Lost(Code::CONNECTION_LOST);
            connection.hub_departs(&self.world, lost);
        }
        self.replace_if_over(n);
    }

    /// The hub reads on from a connection that its program gave up, and then sees that it is gone.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = self.rng.below(self.ghosts.len() as u64) as usize;
        let mut ghost = self.ghosts.swap_remove(at);
        // What it writes there is lost with the connection.
        ghost.hub_writes(&self.world, &mut self.batch);
        let bytes = match self.rng.once_in(2) {
            true => ghost.up.len(),
            false => self.rng.below(ghost.up.len() as u64 + 1) as usize,
        };
        ghost.hub_reads(&self.world, bytes);
        ghost.hub_departs(&self.world, Departure::Lost(Code::CONNECTION_LOST));
    }

    /// A program dies, and another one begins in its place.
    fn kill(&mut self, n: usize) {
        let program = &mut self.programs[n];
        self.judge.tell(format_args!("{} dies", program.who.name));
        self.judge.count("ends", "died");
        if let Some(mut connection) = program.connection.take() {
            if self.rng.once_in(2) {
                self.ghosts.push(connection);
            } else {
                let dead = Departure::Final(Code::PROCESS_DIED);
                connection.hub_departs(&self.world, dead);
            }
        }
        self.replace(n);
    }

    fn replace(&mut self, n: usize) {
        let before = &self.programs[n];
        for call in &mut self.judge.calls {
            let mine = (call.caller.seat, call.caller.life) == (n, before.who.life);
            if mine && call.fate == Fate::Open {
                call.fate = Fate::Gone;
            }
        }
        let life = before.who.life + 1;
        self.programs[n] = Program::new(NAMES[n], n, life, self.world.now);
    }

    /// A program that is over was told what became of all that it waited for.
    fn replace_if_over(&mut self, n: usize) {
        let program = &self.programs[n];
        if program.closes && !program.connected {
            let waits = program.waits.iter().find(|it| match it.what {
                What::Call(call) => self.judge.calls[call].fate == Fate::Open,
                _ => true,
            });
            let what = waits.map(|it| it.what);
            assert_eq!(what, None, "{} is over, and waits", program.who.name);
            self.replace(n);
        }
    }

    /// An operator ends a session.
    fn kick(&mut self, n: usize) {
        let program = &self.programs[n];
        self.judge
            .tell(format_args!("{} is kicked", program.who.name));
        self.judge.count("ends", "kicked");
        let (hub, mut wakes) = (&self.world.hub, Wakes::default());
        if program.who.epoch == self.epoch {
            let client = program.who.client;
            hub.end(client, Code::KICKED, self.world.now, &mut wakes);
        }
        wakes.fire();
    }

    fn say_goodbye(&mut self, n: usize) {
        let program = &mut self.programs[n];
        if program.closes || !program.connected {
            return;
        }
        self.judge
            .tell(format_args!("{} says goodbye", program.who.name));
        self.judge.count("ends", "goodbye");
        program.say_goodbye(&mut self.judge);
    }

    /// The broker is started anew, and knows nothing.
    fn restart(&mut self) {
        self.epoch += 1;
        let epoch = self.epoch;
        self.judge
            .tell(format_args!("the broker is started anew: {epoch}"));
        self.judge.count("ends", "broker restarted");
        self.world = world(epoch, self.tight, self.world.now);
        self.ghosts.clear();
        for n in 0..self.programs.len() {
            if self.programs[n].connection.take().is_some() {
                self.programs[n].lost(&mut self.judge);
                self.replace_if_over(n);
            }
        }
    }

    // Steps of a connection.

    fn write(&mut self, n: usize) -> usize {
        self.programs[n].write(self.world.now)
    }

    fn hub_reads(&mut self, n: usize, bytes: usize) {
        if let Some(connection) = &mut self.programs[n].connection {
            connection.hub_reads(&self.world, bytes);
        }
    }

    fn hub_writes(&mut self, n: usize) {
        if let Some(connection) = &mut self.programs[n].connection {
            connection.hub_writes(&self.world, &mut self.batch);
        }
    }

    fn read(&mut self, n: usize, bytes: usize) {
        if !self.programs[n].read(bytes, &mut self.judge) {
            self.cut(n);
        }
    }
}

fn world(epoch: u8, tight: bool, now: Duration) -> World {
    let mut world = World::new(|settings| {
        settings.epoch = Epoch([epoch; 16]);
        settings.ttl = TTL;
        if tight {
            settings.limits.outbox_messages = 5;
            settings.limits.outbox_bytes = 3_000;
        }
    });
    world.now = now;
    world
}
