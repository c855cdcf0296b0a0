//! The processes of a run. None outlives the runner, however that ends.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{Receiver, channel};

/// Which part this executable plays; nothing for the runner.
pub(crate) const ROLE: &str = "LOCALHUB_HUBCHECK_ROLE";

/// The process that started this one.
const PARENT: &str = "LOCALHUB_HUBCHECK_PARENT";

/// So many lines may wait to be read.
const LINES_MAX: usize = 1_024;

/// A child process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this executable again in another role, with its complaints in a file.
    pub(crate) fn start(role: &str, arguments: &[&str], complaints: &Path) -> io::Result<Self> {
        let complaints = File::options().append(true).create(true).open(complaints)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env(ROLE, role)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()?;
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            lines,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line to read, if it still reads.
    pub(crate) fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            // It may have ended, which is seen where it matters.
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Whether it says a line in time.
    pub(crate) async fn says(&mut self, what: &str, patience: Duration) -> bool {
        let said = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(what) {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(patience, said).await.unwrap_or(false)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may have ended by itself, which is seen where it matters.
        let _ = kill_process(pid, signal);
    }

    /// Waits until it has closed its output, and says its exit code.
    pub(crate) async fn ends(&mut self, patience: Duration) -> Option<i32> {
        let closed = async { while self.lines.recv().await.is_some() {} };
        tokio::time::timeout(patience, closed).await.ok()?;
        self.child.wait().ok()?.code()
    }

    /// Ends it as no process wants to end.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has the system end this process when the one that started it is gone.
///
/// # Errors
/// It is gone already, or the system cannot.
pub(crate) fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = std::env::var(PARENT).unwrap_or_default();
    match rustix::process::getppid() {
        Some(pid) if pid.as_raw_nonzero().to_string() == parent => Ok(()),
        _ => Err(io::Error::other("whoever started this is gone")),
    }
}

/// Becomes a broker in the folder.
pub(crate) fn become_broker(folder: &Path) -> io::Error {
    let mut command =
        localhub_tests::process::command(env!("CARGO_BIN_EXE_localhub").as_ref(), folder);
    command.env_remove(ROLE).env_remove(PARENT);
    command
        .arg("serve")
        .arg("--config")
        .arg(folder.join("config.toml"))
        .exec()
}

/// The memory and the descriptors of a process, as the system says.
pub(crate) fn size_of(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((kib * 1024, descriptors as u64))
}
