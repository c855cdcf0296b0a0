//! Named servers and their clients, who send each other messages of text or bytes, of any size.
//!
//! This is all that many programs want of the hub. It stands on the SDK's streams of bytes: see
//! `docs/recipes/ipc.md` for why, and copy it where you need it.
//!
//! A message on a stream is its kind (0 text, 1 bytes), its length as four bytes, big endian, and
//! itself.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use localhub_client::{self as localhub, ByteStream, Code, Lease, Serve, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

/// The largest message that is sent or taken. What is larger goes as several.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often a client looks for a server that is not there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

/// A server by name. It serves until it is dropped; the connections that it has made go on.
pub struct Server(Service);

impl Server {
    /// Serves under a name. While another server has the name, this waits for its end.
    pub async fn bind(name: &str) -> std::result::Result<Self, localhub::Error> {
        Self::bind_on(&localhub::Options::new().connect().await?, name).await
    }

    /// Serves with a client that is connected already.
    pub async fn bind_on(
        hub: &localhub::Client,
        name: &str,
    ) -> std::result::Result<Self, localhub::Error> {
        let service = hub.serve_with(name, Serve::new().exclusive()).await?;
        let mut changes = service.lease_changes();
        while service.lease() == Some(Lease::Queued) && changes.next().await.is_some() {}
        Ok(Self(service))
    }

    /// The next client that connects, and its name at the hub; `None` once the hub has ended us.
    pub async fn accept(&mut self) -> Option<(String, Connection)> {
        loop {
            let request = self.0.next().await?;
            let client = request.caller().name.to_string();
            // Who has not asked for a stream, or has gone again, is told so and left.
            if let Ok(stream) = request.accept_stream() {
                return Some((client, Connection::new(stream)));
            }
        }
    }
}

/// A client of a server.
pub struct Client {
    hub: localhub::Client,
    server: String,
    connection: Connection,
}

impl Client {
    /// Connects to the server of that name, which must be there.
    pub async fn connect(server: &str) -> std::result::Result<Self, localhub::Error> {
        Self::connect_on(localhub::Options::new().connect().await?, server).await
    }

    /// Connects with a client of the hub that is connected already, and not the server's own.
    pub async fn connect_on(
        hub: localhub::Client,
        server: &str,
    ) -> std::result::Result<Self, localhub::Error> {
        let connection = Connection::new(hub.open_stream(server).await?);
        Ok(Self {
            hub,
            server: server.to_owned(),
            connection,
        })
    }

    /// Waits until the server is there again, after an error or the end of the messages.
    ///
    /// Only the application knows whether what was not answered may be sent again.
    pub async fn reconnect(&mut self) -> std::result::Result<(), localhub::Error> {
        loop {
            let request = self
                .hub
                .request(self.server.as_str(), localhub::METHOD_STREAM);
            match request.wait_for_handler().open().await {
                Ok(stream) => {
                    self.connection = Connection::new(stream);
                    return Ok(());
                }
                Err(error @ localhub::Error::Closed { .. }) => return Err(error),
                Err(error) if error.code() == Some(Code::NOT_SUPPORTED) => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The connection, whose two directions are used at the same time if there is much to send.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// As [`Sender::send`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<()> {
        self.connection.sender.send(message).await
    }

    /// As [`Receiver::next`].
    pub async fn next(&mut self) -> Result<Option<Message>> {
        self.connection.receiver.next().await
    }

    /// Ends the connection once the server has read everything.
    pub async fn close(mut self) -> Result<()> {
        self.connection.sender.finish().await?;
        while self.next().await?.is_some() {}
        self.hub.close().await.map_err(Error::other)
    }
}

/// A connection between a server and a client. If it is dropped before both sides have finished,
/// the other side gets an error.
pub struct Connection {
    /// What we say.
    pub sender: Sender,
    /// What the other side says.
    pub receiver: Receiver,
}

impl Connection {
    fn new(stream: ByteStream) -> Self {
        let (reads, writes) = tokio::io::split(stream);
        Self {
            sender: Sender(writes),
            receiver: Receiver {
                stream: reads,
                rest: BytesMut::new(),
            },
        }
    }
}

/// One direction of a [`Connection`].
pub struct Sender(WriteHalf<ByteStream>);

impl Sender {
    /// Sends a message, as fast as the other side reads. It must be waited for to its end: part of a
    /// message makes no sense to anybody.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<()> {
        let (kind, bytes) = match message.into() {
            Message::Text(text) => (0, Bytes::from(text)),
            Message::Binary(bytes) => (1, bytes),
        };
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidInput, "a message too large"));
        }
        self.0.write_u8(kind).await?;
        self.0.write_u32(bytes.len() as u32).await?;
        self.0.write_all(&bytes).await
    }

    /// Says that this was all. The other side may go on.
    pub async fn finish(&mut self) -> Result<()> {
        self.0.shutdown().await
    }
}

/// The other direction of a [`Connection`].
pub struct Receiver {
    stream: ReadHalf<ByteStream>,
    /// What was read and is no whole message yet.
    rest: BytesMut,
}

impl Receiver {
    /// The next message; `None` once the other side has finished, an error if it is gone.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.rest).await? == 0 {
                return match self.rest.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The first message of what was read, if it is whole.
    fn take(&mut self) -> Result<Option<Message>> {
        let Some((&[kind, ref length @ ..], rest)) = self.rest.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if kind > 1 || length > MESSAGE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "not one of our messages",
            ));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.rest.advance(5);
        let bytes = self.rest.split_to(length).freeze();
        if kind == 1 {
            return Ok(Some(Message::Binary(bytes)));
        }
        let text = String::from_utf8(bytes.into());
        let text = text.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        Ok(Some(Message::Text(text)))
    }
}
