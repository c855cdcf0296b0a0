//! A client whose connections are made by a simulation, in simulated time.
//!
//! A [`Driver`] stands in for the link and its sockets; the [`Client`] it comes with is the one that
//! applications have, over the same core. Not a part of the SDK's interface: it changes without notice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use localhub_protocol::{FrameError, Welcome};

use crate::core::{Core, Progress};
use crate::shared::{Shared, now};
use crate::{Client, Code, Endpoint, Error, Options};

/// Does for a client what its link does, step by step.
///
/// Times count from when the driver was made. What the client itself takes for the time is the clock of the
/// tokio runtime that the simulation is in; only requests ask for it.
pub struct Driver {
    shared: Arc<Shared>,
    began: Instant,
}

/// How far [`Driver::receive`] came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// To the end.
    All,
    /// To a message for a full inbox, which may have room until then.
    Blocked {
        /// When to go on in any case.
        until: Duration,
    },
    /// The broker closed the connection.
    Closed {
        /// Why.
        code: Code,
    },
}

impl Driver {
    /// Makes a client that has no connection yet.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(options: Options, endpoint: Endpoint) -> Result<(Self, Client), Error> {
        let began = now();
        let shared = Shared::new(Core::new(options.settings()?, began), endpoint);
        let client = Client::new(shared.clone());
        Ok((Self { shared, began }, client))
    }

    /// The first bytes of a connection.
    pub fn hello(&self) -> Vec<u8> {
        self.shared.with(Core::hello)
    }

    /// The connection stands.
    ///
    /// # Errors
    /// The welcome contradicts itself or the session.
    pub fn welcome(&self, welcome: &Welcome<'_>, now: Duration) -> Result<(), FrameError> {
        let now = self.began + now;
        self.shared.with(|core| core.welcome(welcome, now))
    }

    /// Takes in the whole frames of `chunk`, and takes what it is done with out of it.
    ///
    /// # Errors
    /// The broker sent what it may not send.
    pub fn receive(&self, chunk: &mut Bytes, now: Duration) -> Result<Received, FrameError> {
        let (pinned, now) = (chunk.len(), self.began + now);
        let progress = self.shared.with(|core| core.receive(chunk, pinned, now))?;
        Ok(match progress {
            Progress::All => Received::All,
            Progress::Blocked { until } => Received::Blocked {
                until: until - self.began,
            },
            Progress::Closed { code, .. } => Received::Closed { code },
        })
    }

    /// What is to be written now, about `max` bytes of it.
    pub fn take(&self, batch: &mut VecDeque<Bytes>, max: usize, now: Duration) {
        let now = self.began + now;
        self.shared.with(|core| core.take(batch, max, now));
    }

    /// Leaves a waker that is called when there is something to write, or room to read on.
    pub fn register(&self, waker: &Waker) {
        let cx = Context::from_waker(waker);
        self.shared.with(|core| core.register_link(&cx, false));
    }

    /// Does what is due at this time; `false` if the broker is silent for too long.
    #[must_use]
    pub fn elapse(&self, now: Duration) -> bool {
        let now = self.began + now;
        self.shared.with(|core| core.elapse(now)).is_ok()
    }

    /// When there is something to do next, if nothing happens before.
    pub fn deadline(&self) -> Option<Duration> {
        let deadline = self.shared.with(|core| core.deadline(false))?;
        Some(deadline - self.began)
    }

    /// The connection is gone.
    pub fn lost(&self, reason: &str) {
        let reason = reason.to_owned();
        self.shared.with(|core| core.lost(reason, Duration::ZERO));
    }

    /// The client is over, as after a connection that another one would not change.
    pub fn finish(&self, code: Option<Code>) {
        let reason = "the simulation ends it".to_owned();
        self.shared.with(|core| core.finish(code, reason));
    }

    /// How much the client remembers of requests that it makes and handles, by what it is.
    pub fn holds(&self) -> Vec<(&'static str, usize)> {
        self.shared.with(|core| core.holds())
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
