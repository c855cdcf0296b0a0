use std::time::Duration;

use localhub::hub::{Batch, Departure, Wakes};
use localhub_protocol::{ClientFrame, ClientId, Code, Hello, ResumeToken};

use super::app::Habits;
use super::client::Client;
use super::link::Link;
use super::model::Model;
use super::sdk::Sdk;
use super::space::{Load, Space};
use super::{Counts, Plan, ROOMY_BYTES};
use crate::{Rng, World};

/// The world, and what happened in it.
pub struct Simulation {
    rng: Rng,
    world: World,
    seats: Vec<Seat>,
    /// Connections that their clients gave up, and the hub does not know it yet.
    ghosts: Vec<Link>,
    model: Model,
    batch: Batch,
    /// The most that a step takes.
    step_micros: u64,
    /// The hub checks itself once in so many steps.
    check_every: u64,
    /// Everybody is to come to rest.
    ends: bool,
}

/// A client and its connection.
struct Seat {
    link: Option<Link>,
    /// The session that it had last, whether or not it knows.
    session: ClientId,
    /// Its process is stopped until then.
    stopped_until: Duration,
    player: Player,
}

enum Player {
    Plain(Box<Client>),
    Sdk(Box<Sdk>),
}

const TTL: Duration = Duration::from_secs(120);

/// A client does something about every 60 ms.
const ROUND_MICROS: u64 = 240_000;

/// A silence in which a client pings, or gives up.
const LAST_SILENCE_MILLIS: u64 = 40_000;

/// How long a time of quiet takes after which everything has been said.
const QUIET_ROUNDS: u32 = 8;

/// How long one such round is: longer than the SDK waits before it confirms.
const ROUND: Duration = Duration::from_millis(150);

/// Rounds after which the world should have been quiet long ago.
const ROUNDS_MAX: u32 = 20_000;

impl Simulation {
    /// Makes the world of a seed.
    pub fn new(seed: u64, plan: Plan) -> Self {
        let world = World::new(|settings| {
            settings.limits.outbox_messages = plan.outbox_messages;
            settings.limits.outbox_bytes = plan.outbox_bytes;
            settings.memory_bytes = plan.memory_bytes;
            settings.ttl = TTL;
        });
        let space = Space {
            outbox: Load {
                messages: plan.outbox_messages,
                bytes: plan.outbox_bytes,
            },
            memory_is_tight: plan.memory_bytes < ROOMY_BYTES,
        };
        let seat = |author: usize| {
            let channels = plan.channels as u64;
            let turn = author.checked_div(plan.sdk_share);
            let player = match turn {
                Some(turn) if author.is_multiple_of(plan.sdk_share) => {
                    let habits = Habits {
                        small_inbox: turn % 3 == 1,
                        slow: turn % 3 != 0,
                        frugal: space.memory_is_tight,
                        channels,
                    };
                    Player::Sdk(Box::new(Sdk::new(author, habits)))
                }
                _ => {
                    let client = Client::new(author, channels, space.memory_is_tight);
                    Player::Plain(Box::new(client))
                }
            };
            Seat {
                link: None,
                session: ClientId::HUB,
                stopped_until: Duration::ZERO,
                player,
            }
        };
        Self {
            rng: Rng::new(seed),
            world,
            seats: (0..plan.clients).map(seat).collect(),
            ghosts: Vec::new(),
            model: Model::new(space, plan.clients),
            batch: Batch::default(),
            step_micros: (ROUND_MICROS / plan.clients as u64).max(1),
            check_every: 100 * plan.clients as u64,
            ends: false,
        }
    }

    /// Lets one thing happen.
    pub fn step(&mut self) {
        let n = self.rng.below(self.seats.len() as u64) as usize;
        let micros = self.rng.below(self.step_micros);
        self.pass(Duration::from_micros(micros));
        if self.rng.once_in(self.check_every) {
            self.world.hub.check();
        }
        let what = self.rng.below(100);
        if self.seats[n].stopped_until > self.world.now && what >= 3 && !(40..80).contains(&what) {
            return;
        }
        match what {
            0 => self.cut(n),
            1 => self.haunt(),
            2 => self.meddle(n),
            3..=39 => self.speak(n),
            40..=64 => {
                let bytes = 1 + self.rng.below(400) as usize;
                self.hub_reads(n, bytes);
            }
            65..=79 => self.hub_writes(n),
            _ => {
                let bytes = 1 + self.rng.below(300) as usize;
                self.client_reads(n, bytes);
            }
        }
    }

    /// Lets every client come back and hear everything, and checks that nothing is left over.
    ///
    /// # Panics
    /// Something is left over, or the world never becomes quiet.
    pub fn finish(mut self) -> Counts {
        self.ends = true;
        while !self.ghosts.is_empty() {
            self.haunt();
        }
        // A last word from everybody, and nobody speaks for a while: long enough for pings.
        for n in 0..self.seats.len() {
            self.seats[n].stopped_until = Duration::ZERO;
            self.speak(n);
        }
        let silence = self.rng.below(LAST_SILENCE_MILLIS);
        self.pass(Duration::from_millis(silence));
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the world never becomes quiet");
            self.pass(ROUND);
            let before = self.model.progress;
            self.haunt();
            for n in 0..self.seats.len() {
                if self.seats[n].link.is_none() {
                    self.connect(n);
                }
                self.let_go_on(n);
                self.write(n);
                self.hub_reads(n, usize::MAX);
                self.hub_writes(n);
                self.client_reads(n, usize::MAX);
                self.let_go_on(n);
            }
            let moved = self.model.progress != before;
            let waits = |seat: &Seat| seat.link.as_ref().is_none_or(Link::is_stalled);
            let waits = self.seats.iter().any(waits);
            quiet = if moved || waits { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                break;
            }
        }
        self.world.hub.check();
        for seat in &mut self.seats {
            self.model.finish(seat.player.id());
            if let Player::Sdk(sdk) = &mut seat.player {
                sdk.app.finish(&self.model);
                self.model.counts.given += sdk.app.seen;
            }
        }
        self.model.counts
    }

    /// Time passes, and whatever is due in it happens at its time.
    fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        loop {
            let alarm = self.model.next_alarm();
            let now = alarm.map_or(until, |at| at.clamp(self.world.now, until));
            (self.world.now, self.model.now) = (now, now);
            let mut wakes = Wakes::default();
            let next = self.world.hub.expire(now, &mut wakes);
            wakes.fire();
            self.model.expire();
            assert_eq!(
                next,
                self.model.next_alarm(),
                "when the hub has something to do"
            );
            if alarm.is_none_or(|at| at > until) {
                return;
            }
        }
    }

    /// A client that has no connection makes one; one that has says something.
    fn speak(&mut self, n: usize) {
        let other = self.rng.below(self.seats.len() as u64) as usize;
        let other = self.seats[other].player.id();
        let seat = &mut self.seats[n];
        match &mut seat.player {
            Player::Plain(client) => {
                if let Some(link) = &mut seat.link {
                    client.speak(link, &mut self.rng, other, &mut self.model.ledger);
                    if client.has_said_goodbye() {
                        // What it said is on its way, and nobody listens for an answer.
                        self.ghosts.extend(seat.link.take());
                        client.forget(&mut self.model.ledger);
                    }
                }
            }
            Player::Sdk(sdk) => {
                let Model {
                    filters, ledger, ..
                } = &mut self.model;
                sdk.app.act(&mut self.rng, other, filters, ledger);
                if !sdk.app.habits.slow || self.rng.once_in(20) {
                    sdk.app.read_streams();
                }
            }
        }
        if self.seats[n].link.is_none() && self.rng.once_in(8) {
            self.connect(n);
        }
        if self.rng.once_in(2) {
            self.write(n);
        }
    }

    /// The SDK writes what it wants to be written; the others have done so.
    fn write(&mut self, n: usize) {
        let seat = &mut self.seats[n];
        if let (Player::Sdk(sdk), Some(link)) = (&mut seat.player, &mut seat.link) {
            sdk.write(link, self.world.now);
        }
    }

    /// A program goes on as far as it can.
    fn let_go_on(&mut self, n: usize) {
        if let Player::Sdk(sdk) = &mut self.seats[n].player {
            sdk.app.poll_operations(&self.model.ledger);
            sdk.app.read_streams();
        }
    }

    fn connect(&mut self, n: usize) {
        let seat = &mut self.seats[n];
        let wrong = !self.ends && self.rng.once_in(12);
        let hello = match &mut seat.player {
            Player::Plain(client) => client.hello(wrong),
            Player::Sdk(sdk) => sdk.hello(),
        };
        let Ok(ClientFrame::Hello(hello)) = ClientFrame::decode(&hello[4..]) else {
            panic!("not a hello: {hello:?}");
        };
        let mut token = [0; 32];
        token[..8].copy_from_slice(&self.rng.draw().to_be_bytes());
        // Sessions that are over are so for the hub as well, before it is asked.
        self.pass(Duration::ZERO);
        let now = self.world.now;
        let mut identity = self.world.user(1_000);
        let pid = 1_000 + n as u32;
        identity.pid = Some(pid);
        let mut wakes = Wakes::default();
        let token = ResumeToken(token);
        let peer = self
            .world
            .hub
            .attach(&hello, identity, token.clone(), now, &mut wakes);
        wakes.fire();
        let refused = self.refusal(n, pid, &hello);
        let seat = &mut self.seats[n];
        let peer = match peer {
            Ok(peer) => peer,
            Err(close) => {
                assert_eq!(Some(close.code), refused, "{close:?}");
                if let Player::Sdk(sdk) = &mut seat.player {
                    sdk.lost();
                }
                return;
            }
        };
        assert_eq!(refused, None, "the hub let in {hello:?}");
        let (before, client) = (seat.session, peer.client());
        seat.session = client;
        if hello.name.is_some() && before != client && !self.model.is_over(before) {
            // It took its name from its own session, of which it knows nothing any more.
            self.model.end(before, Code::NAME_TAKEN);
        }
        let shown = hello.resume.filter(|resume| resume.client == client);
        let ttl = hello.ttl_ms.map(|ttl| Duration::from_millis(ttl.into()));
        if let Some(resume) = &shown {
            // What it says it has received needs no other word.
            self.model.client(client).confirm(resume.received);
        }
        let shown = shown.map(|resume| resume.token);
        self.model.attach(client, ttl.unwrap_or(TTL), token, shown);
        seat.link = Some(Link::new(peer, &mut self.model));
    }

    /// Why a client must not be let in.
    fn refusal(&mut self, n: usize, pid: u32, hello: &Hello<'_>) -> Option<Code> {
        let now = self.world.now;
        if let Some(resume) = &hello.resume {
            if self.model.strikes.has_to_wait(pid, now) {
                self.model.counts.locked_out += 1;
                return Some(Code::BAD_TOKEN);
            }
            if !self.model.is_over(resume.client) {
                if self
                    .model
                    .client(resume.client)
                    .tokens
                    .are_good(&resume.token)
                {
                    return None;
                }
                self.model.strikes.strike(pid, now);
                self.model.counts.wrong_tokens += 1;
                return Some(Code::BAD_TOKEN);
            }
        }
        let session = self.seats[n].session;
        let taken = hello.name.is_some()
            && !self.model.is_over(session)
            && self.model.client(session).parked.is_none();
        taken.then_some(Code::NAME_TAKEN)
    }

    /// A connection breaks. The hub hears of it at once, or goes on reading what is on its way.
    fn cut(&mut self, n: usize) {
        let seat = &mut self.seats[n];
        let Some(mut link) = seat.link.take() else {
            return;
        };
        let mut departure = Departure::Lost(Code::CONNECTION_LOST);
        match &mut seat.player {
            Player::Sdk(sdk) => sdk.lost(),
            Player::Plain(client) => {
                if !self.ends && self.rng.once_in(6) {
                    // It crashed, and knows nothing any more.
                    client.forget(&mut self.model.ledger);
                    departure = Departure::Final(Code::PROCESS_DIED);
                }
            }
        }
        if self.rng.once_in(2) {
            self.ghosts.push(link);
        } else {
            link.hub_departs(&self.world, &mut self.model, departure);
        }
    }

    /// The hub reads on from a connection that its client gave up, and then sees that it is gone.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = self.rng.below(self.ghosts.len() as u64) as usize;
        let mut link = self.ghosts.swap_remove(at);
        // What it writes there is lost with the connection.
        link.hub_writes(&mut self.model, &mut self.batch);
        let bytes = match self.rng.once_in(2) {
            true => link.up.len(),
            false => self.rng.below(link.up.len() as u64 + 1) as usize,
        };
        if let Err(code) = link.hub_reads(&self.world, &mut self.model, bytes) {
            let fenced = link.is_fenced(&mut self.model, code);
            assert!(fenced, "the hub does not read on because of {code:?}");
            self.model.counts.fenced += 1;
        }
        link.hub_detaches(&self.world, &mut self.model);
    }

    /// Something from outside: time passes for all, or for all but one whose process is stopped, or an
    /// operator ends a session.
    fn meddle(&mut self, n: usize) {
        if self.rng.once_in(2 * self.seats.len() as u64) {
            let seconds = self.rng.below(100);
            self.pass(Duration::from_secs(seconds));
        }
        if self.rng.once_in(10) {
            let time = Duration::from_millis(self.rng.below(60_000));
            self.seats[n].stopped_until = self.world.now + time;
        }
        if self.rng.once_in(20) {
            self.kick(n);
        }
    }

    fn kick(&mut self, n: usize) {
        let session = self.seats[n].session;
        let mut wakes = Wakes::default();
        let known = self
            .world
            .hub
            .end(session, Code::KICKED, self.world.now, &mut wakes);
        wakes.fire();
        assert_eq!(known, !self.model.is_over(session), "{session} is there");
        if known {
            self.model.end(session, Code::KICKED);
        }
        if matches!(self.seats[n].player, Player::Sdk(_)) {
            // A program that hears it has come to its end: here the word is lost on its way.
            self.cut(n);
        }
    }

    fn hub_reads(&mut self, n: usize, bytes: usize) {
        let Some(link) = &mut self.seats[n].link else {
            return;
        };
        if let Err(code) = link.hub_reads(&self.world, &mut self.model, bytes) {
            link.hub_closes(&self.world, &mut self.model, code);
        }
    }

    fn hub_writes(&mut self, n: usize) {
        let Some(link) = &mut self.seats[n].link else {
            return;
        };
        link.hub_looks(&mut self.model);
        let ping = self.world.hub.settings().ping;
        if !link.hub_probes(self.world.now, ping) {
            return link.hub_closes(&self.world, &mut self.model, Code::PING_TIMEOUT);
        }
        let all = link.hub_writes(&mut self.model, &mut self.batch);
        if let Some(code) = link.closing()
            && (all || self.rng.once_in(2))
        {
            link.hub_closes(&self.world, &mut self.model, code);
        }
    }

    fn client_reads(&mut self, n: usize, bytes: usize) {
        let seat = &mut self.seats[n];
        let Some(link) = &mut seat.link else {
            return;
        };
        link.down.deliver(bytes);
        let open = match &mut seat.player {
            Player::Plain(client) => client.read(link, &mut self.model),
            Player::Sdk(sdk) => {
                let open = sdk.read(link, self.world.now, &mut self.model);
                if !sdk.app.habits.slow {
                    sdk.app.read_streams();
                }
                open
            }
        };
        // What the hub wrote before it closed is read to its end.
        if !open || link.is_closed() && link.down.is_empty() {
            self.cut(n);
        } else if matches!(self.seats[n].player, Player::Sdk(_)) && self.rng.once_in(2) {
            self.write(n);
        }
    }
}

impl Player {
    fn id(&self) -> ClientId {
        match self {
            Self::Plain(client) => client.id,
            Self::Sdk(sdk) => sdk.app.client.id(),
        }
    }
}
