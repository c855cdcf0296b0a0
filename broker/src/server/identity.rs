//! Who opened a connection, and whether that process still lives: asked of the kernel.

use std::io;

#[cfg(unix)]
use tokio::net::UnixStream as Stream;

use crate::hub::Identity;
#[cfg(windows)]
use crate::server::socket::Stream;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Asks the kernel who opened the connection that `stream` is the other end of.
///
/// On Unix the kernel noted user, group and process when the client called `connect`; on Windows
/// it noted the process, whose token names the user. The program's path is looked up by the number
/// of the process, which could already be somebody else's: it is for display only.
///
/// # Errors
///
/// The kernel does not tell the user: the connection must be dropped, for there is no default.
pub fn identify(stream: &Stream) -> io::Result<Identity> {
    system::identify(stream)
}

/// Sees a process end, even if its connection stays open in a child that inherited it.
///
/// | system | how | how soon |
/// | --- | --- | --- |
/// | Linux | a pidfd | at once |
/// | Windows | a handle of the process, looked at every 40 ms | within 40 ms |
/// | others | an event of a kqueue | at once |
///
/// The number of a process can be given to a new one as soon as the old one has ended. All three
/// pin the process they were asked for, so that only the moment between `connect` and
/// [`ProcessWatch::new`] is open to that: the wrong process of the same number is watched then. So
/// a watch is a hint that somebody is gone. It never says who somebody is.
#[derive(Debug)]
pub struct ProcessWatch(system::Watch);

impl ProcessWatch {
    /// Watches the process with this number, as [`Identity::pid`] has it.
    ///
    /// A process that no longer exists makes a watch that says so.
    ///
    /// # Errors
    ///
    /// The system cannot watch it, mostly because there are too many open files. Connections can
    /// do without: what is lost is how soon a dead process is seen whose connection lives on.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub fn new(pid: u32) -> io::Result<Self> {
        system::Watch::new(pid).map(Self)
    }

    /// Returns when the process has ended. Can be cancelled and asked again.
    pub async fn exited(&self) {
        self.0.exited().await;
    }

    /// Whether the process has ended; `None` if the system cannot tell.
    pub fn has_exited(&self) -> Option<bool> {
        self.0.has_exited()
    }
}
