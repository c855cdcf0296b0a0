//! Sockets, and the lock file that makes a broker the only one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::{
        fs::{
            DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
            PermissionsExt as _,
        },
        net::UnixListener as StdListener,
    },
    path::Path,
};

use interprocess::{
    local_socket::{GenericFilePath, ListenerOptions, prelude::*},
    os::unix::{local_socket::ListenerOptionsExt as _, uds_local_socket},
};
use localhub_client::endpoint::{self, Endpoint};
use rustix::{
    fs::OFlags,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketType},
    process::{Resource, Rlimit, geteuid, getrlimit, setrlimit},
};
use tokio::net::{UnixListener, UnixStream};

use super::{AcceptError, BindError};
use crate::{
    hub::{Identity, User},
    server::identity::identify,
};

pub use localhub_client::endpoint::Stream;

/// The socket of a broker, with the lock that makes this broker the only one there.
///
/// The lock is held as long as the listener lives, and its file is never removed: whoever removed
/// it could leave two brokers with a lock each. The socket is removed when the listener is
/// dropped, if it is still the one that the listener made.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    lock: Lock,
    socket: UnixListener,
    /// The file of `socket`. Its inode exists as long as `socket` does, even without a name, so
    /// that no other file can have the same number.
    file: FileId,
    user: User,
}

impl Listener {
    /// Listens at `endpoint`, alone.
    ///
    /// Creates the directory of a default endpoint, takes the lock, and only then replaces a
    /// socket that a broker left behind. The socket is open to this user only (0600) from the
    /// moment it exists; on macOS, which cannot do that, the directory sees to it, and
    /// [`accept`](Self::accept) looks at the user anyway.
    ///
    /// # Errors
    ///
    /// See [`BindError`]; [`BindError::InUse`] if there is a broker already.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, BindError> {
        prepare_directory(endpoint)?;
        let lock = Lock::take(endpoint)?;
        let (socket, file) = listen(endpoint)?;
        Ok(Self {
            endpoint: endpoint.clone(),
            lock,
            socket,
            file,
            user: User::Uid(geteuid().as_raw()),
        })
    }

    /// The next connection of this user, and who opened it. Can be cancelled without losing one.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: none of them is a reason to stop.
    pub async fn accept(&self) -> Result<(Stream, Identity), AcceptError> {
        let (stream, _) = self.socket.accept().await.map_err(sort)?;
        endpoint::tune(&stream);
        let identity = identify(&stream).map_err(AcceptError::Lost)?;
        if identity.user != self.user {
            return Err(AcceptError::Stranger(identity));
        }
        let stream = Stream::new(stream).map_err(sort)?;
        Ok((stream, identity))
    }

    /// Where this broker listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether clients that look for the broker still find this listener.
    ///
    /// `false` if the socket was removed or replaced, as programs that clean `/tmp` do:
    /// [`rebind`](Self::rebind) then. Cheap enough to ask every few seconds.
    pub fn still_ours(&self) -> bool {
        FileId::of(self.endpoint.path()).is_ok_and(|file| file == self.file)
    }

    /// Makes the socket again if it is no longer ours. Connections that were accepted go on.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind). The listener keeps its old socket then, and may try again; with
    /// [`BindError::InUse`] another broker has taken the place.
    pub fn rebind(&mut self) -> Result<(), BindError> {
        if self.still_ours() {
            return Ok(());
        }
        prepare_directory(&self.endpoint)?;
        if !self.lock.is_in_place(&self.endpoint) {
            self.lock = Lock::take(&self.endpoint)?;
        }
        (self.socket, self.file) = listen(&self.endpoint)?;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock is still held here: nobody can have put a socket in our place in between.
        if self.still_ours() {
            let _ = fs::remove_file(self.endpoint.path());
        }
    }
}

/// Makes the directory if it is ours to make, and checks it in any case.
///
/// Once it is checked its name is safe to use: nobody else can rename or replace it, because its
/// parent is ours or sticky.
fn prepare_directory(endpoint: &Endpoint) -> Result<(), BindError> {
    if endpoint.is_default() {
        let directory = endpoint.directory();
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failure("create the directory", directory)(error));
            }
            _ => {}
        }
    }
    Ok(endpoint.check_directory()?)
}

/// The exclusive lock of an endpoint. It ends with the process, whatever ends the process.
#[derive(Debug)]
struct Lock {
    file: File,
    /// While somebody holds a lock on a directory, systemd-tmpfiles leaves it alone.
    _directory: Option<File>,
}

impl Lock {
    fn take(endpoint: &Endpoint) -> Result<Self, BindError> {
        let path = endpoint.lock_path();
        for _ in 0..ATTEMPTS {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .mode(0o600)
                // NONBLOCK: do not wait for the reader of a pipe that somebody put there
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
                .open(&path)
                .map_err(|error| match Errno::from_io_error(&error) {
                    Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                        BindError::NotALock { path: path.clone() }
                    }
                    _ => failure("open the lock file", &path)(error),
                })?;
            let found = file.metadata().map_err(failure("look at", &path))?;
            if !found.is_file() || found.uid() != geteuid().as_raw() {
                return Err(BindError::NotALock { path });
            }
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    return Err(BindError::InUse {
                        endpoint: endpoint.clone(),
                        pid: pid.trim().parse().ok(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failure("lock", &path)(error)),
                Ok(()) => {}
            }
            let lock = Self {
                _directory: File::open(endpoint.directory())
                    .ok()
                    .filter(|directory| directory.try_lock_shared().is_ok()),
                file,
            };
            if lock.is_in_place(endpoint) {
                lock.write_pid().map_err(failure("write to", &path))?;
                return Ok(lock);
            }
            // The file was removed while we took its lock: that lock would keep nobody out.
        }
        Err(BindError::NotALock { path })
    }

    fn is_in_place(&self, endpoint: &Endpoint) -> bool {
        self.file.metadata().is_ok_and(|file| {
            FileId::of(&endpoint.lock_path()).is_ok_and(|place| place == FileId::from(&file))
        })
    }

    /// For the message of the next broker that wants the lock.
    fn write_pid(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(&self.file, "{}", std::process::id())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a process that was forked just now has it too.
        let _ = self.file.unlock();
    }
}

/// Which file a name stands for at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|file| Self::from(&file))
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(file: &fs::Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// Makes the socket. The caller holds the lock.
fn listen(endpoint: &Endpoint) -> Result<(UnixListener, FileId), BindError> {
    let path = endpoint.path();
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                endpoint: endpoint.clone(),
            });
        }
        Ok(_) => remove_stale(endpoint)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failure("look at", path)(error)),
    }
    let socket = bind_private(path)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            UnixListener::from_std(socket)
        })
        .map_err(failure("listen at", path))?;
    let file = FileId::of(path).map_err(failure("look at", path))?;
    Ok((socket, file))
}

/// Removes a socket that nobody listens at.
///
/// There should be nobody, since we have the lock. But the lock file may have been removed under a
/// living broker, and a program that knows nothing of locks may listen here.
fn remove_stale(endpoint: &Endpoint) -> Result<(), BindError> {
    let path = endpoint.path();
    let probe = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)
        .map_err(|errno| failure("make a socket for", path)(errno.into()))?;
    let connected = rustix::io::ioctl_fionbio(&probe, true)
        .and_then(|()| SocketAddrUnix::new(path))
        .and_then(|address| rustix::net::connect(&probe, &address));
    match connected {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failure("remove", path)),
        Err(Errno::NOENT) => Ok(()),
        // Its queue may be full.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(BindError::InUse {
            endpoint: endpoint.clone(),
            pid: UnixStream::from_std(probe.into())
                .and_then(|stream| identify(&stream))
                .ok()
                .and_then(|server| server.pid),
        }),
        Err(errno) => Err(failure("look for a broker at", path)(errno.into())),
    }
}

/// Binds a socket that is 0600 from the beginning where the system can do that.
fn bind_private(path: &Path) -> io::Result<StdListener> {
    let options = || {
        Ok::<_, io::Error>(
            ListenerOptions::new()
                .name(path.to_fs_name::<GenericFilePath>()?)
                // It would remove whatever has the name by then.
                .reclaim_name(false),
        )
    };
    match options()?
        .mode(0o600)
        .create_sync_as::<uds_local_socket::Listener>()
    {
        // macOS, and some file systems. The directory keeps others out meanwhile.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let socket = options()?.create_sync_as::<uds_local_socket::Listener>()?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(socket.into())
        }
        made => made.map(StdListener::from),
    }
}

/// Sorts the errors of accept(): those of one connection are known by name, everything else could
/// come back at once and is answered with a pause.
fn sort(error: io::Error) -> AcceptError {
    match Errno::from_io_error(&error) {
        Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR | Errno::PERM | Errno::PROTO) => {
            AcceptError::Lost(error)
        }
        _ => AcceptError::Exhausted(error),
    }
}

fn failure(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_path_buf();
    move |source| BindError::Io {
        action,
        path,
        source,
    }
}

/// Allows this process as many open files as the system lets it allow itself, and says how many.
///
/// A connection needs two descriptors on Linux (the socket, and the watch of its process), and the
/// usual limit of 1024 or less is made for programs that use `select`.
pub fn raise_nofile() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    [maximum, maximum.min(MACOS_OPEN_MAX)]
        .into_iter()
        .filter(|wanted| *wanted > current)
        .find(|wanted| {
            let raised = Rlimit {
                current: (*wanted != u64::MAX).then_some(*wanted),
                maximum: limit.maximum,
            };
            setrlimit(Resource::Nofile, raised).is_ok()
        })
        .unwrap_or(current)
}

/// How often to take the lock of a file that somebody removes at the same moment.
const ATTEMPTS: usize = 100;
/// The most open files that macOS allows by `setrlimit`, even if it calls the hard limit infinite.
const MACOS_OPEN_MAX: u64 = 10_240;

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::{
            fs::{chown, symlink},
            net::{UnixListener as AnyListener, UnixStream as AnyStream},
            process::CommandExt as _,
        },
        path::PathBuf,
        process::Command,
        time::Duration,
    };

    use localhub_client::endpoint::{EndpointError, connect};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// Somebody who is not the user that runs the tests, if that user may become somebody else.
    const NOBODY: u32 = 65534;

    fn is_root() -> bool {
        geteuid().is_root()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o700);
        directory
    }

    /// An endpoint in a directory of its own.
    fn place() -> (tempfile::TempDir, Endpoint) {
        let directory = private_directory();
        let endpoint = Endpoint::new(directory.path().join("hub.sock")).unwrap();
        (directory, endpoint)
    }

    /// A socket as a killed broker leaves it: nobody listens.
    fn leave_a_socket(path: &Path) {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    }

    /// Copies this program, which may be in a directory that is closed to other users.
    ///
    /// Not by [`fs::copy`]: another test may start a process meanwhile, and until that one is
    /// under way it has the file open for writing too, so that nobody can execute it.
    fn copy_program(to: &Path) {
        let copied = Command::new("cp")
            .arg(env::current_exe().unwrap())
            .arg(to)
            .status();
        assert!(copied.unwrap().success());
    }

    /// The test `name` of this file again, in a process of its own.
    fn again(name: &str) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture"])
            .arg(format!("server::socket::unix::tests::{name}"));
        command
    }

    /// Runs the test `name` again where the default endpoint is in a directory of its own.
    ///
    /// `None` when that has been done; the place of the default endpoint in that other process.
    fn with_a_default_place(name: &str) -> Option<PathBuf> {
        if env::var_os("LOCALHUB_TEST").is_some() {
            return Some(env::var_os("XDG_RUNTIME_DIR").unwrap().into());
        }
        let directory = private_directory();
        let status = again(name)
            .env("LOCALHUB_TEST", name)
            .env("XDG_RUNTIME_DIR", directory.path())
            .env_remove("LOCALHUB_ENDPOINT")
            .status()
            .unwrap();
        assert!(status.success());
        None
    }

    #[tokio::test]
    async fn the_default_place_is_private_and_left_tidy() {
        let Some(runtime_dir) = with_a_default_place("the_default_place_is_private_and_left_tidy")
        else {
            return;
        };
        let endpoint = Endpoint::discover().unwrap();
        assert_eq!(endpoint.path(), runtime_dir.join("localhub/hub.sock"));

        let listener = Listener::bind(&endpoint).unwrap();
        assert_eq!(mode(endpoint.directory()), 0o700);
        assert_eq!(mode(endpoint.path()), 0o600);
        assert_eq!(mode(&endpoint.lock_path()), 0o600);
        connect(&endpoint).await.unwrap();

        drop(listener);
        assert!(!endpoint.path().exists());
        assert!(endpoint.lock_path().exists());
        Listener::bind(&endpoint).unwrap();
    }

    #[tokio::test]
    async fn a_default_place_that_is_not_private_is_refused() {
        let Some(runtime_dir) =
            with_a_default_place("a_default_place_that_is_not_private_is_refused")
        else {
            return;
        };
        let endpoint = Endpoint::discover().unwrap();
        let directory = endpoint.directory();
        let refused = || match Listener::bind(&endpoint).unwrap_err() {
            BindError::Endpoint(error) => error,
            error => panic!("{error}"),
        };

        fs::write(directory, "").unwrap();
        let error = refused();
        assert!(
            matches!(error, EndpointError::NotADirectory { .. }),
            "{error}"
        );
        fs::remove_file(directory).unwrap();

        symlink(&runtime_dir, directory).unwrap();
        let error = refused();
        assert!(matches!(error, EndpointError::Symlink { .. }), "{error}");
        fs::remove_file(directory).unwrap();

        fs::create_dir(directory).unwrap();
        set_mode(directory, 0o770);
        let error = refused();
        assert!(matches!(error, EndpointError::Exposed { .. }), "{error}");

        if is_root() {
            set_mode(directory, 0o700);
            chown(directory, Some(NOBODY), None).unwrap();
            let error = refused();
            assert!(matches!(error, EndpointError::Owner { .. }), "{error}");
        }
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_chosen_directory_is_not_made() {
        let (_directory, endpoint) = place();
        let endpoint = Endpoint::new(endpoint.directory().join("missing/hub.sock")).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(
            matches!(error, BindError::Endpoint(EndpointError::Missing { .. })),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_connection_comes_with_who_opened_it() {
        let (_directory, endpoint) = place();
        let listener = Listener::bind(&endpoint).unwrap();
        let mut client = connect(&endpoint).await.unwrap();
        let (mut server, identity) = listener.accept().await.unwrap();

        assert_eq!(identity.user, User::Uid(geteuid().as_raw()));
        assert_eq!(
            identity.gid,
            Some(rustix::process::getegid().as_raw()),
            "{identity}"
        );
        assert_eq!(identity.pid, Some(std::process::id()));
        if cfg!(target_os = "linux") {
            let program = env::current_exe().unwrap();
            assert_eq!(identity.executable.as_deref(), program.to_str());
        }
        assert!(tokio::io::AsyncWrite::is_write_vectored(&server));
        server.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    }

    #[tokio::test]
    async fn a_second_broker_is_told_who_the_first_is() {
        let (_directory, endpoint) = place();
        let first = Listener::bind(&endpoint).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        let BindError::InUse { pid, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(error.to_string().contains(" (pid "), "{error}");
        connect(&endpoint).await.unwrap();
        first.accept().await.unwrap();

        drop(first);
        Listener::bind(&endpoint).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_many_brokers_started_at_once_one_wins() {
        for _ in 0..20 {
            let (_directory, endpoint) = place();
            leave_a_socket(endpoint.path());
            let starts: Vec<_> = (0..16)
                .map(|_| {
                    let endpoint = endpoint.clone();
                    tokio::spawn(async move { Listener::bind(&endpoint) })
                })
                .collect();
            let mut winners = Vec::new();
            for start in starts {
                match start.await.unwrap() {
                    Ok(listener) => winners.push(listener),
                    Err(error) => assert!(matches!(error, BindError::InUse { .. }), "{error}"),
                }
            }
            assert_eq!(winners.len(), 1);
            assert!(winners[0].still_ours());
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let (_directory, endpoint) = place();
        leave_a_socket(endpoint.path());
        let listener = Listener::bind(&endpoint).unwrap();
        assert_eq!(mode(endpoint.path()), 0o600);
        connect(&endpoint).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_somebody_listens_at_is_left_alone() {
        let (_directory, endpoint) = place();
        let other = AnyListener::bind(endpoint.path()).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        let BindError::InUse { pid, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(pid, Some(std::process::id()));
        other.set_nonblocking(true).unwrap();
        other.accept().expect("the question whether it lives");
        AnyStream::connect(endpoint.path()).unwrap();
    }

    #[tokio::test]
    async fn a_broker_whose_lock_file_was_removed_is_not_displaced() {
        let (_directory, endpoint) = place();
        let first = Listener::bind(&endpoint).unwrap();
        fs::remove_file(endpoint.lock_path()).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(first.still_ours());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let (directory, endpoint) = place();
        fs::write(endpoint.path(), "a letter").unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(endpoint.path()).unwrap(), "a letter");

        fs::remove_file(endpoint.path()).unwrap();
        let elsewhere = directory.path().join("elsewhere.sock");
        leave_a_socket(&elsewhere);
        symlink(&elsewhere, endpoint.path()).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert!(elsewhere.exists());
    }

    #[tokio::test]
    async fn a_lock_file_that_somebody_prepared_is_refused() {
        let (directory, endpoint) = place();
        let lock = endpoint.lock_path();
        let refused = |what: &str| {
            let error = Listener::bind(&endpoint).unwrap_err();
            assert!(
                matches!(error, BindError::NotALock { .. }),
                "{what}: {error}"
            );
            assert!(!endpoint.path().exists());
        };

        let target = directory.path().join("target");
        symlink(&target, &lock).unwrap();
        refused("a dangling link");
        assert!(!target.exists());
        fs::write(&target, "a letter").unwrap();
        refused("a link");
        assert_eq!(fs::read_to_string(&target).unwrap(), "a letter");
        fs::remove_file(&lock).unwrap();

        fs::create_dir(&lock).unwrap();
        refused("a directory");
        fs::remove_dir(&lock).unwrap();

        leave_a_socket(&lock);
        refused("a socket");
        fs::remove_file(&lock).unwrap();

        if is_root() {
            fs::write(&lock, "").unwrap();
            chown(&lock, Some(NOBODY), None).unwrap();
            refused("a file of somebody else");
        }
    }

    #[tokio::test]
    async fn a_removed_socket_is_made_again() {
        let (_directory, endpoint) = place();
        let mut listener = Listener::bind(&endpoint).unwrap();
        let _client = connect(&endpoint).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert!(listener.still_ours());

        fs::remove_file(endpoint.path()).unwrap();
        assert!(!listener.still_ours());
        listener.rebind().unwrap();

        assert!(listener.still_ours());
        assert_eq!(mode(endpoint.path()), 0o600);
        connect(&endpoint).await.unwrap();
        listener.accept().await.unwrap();
        server.write_all(b"still here").await.unwrap();
    }

    #[tokio::test]
    async fn a_removed_directory_is_made_again() {
        let Some(_) = with_a_default_place("a_removed_directory_is_made_again") else {
            return;
        };
        let endpoint = Endpoint::discover().unwrap();
        let mut listener = Listener::bind(&endpoint).unwrap();
        fs::remove_dir_all(endpoint.directory()).unwrap();
        listener.rebind().unwrap();

        assert_eq!(mode(endpoint.directory()), 0o700);
        assert!(listener.lock.is_in_place(&endpoint));
        connect(&endpoint).await.unwrap();
        listener.accept().await.unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_place_taken_by_another_broker_is_left_to_it() {
        let (_directory, endpoint) = place();
        let mut first = Listener::bind(&endpoint).unwrap();
        fs::remove_file(endpoint.path()).unwrap();
        fs::remove_file(endpoint.lock_path()).unwrap();
        let second = Listener::bind(&endpoint).unwrap();

        assert!(!first.still_ours());
        let error = first.rebind().unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        drop(first);
        assert!(second.still_ours());
    }

    #[tokio::test]
    async fn another_user_is_refused_even_at_an_open_socket() {
        let name = "another_user_is_refused_even_at_an_open_socket";
        if let Some(socket) = env::var_os("LOCALHUB_TEST_SOCKET") {
            let mut stream = AnyStream::connect(socket).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert_eq!(received, b"");
            return;
        }
        if !is_root() {
            return;
        }
        let (directory, endpoint) = place();
        let listener = Listener::bind(&endpoint).unwrap();
        set_mode(directory.path(), 0o755);
        set_mode(endpoint.path(), 0o777);
        let program = directory.path().join("stranger");
        copy_program(&program);

        let stranger = Command::new(program)
            .args(again(name).get_args())
            .env("LOCALHUB_TEST_SOCKET", endpoint.path())
            .current_dir(directory.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .unwrap();
        let error = timeout(Duration::from_secs(30), listener.accept())
            .await
            .expect("the stranger connects")
            .unwrap_err();
        assert!(!error.wants_pause());
        let AcceptError::Stranger(identity) = error else {
            panic!("{error}");
        };
        assert_eq!(identity.user, User::Uid(NOBODY));
        assert_eq!(identity.pid, Some(stranger.id()));
        assert!(stranger.wait_with_output().unwrap().status.success());

        connect(&endpoint).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn a_broker_without_descriptors_accepts_again_when_it_has_some() {
        // The limit is the whole process's.
        let name = "a_broker_without_descriptors_accepts_again_when_it_has_some";
        let Some(_) = with_a_default_place(name) else {
            return;
        };
        let (_directory, endpoint) = place();
        let listener = Listener::bind(&endpoint).unwrap();
        let _client = connect(&endpoint).await.unwrap();
        let limit = getrlimit(Resource::Nofile);
        let none_left = Rlimit {
            current: Some(0),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, none_left).unwrap();

        for _ in 0..3 {
            let error = listener.accept().await.unwrap_err();
            assert!(error.wants_pause(), "{error}");
        }
        let raised = raise_nofile();
        assert!(raised >= limit.current.unwrap_or(0).min(MACOS_OPEN_MAX));
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            raised
        );
        listener.accept().await.unwrap();
    }

    #[test]
    fn errors_of_one_connection_need_no_pause() {
        for (errno, pause) in [
            (Errno::CONNABORTED, false),
            (Errno::INTR, false),
            (Errno::PERM, false),
            (Errno::PROTO, false),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::BADF, true),
            (Errno::INVAL, true),
        ] {
            let error = sort(errno.into());
            assert_eq!(error.wants_pause(), pause, "{errno}");
        }
        assert!(sort(io::Error::other("no errno")).wants_pause());
    }
}
