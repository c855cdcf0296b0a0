//! The link against a broker that is played by the test, over pipes in memory, in stopped time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use localhub_protocol::{
    BrokerFrame, Change, ChannelId, ClientFrame, ClientId, Code, ContentType, Epoch, Limits,
    Member, Message, RawFrame, ResumeToken, Resumed, Retain, Run, Status, Version, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::Connect;
use crate::testing::in_words;
use crate::{Client, ConnectionState, Endpoint, Error, Options};

mod lifecycle;
mod requests;
mod traffic;

const KIOSK: ChannelId = ChannelId(7);

/// Where the client believes the broker to be.
fn endpoint() -> Endpoint {
    Endpoint::new(if cfg!(windows) {
        r"\\.\pipe\localhub-test"
    } else {
        "/nowhere/hub.sock"
    })
    .unwrap()
}

/// Gives the client the other ends of the pipes that the test holds.
#[derive(Clone)]
struct Pipes(Arc<Mutex<mpsc::Receiver<Result<DuplexStream, Error>>>>);

impl Connect for Pipes {
    type Stream = DuplexStream;

    async fn connect(&mut self) -> Result<DuplexStream, Error> {
        self.0
            .lock()
            .await
            .recv()
            .await
            .expect("the test makes enough connections")
    }
}

/// A broker that says what the test wants.
struct Broker {
    pipes: mpsc::Sender<Result<DuplexStream, Error>>,
    stream: DuplexStream,
    buffer: BytesMut,
}

impl Broker {
    /// A broker, and how to get there: once, for the time being.
    fn new() -> (Self, Pipes) {
        let (pipes, connections) = mpsc::channel(16);
        let (stream, theirs) = tokio::io::duplex(1024);
        pipes.try_send(Ok(theirs)).unwrap();
        let connections = Pipes(Arc::new(Mutex::new(connections)));
        (
            Self {
                pipes,
                stream,
                buffer: BytesMut::new(),
            },
            connections,
        )
    }

    /// A broker with a client that has just connected.
    async fn with_client(options: Options) -> (Self, Client) {
        let (mut broker, pipes) = Self::new();
        let connecting = tokio::spawn(options.connect_with(endpoint(), pipes));
        broker.expects_hello(false).await;
        broker.welcomes(1, None, 0).await;
        (
            broker,
            connecting.await.unwrap().expect("the broker said welcome"),
        )
    }

    /// Drops the connection; the next one that the client makes is accepted.
    fn drops_connection(&mut self) {
        let (stream, theirs) = tokio::io::duplex(1024);
        self.pipes.try_send(Ok(theirs)).unwrap();
        self.stream = stream;
        self.buffer.clear();
    }

    /// Lets the client's next attempt to connect fail.
    fn fails(&self) {
        let source = std::io::ErrorKind::NotFound.into();
        self.pipes
            .try_send(Err(Error::NotRunning {
                endpoint: endpoint(),
                source,
            }))
            .unwrap();
    }

    async fn frame(&mut self) -> Vec<u8> {
        loop {
            if let Some((frame, _)) = RawFrame::split(&self.buffer, usize::MAX).unwrap() {
                let body = frame.body().to_vec();
                self.buffer.advance(frame.wire_bytes());
                return body;
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "the client closed the connection");
        }
    }

    /// Reads these frames, in words, and no other; acks are passed over.
    async fn expects(&mut self, frames: &[&str]) {
        for expected in frames {
            let found = loop {
                let body = self.frame().await;
                match ClientFrame::decode(&body).unwrap() {
                    ClientFrame::Ack { .. } => {}
                    frame => break in_words(&frame),
                }
            };
            assert_eq!(found, *expected);
        }
    }

    async fn expects_hello(&mut self, with_resume: bool) {
        let body = self.frame().await;
        let Ok(ClientFrame::Hello(hello)) = ClientFrame::decode(&body) else {
            panic!("a connection begins with a hello");
        };
        assert_eq!(
            hello.resume.is_some(),
            with_resume,
            "whether it asks for its session"
        );
    }

    async fn expects_end(&mut self) {
        assert_eq!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0);
    }

    async fn says(&mut self, frames: &[BrokerFrame<'_>]) {
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        self.stream.write_all(&wire).await.unwrap();
    }

    async fn welcomes(&mut self, client: u64, resumed: Option<Resumed>, received: u64) {
        let welcome = Welcome {
            version: Version::CURRENT,
            features: vec![],
            epoch: Epoch([9; 16]),
            client: ClientId(client),
            name: "ana",
            token: ResumeToken([client as u8; 32]),
            resumed,
            received,
            ttl_ms: 120_000,
            ping_ms: 10_000,
            limits: Limits::default(),
        };
        self.says(&[BrokerFrame::Welcome(welcome)]).await;
    }

    async fn resumes(&mut self, received: u64) {
        self.expects_hello(true).await;
        let resumed = Resumed {
            recovered: true,
            replayed: 0,
            lost: Some(0),
        };
        self.welcomes(1, Some(resumed), received).await;
    }

    async fn closes(&mut self, code: Code) {
        self.says(&[BrokerFrame::Close {
            code,
            detail: "by test",
        }])
        .await;
    }

    /// Answers a join and a live subscription.
    async fn lets_subscribe(&mut self) {
        self.expects(&["join kiosk []"]).await;
        self.says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
        self.expects(&["subscribe 7 #"]).await;
        let values = BrokerFrame::Values {
            request: 2,
            channel: KIOSK,
            offset: 0,
            count: 0,
            since: 0,
        };
        self.says(&[values]).await;
    }

    async fn publishes(&mut self, offset: u64, payload: &[u8]) {
        let run = Run {
            channel: Some(KIOSK),
            sender: ClientId(5),
            name: "bo",
            first: offset,
            count: 1,
            retained: false,
        };
        let message = Message::Publish {
            channel: KIOSK,
            retain: Retain::No,
            content: ContentType::BYTES,
            topic: "a",
            payload,
        };
        self.says(&[BrokerFrame::Run(run), BrokerFrame::Message(message)])
            .await;
    }
}

fn options() -> Options {
    Options::new().name("ana")
}

/// Waits for the next state that is not `Connecting`.
async fn next_state(states: &mut crate::ConnectionStates) -> ConnectionState {
    loop {
        match states.next().await.expect("the client is not over") {
            ConnectionState::Connecting => {}
            state => return state,
        }
    }
}
