//! The link against a broker that is played by the test, over pipes in memory, in stopped time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, ContentType, Epoch, Limits, Message,
    RawFrame, ResumeToken, Resumed, Retain, Run, Version, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::Connect;
use crate::testing::in_words;
use crate::{Client, ConnectionState, Endpoint, Error, Options};

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

#[tokio::test(start_paused = true)]
async fn a_client_is_who_the_broker_says() {
    let (_broker, client) = Broker::with_client(options()).await;
    assert_eq!((client.id(), client.name().as_str()), (ClientId(1), "ana"));
    let connected = ConnectionState::Connected { resumed: None };
    assert_eq!(client.connection().current(), connected);
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_fails_with_what_is_wrong() {
    let (mut broker, pipes) = Broker::new();
    let connecting = tokio::spawn(options().connect_with(endpoint(), pipes.clone()));
    broker.expects_hello(false).await;
    broker.closes(Code::NAME_TAKEN).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Closed {
                code: Some(Code::NAME_TAKEN),
                ..
            }
        ),
        "{error}"
    );

    broker.fails();
    let error = options()
        .connect_with(endpoint(), pipes.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");

    broker.drops_connection();
    let connecting = tokio::spawn(options().connect_with(endpoint(), pipes.clone()));
    broker
        .stream
        .write_all(b"220 mail.example.com ESMTP")
        .await
        .unwrap();
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");

    broker.drops_connection();
    let began = Instant::now();
    let error = options()
        .connect_with(endpoint(), pipes.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));

    let error = options()
        .name("Ana")
        .connect_with(endpoint(), pipes)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_comes_back_with_what_was_sent_meanwhile() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    assert_eq!(
        next_state(&mut states).await,
        ConnectionState::Connected { resumed: None }
    );
    let joining = tokio::spawn(async move { client.join("kiosk").await });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", "one").await.unwrap();
    broker.expects(&["publish 7 a one"]).await;

    broker.drops_connection();
    let lost = next_state(&mut states).await;
    assert!(
        matches!(lost, ConnectionState::Disconnected { .. }),
        "{lost:?}"
    );
    kiosk.publish("a", "two").await.unwrap();
    broker.resumes(1).await;
    broker
        .expects(&["publish 7 a one", "publish 7 a two"])
        .await;
    let back = next_state(&mut states).await;
    let resumed = Resumed {
        recovered: true,
        replayed: 0,
        lost: Some(0),
    };
    assert_eq!(
        back,
        ConnectionState::Connected {
            resumed: Some(resumed)
        }
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_to_reconnect_are_made_in_growing_distances() {
    let backoff = (Duration::from_millis(100), Duration::from_secs(2));
    let (mut broker, client) = Broker::with_client(options().backoff(backoff.0, backoff.1)).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    (0..12).for_each(|_| broker.fails());
    broker.drops_connection();
    let mut waits = Vec::new();
    loop {
        match next_state(&mut states).await {
            ConnectionState::Disconnected { retry_in, .. } => waits.push(retry_in),
            ConnectionState::Connected { .. } => break,
            state => panic!("{state:?}"),
        }
        if waits.len() == 13 {
            broker.resumes(0).await;
        }
    }
    let bounds = (0..13).map(|n| (backoff.0 * (1 << n)).min(backoff.1));
    for (n, (wait, bound)) in waits.iter().zip(bounds).enumerate() {
        assert!(
            *wait <= bound,
            "wait {n} is {wait:?}, its bound is {bound:?}"
        );
    }
    let total: Duration = waits.iter().sum();
    assert!(
        total > backoff.0 * 4,
        "they are not all near zero: {waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_kicked_does_not_come_back() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut directs = client.directs();
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.closes(Code::KICKED).await;
    let ConnectionState::Closed { code, reason } = next_state(&mut states).await else {
        panic!("the client tries to come back");
    };
    assert_eq!(code, Some(Code::KICKED));
    assert_eq!(reason, "an operator ended the session: by test");
    assert!(states.next().await.is_none());
    assert!(directs.next().await.is_none());
    let error = client.join("kiosk").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Closed {
                code: Some(Code::KICKED),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reason_can_be_read_even_if_nothing_can_be_written_any_more() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.closes(Code::KICKED).await;
    drop(broker);
    // The link now has something to write and something to read; the write fails.
    client.admin::<(), ()>("status", &()).await.unwrap_err();
    let ConnectionState::Closed { code, .. } = next_state(&mut states).await else {
        panic!("the reason got lost");
    };
    assert_eq!(code, Some(Code::KICKED));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_is_left_alone_for_as_long_as_it_asks() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    let (code, delay_ms) = (Code::SHUTTING_DOWN, 30_000);
    broker.says(&[BrokerFrame::GoAway { code, delay_ms }]).await;
    broker.closes(Code::SHUTTING_DOWN).await;
    let began = Instant::now();
    let lost = next_state(&mut states).await;
    assert!(
        matches!(lost, ConnectionState::Disconnected { .. }),
        "{lost:?}"
    );
    broker.drops_connection();
    broker.resumes(0).await;
    assert!(began.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_pinged_and_then_replaced() {
    let (mut broker, _client) = Broker::with_client(options()).await;
    let began = Instant::now();
    broker.expects(&["ping 0, ack 0"]).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    broker.expects_end().await;
    assert_eq!(began.elapsed(), Duration::from_secs(20));
    broker.drops_connection();
    broker.resumes(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_is_not_tried_twice() {
    let (mut broker, client) = Broker::with_client(options()).await;
    broker.drops_connection();
    broker.expects_hello(true).await;
    broker.closes(Code::BAD_TOKEN).await;
    broker.drops_connection();
    let began = Instant::now();
    broker.expects_hello(false).await;
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "there is nothing to wait for"
    );

    // The broker has not yet noticed that the old connection is gone.
    broker.closes(Code::NAME_TAKEN).await;
    broker.drops_connection();
    broker.expects_hello(false).await;
    broker.welcomes(2, None, 0).await;
    let mut states = client.connection();
    while !matches!(
        next_state(&mut states).await,
        ConnectionState::Connected { .. }
    ) {}
    assert_eq!(client.id(), ClientId(2));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_keeps_ends_the_client() {
    let (mut broker, client) = Broker::with_client(options().resume(false)).await;
    let mut states = client.connection();
    let mut attempts = 0;
    next_state(&mut states).await;
    broker.drops_connection();
    loop {
        match next_state(&mut states).await {
            ConnectionState::Disconnected { .. } => {
                attempts += 1;
                broker.expects_hello(false).await;
                broker.closes(Code::NAME_TAKEN).await;
                broker.drops_connection();
            }
            ConnectionState::Closed { code, .. } => {
                assert_eq!(code, Some(Code::NAME_TAKEN));
                break;
            }
            state => panic!("{state:?}"),
        }
    }
    assert!(attempts > 5, "it could have been an own connection");
}

#[tokio::test(start_paused = true)]
async fn without_reconnect_the_first_loss_is_the_end() {
    let (mut broker, client) = Broker::with_client(options().reconnect(false)).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.drops_connection();
    let ConnectionState::Closed { code: None, reason } = next_state(&mut states).await else {
        panic!("the client tries to come back");
    };
    assert_eq!(reason, "the broker is gone");
}

#[tokio::test(start_paused = true)]
async fn closing_flushes_and_says_goodbye() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let joining = tokio::spawn({
        let client = client.clone();
        async move { client.join("kiosk").await }
    });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", "last words").await.unwrap();
    let closing = tokio::spawn(client.close());
    broker
        .expects(&["publish 7 a last words", "ping 2, ack 1"])
        .await;
    broker
        .says(&[BrokerFrame::Pong {
            nonce: 2,
            received: 2,
        }])
        .await;
    broker.expects(&["close goodbye"]).await;
    broker.expects_end().await;
    closing.await.unwrap().unwrap();
    let error = kiosk.publish("a", "more").await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: None, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_connection_says_whether_something_was_left() {
    for publishes in [false, true] {
        let (mut broker, client) = Broker::with_client(options()).await;
        let mut states = client.connection();
        next_state(&mut states).await;
        let joining = tokio::spawn({
            let client = client.clone();
            async move { client.join("kiosk").await }
        });
        broker.expects(&["join kiosk []"]).await;
        let joined = BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        };
        broker
            .says(&[
                joined,
                BrokerFrame::Pong {
                    nonce: 1,
                    received: 1,
                },
            ])
            .await;
        let kiosk = joining.await.unwrap().unwrap();

        broker.stream = tokio::io::duplex(1).0;
        let lost = next_state(&mut states).await;
        assert!(
            matches!(lost, ConnectionState::Disconnected { .. }),
            "{lost:?}"
        );
        if publishes {
            kiosk.publish("a", "too late").await.unwrap();
        }
        match client.close().await {
            Ok(()) => assert!(!publishes, "nobody got the message"),
            Err(Error::Disconnected) => assert!(publishes, "there was nothing to flush"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_session_with_it() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let directs = client.directs();
    let other = client.clone();
    drop(client);
    drop(other);
    broker
        .says(&[BrokerFrame::Ping {
            nonce: 1,
            received: 0,
        }])
        .await;
    broker.expects(&["pong 1, ack 0"]).await;
    drop(directs);
    broker.expects(&["close goodbye"]).await;
    broker.expects_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_ends_its_subscription() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, messages) = subscribing.await.unwrap().unwrap();
    drop(messages);
    broker.expects(&["unsubscribe 7 #"]).await;

    let refused = tokio::time::timeout(Duration::from_millis(1), kiosk.subscribe("a")).await;
    refused.expect_err("the broker does not answer");
    broker
        .expects(&["subscribe 7 a retained", "unsubscribe 7 a"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn messages_larger_than_any_buffer_pass_in_both_directions() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, mut messages) = subscribing.await.unwrap().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();

    broker.publishes(1, &large).await;
    broker.publishes(2, b"small").await;
    let message = messages.next().await.unwrap().unwrap();
    assert!(
        message.payload() == &large,
        "the payload is not what was sent"
    );
    assert_eq!(
        messages.next().await.unwrap().unwrap().text(),
        Some("small")
    );

    kiosk.publish("a", large.clone()).await.unwrap();
    let body = loop {
        let body = broker.frame().await;
        if !matches!(ClientFrame::decode(&body), Ok(ClientFrame::Ack { .. })) {
            break body;
        }
    };
    let Ok(ClientFrame::Message(message)) = ClientFrame::decode(&body) else {
        panic!("not a message");
    };
    assert!(
        message.payload() == large,
        "the payload is not what was published"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_reading_loses_nothing() {
    let (mut broker, client) = Broker::with_client(options().inbox_messages(2)).await;
    let subscribing =
        tokio::spawn(async move { client.join("kiosk").await?.subscribe_live("#").await });
    broker.lets_subscribe().await;
    let mut messages = subscribing.await.unwrap().unwrap();
    let reading = tokio::spawn(async move {
        for offset in 1..=500 {
            // Slower than the broker, but not by much.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let message = messages.next().await.unwrap().expect("nothing is lost");
            assert_eq!(message.offset(), offset);
        }
    });
    for offset in 1..=500 {
        broker.publishes(offset, b"x").await;
    }
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stopped_costs_a_moment_once_and_is_told_what_it_lost() {
    let (mut broker, client) = Broker::with_client(options().inbox_messages(10)).await;
    let subscribing =
        tokio::spawn(async move { client.join("kiosk").await?.subscribe_live("#").await });
    broker.lets_subscribe().await;
    let mut messages = subscribing.await.unwrap().unwrap();
    let began = Instant::now();
    for offset in 1..=500 {
        broker.publishes(offset, b"x").await;
    }
    broker
        .says(&[BrokerFrame::Ping {
            nonce: 1,
            received: 2,
        }])
        .await;
    broker.expects(&["pong 1, ack 502"]).await;
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "took {:?}",
        began.elapsed()
    );
    let gap = messages.next().await.unwrap().unwrap_err();
    assert_eq!(gap.lost, Some(490));
    for offset in 491..=500 {
        assert_eq!(messages.next().await.unwrap().unwrap().offset(), offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_for_the_broker_and_goes_on() {
    let (mut broker, client) = Broker::with_client(options().unconfirmed_bytes(1)).await;
    let publishing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        kiosk.publish("a", "one").await?;
        kiosk.publish("a", "two").await?;
        Ok::<_, Error>(())
    });
    broker.expects(&["join kiosk []"]).await;
    let joined = BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    };
    broker
        .says(&[joined, BrokerFrame::Ack { received: 1 }])
        .await;
    broker.expects(&["publish 7 a one", "ping 2, ack 1"]).await;
    assert!(
        !publishing.is_finished(),
        "the first message takes all the room"
    );
    broker
        .says(&[BrokerFrame::Pong {
            nonce: 2,
            received: 2,
        }])
        .await;
    broker.expects(&["publish 7 a two"]).await;
    publishing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_read_is_waited_for() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, _messages) = subscribing.await.unwrap().unwrap();
    let text = "x".repeat(100);
    for _ in 0..100 {
        kiosk.publish("a", text.clone()).await.unwrap();
    }
    // There is something to confirm, too, and its time passes.
    broker.publishes(1, b"x").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let expected = format!("publish 7 a {text}");
    for _ in 0..100 {
        broker.expects(&[&expected]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_closes_in_time_though_the_broker_does_not_read() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let joining = tokio::spawn({
        let client = client.clone();
        async move { client.join("kiosk").await }
    });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", vec![0; 10_000]).await.unwrap();
    let began = Instant::now();
    let error = client.close().await.unwrap_err();
    assert!(matches!(error, Error::Disconnected), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_client_whose_runtime_is_gone_says_so() {
    let first = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_broker, client) = first.block_on(Broker::with_client(options()));
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = second.block_on(client.join("kiosk")).unwrap_err();
    assert!(matches!(error, Error::Closed { code: None, .. }), "{error}");
}
