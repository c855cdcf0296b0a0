use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;
use crate::endpoint::{self, ConnectError, ENDPOINT_VARIABLE, Endpoint, Stream};
use crate::link::Connect;

/// Connects to an endpoint of this system, and starts a broker there if it may.
pub(crate) struct Connector {
    endpoint: Endpoint,
    autostart: Option<Autostart>,
}

struct Autostart {
    program: PathBuf,
    started: Option<Started>,
}

/// A broker that was started here.
struct Started {
    /// Set when it has ended, successful or not.
    end: Arc<OnceLock<io::Result<ExitStatus>>>,
    /// When that was noticed.
    end_seen: Option<Instant>,
}

/// How often a starting broker is looked for.
const PAUSE: Duration = Duration::from_millis(10);

/// How long another client's broker may take to listen, when ours has made room for it.
const OTHER_BROKER_PATIENCE: Duration = Duration::from_secs(2);

impl Connector {
    pub(crate) fn new(endpoint: Endpoint, program: Option<PathBuf>) -> Self {
        let autostart = program.map(|program| Autostart {
            program,
            started: None,
        });
        Self {
            endpoint,
            autostart,
        }
    }
}

impl Connect for Connector {
    type Stream = Stream;

    async fn connect(&mut self) -> Result<Stream, Error> {
        loop {
            let (endpoint, source) = match endpoint::connect(&self.endpoint).await {
                Ok(stream) => {
                    // Should nobody listen later, that calls for another broker.
                    self.autostart
                        .iter_mut()
                        .for_each(|autostart| autostart.started = None);
                    return Ok(stream);
                }
                Err(ConnectError::NotRunning { endpoint, source }) => (endpoint, source),
                Err(other) => return Err(Error::Connect(other)),
            };
            let Some(autostart) = &mut self.autostart else {
                return Err(Error::NotRunning { endpoint, source });
            };
            autostart.ensure_started(&self.endpoint)?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn starts_brokers(&self) -> bool {
        self.autostart.is_some()
    }
}

impl Autostart {
    /// Starts a broker, unless one is starting already.
    fn ensure_started(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let Some(started) = &mut self.started else {
            self.started = Some(self.start(endpoint).map_err(|source| self.error(source))?);
            return Ok(());
        };
        let Some(end) = started.end.get() else {
            return Ok(());
        };
        // It ends when another one is there before it. That one has a while to listen.
        let since = *started.end_seen.get_or_insert_with(Instant::now);
        if since.elapsed() < OTHER_BROKER_PATIENCE {
            return Ok(());
        }
        let source = io::Error::other(match end {
            Ok(status) => format!("it ended with {status}"),
            Err(error) => format!("nobody knows how it ended: {error}"),
        });
        self.started = None;
        Err(self.error(source))
    }

    fn start(&self, endpoint: &Endpoint) -> io::Result<Started> {
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if endpoint.is_default() {
            command.env_remove(ENDPOINT_VARIABLE);
        } else {
            command.env(ENDPOINT_VARIABLE, endpoint.path());
        }
        detach(&mut command);
        let mut child = command.spawn()?;
        let end = Arc::new(OnceLock::new());
        let told = end.clone();
        // Somebody has to wait for the child, or the system keeps it as a zombie.
        std::thread::Builder::new()
            .name("localhub-autostart".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || told.set(child.wait()))?;
        Ok(Started {
            end,
            end_seen: None,
        })
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Autostart {
            program: self.program.clone(),
            source,
        }
    }
}

/// Signals to this program's terminal, and its end, are not for the broker.
#[cfg(unix)]
fn detach(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

/// Signals to this program's console, and its end, are not for the broker.
#[cfg(windows)]
fn detach(command: &mut Command) {
    use std::os::windows::process::CommandExt as _;
    use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS};
    command.creation_flags(CREATE_NEW_PROCESS_GROUP | DETACHED_PROCESS);
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use tokio::net::UnixListener;

    use super::*;

    /// A program that does what the script says, in a directory of its own.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf, Endpoint) {
        let directory = tempfile::tempdir().unwrap();
        let (text, program) = (
            directory.path().join("text"),
            directory.path().join("program"),
        );
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process makes the program, so that this one never has it open for writing, not even
        // in a test that forks meanwhile: it could not be executed.
        let installed = Command::new("install")
            .arg("-m700")
            .args([&text, &program])
            .status();
        assert!(installed.unwrap().success());
        let endpoint = Endpoint::new(directory.path().join("hub.sock")).unwrap();
        (directory, program, endpoint)
    }

    fn runs(directory: &Path) -> usize {
        std::fs::read_to_string(directory.join("runs")).map_or(0, |runs| runs.lines().count())
    }

    #[tokio::test]
    async fn nobody_is_started_unasked() {
        let (_directory, _, endpoint) = program("");
        let error = Connector::new(endpoint, None).connect().await.unwrap_err();
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_does_not_exist_is_an_error_at_once() {
        let (directory, _, endpoint) = program("");
        let missing = directory.path().join("missing");
        let error = Connector::new(endpoint, Some(missing))
            .connect()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Autostart { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_ends_is_given_a_moment_for_another_and_then_told_of() {
        let (directory, program, endpoint) =
            program("echo \"$1 at $LOCALHUB_ENDPOINT\" >> \"${0%/*}/runs\"; exit 7");
        let path = endpoint.path().display().to_string();
        let error = Connector::new(endpoint, Some(program))
            .connect()
            .await
            .unwrap_err();
        let Error::Autostart { source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(source.to_string(), "it ended with exit status: 7");
        let runs = std::fs::read_to_string(directory.path().join("runs")).unwrap();
        assert_eq!(runs, format!("serve at {path}\n"), "started once");
    }

    #[tokio::test]
    async fn a_broker_is_started_once_and_connected_to_when_it_listens() {
        // The program does not listen; the test does so in its place, once it runs.
        let (directory, program, endpoint) =
            program("echo >> \"${0%/*}/runs\"; exec cat > /dev/null");
        let socket = endpoint.path().to_owned();
        let mut connector = Connector::new(endpoint, Some(program));
        let connecting = connector.connect();
        let listening = async {
            while runs(directory.path()) == 0 {
                tokio::task::yield_now().await;
            }
            UnixListener::bind(&socket).unwrap()
        };
        let (connected, _listener) = tokio::join!(connecting, listening);
        connected.unwrap();
        assert_eq!(runs(directory.path()), 1);
    }
}
