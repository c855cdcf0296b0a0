use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;
use localhub::hub::{Batch, Close, Departure, Pace, Peer, Turn, Wakes};
use localhub_protocol::{ClientId, Code, kind};

use super::model::Model;
use super::space::{Load, Space};
use crate::{Flag, Pipe, World, frame_end};

/// A connection: what is on its way in each direction, and the hub's end of it.
#[derive(Debug)]
pub(super) struct Link {
    /// The hub's end, until that is closed.
    peer: Option<Peer>,
    /// Bytes from the client that the hub has not dealt with.
    pub(super) up: Pipe,
    /// Bytes from the hub that the client has not dealt with.
    pub(super) down: Pipe,
    /// Which of the session's connections it is.
    number: u64,
    /// When the hub last heard of the client.
    heard: Duration,
    /// How many pings it has sent since.
    pings: u32,
    /// Whom the client has filled.
    wakes: Wakes,
    /// While set, the hub does not read on: it waits for them.
    stall: Option<Stall>,
    /// Whole frames may have arrived that the hub left where they are.
    backlog: bool,
}

#[derive(Debug)]
struct Stall {
    since: Duration,
    /// Is up when one of those it waits for has room again.
    flag: Arc<Flag>,
    /// Whether a message went to somebody for whom it is worth a longer wait.
    blocks: bool,
}

/// Frames that the hub is handed together.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    bytes: usize,
    frames: u64,
    /// It is one frame, and the hub can be asked what became of it.
    alone: bool,
}

/// What a link holds for a client that does not read, as a socket's buffer does.
const DOWN_BYTES_MAX: usize = 4 * 1024;

/// What the hub hands out at a time.
const BATCH_BYTES: usize = 512;

/// After this many pings without a sign of life, a client counts as hung.
const PINGS_MAX: u32 = 2;

/// With more unanswered pings than this it counts as stalled.
const PINGS_UNANSWERED: u32 = 1;

/// How long a publisher waits for those it filled.
const STALL_MAX: Duration = Duration::from_millis(100);

/// How long it waits for those who ask for that.
const BLOCK_MAX: Duration = Duration::from_secs(2);

impl Link {
    pub(super) fn new(peer: Peer, model: &mut Model) -> Self {
        Self {
            number: model.client(peer.client()).attached,
            heard: model.now,
            peer: Some(peer),
            up: Pipe::default(),
            down: Pipe::default(),
            pings: 0,
            wakes: Wakes::default(),
            stall: None,
            backlog: false,
        }
    }

    /// Whether the hub waits before it reads on.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether the hub has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_none()
    }

    /// Whether nothing counts any more that comes over it, for that reason: its session is over, or has
    /// another connection.
    pub(super) fn is_fenced(&self, model: &mut Model, why: Code) -> bool {
        let Some(peer) = &self.peer else {
            return false;
        };
        let expected = model.client(peer.client());
        let superseded = self.number != expected.attached;
        expected.over == Some(why) || superseded && why == Code::SUPERSEDED
    }

    /// Why the hub wants to close it.
    pub(super) fn closing(&self) -> Option<Code> {
        self.peer.as_ref()?.closing()
    }

    /// The hub reads so many bytes more, and the model is told each frame that it carries out.
    ///
    /// # Errors
    /// The hub closes the connection.
    pub(super) fn hub_reads(
        &mut self,
        world: &World,
        model: &mut Model,
        bytes: usize,
    ) -> Result<(), Code> {
        self.go_on_if_relieved(model);
        let Some(peer) = &mut self.peer else {
            return Ok(());
        };
        if self.stall.is_some() || peer.is_owed() {
            return Ok(());
        }
        if self.up.deliver(bytes) {
            (self.heard, self.pings) = (model.now, 0);
        } else if !self.backlog {
            return Ok(());
        }
        self.backlog = false;
        let client = peer.client();
        let arrived = self.up.arrived();
        let mut done = 0;
        let mut turn = Turn::default();
        loop {
            let piece = Piece::of(&arrived[done..], model.space);
            if piece.frames == 0 {
                break;
            }
            let part = &arrived[done..done + piece.bytes];
            model.together = Load {
                messages: piece.frames,
                bytes: piece.bytes as u64 + super::heard::ENTRY_BYTES * piece.frames,
            };
            (model.run, model.blocks) = (None, false);
            let full = piece.alone && model.may_be_full(client, &part[4..]);
            let before = if full { refused(world, client) } else { 0 };
            let mut buffer = BytesMut::from(part);
            turn = carry_out_all(peer, &mut buffer, model.now, &mut self.wakes)?;
            let full = full && refused(world, client) > before;
            model.client(client).tokens.prove();
            let mut rest = part;
            while let Some(bytes) = frame_end(rest) {
                model.carry_out(client, &rest[4..bytes], full);
                rest = &rest[bytes..];
            }
            model.together = Load::default();
            done += piece.bytes;
            if self.wakes.is_stalled() {
                let flag = Flag::new();
                let (since, blocks) = (model.now, model.blocks);
                self.stall = Some(Stall {
                    since,
                    flag,
                    blocks,
                });
                model.counts.stalls += 1;
            }
            if turn.goodbye || self.stall.is_some() {
                break;
            }
        }
        let mut rest = BytesMut::from(&arrived[done..]);
        if self.stall.is_some() {
            self.backlog = true;
        } else if !turn.goodbye && !rest.is_empty() {
            // It is a part of a frame, which the hub leaves where it is.
            let before = rest.len();
            carry_out_all(peer, &mut rest, model.now, &mut self.wakes)?;
            assert_eq!(rest.len(), before, "a part of a frame is no frame");
        }
        self.up.forget(done);
        if turn.goodbye {
            self.hub_departs(world, model, Departure::Final(Code::GOODBYE));
        }
        Ok(())
    }

    /// Whether those that the client filled need not be waited for any more.
    fn go_on_if_relieved(&mut self, model: &mut Model) {
        while let Some(stall) = &self.stall {
            let waker = stall.flag.waker();
            let cx = &mut Context::from_waker(&waker);
            let relieved = stall.flag.lower() && self.wakes.poll_relief(cx).is_ready();
            let patience = self.wakes.patience();
            if relieved || patience.is_zero() {
                self.stall = None;
                return;
            }
            assert!(
                patience == STALL_MAX || patience == BLOCK_MAX && stall.blocks,
                "a publisher waits for {patience:?}"
            );
            let waited = model.now - stall.since;
            if waited < patience {
                return;
            }
            model.counts.waits_in_vain += 1;
            model.counts.long_waits += u64::from(patience == BLOCK_MAX);
            self.wakes.give_up(waited);
        }
    }

    /// The hub writes until nothing waits or the link is full; whether nothing waits.
    pub(super) fn hub_writes(&mut self, model: &mut Model, batch: &mut Batch) -> bool {
        let Some(peer) = &mut self.peer else {
            return true;
        };
        while self.down.len() < DOWN_BYTES_MAX {
            peer.take(batch, BATCH_BYTES);
            if batch.is_empty() {
                return true;
            }
            model.client(peer.client()).takes += 1;
            let end = self.down.end();
            batch
                .pieces()
                .for_each(|piece| end.extend_from_slice(piece));
            batch.clear();
        }
        false
    }

    /// The hub sees whether the client keeps up with what it is sent.
    pub(super) fn hub_looks(&mut self, model: &mut Model) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        let silent = self.pings > PINGS_UNANSWERED;
        let client = peer.client();
        let space = model.space;
        match peer.note_pace(silent, &mut self.wakes) {
            Some(Pace::Stalled { .. }) if self.number == model.client(client).attached => {
                let unheard = model.client(client).unheard().bytes;
                assert!(
                    silent || unheard > space.outbox.bytes / 4,
                    "{client} is said not to read, and only {unheard} bytes wait for it"
                );
                model.set_stalled(client, true);
            }
            Some(Pace::Recovered { .. }) if self.number == model.client(client).attached => {
                assert!(!silent, "{client} answers no ping");
                model.set_stalled(client, false);
            }
            _ => {}
        }
        self.wakes.fire();
        let expected = model.client(client);
        assert!(
            !silent
                || expected.stalled
                || expected.over.is_some()
                || self.number != expected.attached,
            "{client} answers no ping, and the others are not told"
        );
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
            let client = peer.client();
            model.closes(client, self.number, code);
            peer.say_goodbye(&Close::from(code));
            let mut batch = Batch::default();
            peer.take(&mut batch, 0);
            let end = self.down.end();
            batch
                .pieces()
                .for_each(|piece| end.extend_from_slice(piece));
        }
        let departure = match code {
            Code::PING_TIMEOUT | Code::SLOW_CONSUMER => Departure::Lost(code),
            code => Departure::Final(code),
        };
        self.hub_departs(world, model, departure);
    }

    /// The hub sees that the connection is gone.
    pub(super) fn hub_detaches(&mut self, world: &World, model: &mut Model) {
        self.hub_departs(world, model, Departure::Lost(Code::CONNECTION_LOST));
    }

    /// The connection has ended for the hub.
    pub(super) fn hub_departs(&mut self, world: &World, model: &mut Model, departure: Departure) {
        let Some(peer) = self.peer.take() else {
            return;
        };
        let client = peer.client();
        let mut wakes = Wakes::default();
        world.hub.detach(peer, departure, model.now, &mut wakes);
        wakes.fire();
        if self.number != model.client(client).attached {
            return;
        }
        match departure {
            Departure::Lost(cause) => model.park(client, cause),
            Departure::Final(cause) => model.end(client, cause),
        }
    }
}

impl Piece {
    /// The frames at the front that go together: as many as there are, or one alone.
    fn of(arrived: &[u8], space: Space) -> Self {
        let mut piece = Self::default();
        while let Some(end) = frame_end(&arrived[piece.bytes..]) {
            let body = &arrived[piece.bytes + 4..piece.bytes + end];
            let alone = stands_alone(body, space);
            if alone && piece.frames > 0 {
                break;
            }
            piece.bytes += end;
            piece.frames += 1;
            piece.alone = alone;
            if alone {
                break;
            }
        }
        piece
    }
}

/// Whether a frame goes by itself, so that the hub can be asked what became of it.
fn stands_alone(body: &[u8], space: Space) -> bool {
    // The kind follows the array's head, and has a head of its own from 24 on.
    let kind = match body {
        [_, 0x18, kind, ..] | [_, kind, ..] => u64::from(*kind),
        _ => panic!("a frame without a kind"),
    };
    matches!(
        kind,
        kind::CLOSE | kind::DIRECT | kind::SUBSCRIBE | kind::SNAPSHOT
    ) || space.memory_is_tight && matches!(kind, kind::PUBLISH | kind::WILL_SET)
}

fn carry_out_all(
    peer: &mut Peer,
    part: &mut BytesMut,
    now: Duration,
    wakes: &mut Wakes,
) -> Result<Turn, Code> {
    let (mut before, pinned) = (usize::MAX, part.capacity());
    let mut turn = Turn::default();
    while !part.is_empty() && part.len() < before {
        before = part.len();
        turn = peer
            .receive(part, pinned, now, wakes)
            .map_err(|close| close.code)?;
    }
    wakes.fire();
    Ok(turn)
}

/// How many messages of a client the hub has refused.
fn refused(world: &World, client: ClientId) -> u64 {
    let view = world.hub.client(&client.to_string(), world.now);
    view.map_or(0, |client| client.refused)
}
