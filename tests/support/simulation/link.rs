use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{Batch, Close, Departure, Peer, Wakes};
use localhub_protocol::{ClientId, Code, kind};

use super::carry_out::Space;
use super::model::Model;
use super::pipe::{Pipe, frame_end};
use crate::World;

/// A connection: what is on its way in each direction, and the hub's end of it.
#[derive(Debug)]
pub(super) struct Link {
    /// The hub's end, until that is closed.
    peer: Option<Peer>,
    /// Bytes from the client that the hub has not dealt with.
    pub(super) up: Pipe,
    /// Bytes from the hub that the client has not dealt with.
    pub(super) down: Pipe,
    /// When the hub last heard of the client.
    heard: Duration,
    /// How many pings it has sent since.
    pings: u32,
}

/// What a link holds for a client that does not read, as a socket's buffer does.
const DOWN_BYTES_MAX: usize = 4 * 1024;

/// What the hub hands out at a time.
const BATCH_BYTES: usize = 512;

/// After this many pings without a sign of life, a client counts as hung.
const PINGS_MAX: u32 = 2;

impl Link {
    pub(super) fn new(peer: Peer, now: Duration) -> Self {
        Self {
            peer: Some(peer),
            up: Pipe::default(),
            down: Pipe::default(),
            heard: now,
            pings: 0,
        }
    }

    /// Whether the hub has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_none()
    }

    /// The hub reads so many bytes more, and the model is told each frame that it carries out.
    ///
    /// # Errors
    /// The hub closes the connection.
    pub(super) fn hub_reads(
        &mut self,
        world: &World,
        model: &mut Model,
        space: Space,
        bytes: usize,
    ) -> Result<(), Code> {
        let Some(peer) = &mut self.peer else {
            return Ok(());
        };
        if !self.up.deliver(bytes) {
            return Ok(());
        }
        (self.heard, self.pings) = (world.now, 0);
        let client = peer.client();
        let arrived = self.up.arrived();
        // What goes in one piece may become one run.
        let mut read = BytesMut::from(arrived);
        let (mut start, mut end) = (0, 0);
        let mut carry_out = |model: &mut Model, start: usize, end: usize, more: usize| {
            let full = more > 0 && model.may_be_full(client, &arrived[start + 4..end], space);
            let before = if full { refused(world, client) } else { 0 };
            let mut part = read.split_to(end - start);
            carry_out_all(peer, &mut part, world.now)?;
            let full = full && refused(world, client) > before;
            let mut rest = &arrived[start..end];
            while let Some(bytes) = frame_end(rest) {
                model.carry_out(client, &rest[4..bytes], full);
                rest = &rest[bytes..];
            }
            Ok::<(), Close>(())
        };
        while let Some(bytes) = frame_end(&arrived[end..]) {
            let alone = stands_alone(&arrived[end + 4..end + bytes], space);
            if alone && start < end {
                carry_out(model, start, end, 0).map_err(|close| close.code)?;
                start = end;
            }
            end += bytes;
            if alone {
                carry_out(model, start, end, 1).map_err(|close| close.code)?;
                start = end;
            }
        }
        if start < end {
            carry_out(model, start, end, 0).map_err(|close| close.code)?;
        }
        // The rest is a part of a frame, which the hub leaves where it is.
        let rest = read.len();
        carry_out_all(peer, &mut read, world.now).map_err(|close| close.code)?;
        assert_eq!(read.len(), rest, "a part of a frame is no frame");
        self.up.forget(end);
        Ok(())
    }

    /// The hub writes until nothing waits or the link is full.
    pub(super) fn hub_writes(&mut self, batch: &mut Batch) {
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
    }

    /// The hub asks a client that is silent whether it is there; `false` if it has asked often enough.
    pub(super) fn hub_probes(&mut self, now: Duration, ping: Duration) -> bool {
        let Some(peer) = &mut self.peer else {
            return true;
        };
        if now < self.heard + ping * (self.pings + 1) {
            return true;
        }
        if self.pings == PINGS_MAX {
            return false;
        }
        self.pings += 1;
        peer.probe(self.pings.into());
        true
    }

    /// The hub closes a connection with a word.
    pub(super) fn hub_closes(&mut self, world: &World, model: &mut Model, code: Code) {
        if let Some(peer) = &mut self.peer {
            peer.say_goodbye(&Close::from(code));
            let mut batch = Batch::default();
            peer.take(&mut batch, 0);
            let end = self.down.end();
            batch
                .pieces()
                .for_each(|piece| end.extend_from_slice(piece));
        }
        self.hub_detaches(world, model);
    }

    /// The hub sees that the connection is gone.
    pub(super) fn hub_detaches(&mut self, world: &World, model: &mut Model) {
        let Some(peer) = self.peer.take() else {
            return;
        };
        let client = peer.client();
        let superseded = peer.closing() == Some(Code::SUPERSEDED);
        let mut wakes = Wakes::default();
        world.hub.detach(
            peer,
            Departure::Lost(Code::CONNECTION_LOST),
            world.now,
            &mut wakes,
        );
        wakes.fire();
        if !superseded {
            model.park(client, world.now);
        }
    }
}

fn carry_out_all(peer: &mut Peer, part: &mut BytesMut, now: Duration) -> Result<(), Close> {
    let mut wakes = Wakes::default();
    let mut before = usize::MAX;
    while !part.is_empty() && part.len() < before {
        before = part.len();
        peer.receive(part, now, &mut wakes)?;
    }
    wakes.fire();
    Ok(())
}

/// Whether a frame goes by itself, so that the hub can be asked what became of it.
fn stands_alone(body: &[u8], space: Space) -> bool {
    // The kind follows the array's head, and has a head of its own from 24 on.
    let kind = match body {
        [_, 0x18, kind, ..] | [_, kind, ..] => u64::from(*kind),
        _ => panic!("a frame without a kind"),
    };
    matches!(kind, kind::DIRECT | kind::SUBSCRIBE | kind::SNAPSHOT)
        || space.memory_is_tight && kind == kind::PUBLISH
}

/// How many messages of a client the hub has refused.
fn refused(world: &World, client: ClientId) -> u64 {
    let view = world.hub.client(&client.to_string(), world.now);
    view.map_or(0, |client| client.refused)
}
