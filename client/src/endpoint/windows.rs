//! Named pipes.

/// What only the Windows API itself tells about processes and pipes.
pub mod process;

use std::{
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::windows::named_pipe::{ClientOptions, NamedPipeClient},
    time::{Instant, sleep},
};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;

use super::{ConnectError, ENDPOINT_VARIABLE, Endpoint, EndpointError};
use process::{Process, owner};

pub(super) fn check_form(path: &Path) -> Result<(), EndpointError> {
    let invalid = |reason| {
        Err(EndpointError::Invalid {
            text: path.into(),
            reason,
        })
    };
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix(PIPES)) else {
        return invalid(r"an endpoint is the name of a local pipe, like \\.\pipe\my-hub");
    };
    if name.is_empty() {
        return invalid(r"it has no name after \\.\pipe\");
    }
    if name.contains(['\\', '/', '\0']) {
        return invalid("the name of a pipe cannot contain slashes, backslashes or NUL");
    }
    let length = path.as_os_str().len();
    if length > NAME_LIMIT {
        return Err(EndpointError::TooLong {
            path: path.into(),
            length,
            limit: NAME_LIMIT,
        });
    }
    Ok(())
}

pub(super) fn discover() -> Result<Endpoint, EndpointError> {
    let explain = |source| EndpointError::Io {
        path: "the token of this process".into(),
        source,
    };
    let this = Process::open(std::process::id()).map_err(explain)?;
    let environment = Environment {
        elevated: this.is_elevated().map_err(explain)?,
        endpoint: env::var_os(ENDPOINT_VARIABLE),
        sid: this.user().map_err(explain)?,
    };
    choose(&environment)
}

/// What [`choose`] decides by.
struct Environment {
    elevated: bool,
    endpoint: Option<std::ffi::OsString>,
    sid: String,
}

/// The rules of [`Endpoint::discover`].
fn choose(environment: &Environment) -> Result<Endpoint, EndpointError> {
    match &environment.endpoint {
        Some(text) if !environment.elevated && !text.is_empty() => Endpoint::new(text),
        _ => Endpoint::default_at(PathBuf::from(format!(
            "{PIPES}localhub-{}",
            environment.sid
        ))),
    }
}

pub(super) async fn connect(endpoint: &Endpoint) -> Result<NamedPipeClient, ConnectError> {
    let failure = |source: io::Error| {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ConnectError::NotRunning { endpoint, source },
            _ => ConnectError::Io { endpoint, source },
        }
    };
    let give_up = Instant::now() + BUSY_PATIENCE;
    let mut pause = Duration::from_millis(1);
    let pipe = loop {
        // Opened so that the server may identify us, but not act in our name: tokio's default.
        match ClientOptions::new().open(&endpoint.path) {
            // All instances of the pipe are taken, and the broker is about to make the next.
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                if Instant::now() >= give_up {
                    return Err(ConnectError::Busy {
                        endpoint: endpoint.clone(),
                    });
                }
                sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            opened => break opened.map_err(failure)?,
        }
    };
    // Nobody can make a pipe that is owned by somebody else without being an administrator.
    let owner = owner(&pipe).map_err(failure)?;
    let this = Process::open(std::process::id())
        .and_then(|process| process.user())
        .map_err(failure)?;
    if owner != this && owner != SYSTEM {
        return Err(ConnectError::Stranger {
            endpoint: endpoint.clone(),
            owner,
        });
    }
    Ok(pipe)
}

const PIPES: &str = r"\\.\pipe\";
/// What CreateNamedPipe allows for the whole name.
const NAME_LIMIT: usize = 256;
/// The account of the system itself.
const SYSTEM: &str = "S-1-5-18";
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::net::windows::named_pipe::ServerOptions;

    use super::*;

    #[test]
    fn the_environment_chooses_unless_the_program_is_elevated() {
        for (endpoint, elevated, found) in [
            (None, false, r"\\.\pipe\localhub-S-1-5-7"),
            (Some(""), false, r"\\.\pipe\localhub-S-1-5-7"),
            (Some(r"\\.\pipe\mine"), false, r"\\.\pipe\mine"),
            (Some(r"\\.\pipe\mine"), true, r"\\.\pipe\localhub-S-1-5-7"),
        ] {
            let environment = Environment {
                elevated,
                endpoint: endpoint.map(Into::into),
                sid: "S-1-5-7".into(),
            };
            assert_eq!(choose(&environment).unwrap().to_string(), found);
        }
    }

    #[test]
    fn the_default_endpoint_is_named_after_the_user() {
        let this = Process::open(std::process::id()).unwrap();
        let name = Endpoint::default_at(format!("{PIPES}localhub-{}", this.user().unwrap()).into());
        assert!(
            name.unwrap()
                .to_string()
                .starts_with(r"\\.\pipe\localhub-S-1-5-")
        );
        Endpoint::discover().unwrap();
    }

    #[test]
    fn text_that_is_no_local_pipe_is_refused() {
        for text in [
            "",
            "hub",
            r"\\.\pipe\",
            r"\\.\pipe\a\b",
            r"\\.\pipe\a/b",
            r"\\server\pipe\hub",
            r"C:\hub.sock",
            "/run/hub.sock",
        ] {
            let error = Endpoint::new(text).unwrap_err();
            assert!(
                matches!(error, EndpointError::Invalid { .. }),
                "{text:?}: {error}"
            );
        }
        let long = format!("{PIPES}{}", "x".repeat(NAME_LIMIT));
        let error = Endpoint::new(long).unwrap_err();
        assert!(matches!(error, EndpointError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_process_tells_about_itself() {
        let this = Process::open(std::process::id()).unwrap();
        assert_eq!(
            PathBuf::from(this.executable().unwrap()),
            env::current_exe().unwrap()
        );
        assert!(!this.has_exited().unwrap());
        this.is_elevated().unwrap();
        let none = Process::open(u32::MAX - 3).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::InvalidInput, "{none}");
    }

    #[tokio::test]
    async fn nobody_is_running_where_there_is_no_pipe() {
        let endpoint = Endpoint::new(format!("{PIPES}localhub-test-absent")).unwrap();
        let error = connect(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotRunning { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_accept_is_busy_after_five_seconds() {
        let endpoint = Endpoint::new(format!("{PIPES}localhub-test-busy")).unwrap();
        let _server = ServerOptions::new()
            .max_instances(1)
            .create(endpoint.path())
            .unwrap();
        let _other = ClientOptions::new().open(endpoint.path()).unwrap();
        let before = Instant::now();
        let error = connect(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
        assert!(before.elapsed() >= BUSY_PATIENCE);
    }
}
