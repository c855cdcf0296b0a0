//! The process at the other end of a pipe, its token and its handle.

use std::{io, time::Duration};

use localhub_client::endpoint::windows::process::Process;

use crate::{
    hub::{Identity, User},
    server::socket::Stream,
};

pub(super) fn identify(stream: &Stream) -> io::Result<Identity> {
    let pid = stream.client_pid()?;
    let process = Process::open(pid)?;
    Ok(Identity {
        user: User::Sid(process.user()?),
        gid: None,
        pid: Some(pid),
        executable: process.executable().ok(),
    })
}

/// The handle of a process, which keeps its number from being given to another one.
#[derive(Debug)]
pub(super) enum Watch {
    Gone,
    Process(Process),
}

impl Watch {
    pub(super) fn new(pid: u32) -> io::Result<Self> {
        match Process::open(pid) {
            Err(error) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => Ok(Self::Gone),
            opened => opened.map(Self::Process),
        }
    }

    pub(super) async fn exited(&self) {
        while self.has_exited() != Some(true) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn has_exited(&self) -> Option<bool> {
        match self {
            Self::Gone => Some(true),
            Self::Process(process) => process.has_exited().ok(),
        }
    }
}

/// How often a process is looked at: others are to see it leave within 100 ms.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// `ERROR_INVALID_PARAMETER`, which is what OpenProcess says.
const NO_SUCH_PROCESS: i32 = 87;
