use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use localhub_protocol::{Code, Resumed};
use tokio_stream::Stream;

use crate::shared::Shared;

/// How the connection to the broker is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The client has ended and does not connect again.
    Closed {
        /// The broker's code, if the broker closed it.
        code: Option<Code>,
        /// Why, in words.
        reason: String,
    },
    /// There is a connection.
    #[non_exhaustive]
    Connected {
        /// What became of the session of the connection before; `None` at the first one, and
        /// without [`Options::resume`](crate::Options::resume).
        resumed: Option<Resumed>,
        /// The number of the session, from 1. If it is higher than it was, sessions were lost, whatever states
        /// were missed.
        session: u64,
    },
    /// A connection is being made.
    Connecting,
    /// There is no connection, and another attempt will be made.
    Disconnected {
        /// Why, in words.
        reason: String,
        /// How long from now until the attempt.
        retry_in: Duration,
    },
}

/// The states of the connection: the present one first, then changes, then the end of the stream
/// after [`ConnectionState::Closed`].
///
/// Whoever reads slowly gets the latest state and misses those between. This does not keep the
/// client alive.
pub struct ConnectionStates {
    shared: Arc<Shared>,
    /// The number of the state that was read last.
    seen: u64,
}

impl ConnectionStates {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, seen: 0 }
    }

    /// The present state. Does not count as read.
    pub fn current(&self) -> ConnectionState {
        self.shared.with(|core| core.state().clone())
    }

    /// The next state that was not yet read; `None` after [`ConnectionState::Closed`].
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<ConnectionState> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for ConnectionStates {
    type Item = ConnectionState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConnectionState>> {
        let Self { shared, seen } = &mut *self;
        shared.with(|core| core.poll_state(seen, cx))
    }
}

impl fmt::Debug for ConnectionStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("ConnectionStates")
            .field("current", &current)
            .finish_non_exhaustive()
    }
}
