use std::time::Duration;

use localhub::hub::{Batch, Identity, Wakes};
use localhub_protocol::{ClientFrame, ClientId, Code, ResumeToken};

use super::app::Habits;
use super::carry_out::Space;
use super::client::Client;
use super::link::Link;
use super::model::Model;
use super::sdk::Sdk;
use super::{Counts, Plan, ROOMY_BYTES};
use crate::{Rng, World};

/// The world, and what happened in it.
pub struct Simulation {
    rng: Rng,
    world: World,
    identity: Identity,
    seats: Vec<Seat>,
    /// Connections that their clients gave up, and the hub does not know it yet.
    ghosts: Vec<Link>,
    model: Model,
    space: Space,
    counts: Counts,
    batch: Batch,
    /// The most that a step takes.
    step_micros: u64,
    /// The hub checks itself once in so many steps.
    check_every: u64,
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
            settings.memory_bytes = plan.memory_bytes;
            settings.ttl = TTL;
        });
        let seat = |author: usize| {
            let channels = plan.channels as u64;
            let turn = author.checked_div(plan.sdk_share);
            let player = match turn {
                Some(turn) if author.is_multiple_of(plan.sdk_share) => {
                    let habits = Habits {
                        small_inbox: turn % 3 == 1,
                        slow: turn % 3 != 0,
                        channels,
                    };
                    Player::Sdk(Box::new(Sdk::new(author, habits)))
                }
                _ => Player::Plain(Box::new(Client::new(author, channels))),
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
            identity: world.user(1_000),
            world,
            seats: (0..plan.clients).map(seat).collect(),
            ghosts: Vec::new(),
            model: Model::new(TTL, plan.clients),
            space: Space {
                outbox_messages: plan.outbox_messages,
                memory_is_tight: plan.memory_bytes < ROOMY_BYTES,
            },
            counts: Counts::default(),
            batch: Batch::default(),
            step_micros: (ROUND_MICROS / plan.clients as u64).max(1),
            check_every: 100 * plan.clients as u64,
        }
    }

    /// Lets one thing happen.
    pub fn step(&mut self) {
        let n = self.rng.below(self.seats.len() as u64) as usize;
        self.world.now += Duration::from_micros(self.rng.below(self.step_micros));
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
            2 => self.pass_time(n),
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
        while !self.ghosts.is_empty() {
            self.haunt();
        }
        // A last word from everybody, and nobody speaks for a while: long enough for pings.
        for n in 0..self.seats.len() {
            self.seats[n].stopped_until = Duration::ZERO;
            self.speak(n);
        }
        self.world.now += Duration::from_millis(self.rng.below(LAST_SILENCE_MILLIS));
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the world never becomes quiet");
            self.world.now += ROUND;
            let before = self.model.progress;
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
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                break;
            }
        }
        self.world.hub.check();
        for seat in &mut self.seats {
            self.model.finish(seat.player.id());
            if let Player::Sdk(sdk) = &mut seat.player {
                sdk.app.finish(&self.model);
                self.counts.given += sdk.app.seen;
            }
        }
        self.counts
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
        let hello = match &mut seat.player {
            Player::Plain(client) => client.hello(),
            Player::Sdk(sdk) => sdk.hello(),
        };
        let Ok(ClientFrame::Hello(hello)) = ClientFrame::decode(&hello[4..]) else {
            panic!("not a hello: {hello:?}");
        };
        let mut token = [0; 32];
        token[..8].copy_from_slice(&self.rng.draw().to_be_bytes());
        // Sessions that are over are so for the hub as well, before it is asked.
        self.expire();
        let (now, identity) = (self.world.now, self.identity.clone());
        let mut wakes = Wakes::default();
        let peer = self
            .world
            .hub
            .attach(&hello, identity, ResumeToken(token), now, &mut wakes);
        wakes.fire();
        let seat = &mut self.seats[n];
        let peer = match (peer, &mut seat.player) {
            (Ok(peer), _) => peer,
            (Err(close), Player::Sdk(sdk)) if close.code == Code::NAME_TAKEN => {
                // Its first welcome was lost, and the hub has yet to see that with its connection.
                let id = sdk.app.client.id();
                assert!(
                    self.model.is_over(id),
                    "a session is resumed under any name"
                );
                return sdk.lost();
            }
            (Err(close), _) => panic!("the hub lets its clients in, and said {close:?}"),
        };
        let before = std::mem::replace(&mut seat.session, peer.client());
        if hello.name.is_some() && before != peer.client() && !self.model.is_over(before) {
            // It took its name from its own session, which it had never heard of.
            self.model.end(before);
        }
        self.model.attach(peer.client());
        seat.link = Some(Link::new(peer, now));
    }

    /// A connection breaks. The hub hears of it at once, or goes on reading what is on its way.
    fn cut(&mut self, n: usize) {
        let seat = &mut self.seats[n];
        let Some(mut link) = seat.link.take() else {
            return;
        };
        if let Player::Sdk(sdk) = &mut seat.player {
            sdk.lost();
        }
        if self.rng.once_in(2) {
            self.ghosts.push(link);
        } else {
            link.hub_detaches(&self.world, &mut self.model);
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
        link.hub_writes(&mut self.batch);
        let bytes = match self.rng.once_in(2) {
            true => link.up.len(),
            false => self.rng.below(link.up.len() as u64 + 1) as usize,
        };
        if let Err(code) = link.hub_reads(&self.world, &mut self.model, self.space, bytes) {
            // Its session has another connection now, or is over.
            assert!(matches!(code, Code::SUPERSEDED | Code::GOODBYE), "{code:?}");
            self.counts.fenced += 1;
        }
        link.hub_detaches(&self.world, &mut self.model);
    }

    fn expire(&mut self) {
        self.world.pass(Duration::ZERO);
        self.model.expire(self.world.now);
    }

    /// Time passes for all, or for all but one whose process is stopped.
    fn pass_time(&mut self, n: usize) {
        if self.rng.once_in(2 * self.seats.len() as u64) {
            self.world.now += Duration::from_secs(self.rng.below(100));
        }
        if self.rng.once_in(10) {
            let time = Duration::from_millis(self.rng.below(60_000));
            self.seats[n].stopped_until = self.world.now + time;
        }
        self.expire();
    }

    fn hub_reads(&mut self, n: usize, bytes: usize) {
        if let Some(link) = &mut self.seats[n].link {
            link.hub_reads(&self.world, &mut self.model, self.space, bytes)
                .expect("a connection that did nothing wrong goes on");
        }
    }

    fn hub_writes(&mut self, n: usize) {
        let Some(link) = &mut self.seats[n].link else {
            return;
        };
        let ping = self.world.hub.settings().ping;
        if link.hub_probes(self.world.now, ping) {
            link.hub_writes(&mut self.batch);
        } else {
            link.hub_closes(&self.world, &mut self.model, Code::PING_TIMEOUT);
        }
    }

    fn client_reads(&mut self, n: usize, bytes: usize) {
        let seat = &mut self.seats[n];
        let Some(link) = &mut seat.link else {
            return;
        };
        link.down.deliver(bytes);
        let open = match &mut seat.player {
            Player::Plain(client) => client.read(link, &mut self.model, &mut self.counts),
            Player::Sdk(sdk) => {
                let now = self.world.now;
                let open = sdk.read(link, now, &mut self.model, &mut self.counts);
                if !sdk.app.habits.slow {
                    sdk.app.read_streams();
                }
                open
            }
        };
        // What the hub wrote before it closed is read to its end.
        if !open || link.is_closed() && link.down.len() == 0 {
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
