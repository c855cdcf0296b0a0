//! The broker's place on the machine: one listener, held by one broker, open to one user.
//!
//! This is the only file that knows `interprocess`, which names and secures the endpoint. What is
//! handed out are the system's own streams.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::{
    io,
    path::PathBuf,
    task::{Context, Poll},
};

use localhub_client::endpoint::{Endpoint, EndpointError};

use crate::hub::Identity;

#[cfg(unix)]
pub use unix::{Listener, Stream, raise_nofile};
#[cfg(windows)]
pub use windows::{Listener, Stream, raise_nofile};

/// Why a broker cannot listen at an endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The directory of the endpoint cannot be trusted.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Another broker is there.
    #[error(
        "a broker is already running at {endpoint}{}: use that one, or stop it with `localhub stop`",
        .pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    InUse {
        /// Where it listens.
        endpoint: Endpoint,
        /// Its process, if it could be found out.
        pid: Option<u32>,
    },
    /// The system did not do something.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was asked for.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock file is not a plain file of ours, or does not stay in its place, so that its lock
    /// means nothing.
    #[error("{} is not a lock file of yours: remove it, or choose another endpoint", .path.display())]
    NotALock {
        /// The lock file.
        path: PathBuf,
    },
    /// A symbolic link or some other file is where the socket should be.
    #[error("{endpoint} is not a socket: remove it, or choose another endpoint")]
    NotASocket {
        /// Where the broker should listen.
        endpoint: Endpoint,
    },
    /// A program that is no broker has made the pipe first (Windows).
    #[error("another program owns {endpoint}: end that program, or choose another endpoint")]
    Taken {
        /// Where the broker should listen.
        endpoint: Endpoint,
    },
}

/// Why there is no connection to serve. The listener goes on in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The system is short of something, such as descriptors or memory. Connections keep waiting
    /// in its queue, so that asking again at once would only spin: wait 10 to 100 ms.
    #[error("cannot accept connections for the moment")]
    Exhausted(#[source] io::Error),
    /// This one connection ended, or its owner could not be found out. The next may be accepted at
    /// once.
    #[error("a connection was lost while it was accepted")]
    Lost(#[source] io::Error),
    /// Another user connected, and was disconnected. The next may be accepted at once.
    #[error("refused a connection of another user ({0})")]
    Stranger(Identity),
}

impl AcceptError {
    /// Whether to wait a little before accepting again.
    pub fn wants_pause(&self) -> bool {
        matches!(self, Self::Exhausted(_))
    }
}

/// A stream that tells when there is something to read, so that whoever waits needs no buffer yet.
pub trait Readiness {
    /// Ready when a read may give something; it may still have to wait after all.
    ///
    /// # Errors
    ///
    /// The connection is of no use any more.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once, to the end of `buffer` and as much as it has room for. 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// The connection is of no use any more.
    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>>;
}

#[cfg(unix)]
impl Readiness for Stream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_readable(self, cx)
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        Self::poll_read_into(self, cx, buffer)
    }
}

/// A pipe's read has a buffer of its own in the system, so the question costs more than it saves.
#[cfg(windows)]
impl Readiness for Stream {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        use tokio::io::AsyncReadExt as _;

        std::pin::pin!(self.read_buf(buffer)).poll(cx)
    }
}
