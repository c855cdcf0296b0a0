//! Named pipes, and the lock file that makes a broker the only one.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use directories::BaseDirs;
use interprocess::os::windows::{
    named_pipe::{
        PipeListenerOptions,
        pipe_mode::Bytes,
        tokio::{DuplexPipeStream, PipeListener},
    },
    security_descriptor::SecurityDescriptor,
};
use localhub_client::endpoint::{Endpoint, windows::process::Process};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use widestring::U16CString;

use super::{AcceptError, BindError};
use crate::{
    hub::{Identity, User},
    server::identity::identify,
};

/// The pipe of a broker, with the lock that makes this broker the only one there.
///
/// The lock is held as long as the listener lives, and its file is never removed.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    pipe: PipeListener<Bytes, Bytes>,
    user: User,
    _lock: File,
}

impl Listener {
    /// Listens at `endpoint`, alone.
    ///
    /// The pipe is owned by this user and open to this user and the system only; other machines
    /// are rejected. Its name must not exist yet.
    ///
    /// # Errors
    ///
    /// See [`BindError`]; [`BindError::InUse`] if there is a broker already, and
    /// [`BindError::Taken`] if somebody else made the pipe.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, BindError> {
        let failure = |action| {
            move |source| BindError::Io {
                action,
                path: endpoint.path().into(),
                source,
            }
        };
        let user = Process::open(std::process::id())
            .and_then(|process| process.user())
            .map_err(failure("find out whose process wants"))?;
        let lock = lock(endpoint)?;
        // The owner is named because an administrator's pipes belong to all administrators
        // otherwise. The client looks for this owner.
        let access = format!("O:{user}D:P(A;;GA;;;{user})(A;;GA;;;SY)");
        let access = SecurityDescriptor::deserialize(&U16CString::from_str_truncate(access))
            .map_err(failure("write the access list of"))?;
        let pipe = PipeListenerOptions::new()
            .path(endpoint.path())
            .input_buffer_size_hint(BUFFER)
            .output_buffer_size_hint(BUFFER)
            .security_descriptor(Some(access))
            .create_tokio_duplex::<Bytes>()
            .map_err(|error| match error.kind() {
                // The flag that asks for the first instance says so.
                io::ErrorKind::PermissionDenied => BindError::Taken {
                    endpoint: endpoint.clone(),
                },
                _ => failure("listen at")(error),
            })?;
        Ok(Self {
            endpoint: endpoint.clone(),
            pipe,
            user: User::Sid(user),
            _lock: lock,
        })
    }

    /// The next connection of this user, and who opened it. Can be cancelled without losing one.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: none of them is a reason to stop.
    pub async fn accept(&self) -> Result<(Stream, Identity), AcceptError> {
        let stream = self.pipe.accept().await.map_err(AcceptError::Exhausted)?;
        let stream = Stream(stream);
        let identity = identify(&stream).map_err(AcceptError::Lost)?;
        if identity.user != self.user {
            return Err(AcceptError::Stranger(identity));
        }
        Ok((stream, identity))
    }

    /// Where this broker listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether clients that look for the broker still find this listener: always, since the name
    /// of a pipe exists as long as the pipe.
    pub fn still_ours(&self) -> bool {
        true
    }

    /// Makes the endpoint again if it is no longer ours, which does not happen to a pipe.
    ///
    /// # Errors
    ///
    /// None.
    pub fn rebind(&mut self) -> Result<(), BindError> {
        Ok(())
    }
}

/// Takes the lock of an endpoint. Its file is in the user's own folder, and named after the pipe.
///
/// The flag for the first instance of a pipe would do on Windows. Wine takes no notice of it.
fn lock(endpoint: &Endpoint) -> Result<File, BindError> {
    let folder = BaseDirs::new().map_or_else(std::env::temp_dir, |folders| {
        folders.data_local_dir().join("localhub")
    });
    let name: String = endpoint
        .to_string()
        .trim_start_matches(r"\\.\pipe\")
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => character,
            _ => '_',
        })
        .collect();
    let path = folder.join(name + ".lock");
    let failure = |action, path: &PathBuf| {
        let path = path.clone();
        move |source| BindError::Io {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(&folder).map_err(failure("create the folder", &folder))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failure("open the lock file", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // A locked file cannot be read by others here, so that it cannot tell a pid.
        Err(TryLockError::WouldBlock) => Err(BindError::InUse {
            endpoint: endpoint.clone(),
            pid: None,
        }),
        Err(TryLockError::Error(error)) => Err(failure("lock", &path)(error)),
    }
}

/// The broker's end of a pipe, which behaves as a socket does where pipes differ.
///
/// Flushing and shutting down return at once, and so does dropping: for a pipe each of them would
/// wait until the client has read everything, and a client that hangs never does. What was written
/// can still be read by the client afterwards.
#[derive(Debug)]
pub struct Stream(DuplexPipeStream<Bytes>);

impl Stream {
    /// The process that opened the pipe.
    pub(in crate::server) fn client_pid(&self) -> io::Result<u32> {
        self.0.client_process_id()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Or a thread would wait for the client in our place.
        self.0.assume_flushed();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Allows this process as many open files as the system lets it, which is no question on Windows.
pub fn raise_nofile() -> u64 {
    u64::MAX
}

/// What tokio asks for too; interprocess would ask for 512 bytes.
const BUFFER: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, Stdio},
        time::Duration,
    };

    use localhub_client::endpoint::{ConnectError, connect};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;
    use crate::server::identity::ProcessWatch;

    /// A name of its own for each test: tests run at the same time.
    fn place(test: &str) -> Endpoint {
        let pid = std::process::id();
        Endpoint::new(format!(r"\\.\pipe\localhub-test-{test}-{pid}")).unwrap()
    }

    #[tokio::test]
    async fn a_connection_comes_with_who_opened_it() {
        let endpoint = place("identity");
        let listener = Listener::bind(&endpoint).unwrap();
        let mut client = connect(&endpoint).await.unwrap();
        let (mut server, identity) = listener.accept().await.unwrap();

        assert_eq!(identity.user, listener.user);
        assert!(
            identity.user.to_string().starts_with("S-1-5-"),
            "{identity}"
        );
        assert_eq!(identity.pid, Some(std::process::id()));
        let program = env::current_exe().unwrap();
        assert_eq!(
            identity.executable.map(PathBuf::from),
            Some(program),
            "the path of this program"
        );
        server.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    }

    #[tokio::test]
    async fn a_second_broker_is_refused_until_the_first_has_gone() {
        let endpoint = place("second");
        let first = Listener::bind(&endpoint).unwrap();
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        drop(first);
        Listener::bind(&endpoint).unwrap();
    }

    #[tokio::test]
    async fn nobody_is_running_once_the_listener_has_gone() {
        let endpoint = place("gone");
        for _ in 0..2 {
            let error = connect(&endpoint).await.unwrap_err();
            assert!(matches!(error, ConnectError::NotRunning { .. }), "{error}");
            drop(Listener::bind(&endpoint).unwrap());
        }
    }

    #[tokio::test]
    async fn clients_come_one_after_the_other() {
        let endpoint = place("many");
        let listener = Listener::bind(&endpoint).unwrap();
        let mut pairs = Vec::new();
        for _ in 0..8 {
            let (client, accepted) = tokio::join!(connect(&endpoint), listener.accept());
            pairs.push((client.unwrap(), accepted.unwrap()));
        }
    }

    #[tokio::test]
    async fn a_client_reads_what_was_written_before_the_broker_hung_up() {
        let endpoint = place("last-words");
        let listener = Listener::bind(&endpoint).unwrap();
        let mut client = connect(&endpoint).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"goodbye").await.unwrap();
        server.flush().await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);

        let mut said = Vec::new();
        let read = timeout(Duration::from_secs(30), client.read_to_end(&mut said));
        read.await.unwrap().unwrap();
        assert_eq!(said, b"goodbye");
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        if env::var_os("LOCALHUB_TEST").is_some() {
            println!("\nready");
            std::thread::park();
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("server::socket::windows::tests::the_end_of_a_process_is_seen")
            .env("LOCALHUB_TEST", "child")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let watch = ProcessWatch::new(child.id()).unwrap();
        assert_eq!(watch.has_exited(), Some(false));
        child.kill().unwrap();
        timeout(Duration::from_secs(30), watch.exited())
            .await
            .unwrap();
        assert_eq!(watch.has_exited(), Some(true));
        child.wait().unwrap();
    }
}
