//! Real processes: a broker on an endpoint of its own, commands aimed at it, and what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a test waits for something that must happen. Long, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A real broker in a process of its own, on an endpoint of its own. Ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    directory: TempDir,
    process: Process,
}

/// A child process whose lines are read as they come. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Daemon {
    /// Starts `localhub serve` with the configuration given, and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    pub fn start(binary: &str, configuration: &str) -> Self {
        let directory = private_directory();
        std::fs::write(directory.path().join("config.toml"), configuration).expect("a file");
        Self::start_in(binary, directory)
    }

    fn start_in(binary: &str, directory: TempDir) -> Self {
        let binary = PathBuf::from(binary);
        let mut command = command(&binary, directory.path());
        command
            .arg("serve")
            .arg("--config")
            .arg(directory.path().join("config.toml"));
        let process = Process::start(command);
        let daemon = Self {
            binary,
            directory,
            process,
        };
        let line = daemon.process.line();
        assert!(
            line.contains("listening at"),
            "the broker says that it is ready, and not {line:?}"
        );
        daemon
    }

    /// Kills the broker as no broker wants to be killed, and starts another one in its place.
    pub fn restarts_after_a_kill(self) -> Self {
        let Self {
            binary,
            directory,
            mut process,
        } = self;
        process.kill();
        drop(process);
        Self::start_in(binary.to_str().expect("a path in UTF-8"), directory)
    }

    /// The folder that holds the socket, the configuration and the logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens.
    pub fn endpoint(&self) -> PathBuf {
        endpoint(self.directory.path())
    }

    /// The broker's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A command of the same binary, aimed at this broker.
    pub fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = command(&self.binary, self.directory.path());
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the command starts")
    }

    /// Runs a command that must succeed; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn prints<const N: usize>(&self, arguments: [&str; N]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?} ended with {}: {errors}",
            output.status
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must succeed with `--json`; what it printed, a value for each line.
    ///
    /// # Panics
    /// It fails, or prints something else.
    pub fn json<const N: usize>(&self, arguments: [&str; N]) -> Vec<serde_json::Value> {
        let mut command = self.command(arguments);
        let output = command
            .arg("--json")
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?} ended with {}: {errors}",
            output.status
        );
        let text = String::from_utf8(output.stdout).expect("text");
        let parse = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {line}"))
        };
        text.lines().map(parse).collect()
    }

    /// Starts a command that goes on.
    pub fn spawns<const N: usize>(&self, arguments: [&str; N]) -> Process {
        Process::start(self.command(arguments))
    }

    /// The connected clients, as operators see them.
    pub fn clients(&self) -> Vec<serde_json::Value> {
        self.json(["clients"])
            .into_iter()
            .flat_map(|value| match value {
                serde_json::Value::Array(clients) => clients,
                other => vec![other],
            })
            .collect()
    }
}

impl Process {
    /// Starts a command and reads what it prints.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let lines = read_lines(child.stdout.take().expect("a pipe"));
        let errors = read_lines(child.stderr.take().expect("a pipe"));
        Self {
            child,
            lines,
            errors,
        }
    }

    /// The next line it prints.
    ///
    /// # Panics
    /// It prints none.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let errors: Vec<_> = self.errors.try_iter().collect();
            panic!("no line came; it said {errors:?}")
        })
    }

    /// Everything it says until it ends: what it prints, and what it complains of.
    pub fn rest(&mut self) -> (Vec<String>, Vec<String>) {
        self.child.stdin.take();
        (self.lines.iter().collect(), self.errors.iter().collect())
    }

    /// Gives it a line to read.
    ///
    /// # Panics
    /// It does not read any more.
    pub fn reads(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as `TERM`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "kill -s {name}"
        );
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// It does not.
    pub fn ends(&mut self) -> ExitStatus {
        self.child.stdin.take();
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something is so.
///
/// # Panics
/// It is not, for as long as a test has patience.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// A folder that only this user may enter, with a short path: a socket's has about 100 bytes.
pub fn private_directory() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("lh");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir().expect("a folder")
}

/// A command that knows nothing of this machine's own broker, configuration and state.
pub fn command(binary: &Path, directory: &Path) -> Command {
    let mut command = Command::new(binary);
    for variable in ["LOCALHUB_CONFIG", "LOCALHUB_LOG", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
        .env("LOCALHUB_ENDPOINT", endpoint(directory))
        .env("HOME", directory)
        .env("XDG_CONFIG_HOME", directory.join("config"))
        .env("XDG_STATE_HOME", directory.join("state"));
    command
}

fn endpoint(directory: &Path) -> PathBuf {
    directory.join("hub.sock")
}

fn read_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    // Room for more lines than a test lets a process print unread.
    let (sender, receiver) = sync_channel(100_000);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
