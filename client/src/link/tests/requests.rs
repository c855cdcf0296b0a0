//! Requests as the handles make and answer them.

use localhub_protocol::{Credit, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{Failure, Incoming, Payload, Service};

impl Broker {
    async fn passes_on(&mut self, first: u64, message: Message<'_>) {
        let run = Run {
            channel: None,
            sender: ClientId(5),
            name: "bo",
            first,
            count: 1,
            retained: false,
        };
        self.says(&[BrokerFrame::Run(run), BrokerFrame::Message(message)])
            .await;
    }

    async fn replies(&mut self, request: u64, more: bool, text: &str) {
        let reply = Message::Reply {
            to: ClientId(1),
            request,
            error: None,
            more,
            content: ContentType::TEXT,
            payload: text.as_bytes(),
        };
        self.passes_on(1, reply).await;
    }

    async fn asks(&mut self, position: u64, method: &str, window: u32) {
        let request = Message::Request {
            to: Target::Service("printer"),
            deadline_ms: 2_000,
            command: None,
            window,
            method,
            content: ContentType::TEXT,
            payload: b"",
        };
        self.passes_on(position, request).await;
    }

    async fn refuses(&mut self, request: u64, code: Code) {
        let detail = "";
        self.says(&[BrokerFrame::Refusal {
            request,
            code,
            detail,
        }])
        .await;
    }

    /// The hub says that there is no reply.
    async fn fails_request(&mut self, first: u64, request: u64, code: Code) {
        let run = Run {
            channel: None,
            sender: ClientId::HUB,
            name: "localhub",
            first,
            count: 1,
            retained: false,
        };
        let reply = Message::Reply {
            to: ClientId(1),
            request,
            error: Some(code),
            more: false,
            content: ContentType::TEXT,
            payload: b"",
        };
        self.says(&[BrokerFrame::Run(run), BrokerFrame::Message(reply)])
            .await;
    }

    async fn cancels(&mut self, request: u64) {
        let (caller, cause) = (ClientId(5), Code::CANCELLED);
        self.says(&[BrokerFrame::Cancelled {
            caller,
            request,
            cause,
        }])
        .await;
    }

    /// A client that serves.
    async fn with_service() -> (Self, Client, Service) {
        let (mut broker, client) = Self::with_client(options()).await;
        let serving = tokio::spawn({
            let client = client.clone();
            async move { client.serve("printer").await }
        });
        broker.expects(&["serve printer Shared 0 bytes"]).await;
        broker.says(&[BrokerFrame::Done { request: 1 }]).await;
        (broker, client, serving.await.unwrap().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_its_reply() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let request = client.request("printer", "print").payload("two pages");
    let asking = tokio::spawn(request.timeout(Duration::from_secs(2)).send());
    broker
        .expects(&["request printer print 2000 ms two pages"])
        .await;
    broker.replies(1, false, "[2]").await;
    let reply = asking.await.unwrap().unwrap();
    assert_eq!(reply.sender().name.as_str(), "bo");
    assert_eq!(reply.decode::<[u8; 1]>().unwrap(), [2]);
    let bad = client.request("Printer!", "print").send().await;
    assert!(matches!(bad, Err(Error::BadName { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_cancels_its_request() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let asking = client.request("printer", "print").send();
    let waited = tokio::time::timeout(Duration::from_millis(1), asking).await;
    waited.expect_err("the broker does not answer");
    broker
        .expects(&["request printer print 30000 ms", "cancel 1"])
        .await;
    client.request("printer", "beep").forget().await.unwrap();
    broker.expects(&["request printer beep 30000 ms"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_in_time_without_a_connection() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let asking = tokio::spawn(client.request("printer", "print").send());
    broker.expects(&["request printer print 30000 ms"]).await;
    let began = Instant::now();
    for _ in 0..15 {
        broker.fails();
    }
    broker.drops_connection();
    let mut states = client.connection();
    while !matches!(states.current(), ConnectionState::Disconnected { .. }) {
        states.next().await.expect("the client is not over");
    }
    // The link learns of one that is made now as well.
    let request = client.request("printer", "print");
    let error = request.timeout(Duration::from_secs(7)).send().await;
    assert_eq!(error.unwrap_err().code(), Some(Code::DEADLINE));
    assert_eq!(began.elapsed().as_secs(), 7);
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::DEADLINE));
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_handler_if_it_is_told_to() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let request = client.request("printer", "print").wait_for_handler();
    let asking = tokio::spawn(request.timeout(Duration::from_secs(1)).send());
    for (position, left) in [(1, 1_000), (2, 990), (3, 970)] {
        let asked = format!("request printer print {left} ms");
        broker.expects(&[&asked]).await;
        broker.refuses(position, Code::NO_SUCH_SERVICE).await;
    }
    broker.expects(&["request printer print 930 ms"]).await;
    broker.replies(4, false, "done").await;
    assert_eq!(asking.await.unwrap().unwrap().text(), Some("done"));

    let request = client.request("printer", "print").wait_for_handler();
    let asking = tokio::spawn(request.timeout(Duration::from_millis(25)).send());
    for position in [5, 6] {
        broker.frame().await;
        broker.refuses(position, Code::NO_SUCH_SERVICE).await;
    }
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::NO_SUCH_SERVICE), "time is over");

    // What is wrong otherwise is told at once.
    let request = client.request("printer", "print").wait_for_handler();
    let asking = tokio::spawn(request.send());
    broker.frame().await;
    broker.refuses(7, Code::OUTBOX_FULL).await;
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::OUTBOX_FULL));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stops_handles_what_was_on_its_way() {
    let (mut broker, client, mut service) = Broker::with_service().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        let handler = |_| async { Ok(Payload::from("done")) };
        service.run_until(stopped, 1, handler).await;
    });
    broker.asks(7, "print", 0).await;
    broker.expects(&["reply 5/7 done"]).await;
    drop(stop);
    broker.expects(&["unserve printer"]).await;
    broker.asks(8, "print", 0).await;
    broker.expects(&["reply 5/8 done"]).await;
    assert!(!serving.is_finished());
    broker.says(&[BrokerFrame::Done { request: 3 }]).await;
    serving.await.unwrap();
    // The name is free again.
    let again = tokio::spawn(async move { client.serve("printer").await.map(drop) });
    broker.expects(&["serve printer Shared 0 bytes"]).await;
    again.abort();
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stops_is_not_served_in_a_new_session() {
    let (mut broker, _client, mut service) = Broker::with_service().await;
    service.stop();
    service.stop();
    broker.expects(&["unserve printer"]).await;
    broker.drops_connection();
    broker.expects_hello(true).await;
    broker.welcomes(2, None, 0).await;
    assert!(service.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_service_answers_with_what_its_handler_returns() {
    let (mut broker, _client, mut service) = Broker::with_service().await;
    let serving = tokio::spawn(async move {
        let handler = |request: Incoming| async move {
            match request.method() {
                "print" => Ok(Payload::from("done")),
                "panic" => panic!("as the test wants it"),
                "decode" => Ok(request.decode::<String>()?.into()),
                other => Err(Failure::new("unknown_method", other)),
            }
        };
        service.run(1, handler).await;
    });
    for (position, method, answer) in [
        (7, "print", "reply 5/7 done"),
        (8, "panic", "reply 5/8 the handler panicked (panicked)"),
        (9, "fly", "reply 5/9 fly (unknown_method)"),
        (10, "print", "reply 5/10 done"),
    ] {
        broker.asks(position, method, 0).await;
        broker.expects(&[answer]).await;
    }
    broker.asks(11, "decode", 0).await;
    let body = broker.frame().await;
    let answer = in_words(&ClientFrame::decode(&body).unwrap());
    assert!(answer.ends_with("(bad_payload)"), "{answer}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_task_stops_when_its_request_is_cancelled() {
    let (mut broker, _client, mut service) = Broker::with_service().await;
    let serving = tokio::spawn(async move {
        let handler = |request: Incoming| async move {
            if request.method() == "hang" {
                std::future::pending::<()>().await;
            }
            Ok(Payload::from("done"))
        };
        service.run(1, handler).await;
    });
    broker.asks(7, "hang", 0).await;
    broker.asks(8, "print", 0).await;
    broker.cancels(7).await;
    broker.expects(&["reply 5/8 done"]).await;
    broker.asks(9, "hang", 0).await;
    broker.asks(10, "print", 0).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    serving.abort();
    broker
        .expects(&[
            "unserve printer",
            "reply 5/10 this client does not take that request (not_served)",
            "reply 5/9 the handler gave no answer (dropped)",
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn parts_are_sent_and_taken() {
    let (mut broker, client, mut service) = Broker::with_service().await;
    broker.asks(7, "tail", 4).await;
    let request = service.next().await.unwrap();
    let mut parts = request.parts();
    parts.send("abc").await.unwrap();
    request.reply("bye").await.unwrap();
    parts.send("d").await.expect_err("it is answered");
    broker.expects(&["part 5/7 abc", "reply 5/7 bye"]).await;

    let mut parts = client.request("logs", "tail").stream(4).await.unwrap();
    broker
        .expects(&["request logs tail 30000 ms window 4"])
        .await;
    broker.replies(4, true, "abc").await;
    broker.replies(4, false, "bye").await;
    assert_eq!(parts.next().await.unwrap().unwrap().text(), Some("abc"));
    assert!(parts.next().await.is_none());
    assert_eq!(parts.reply().unwrap().text(), Some("bye"));
    assert!(parts.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_bytes_says_with_whom_and_why_it_ended() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let request = client.request("shell", "exec").payload("ls");
    let opening = tokio::spawn(request.timeout(Duration::from_secs(1)).open());
    broker
        .expects(&["request shell exec 1000 ms window 262144 ls"])
        .await;
    broker.replies(1, true, "").await;
    let mut opened = opening.await.unwrap().unwrap();
    assert_eq!(opened.peer().name.as_str(), "bo");
    let waiting = tokio::time::timeout(Duration::from_millis(1), opened.closed());
    waiting.await.expect_err("it is open");
    broker.fails_request(2, 1, Code::PEER_GONE).await;
    opened.closed().await;
    let error = opened.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let cause = std::error::Error::source(&error).and_then(|error| error.downcast_ref());
    assert_eq!(cause.and_then(Error::code), Some(Code::PEER_GONE));

    let command = client.request("shell", "exec").command();
    let error = command.open().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::BAD_REQUEST));
}

#[tokio::test(start_paused = true)]
async fn bytes_go_in_both_directions() {
    let (mut broker, client, mut service) = Broker::with_service().await;
    broker.asks(7, crate::METHOD_STREAM, 16).await;
    let request = service.next().await.unwrap();
    let mut accepted = request.accept_stream().unwrap();
    assert_eq!(accepted.peer().id, ClientId(5));
    broker.expects(&["part 5/7", "credit 5/7 16"]).await;
    accepted.write_all(b"hello").await.unwrap();
    accepted.shutdown().await.unwrap();
    broker.expects(&["part 5/7 hello", "part 5/7"]).await;
    let feed = Message::Feed {
        request: 7,
        more: false,
        content: ContentType::BYTES,
        payload: b"bye",
    };
    broker.passes_on(8, feed).await;
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bye");
    broker.expects(&["reply 5/7"]).await;

    let opening = tokio::spawn(async move { client.open_stream("shell").await });
    broker
        .expects(&["request shell stream 30000 ms window 262144"])
        .await;
    broker.replies(7, true, "").await;
    let mut opened = opening.await.unwrap().unwrap();
    let credit = Credit {
        of: ClientId(1),
        request: 7,
        bytes: 5,
    };
    broker.says(&[BrokerFrame::Credit(credit)]).await;
    opened.write_all(b"hello").await.unwrap();
    broker.expects(&["feed 7 hello"]).await;
    drop(opened);
    broker.expects(&["cancel 7"]).await;
}
