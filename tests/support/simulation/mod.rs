//! The simulated world: a hub, clients and the links between them, step by step from a seed.

mod client;
mod model;

use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{Batch, Departure, Peer, Wakes};
use localhub_protocol::{ClientId, Code, Hello, ResumeToken, Version};

use crate::{Rng, World};
use client::Client;
use model::Model;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: usize,
    /// How many channels they share.
    pub channels: usize,
    /// How many messages an outbox holds.
    pub outbox_messages: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 12,
            channels: 3,
            outbox_messages: 40,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Messages that clients heard.
    pub messages: u64,
    /// Messages that gaps counted.
    pub lost: u64,
    /// Resumes in which nothing was lost.
    pub recovered: u64,
    /// Resumes in which something was.
    pub lossy: u64,
    /// Resumes of sessions that were gone.
    pub replaced: u64,
    /// Old connections whose bytes were not accepted any more.
    pub fenced: u64,
    /// Direct messages and snapshots that a full outbox refused.
    pub direct_refused: u64,
    /// A checksum over everything heard, in order.
    pub checksum: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.recovered += other.recovered;
        self.lossy += other.lossy;
        self.replaced += other.replaced;
        self.fenced += other.fenced;
        self.direct_refused += other.direct_refused;
        self.checksum ^= other.checksum;
    }
}

/// The world, and what happened in it.
#[derive(Debug)]
pub struct Simulation {
    rng: Rng,
    world: World,
    clients: Vec<Client>,
    /// Connections that their clients gave up, and the hub does not know it yet.
    ghosts: Vec<Link>,
    model: Model,
    counts: Counts,
}

/// A connection: what is on its way in each direction, and the hub's end of it.
#[derive(Debug)]
struct Link {
    peer: Peer,
    /// Bytes from the client that the hub has not read.
    up: Vec<u8>,
    /// What the hub read of a frame that is not whole yet.
    partial: BytesMut,
    /// Bytes from the hub that the client has not read.
    down: Vec<u8>,
}

/// What a link holds for a client that does not read, as a socket's buffer does.
const DOWN_BYTES_MAX: usize = 4 * 1024;

const TTL: Duration = Duration::from_secs(120);

impl Simulation {
    /// Makes the world of a seed.
    pub fn new(seed: u64, plan: Plan) -> Self {
        let world = World::new(|settings| {
            settings.limits.outbox_messages = plan.outbox_messages;
            settings.ttl = TTL;
        });
        Self {
            rng: Rng::new(seed),
            world,
            clients: (0..plan.clients)
                .map(|_| Client::new(plan.channels as u64))
                .collect(),
            ghosts: Vec::new(),
            model: Model::new(TTL),
            counts: Counts::default(),
        }
    }

    /// Lets one thing happen.
    pub fn step(&mut self) {
        let n = self.rng.below(self.clients.len() as u64) as usize;
        self.world.now += Duration::from_millis(self.rng.below(20));
        match self.rng.below(100) {
            0 => self.cut(n),
            1 => self.haunt(),
            2 => self.expire(),
            3..=39 => self.speak(n),
            40..=64 => self.hub_reads(n),
            65..=79 => self.hub_writes(n),
            _ => self.client_reads(n, 300),
        }
    }

    /// Lets every client come back and hear everything, and checks that nothing is left over.
    pub fn finish(mut self) -> Counts {
        while !self.ghosts.is_empty() {
            self.haunt();
        }
        for _ in 0..4 {
            for n in 0..self.clients.len() {
                if self.clients[n].link.is_none() {
                    self.connect(n);
                }
                self.client_reads(n, u64::MAX);
            }
            for n in 0..self.clients.len() {
                loop {
                    self.hub_reads_all(n);
                    self.hub_writes(n);
                    let link = self.clients[n].link.as_ref();
                    if link.is_none_or(|link| link.down.is_empty()) {
                        break;
                    }
                    self.client_reads(n, u64::MAX);
                }
            }
        }
        self.world.hub.check();
        for client in &self.clients {
            self.model.finish(client.id);
        }
        self.counts
    }

    /// A client that has no connection makes one; one that has says something.
    fn speak(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.link.is_none() {
            if self.rng.once_in(8) {
                self.connect(n);
            }
            return;
        }
        let to = self.rng.below(self.clients.len() as u64) as usize;
        let to = self.clients[to].id;
        self.clients[n].speak(&mut self.rng, to);
    }

    fn connect(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let versions = (Version::CURRENT, Version::CURRENT);
        let resume = client.resume(self.world.hub.settings().epoch);
        let hello = Hello {
            versions,
            features: vec![],
            name: None,
            resume,
            ttl_ms: None,
        };
        let mut token = [0; 32];
        token[..8].copy_from_slice(&self.rng.draw().to_be_bytes());
        let mut wakes = Wakes::default();
        let identity = self.world.user(1_000);
        // Sessions that are over are so for the hub as well, before it is asked.
        let now = self.world.now;
        self.world.hub.expire(now, &mut wakes);
        self.model.expire(now);
        let peer = self
            .world
            .hub
            .attach(&hello, identity, ResumeToken(token), now, &mut wakes)
            .expect("the hub lets its clients in");
        wakes.fire();
        self.model.attach(peer.client());
        let link = Link {
            peer,
            up: Vec::new(),
            partial: BytesMut::new(),
            down: Vec::new(),
        };
        client.link = Some(link);
        client.expects_welcome();
    }

    /// A connection breaks. The hub hears of it at once, or goes on reading what is on its way.
    fn cut(&mut self, n: usize) {
        let Some(link) = self.clients[n].link.take() else {
            return;
        };
        if self.rng.once_in(2) {
            self.ghosts.push(link);
        } else {
            self.detach(link);
        }
    }

    /// The hub reads on from a connection that its client gave up, and then sees that it is gone.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = self.rng.below(self.ghosts.len() as u64) as usize;
        let mut link = self.ghosts.swap_remove(at);
        let bytes = link.up.len();
        if let Err(code) = Self::read(&self.world, &mut self.model, &mut link, bytes) {
            // Its session has another connection now, or is over.
            assert!(matches!(code, Code::SUPERSEDED | Code::GOODBYE), "{code:?}");
            self.counts.fenced += 1;
        }
        self.detach(link);
    }

    fn detach(&mut self, link: Link) {
        let client = link.peer.client();
        let superseded = link.peer.closing() == Some(Code::SUPERSEDED);
        let mut wakes = Wakes::default();
        let now = self.world.now;
        self.world
            .hub
            .detach(link.peer, Departure::Lost, now, &mut wakes);
        wakes.fire();
        if !superseded {
            self.model.park(client, now);
        }
    }

    fn expire(&mut self) {
        if self.rng.once_in(20) {
            self.world.now += Duration::from_secs(self.rng.below(100));
        }
        let now = self.world.now;
        self.world.pass(Duration::ZERO);
        self.model.expire(now);
        if self.rng.once_in(10) {
            self.world.hub.check();
        }
    }

    fn hub_reads(&mut self, n: usize) {
        let bytes = 1 + self.rng.below(400) as usize;
        self.hub_reads_some(n, bytes);
    }

    fn hub_reads_all(&mut self, n: usize) {
        self.hub_reads_some(n, usize::MAX);
    }

    fn hub_reads_some(&mut self, n: usize, bytes: usize) {
        if let Some(link) = &mut self.clients[n].link {
            Self::read(&self.world, &mut self.model, link, bytes)
                .expect("a connection that did nothing wrong goes on");
        }
    }

    /// The hub reads some bytes, frame by frame, and the model is told each frame.
    fn read(world: &World, model: &mut Model, link: &mut Link, bytes: usize) -> Result<(), Code> {
        let bytes = bytes.min(link.up.len());
        let read: Vec<u8> = link.up.drain(..bytes).collect();
        let client = link.peer.client();
        let pieces = Model::pieces(&link.partial, &read);
        let mut wakes = Wakes::default();
        link.partial.extend_from_slice(&read);
        let mut rest = link.partial.split();
        for bytes in pieces {
            let mut part = rest.split_to(bytes);
            let told = part.clone();
            let before = refused(world, client);
            while !part.is_empty() {
                link.peer
                    .receive(&mut part, world.now, &mut wakes)
                    .map_err(|close| close.code)?;
            }
            wakes.fire();
            model.carry_out(client, &told, refused(world, client) > before);
        }
        link.partial = rest;
        Ok(())
    }

    fn hub_writes(&mut self, n: usize) {
        let Some(link) = &mut self.clients[n].link else {
            return;
        };
        let mut batch = Batch::default();
        while link.down.len() < DOWN_BYTES_MAX {
            link.peer.take(&mut batch, 512);
            if batch.is_empty() {
                break;
            }
            batch
                .pieces()
                .for_each(|piece| link.down.extend_from_slice(piece));
            batch.clear();
        }
    }

    fn client_reads(&mut self, n: usize, most: u64) {
        let bytes = if most == u64::MAX {
            usize::MAX
        } else {
            1 + self.rng.below(most) as usize
        };
        self.clients[n].read(bytes, &mut self.model, &mut self.counts);
    }
}

/// How many messages of a client the hub has refused.
fn refused(world: &World, client: ClientId) -> u64 {
    world
        .hub
        .client(&client.to_string(), world.now)
        .map_or(0, |client| client.refused)
}
