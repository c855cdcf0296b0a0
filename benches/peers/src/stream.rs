//! Byte streams, and how deliveries are counted on them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a broker may say nothing before what is still missing counts as lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// One read takes up to this many bytes, on every connection of every broker.
const READ_BYTES: usize = 256 * 1024;

/// A connection to a broker.
#[derive(Debug)]
pub enum Stream {
    /// Over the loopback interface, for the brokers that cannot do otherwise.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the Unix socket at a path.
    pub fn unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self::Unix(stream))
    }

    /// Connects to a port of this machine.
    pub fn tcp(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .with_context(|| format!("cannot connect to port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self::Tcp(stream))
    }

    /// Another handle to the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// How long a read may wait; `None` is for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Ends the connection for all its handles.
    pub fn shutdown(&self) {
        // It may have ended already, which is just as well.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Reads exactly these bytes, and fails on any other.
    pub fn expect(&mut self, expected: &[u8]) -> Result<()> {
        let mut found = vec![0; expected.len()];
        self.read_exact(&mut found)?;
        ensure!(
            found == expected,
            "the broker answers {:?} instead of {:?}",
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(expected)
        );
        Ok(())
    }

    /// Reads a line, and nothing behind it.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        BufReader::with_capacity(1, self).read_line(&mut line)?;
        Ok(line)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What has arrived on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Messages that were delivered whole.
    pub received: u64,
    /// Messages that the broker said it dropped.
    pub lost: u64,
    /// What a localhub client confirms: everything that has a position in the stream.
    pub position: u64,
}

/// Counts what arrives on a connection, at as little cost as the protocol allows.
pub trait Counter: Send {
    /// Reads once; `false` at the end of the stream or after a long silence.
    fn read(&mut self, stream: &mut Stream) -> Result<bool>;

    /// What has arrived so far.
    fn tally(&self) -> Tally;
}

/// Counts deliveries that all have the same length, by their bytes.
pub struct ByLength {
    buffer: Vec<u8>,
    length: u64,
    bytes: u64,
}

impl ByLength {
    /// A counter of deliveries of this length.
    pub fn new(length: usize) -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            length: length as u64,
            bytes: 0,
        }
    }
}

impl Counter for ByLength {
    fn read(&mut self, stream: &mut Stream) -> Result<bool> {
        let read = read_once(stream, &mut self.buffer)?;
        self.bytes += read as u64;
        Ok(read > 0)
    }

    fn tally(&self) -> Tally {
        Tally {
            received: self.bytes / self.length,
            ..Tally::default()
        }
    }
}

/// One frame, as its head tells it.
pub struct Frame {
    /// The bytes of the whole frame.
    pub length: usize,
    /// What it adds to the tally, once all of it is there.
    pub adds: Tally,
}

/// Splits a stream into frames by their heads, and passes over the rest of them.
///
/// `buffer[start..end]` is what was read and not yet looked at; `rest` bytes of it, and of what
/// comes, belong to a frame whose head was seen, which adds `pending`.
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    rest: usize,
    pending: Tally,
    tally: Tally,
}

impl Frames {
    /// A splitter of a stream that has delivered this much already.
    pub fn new(tally: Tally) -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            rest: 0,
            pending: Tally::default(),
            tally,
        }
    }

    /// What the complete frames add up to.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Reads once, and looks at each frame that begins; `inspect` says `None` if it has to see more
    /// of it than there is.
    pub fn read(
        &mut self,
        stream: &mut Stream,
        mut inspect: impl FnMut(&[u8]) -> Result<Option<Frame>>,
    ) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = read_once(stream, &mut self.buffer[self.end..])?;
        self.end += read;
        while self.start < self.end {
            if self.rest == 0 {
                let Some(frame) = inspect(&self.buffer[self.start..self.end])? else {
                    break;
                };
                (self.rest, self.pending) = (frame.length, frame.adds);
            }
            let passed = self.rest.min(self.end - self.start);
            self.start += passed;
            self.rest -= passed;
            if self.rest == 0 {
                self.tally.received += self.pending.received;
                self.tally.lost += self.pending.lost;
                self.tally.position += self.pending.position;
            }
        }
        Ok(read > 0)
    }
}

/// Reads once; 0 at the end, after a long silence, and if the broker cut the connection.
fn read_once(stream: &mut Stream, buffer: &mut [u8]) -> Result<usize> {
    loop {
        return match stream.read(buffer) {
            Ok(read) => Ok(read),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::ConnectionReset => Ok(0),
                _ => Err(error.into()),
            },
        };
    }
}
