//! Sockets: directories, owners, `sun_path`.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{ConnectError, ENDPOINT_VARIABLE, Endpoint, EndpointError, Stream};

/// What an endpoint has on Unix, where it is a path.
impl Endpoint {
    /// The directory of the socket.
    pub fn directory(&self) -> &Path {
        // `check_form` has seen to it that there is one
        self.path.parent().unwrap_or_else(|| Path::new("/"))
    }

    /// The file whose lock makes a broker the only one at this endpoint: `<socket>.lock`.
    pub fn lock_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        path.into()
    }

    /// Checks that nobody else can put a socket into the directory, or take ours away.
    ///
    /// The directory of a default endpoint must be a directory of ours with no permissions for
    /// others at all. That of a chosen endpoint may be root's, may be readable, may be reached by
    /// a symbolic link that root or we made (`/var/run`, `/tmp` on macOS), and may be writable to
    /// others if it is sticky: there nobody can replace the socket, and who made it is checked.
    ///
    /// # Errors
    ///
    /// One [`EndpointError`] for each of these.
    pub fn check_directory(&self) -> Result<(), EndpointError> {
        let directory = self.directory().to_path_buf();
        let uid = rustix::process::geteuid().as_raw();
        let ours = |owner: u32| owner == uid || (!self.is_default() && owner == ROOT);

        let mut found = look(&directory, fs::symlink_metadata(&directory))?;
        if found.is_symlink() {
            if self.is_default() || !ours(found.uid()) {
                return Err(EndpointError::Symlink { directory });
            }
            found = look(&directory, fs::metadata(&directory))?;
        }
        if !found.is_dir() {
            return Err(EndpointError::NotADirectory { directory });
        }
        if !ours(found.uid()) {
            return Err(EndpointError::Owner {
                directory,
                owner: found.uid(),
                expected: uid,
            });
        }
        let mode = found.mode() & 0o7777;
        let exposed = if self.is_default() {
            mode & 0o077 != 0
        } else {
            mode & 0o022 != 0 && mode & STICKY == 0
        };
        if exposed {
            return Err(EndpointError::Exposed { directory, mode });
        }
        Ok(())
    }
}

fn look(path: &Path, found: io::Result<fs::Metadata>) -> Result<fs::Metadata, EndpointError> {
    found.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => EndpointError::Missing {
            directory: path.into(),
        },
        _ => EndpointError::Io {
            path: path.into(),
            source,
        },
    })
}

pub(super) fn check_form(path: &Path) -> Result<(), EndpointError> {
    let bytes = path.as_os_str().as_bytes();
    let reason = if bytes.is_empty() {
        "it is empty; give the path of a socket"
    } else if bytes.contains(&0) {
        "a path cannot contain a NUL byte"
    } else if !path.is_absolute() {
        "the path of a socket must be absolute, so that every program finds the same one"
    } else if bytes.ends_with(b"/") || path.file_name().is_none() {
        "it names a directory; add the name of the socket"
    } else if bytes.len() > PATH_LIMIT {
        return Err(EndpointError::TooLong {
            path: path.into(),
            length: bytes.len(),
            limit: PATH_LIMIT,
        });
    } else {
        return Ok(());
    };
    Err(EndpointError::Invalid {
        text: path.into(),
        reason,
    })
}

pub(super) fn discover() -> Result<Endpoint, EndpointError> {
    let environment = Environment {
        elevated: is_elevated(),
        endpoint: env::var_os(ENDPOINT_VARIABLE),
        runtime_dir: env::var_os("XDG_RUNTIME_DIR"),
        // Elsewhere than on macOS $TMPDIR differs from program to program of one user.
        temp_dir: env::var_os("TMPDIR").filter(|_| cfg!(target_os = "macos")),
        uid: rustix::process::geteuid().as_raw(),
    };
    choose(&environment, |directory| {
        fs::metadata(directory).is_ok_and(|found| found.is_dir() && found.uid() == environment.uid)
    })
}

/// What [`choose`] decides by.
#[derive(Clone, Debug, Default)]
struct Environment {
    elevated: bool,
    endpoint: Option<OsString>,
    runtime_dir: Option<OsString>,
    temp_dir: Option<OsString>,
    uid: u32,
}

/// The rules of [`Endpoint::discover`], without looking at anything else than the arguments.
fn choose(
    environment: &Environment,
    is_ours: impl Fn(&Path) -> bool,
) -> Result<Endpoint, EndpointError> {
    let Environment {
        elevated,
        endpoint,
        runtime_dir,
        temp_dir,
        uid,
    } = environment;
    let trusted =
        |value: &Option<OsString>| value.clone().filter(|value| !elevated && !value.is_empty());
    // "All paths set in these environment variables must be absolute" (XDG), and somebody else's
    // directory is what `su` leaves in them.
    let usable = |directory: &PathBuf| directory.is_absolute() && is_ours(directory);

    if let Some(text) = trusted(endpoint) {
        return Endpoint::new(text);
    }
    let runtime_dir = if *elevated {
        Some(PathBuf::from(format!("/run/user/{uid}")))
    } else {
        trusted(runtime_dir).map(PathBuf::from)
    };
    if let Some(directory) = runtime_dir.filter(usable) {
        return Endpoint::default_at(directory.join("localhub/hub.sock"));
    }
    let temp_dir = trusted(temp_dir)
        .map(PathBuf::from)
        .filter(usable)
        .unwrap_or_else(|| "/tmp".into());
    Endpoint::default_at(temp_dir.join(format!("localhub-{uid}/hub.sock")))
}

/// Whether this program has rights that whoever wrote its environment may not have.
fn is_elevated() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};

    if geteuid() != getuid() || getegid() != getgid() {
        return true;
    }
    #[cfg(target_os = "linux")]
    {
        // AT_SECURE also tells of file capabilities and of what a security module added.
        match fs::read("/proc/self/auxv") {
            Ok(vector) => vector.chunks_exact(2 * WORD).any(|entry| {
                let (kind, value) = entry.split_at(WORD);
                kind == AT_SECURE.to_ne_bytes() && value.iter().any(|byte| *byte != 0)
            }),
            // The file is root's if the kernel protects this program, or if the program itself
            // asked for that (PR_SET_DUMPABLE): only the first comes with capabilities.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                rustix::thread::capabilities(None).map_or(true, |sets| !sets.permitted.is_empty())
            }
            Err(_) => false,
        }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

pub(super) async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    match endpoint.check_directory() {
        Err(EndpointError::Missing { .. }) => {
            return Err(ConnectError::NotRunning {
                endpoint: endpoint.clone(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
        checked => checked?,
    }
    let give_up = Instant::now() + BUSY_PATIENCE;
    let mut pause = Duration::from_millis(1);
    let stream = loop {
        match connect_once(endpoint).await {
            // The queue of connections to be accepted is full.
            Err(ConnectError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= give_up {
                    return Err(ConnectError::Busy {
                        endpoint: endpoint.clone(),
                    });
                }
                sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            other => break other?,
        }
    };
    // The uid is that of whoever called listen(): it cannot be set by somebody else.
    let server = stream
        .peer_cred()
        .map_err(|source| failure(endpoint, source))?
        .uid();
    check_owner(endpoint, server)?;
    tune(&stream);
    Stream::new(stream).map_err(|source| failure(endpoint, source))
}

/// Connects to the very socket that it has checked.
#[cfg(target_os = "linux")]
async fn connect_once(endpoint: &Endpoint) -> Result<UnixStream, ConnectError> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    use std::os::fd::AsRawFd as _;

    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (socket, found) = open(&endpoint.path, flags, Mode::empty())
        .and_then(|socket| fstat(&socket).map(|found| (socket, found)))
        .map_err(|errno| failure(endpoint, errno.into()))?;
    if !FileType::from_raw_mode(found.st_mode).is_socket() {
        return Err(ConnectError::NotASocket {
            endpoint: endpoint.clone(),
        });
    }
    check_owner(endpoint, found.st_uid)?;
    // connect() follows symbolic links, and the path may have changed since. This link of the
    // kernel's leads to the open file itself.
    let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let connected = match UnixStream::connect(link).await {
        // There is no usable /proc. The check of the server's uid is still to come.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            UnixStream::connect(&endpoint.path).await
        }
        connected => connected,
    };
    connected.map_err(|source| failure(endpoint, source))
}

/// Connects to a socket that was ours a moment ago; the check of the server's uid covers the rest.
#[cfg(not(target_os = "linux"))]
async fn connect_once(endpoint: &Endpoint) -> Result<UnixStream, ConnectError> {
    use std::os::unix::fs::FileTypeExt as _;

    let found = fs::symlink_metadata(&endpoint.path).map_err(|source| failure(endpoint, source))?;
    if !found.file_type().is_socket() {
        return Err(ConnectError::NotASocket {
            endpoint: endpoint.clone(),
        });
    }
    check_owner(endpoint, found.uid())?;
    UnixStream::connect(&endpoint.path)
        .await
        .map_err(|source| failure(endpoint, source))
}

fn check_owner(endpoint: &Endpoint, owner: u32) -> Result<(), ConnectError> {
    if owner == rustix::process::geteuid().as_raw() || owner == ROOT {
        return Ok(());
    }
    Err(ConnectError::Stranger {
        endpoint: endpoint.clone(),
        owner: format!("uid {owner}"),
    })
}

fn failure(endpoint: &Endpoint, source: io::Error) -> ConnectError {
    let endpoint = endpoint.clone();
    match source.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            ConnectError::NotRunning { endpoint, source }
        }
        _ => ConnectError::Io { endpoint, source },
    }
}

/// Makes a connected socket fit for bulk, at both ends: a no-op where the system's default is.
///
/// macOS gives a socket buffers of 8 KiB, which makes a large frame a thousand round trips. It
/// also raises SIGPIPE for a write to a closed socket, which would end a host program that is not
/// written in Rust and does not expect it.
pub fn tune(stream: &UnixStream) {
    #[cfg(target_os = "macos")]
    {
        use rustix::net::sockopt;
        // A system that refuses leaves the connection slower, not wrong.
        let _ = sockopt::set_socket_send_buffer_size(stream, 512 * 1024);
        let _ = sockopt::set_socket_recv_buffer_size(stream, 512 * 1024);
        let _ = sockopt::set_socket_nosigpipe(stream, true);
    }
    #[cfg(not(target_os = "macos"))]
    let _ = stream;
}

/// How many bytes a path may have: `sun_path` without its NUL.
const PATH_LIMIT: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};
const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
#[cfg(target_os = "linux")]
const AT_SECURE: usize = 23;
#[cfg(target_os = "linux")]
const WORD: usize = size_of::<usize>();

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{
            fs::{PermissionsExt as _, chown, symlink},
            net::UnixListener,
            process::CommandExt as _,
        },
        process::{Child, Command, Stdio},
    };

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Somebody who is not the user that runs the tests, if that user may become somebody else.
    const NOBODY: u32 = 65534;

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o700);
        directory
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn default_in(directory: &Path) -> Endpoint {
        Endpoint::default_at(directory.join("hub.sock")).unwrap()
    }

    fn chosen_in(directory: &Path) -> Endpoint {
        Endpoint::new(directory.join("hub.sock")).unwrap()
    }

    #[test]
    fn the_environment_chooses_by_fixed_rules() {
        struct Case {
            why: &'static str,
            endpoint: Option<&'static str>,
            runtime_dir: Option<&'static str>,
            temp_dir: Option<&'static str>,
            elevated: bool,
            found: &'static str,
        }
        let plain = Case {
            why: "nothing is set",
            endpoint: None,
            runtime_dir: None,
            temp_dir: None,
            elevated: false,
            found: "/tmp/localhub-7/hub.sock",
        };
        let cases = [
            Case {
                why: "an explicit endpoint comes first",
                endpoint: Some("/srv/my.sock"),
                runtime_dir: Some("/ours"),
                found: "/srv/my.sock",
                ..plain
            },
            Case {
                why: "an empty variable is as good as none",
                endpoint: Some(""),
                runtime_dir: Some(""),
                temp_dir: Some(""),
                ..plain
            },
            Case {
                why: "the runtime directory comes second",
                runtime_dir: Some("/ours"),
                temp_dir: Some("/ours/temp"),
                found: "/ours/localhub/hub.sock",
                ..plain
            },
            Case {
                why: "a runtime directory of somebody else is what `su` leaves",
                runtime_dir: Some("/theirs"),
                ..plain
            },
            Case {
                why: "a relative runtime directory is ignored, as XDG asks",
                runtime_dir: Some("ours"),
                ..plain
            },
            Case {
                why: "a temp directory of ours is next",
                temp_dir: Some("/ours/temp"),
                found: "/ours/temp/localhub-7/hub.sock",
                ..plain
            },
            Case {
                why: "a temp directory of somebody else is not ours to use",
                temp_dir: Some("/theirs"),
                ..plain
            },
            Case {
                why: "an elevated program believes no variable",
                endpoint: Some("/srv/my.sock"),
                runtime_dir: Some("/ours"),
                temp_dir: Some("/ours/temp"),
                elevated: true,
                found: "/run/user/7/localhub/hub.sock",
            },
            plain,
        ];
        for case in cases {
            let environment = Environment {
                elevated: case.elevated,
                endpoint: case.endpoint.map(OsString::from),
                runtime_dir: case.runtime_dir.map(OsString::from),
                temp_dir: case.temp_dir.map(OsString::from),
                uid: 7,
            };
            let ours = |directory: &Path| {
                ["/ours", "ours", "/run/user/7"]
                    .iter()
                    .any(|root| directory.starts_with(root))
            };
            let found = choose(&environment, ours).unwrap();
            assert_eq!(found.to_string(), case.found, "{}", case.why);
            assert_eq!(
                found.is_default(),
                case.found != "/srv/my.sock",
                "{}",
                case.why
            );
        }
    }

    #[test]
    fn an_elevated_program_without_a_runtime_directory_uses_the_temp_directory() {
        let environment = Environment {
            elevated: true,
            temp_dir: Some("/ours".into()),
            uid: 7,
            ..Environment::default()
        };
        let found = choose(&environment, |directory| directory == Path::new("/ours")).unwrap();
        assert_eq!(found.to_string(), "/tmp/localhub-7/hub.sock");
    }

    #[test]
    fn this_test_is_not_an_elevated_program() {
        assert!(!is_elevated());
    }

    #[test]
    fn text_that_is_no_socket_path_is_refused() {
        for text in [
            "",
            "hub.sock",
            "./hub.sock",
            "/run/",
            "/",
            "/run/..",
            "/a\0b",
        ] {
            let error = Endpoint::new(text).unwrap_err();
            assert!(
                matches!(error, EndpointError::Invalid { .. }),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn a_path_may_be_just_as_long_as_a_socket_address() {
        let fits = format!("/{}", "x".repeat(PATH_LIMIT - 1));
        let endpoint = Endpoint::new(&fits).unwrap();
        SocketAddrUnix::new(endpoint.path()).unwrap();

        let error = Endpoint::new(format!("{fits}x")).unwrap_err();
        let EndpointError::TooLong { length, limit, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((length, limit), (PATH_LIMIT + 1, PATH_LIMIT));
    }

    #[test]
    fn the_lock_lies_beside_the_socket() {
        let endpoint = Endpoint::new("/run/localhub/hub.sock").unwrap();
        assert_eq!(endpoint.directory(), Path::new("/run/localhub"));
        assert_eq!(
            endpoint.lock_path(),
            Path::new("/run/localhub/hub.sock.lock")
        );
    }

    #[test]
    fn a_private_directory_is_accepted() {
        let directory = private_directory();
        default_in(directory.path()).check_directory().unwrap();
        chosen_in(directory.path()).check_directory().unwrap();
    }

    #[test]
    fn a_default_directory_has_no_permissions_for_others() {
        let directory = private_directory();
        for bits in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040, 0o1002] {
            set_mode(directory.path(), 0o700 | bits);
            let error = default_in(directory.path()).check_directory().unwrap_err();
            let EndpointError::Exposed { mode, .. } = error else {
                panic!("{bits:o}: {error}");
            };
            assert_eq!(mode, 0o700 | bits);
        }
    }

    #[test]
    fn a_chosen_directory_may_be_read_but_not_changed_by_others() {
        let directory = private_directory();
        for (mode, accepted) in [
            (0o755, true),
            (0o1777, true),
            (0o720, false),
            (0o702, false),
            (0o777, false),
        ] {
            set_mode(directory.path(), mode);
            let checked = chosen_in(directory.path()).check_directory();
            assert_eq!(checked.is_ok(), accepted, "{mode:o}: {checked:?}");
            if let Err(error) = checked {
                assert!(matches!(error, EndpointError::Exposed { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_missing_directory_is_told_from_a_file() {
        let directory = private_directory();
        let place = directory.path().join("place");
        let missing = default_in(&place).check_directory().unwrap_err();
        assert!(
            matches!(missing, EndpointError::Missing { .. }),
            "{missing}"
        );

        fs::write(&place, "").unwrap();
        let file = default_in(&place).check_directory().unwrap_err();
        assert!(
            matches!(file, EndpointError::NotADirectory { .. }),
            "{file}"
        );
        let file = chosen_in(&place).check_directory().unwrap_err();
        assert!(
            matches!(file, EndpointError::NotADirectory { .. }),
            "{file}"
        );
    }

    #[test]
    fn a_linked_directory_is_a_matter_of_who_made_the_link() {
        let directory = private_directory();
        let (place, link) = (
            directory.path().join("place"),
            directory.path().join("link"),
        );
        fs::create_dir(&place).unwrap();
        set_mode(&place, 0o700);
        symlink(&place, &link).unwrap();

        let error = default_in(&link).check_directory().unwrap_err();
        assert!(matches!(error, EndpointError::Symlink { .. }), "{error}");
        chosen_in(&link).check_directory().unwrap();

        if is_root() {
            std::os::unix::fs::lchown(&link, Some(NOBODY), None).unwrap();
            let error = chosen_in(&link).check_directory().unwrap_err();
            assert!(matches!(error, EndpointError::Symlink { .. }), "{error}");
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        if !is_root() {
            return;
        }
        let directory = private_directory();
        chown(directory.path(), Some(NOBODY), None).unwrap();
        for endpoint in [default_in(directory.path()), chosen_in(directory.path())] {
            let error = endpoint.check_directory().unwrap_err();
            let EndpointError::Owner {
                owner, expected, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((owner, expected), (NOBODY, 0));
        }
    }

    #[tokio::test]
    async fn nobody_is_running_where_there_is_nothing_or_a_stale_socket() {
        let directory = private_directory();
        let endpoint = chosen_in(directory.path());
        let nowhere = chosen_in(&directory.path().join("missing"));

        for (what, endpoint) in [("no directory", &nowhere), ("no socket", &endpoint)] {
            let error = connect(endpoint).await.unwrap_err();
            assert!(
                matches!(error, ConnectError::NotRunning { .. }),
                "{what}: {error}"
            );
        }
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(endpoint.path()).unwrap()).unwrap();
        let error = connect(&endpoint).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NotRunning { .. }),
            "a stale socket: {error}"
        );
    }

    #[tokio::test]
    async fn a_socket_of_ours_is_connected_to() {
        let directory = private_directory();
        let endpoint = default_in(directory.path());
        let listener = UnixListener::bind(endpoint.path()).unwrap();
        let mut stream = connect(&endpoint).await.unwrap();
        let _accepted = listener.accept().unwrap();
        stream.write_all(b"hello").await.unwrap();
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_socket_is_not_followed() {
        let directory = private_directory();
        let trap = directory.path().join("trap.sock");
        let listener = UnixListener::bind(&trap).unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = chosen_in(directory.path());
        symlink(&trap, endpoint.path()).unwrap();

        let error = connect(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotASocket { .. }), "{error}");
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );

        fs::remove_file(endpoint.path()).unwrap();
        fs::write(endpoint.path(), "").unwrap();
        let error = connect(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotASocket { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_not_connected_to() {
        if !is_root() {
            return;
        }
        let directory = private_directory();
        let endpoint = chosen_in(directory.path());
        let listener = UnixListener::bind(endpoint.path()).unwrap();
        listener.set_nonblocking(true).unwrap();
        chown(endpoint.path(), Some(NOBODY), None).unwrap();

        let error = connect(&endpoint).await.unwrap_err();
        assert!(matches!(error, ConnectError::Stranger { .. }), "{error}");
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[tokio::test]
    async fn a_server_of_somebody_else_behind_a_socket_of_ours_gets_no_byte() {
        if !is_root() {
            return;
        }
        let directory = private_directory();
        set_mode(directory.path(), 0o1777);
        let endpoint = chosen_in(directory.path());
        let (impostor, mut said) = impostor(directory.path(), endpoint.path());
        chown(endpoint.path(), Some(0), None).unwrap();

        let error = connect(&endpoint).await.unwrap_err();
        let ConnectError::Stranger { owner, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(owner, "uid 65534");
        let mut received = String::new();
        io::Read::read_to_string(&mut said, &mut received).unwrap();
        assert!(received.contains("received 0 bytes"), "{received}");
        drop(impostor);
    }

    /// Runs [`listens_as_an_impostor`] as another user, until it listens.
    fn impostor(directory: &Path, socket: &Path) -> (Running, impl io::Read) {
        // The build directory may be closed to that user. This process must not have the copy open
        // for writing, not even in a test that forks meanwhile: it could not be executed.
        let program = directory.join("impostor");
        let copied = Command::new("cp")
            .arg(env::current_exe().unwrap())
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        let mut child = Command::new(program)
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("endpoint::unix::tests::listens_as_an_impostor")
            .env("IMPOSTOR_SOCKET", socket)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = io::BufReader::new(child.stdout.take().unwrap());
        let running = Running(child);
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            let length = io::BufRead::read_line(&mut said, &mut line).unwrap();
            assert_ne!(length, 0, "the impostor ended without listening");
        }
        (running, said)
    }

    #[test]
    #[ignore = "a part of another test, which runs it in a process of its own"]
    fn listens_as_an_impostor() {
        let Some(socket) = env::var_os("IMPOSTOR_SOCKET") else {
            return;
        };
        let listener = UnixListener::bind(socket).unwrap();
        println!("\nlistening");
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        io::Read::read_to_end(&mut stream, &mut received).unwrap();
        println!("received {} bytes", received.len());
    }

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_accept_is_busy_after_five_seconds() {
        let directory = private_directory();
        let endpoint = chosen_in(directory.path());
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(endpoint.path()).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        let _waiting = connect(&endpoint).await.unwrap();

        let before = Instant::now();
        let error = connect(&endpoint).await.unwrap_err();
        // Only Linux says that the queue is full; others refuse.
        if cfg!(target_os = "linux") {
            assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
            assert!(before.elapsed() >= BUSY_PATIENCE);
        }
    }
}
