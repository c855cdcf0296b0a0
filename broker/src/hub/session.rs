use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use localhub_protocol::{ClientId, ClientName, Code};
use parking_lot::Mutex;

use super::Identity;
use super::outbox::Outbox;

/// A client's place in the hub: what its connections, its channels and the hub share of it.
///
/// It outlives its connections. Each connection has a generation; only the newest one may speak.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: ClientId,
    pub(super) name: ClientName,
    pub(super) identity: Mutex<Identity>,
    pub(super) outbox: Arc<Outbox>,
    /// When it began.
    pub(super) since: Duration,
    /// The newest connection's number. Written under the hub's lock.
    generation: AtomicU64,
    /// How many messages of the client were carried out or refused.
    ///
    /// Held while a connection carries out what it read, so that a newer connection learns
    /// the number only when the older one has stopped. Taken before any other lock, and never
    /// by who holds another.
    pub(super) turn: Mutex<u64>,
    pub(super) subscriptions: AtomicU64,
    pub(super) totals: Totals,
}

/// The generation of a session's first connection.
pub(super) const FIRST_GENERATION: u64 = 1;

/// What came from a client since its session began.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refused: AtomicU64,
    last_refusal: AtomicU16,
}

impl Session {
    pub(super) fn new(
        id: ClientId,
        name: ClientName,
        identity: Identity,
        outbox: Arc<Outbox>,
        since: Duration,
    ) -> Self {
        Self {
            id,
            name,
            identity: Mutex::new(identity),
            outbox,
            since,
            generation: AtomicU64::new(FIRST_GENERATION),
            turn: Mutex::new(0),
            subscriptions: AtomicU64::new(0),
            totals: Totals::default(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Fences every earlier connection; the new one has the number returned.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Totals {
    pub(super) fn refuse(&self, code: Code, count: u64) {
        self.refused.fetch_add(count, Ordering::Relaxed);
        self.last_refusal.store(code.0, Ordering::Relaxed);
    }

    pub(super) fn last_refusal(&self) -> Option<Code> {
        match self.last_refusal.load(Ordering::Relaxed) {
            0 => None,
            code => Some(Code(code)),
        }
    }
}
