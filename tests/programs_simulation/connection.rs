//! A connection: what is on its way in each direction, and the hub's end of it.

use bytes::BytesMut;
use localhub::hub::{Batch, Close, Departure, Peer, Wakes};
use localhub_protocol::Code;
use localhub_tests::{Pipe, World};

#[derive(Debug)]
pub(crate) struct Connection {
    /// The hub's end, until that is closed.
    peer: Option<Peer>,
    /// Bytes from the program that the hub has not dealt with.
    pub(crate) up: Pipe,
    /// Bytes from the hub that the program has not dealt with.
    pub(crate) down: Pipe,
}

/// What a connection holds for a program that does not read.
const DOWN_BYTES_MAX: usize = 4 * 1024;

/// What the hub hands out at a time.
const BATCH_BYTES: usize = 512;

impl Connection {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer: Some(peer),
            up: Pipe::default(),
            down: Pipe::default(),
        }
    }

    /// Whether the hub has closed it, and everything it wrote before was read.
    pub(crate) fn is_over(&self) -> bool {
        self.peer.is_none() && self.down.is_empty()
    }

    /// The hub reads so many bytes more.
    pub(crate) fn hub_reads(&mut self, world: &World, bytes: usize) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        if peer.is_owed() {
            return;
        }
        self.up.deliver(bytes);
        let mut buffer = BytesMut::from(self.up.arrived());
        let (arrived, pinned) = (buffer.len(), buffer.capacity());
        let mut wakes = Wakes::default();
        let end = loop {
            let before = buffer.len();
            match peer.receive(&mut buffer, pinned, world.now, &mut wakes) {
                Err(close) => break Some(close.code),
                Ok(turn) if turn.goodbye => break Some(Code::GOODBYE),
                Ok(_) if buffer.is_empty() || buffer.len() == before => break None,
                Ok(_) => {}
            }
        };
        wakes.fire();
        self.up.forget(arrived - buffer.len());
        if let Some(code) = end {
            self.hub_closes(world, code);
        }
    }

    /// The hub writes until nothing waits or the connection is full.
    pub(crate) fn hub_writes(&mut self, world: &World, batch: &mut Batch) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        while self.down.len() < DOWN_BYTES_MAX {
            peer.take(batch, BATCH_BYTES);
            if batch.is_empty() {
                break;
            }
            let end = self.down.end();
            batch
                .pieces()
                .for_each(|piece| end.extend_from_slice(piece));
            batch.clear();
        }
        if let Some(code) = peer.closing() {
            self.hub_closes(world, code);
        }
    }

    /// The hub ends it with a word.
    fn hub_closes(&mut self, world: &World, code: Code) {
        if let Some(peer) = &mut self.peer {
            if code != Code::GOODBYE {
                peer.say_goodbye(&Close::from(code));
            }
            let mut batch = Batch::default();
            peer.take(&mut batch, 0);
            let end = self.down.end();
            batch
                .pieces()
                .for_each(|piece| end.extend_from_slice(piece));
        }
        self.hub_departs(
            world,
            match code {
                Code::PING_TIMEOUT | Code::SLOW_CONSUMER => Departure::Lost(code),
                code => Departure::Final(code),
            },
        );
    }

    /// It has ended for the hub.
    pub(crate) fn hub_departs(&mut self, world: &World, departure: Departure) {
        if let Some(peer) = self.peer.take() {
            let mut wakes = Wakes::default();
            world.hub.detach(peer, departure, world.now, &mut wakes);
            wakes.fire();
        }
    }
}
