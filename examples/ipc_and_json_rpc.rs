//! The systems that are hand-written on pipes elsewhere, run as programs: `ipc_server` and
//! `ipc_client`, `json_rpc_server` and `json_rpc_client`.

use std::process::Command;
use std::{env, fs};

use bytes::Bytes;
use localhub::{Broker, config::Config};
use localhub_client::admin::{self, Page, Services};
use localhub_client::{ByteStream, Endpoint, Options};
use localhub_examples::ipc::{Client, MESSAGE_BYTES_MAX, Message, Server};
use localhub_tests::process::{Process, private_directory};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// A broker of the test's own, and the place it listens at.
struct Hub {
    directory: TempDir,
    endpoint: String,
    broker: Option<Broker>,
}

impl Hub {
    async fn start() -> Self {
        let directory = private_directory();
        let endpoint = match cfg!(windows) {
            true => format!(
                r"\\.\pipe\{}",
                directory.path().file_name().unwrap().display()
            ),
            false => directory.path().join("hub.sock").display().to_string(),
        };
        let broker = Some(Self::broker(&endpoint).await);
        Self {
            directory,
            endpoint,
            broker,
        }
    }

    async fn broker(endpoint: &str) -> Broker {
        let config = Config {
            endpoint: Some(endpoint.to_owned()),
            ..Config::default()
        };
        Broker::start(&config).await.unwrap()
    }

    /// Ends the broker and starts another one in its place.
    async fn restarts(&mut self) {
        self.broker.take().unwrap().stop().await;
        self.broker = Some(Self::broker(&self.endpoint).await);
    }

    /// Starts an example as a process.
    fn runs<const N: usize>(&self, example: &str, arguments: [&str; N]) -> Process {
        // Tests are in target/PROFILE/deps, examples in target/PROFILE/examples.
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        let mut command = Command::new(profile.join("examples").join(example));
        command.args(arguments);
        command.env("LOCALHUB_ENDPOINT", &self.endpoint);
        Process::start(command)
    }

    /// Waits until so many clients serve a service, or wait to.
    async fn is_served_by(&self, name: &str, servers: usize) {
        let operator = self.client().await;
        loop {
            let asked = operator.admin(admin::SERVICES, &Page::default()).await;
            let Services { services, .. } = asked.unwrap();
            let mut services = services.iter().filter(|service| service.name == name);
            if services.any(|service| service.servers.len() == servers) {
                return;
            }
        }
    }

    async fn client(&self) -> localhub_client::Client {
        let endpoint = Endpoint::new(&self.endpoint).unwrap();
        Options::new().endpoint(endpoint).connect().await.unwrap()
    }
}

/// Bytes in which every piece is another.
fn bytes(length: usize) -> Bytes {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_come_back_in_capitals_to_each_client() {
    let hub = Hub::start().await;
    let server = hub.runs("ipc_server", ["louder"]);
    assert_eq!(server.line(), "serving as louder");

    let mut clients = [
        hub.runs("ipc_client", ["louder"]),
        hub.runs("ipc_client", ["louder"]),
    ];
    for text in ["ana", "über uns", ""] {
        for client in &mut clients {
            client.reads(text);
            assert_eq!(client.line(), text.to_uppercase());
        }
    }
    for client in &mut clients {
        assert!(client.ends().success());
    }
    let mut said: Vec<_> = (0..4).map(|_| server.line()).collect();
    said.sort();
    let said: Vec<_> = said
        .iter()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        said,
        [
            "has connected",
            "has finished, messages: 3",
            "has connected",
            "has finished, messages: 3"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_both_ways() {
    let hub = Hub::start().await;
    let server = hub.runs("ipc_server", []);
    assert_eq!(server.line(), "serving as echo");
    for length in [0, 1, 5 * 1024 * 1024 + 7] {
        let path = hub.directory.path().join("file");
        fs::write(&path, bytes(length)).unwrap();
        let path = path.to_str().unwrap();
        let mut client = hub.runs("ipc_client", ["--file", path]);
        let (said, complaints) = client.rest();
        assert_eq!(
            said,
            [format!("{path}: {length} bytes there and back, the same")],
            "{complaints:?}"
        );
        assert!(client.ends().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_outlives_its_server_and_the_broker() {
    let mut hub = Hub::start().await;
    let mut first = hub.runs("ipc_server", []);
    assert_eq!(first.line(), "serving as echo");
    let mut client = hub.runs("ipc_client", []);
    client.reads("one");
    assert_eq!(client.line(), "ONE");

    first.kill();
    client.reads("two");
    assert_eq!(client.line(), "* the server is gone");
    let second = hub.runs("ipc_server", []);
    assert_eq!(second.line(), "serving as echo");
    assert_eq!(client.line(), "* it is there again");
    assert_eq!(client.line(), "TWO");

    hub.restarts().await;
    client.reads("three");
    assert_eq!(client.line(), "* the server is gone");
    assert_eq!(client.line(), "* it is there again");
    assert_eq!(client.line(), "THREE");
    assert!(client.ends().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_takes_over_from_the_first() {
    let hub = Hub::start().await;
    let mut first = hub.runs("ipc_server", []);
    assert_eq!(first.line(), "serving as echo");
    let mut client = hub.runs("ipc_client", []);
    client.reads("one");
    assert_eq!(client.line(), "ONE");
    let second = hub.runs("ipc_server", []);
    hub.is_served_by("echo", 2).await;
    first.kill();
    assert_eq!(second.line(), "serving as echo");
    client.reads("two");
    assert_eq!(client.line(), "* the server is gone");
    assert_eq!(client.line(), "* it is there again");
    assert_eq!(client.line(), "TWO");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_live_in_one_process_and_messages_have_any_size() {
    let hub = Hub::start().await;
    let serving = hub.client().await;
    let mut server = Server::bind_on(&serving, "echo").await.unwrap();
    let server = tokio::spawn(async move {
        let (_, mut connection) = server.accept().await.unwrap();
        while let Some(message) = connection.receiver.next().await.unwrap() {
            connection.sender.send(message).await.unwrap();
        }
        connection.sender.finish().await.unwrap();
    });

    let mut client = Client::connect_on(hub.client().await, "echo")
        .await
        .unwrap();
    let payload_bytes_max = serving.limits().payload_bytes as usize;
    for length in [0, 1, 64 * 1024, 1024 * 1024, payload_bytes_max + 1] {
        let sent = Message::Binary(bytes(length));
        client.send(sent.clone()).await.unwrap();
        let received = client.next().await.unwrap();
        assert!(received == Some(sent), "{length} bytes");
    }
    client.send("text").await.unwrap();
    assert_eq!(client.next().await.unwrap(), Some("text".into()));
    let too_large = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    assert!(client.send(too_large).await.is_err());

    client.close().await.unwrap();
    server.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn json_rpc_is_spoken_in_each_of_its_ways() {
    let hub = Hub::start().await;
    let server = hub.runs("json_rpc_server", []);
    assert_eq!(server.line(), "serving calculator");
    for _ in 0..2 {
        let mut client = hub.runs("json_rpc_client", []);
        let (said, complaints) = client.rest();
        assert_eq!(
            said,
            [
                "by position: 42 - 23 = 19",
                "by name: 42 - 23 = 19",
                r#"1 / 0: division by zero (1, "1 / 0")"#,
                "an unknown method: Method not found (-32601, no data)",
                "a wrong parameter: Invalid params (-32602, \
                 \"invalid type: string \\\"one\\\", expected i64 at line 1 column 6\")",
                "after two notifications: total 42",
                "a batch: 2 done, 1 failed",
                "pipelined: (1, 2, 3), while `wait_for` waits",
                "pipelined: `wait_for` saw 100",
            ],
            "{complaints:?}"
        );
        assert!(client.ends().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_rpc_client_hears_of_the_end_of_its_server() {
    let hub = Hub::start().await;
    let serving = hub.client().await;
    let mut calculator = serving.serve("calculator").await.unwrap();
    let mut client = hub.runs("json_rpc_client", []);
    let stream = calculator.next().await.unwrap().accept_stream().unwrap();
    let mut stream = BufReader::new(stream);
    let call = line_of(&mut stream).await;
    assert_eq!(call["method"], "subtract");
    drop(stream);
    let (said, complaints) = client.rest();
    assert_eq!((said.len(), complaints.len()), (0, 1), "{complaints:?}");
    assert!(complaints[0].contains("connection reset"), "{complaints:?}");
    assert_eq!(client.ends().code(), Some(1));
}

/// The examples of the specification, and what else is no request.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_as_the_specification_says() {
    let hub = Hub::start().await;
    let server = hub.runs("json_rpc_server", []);
    assert_eq!(server.line(), "serving calculator");
    let client = hub.client().await;
    let stream = client.open_stream("calculator").await.unwrap();
    let mut stream = BufReader::new(stream);

    let error = |code: i32, message: &str, id: Value| json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": id });
    let parse_error = || error(-32700, "Parse error", Value::Null);
    let invalid = || error(-32600, "Invalid request", Value::Null);
    let unknown = |id| error(-32601, "Method not found", id);
    let nineteen = |id| json!({ "jsonrpc": "2.0", "result": 19, "id": id });
    for (said, answer) in [
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#,
            nineteen(json!(1)),
        ),
        (
            r#"{"id": "x", "params": {"subtrahend": 23, "minuend": 42}, "method": "subtract", "jsonrpc": "2.0"}"#,
            nineteen(json!("x")),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
            unknown(json!("1")),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
            parse_error(),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
            invalid(),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "total", "id": {}}"#,
            invalid(),
        ),
        (r#"[{"jsonrpc": "2.0", "method"#, parse_error()),
        ("[]", invalid()),
        ("[1]", json!([invalid()])),
        (
            r#"[{"jsonrpc": "2.0", "method": "add", "params": [7]}, {"jsonrpc": "2.0", "method": "total", "id": 9}, {"foo": "boo"}]"#,
            json!([{ "jsonrpc": "2.0", "result": 7, "id": 9 }, invalid()]),
        ),
    ] {
        // Nothing is answered to notifications, whatever becomes of them.
        for line in [
            r#"{"jsonrpc": "2.0", "method": "foobar", "params": [1]}"#,
            r#"[{"jsonrpc": "2.0", "method": "add"}]"#,
            said,
        ] {
            stream
                .write_all(format!("{line}\n").as_bytes())
                .await
                .unwrap();
        }
        assert_eq!(line_of(&mut stream).await, answer, "{said}");
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_u8().await.ok(), None);
    assert!(server.line().ends_with(" has finished"));
}

async fn line_of(stream: &mut BufReader<ByteStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}
