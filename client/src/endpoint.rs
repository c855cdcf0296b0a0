//! Where the broker of a machine listens, and how to get there safely.
//!
//! Both sides use this module: the client to find and reach the broker, the broker to listen in the
//! same place. Everything here distrusts the place until the system has vouched for it: a directory
//! that others can change, a symbolic link, a socket or a server of another user are refused, each
//! with its own error.

mod read_buffer;
#[cfg(unix)]
mod stream;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub mod windows;

use std::{
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
};

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use read_buffer::ReadBuffer;
#[cfg(unix)]
pub use stream::Stream;
#[cfg(unix)]
pub use unix::tune;

#[cfg(windows)]
pub use tokio::net::windows::named_pipe::NamedPipeClient as Stream;

/// The environment variable that chooses an endpoint, unless the program runs elevated.
pub const ENDPOINT_VARIABLE: &str = "LOCALHUB_ENDPOINT";

/// Where a broker listens: the path of a socket on Unix, the name of a pipe on Windows.
///
/// An `Endpoint` that exists is well formed and short enough for the system. Whether the place can
/// be trusted is looked at when it is used: [`connect`] and the broker's listener do.
///
/// A *default* endpoint lies in a directory that belongs to localhub, which nobody else may even
/// look into. A *chosen* one (from a flag or the environment) lies where somebody put it: nobody
/// else may be able to change that directory. Two endpoints are equal if place and kind are.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Endpoint {
    path: PathBuf,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Origin {
    Chosen,
    Default,
}

impl Endpoint {
    /// Finds the endpoint of this user's broker.
    ///
    /// | system | the first of these |
    /// | --- | --- |
    /// | all | `$LOCALHUB_ENDPOINT` |
    /// | Unix | `$XDG_RUNTIME_DIR/localhub/hub.sock`, if that directory is ours |
    /// | macOS | `$TMPDIR/localhub-<uid>/hub.sock`, if that directory is ours |
    /// | Unix | `/tmp/localhub-<uid>/hub.sock` |
    /// | Windows | `\\.\pipe\localhub-<SID of the user>` |
    ///
    /// A program with more rights than whoever started it ignores the environment, which would
    /// lead it to a socket of their choice. On Unix that is a program that runs set-user-ID,
    /// set-group-ID or with file capabilities; it looks in `/run/user/<uid>` instead of
    /// `$XDG_RUNTIME_DIR`. On Windows it is a program that went through the consent prompt of UAC;
    /// an account without that split (UAC is off, or a service) keeps its environment.
    ///
    /// # Errors
    ///
    /// The place found is no valid endpoint, or the system did not say who we are.
    pub fn discover() -> Result<Self, EndpointError> {
        system::discover()
    }

    /// An endpoint chosen by somebody, for example with a command line flag.
    ///
    /// # Errors
    ///
    /// Not an absolute path that fits the system's socket addresses (Unix), or not the name of a
    /// local pipe, `\\.\pipe\NAME` (Windows).
    pub fn new(text: impl AsRef<OsStr>) -> Result<Self, EndpointError> {
        let path = PathBuf::from(text.as_ref());
        system::check_form(&path)?;
        Ok(Self {
            path,
            origin: Origin::Chosen,
        })
    }

    /// The path of the socket, or the name of the pipe.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory of this endpoint is localhub's own, to be created when it is missing.
    pub fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    fn default_at(path: PathBuf) -> Result<Self, EndpointError> {
        system::check_form(&path)?;
        Ok(Self {
            path,
            origin: Origin::Default,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Opens a connection to the broker at `endpoint`, once it is sure whose broker that is.
///
/// Not one byte is sent before these hold: nobody else can change the directory; the socket is a
/// socket of this user or of root; the server at the other end runs as this user or as root. Root
/// is accepted because it could read everything anyway. On Linux the socket that was checked is
/// also the one that is connected to, whatever happens to its path meanwhile. On Windows the pipe
/// must be owned by this user or by the system, and the server may identify this process but not
/// act in its name.
///
/// A broker with too many connections waiting is asked again for up to five seconds.
///
/// # Errors
///
/// See [`ConnectError`]; [`ConnectError::NotRunning`] is the usual one.
pub async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    system::connect(endpoint).await
}

/// Why a place cannot be an endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Other users can change the directory, or look into the one that should be private.
    #[error(
        "the directory {} is open to other users (mode {mode:04o}): \
         close it with `chmod 700`, or choose another endpoint", .directory.display()
    )]
    Exposed {
        /// The directory of the socket.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is no endpoint.
    #[error("{text:?} is no endpoint: {reason}")]
    Invalid {
        /// What was given.
        text: PathBuf,
        /// What is wrong with it, and what is right.
        reason: &'static str,
    },
    /// The system did not answer.
    #[error("cannot look at {}", .path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory does not exist.
    #[error("the directory {} does not exist: create it, or start a broker there", .directory.display())]
    Missing {
        /// The directory of the socket.
        directory: PathBuf,
    },
    /// Something else is where the directory should be.
    #[error("{} is not a directory: remove it, or choose another endpoint", .directory.display())]
    NotADirectory {
        /// The directory of the socket.
        directory: PathBuf,
    },
    /// The directory belongs to another user.
    #[error(
        "the directory {} belongs to uid {owner}, not to uid {expected}: \
         have it removed, or choose another endpoint", .directory.display()
    )]
    Owner {
        /// The directory of the socket.
        directory: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        expected: u32,
    },
    /// A symbolic link, possibly made by somebody else, leads to the directory.
    #[error("{} is a symbolic link: remove it, or choose the place it leads to", .directory.display())]
    Symlink {
        /// The directory of the socket.
        directory: PathBuf,
    },
    /// The system cannot hold so long a path, or name, in an address.
    #[error(
        "{} has {length} bytes, an endpoint of this system may have {limit}: choose a shorter one",
        .path.display()
    )]
    TooLong {
        /// The path of the socket, or the name of the pipe.
        path: PathBuf,
        /// How many bytes it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
}

/// Why there is no connection to the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The broker runs but did not accept for five seconds.
    #[error("the broker at {endpoint} is too busy to accept a connection: try again later")]
    Busy {
        /// Where it listens.
        endpoint: Endpoint,
    },
    /// The directory of the endpoint cannot be trusted.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system did not allow the connection.
    #[error("cannot connect to {endpoint}")]
    Io {
        /// Where the broker should listen.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link or some other file is in the place of the socket.
    #[error("{endpoint} is not a socket: remove it, or choose another endpoint")]
    NotASocket {
        /// Where the broker should listen.
        endpoint: Endpoint,
    },
    /// Nobody listens there.
    #[error("no broker is running at {endpoint} (start one with `localhub serve`)")]
    NotRunning {
        /// Where the broker should listen.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Another user made the socket, or serves it.
    #[error(
        "{endpoint} belongs to {owner}, who is neither you nor the system: \
         have it removed, or choose another endpoint"
    )]
    Stranger {
        /// Where our broker should listen.
        endpoint: Endpoint,
        /// Who does: a uid or a SID.
        owner: String,
    },
}
