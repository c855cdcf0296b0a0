//! Peer credentials, and descriptors that tell when a process ends.

use std::{io, os::fd::OwnedFd};

#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::Pid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixStream,
};

use crate::hub::{Identity, User};

pub(super) fn identify(stream: &UnixStream) -> io::Result<Identity> {
    let credentials = stream.peer_cred()?;
    // 0 is a process outside of our pid namespace.
    let pid = credentials
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid != 0);
    Ok(Identity {
        user: User::Uid(credentials.uid()),
        gid: Some(credentials.gid()),
        pid,
        executable: pid.and_then(executable),
    })
}

#[cfg(target_os = "linux")]
fn executable(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().into_owned())
}

#[cfg(not(target_os = "linux"))]
fn executable(_pid: u32) -> Option<String> {
    None
}

fn number(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Errno::INVAL.into())
}

/// A descriptor that becomes readable when a process ends, not only when it is waited for.
#[derive(Debug)]
pub(super) enum Watch {
    Gone,
    Process(AsyncFd<OwnedFd>),
}

impl Watch {
    pub(super) fn new(pid: u32) -> io::Result<Self> {
        match open(number(pid)?) {
            Ok(process) => {
                #[allow(
                    deprecated,
                    reason = "its successor is unsafe for the sake of types that may change their \
                              descriptor; an OwnedFd does not"
                )]
                let process = AsyncFd::with_interest(process, Interest::READABLE)?;
                Ok(Self::Process(process))
            }
            Err(Errno::SRCH) => Ok(Self::Gone),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) async fn exited(&self) {
        let Self::Process(process) = self else {
            return;
        };
        // An error means that the runtime is shutting down; nothing is known of the process.
        if process.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn has_exited(&self) -> Option<bool> {
        let Self::Process(process) = self else {
            return Some(true);
        };
        let mut state = [PollFd::new(process.get_ref(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut state, Some(&at_once)).ok().map(|ready| ready > 0)
    }
}

/// A pidfd.
///
/// SO_PEERPIDFD would give one without asking by number; rustix does not have it yet.
#[cfg(target_os = "linux")]
fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    pidfd_open(pid, PidfdFlags::empty())
}

/// A kqueue with one event in it, which stays there once it has happened.
#[cfg(not(target_os = "linux"))]
fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

    let errno = |errno: nix::errno::Errno| Errno::from_raw_os_error(errno as i32);
    let ends = KEvent::new(
        pid.as_raw_nonzero().get() as usize,
        EventFilter::EVFILT_PROC,
        EvFlags::EV_ADD,
        FilterFlag::NOTE_EXIT,
        0,
        0,
    );
    let events = Kqueue::new().map_err(errno)?;
    events.kevent(&[ends], &mut [], None).map_err(errno)?;
    Ok(events.into())
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader},
        os::{fd::OwnedFd, unix::net::UnixStream as AnyStream},
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use localhub_client::endpoint::Endpoint;
    use rustix::process::{Signal, kill_process};
    use tokio::{io::AsyncReadExt as _, time::timeout};

    use super::*;
    use crate::server::{identity::ProcessWatch, socket::Listener};

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_living_process_has_not_exited() {
        let watch = ProcessWatch::new(std::process::id()).unwrap();
        assert_ne!(watch.has_exited(), Some(true));
        if cfg!(target_os = "linux") {
            assert_eq!(watch.has_exited(), Some(false));
        }
    }

    #[tokio::test]
    async fn a_process_is_gone_before_anybody_waits_for_it_and_after() {
        let mut child = Running(Command::new("sleep").arg("600").spawn().unwrap());
        let watch = ProcessWatch::new(child.0.id()).unwrap();
        child.0.kill().unwrap();
        if cfg!(target_os = "linux") {
            timeout(LONG, watch.exited()).await.unwrap();
            assert_eq!(watch.has_exited(), Some(true));
        }
        child.0.wait().unwrap();
        timeout(LONG, watch.exited()).await.unwrap();
        let late = ProcessWatch::new(child.0.id()).unwrap();
        assert_eq!(late.has_exited(), Some(true));
        timeout(LONG, late.exited()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_process_cannot_be_watched() {
        for pid in [0, u32::MAX] {
            ProcessWatch::new(pid).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_though_its_child_keeps_the_connection() {
        if let Some(socket) = env::var_os("LOCALHUB_TEST_SOCKET") {
            let connection = AnyStream::connect(socket).unwrap();
            let mut heir = Command::new("sleep")
                .arg("600")
                .stdin(OwnedFd::from(connection))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            println!("\nheir {}", heir.id());
            heir.wait().unwrap();
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::new(directory.path().join("hub.sock")).unwrap();
        let listener = Listener::bind(&endpoint).unwrap();
        let mut parent = Running(
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg(
                    "server::identity::unix::tests::\
                     a_killed_process_is_seen_though_its_child_keeps_the_connection",
                )
                .env("LOCALHUB_TEST_SOCKET", endpoint.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let heir = BufReader::new(parent.0.stdout.take().unwrap())
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("heir ").map(str::to_owned))
            .expect("the child tells its heir's pid");
        let heir = Heir(number(heir.parse().unwrap()).unwrap());
        let (mut stream, identity) = listener.accept().await.unwrap();
        assert_eq!(identity.pid, Some(parent.0.id()));
        let watch = ProcessWatch::new(parent.0.id()).unwrap();
        assert_ne!(watch.has_exited(), Some(true));

        parent.0.kill().unwrap();
        parent.0.wait().unwrap();
        timeout(LONG, watch.exited()).await.unwrap();
        assert_eq!(watch.has_exited(), Some(true));
        let mut byte = [0];
        let mut reading = std::pin::pin!(stream.read(&mut byte));
        let end = std::future::poll_fn(|cx| std::task::Poll::Ready(reading.as_mut().poll(cx)));
        assert!(end.await.is_pending(), "the heir has the connection");

        drop(heir);
        let end = timeout(LONG, reading).await.unwrap();
        assert_eq!(end.unwrap(), 0);
    }

    struct Heir(Pid);

    impl Drop for Heir {
        fn drop(&mut self) {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
