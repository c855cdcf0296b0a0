//! A program of the demo, seen from the demo: a process of this same executable in another role.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

use localhub_client::endpoint::ENDPOINT_VARIABLE;
use tokio::sync::mpsc;

use super::report::{Report, Role};

/// What reaches the demo from a program.
pub(super) enum Event {
    /// The program with that process id has ended, or at least closed its standard output.
    Ended(u32),
    /// It reported something.
    Report(Role, Report),
}

/// A running program. Dropping it kills it.
pub(super) struct Program {
    role: Role,
    child: Child,
}

impl Program {
    /// Starts a program on the hub that listens at `endpoint`; what it reports goes to `events`.
    pub(super) fn start(
        role: Role,
        endpoint: &OsStr,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["demo", "--role", role.name()])
            .env(ENDPOINT_VARIABLE, endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || pass_on(role, pid, stdout, &events));
        }
        Ok(Self { role, child })
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does: it cannot say goodbye.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to finish, by closing its standard input.
    pub(super) fn dismiss(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has ended; whether it did so by itself and without an error.
    ///
    /// Blocks, so call it once the program's [`Event::Ended`] was seen.
    pub(super) fn ended_well(&mut self) -> io::Result<bool> {
        self.child.wait().map(|status| status.success())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what a program reports, until it ends or the demo does not listen any more.
fn pass_on(role: Role, pid: u32, stdout: ChildStdout, events: &mpsc::Sender<Event>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let report = serde_json::from_str(&line).unwrap_or_else(|error| Report::Failed {
            reason: format!("an unreadable report: {error}"),
        });
        if events.blocking_send(Event::Report(role, report)).is_err() {
            return;
        }
    }
    let _ = events.blocking_send(Event::Ended(pid));
}
