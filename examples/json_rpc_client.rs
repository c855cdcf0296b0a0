//! Calls `json_rpc_server` in each way that JSON-RPC 2.0 has, over a stream of bytes through the hub.
//!
//! ```console
//! $ cargo run --example json_rpc_client
//! by position: 42 - 23 = 19
//! by name: 42 - 23 = 19
//! 1 / 0: division by zero (1, "1 / 0")
//! ..
//! ```
//!
//! The crate `jsonrpsee-core` knows which answer belongs to which call; all it needs from here is how
//! to send and receive a line.

use std::{io, process::ExitCode};

use anyhow::bail;
use clap::Parser;
use jsonrpsee_core::client::{
    Client as JsonRpc, ClientBuilder, ClientT as _, Error, ReceivedMessage, TransportReceiverT,
    TransportSenderT,
};
use jsonrpsee_core::params::{BatchRequestBuilder, ObjectParams};
use jsonrpsee_core::rpc_params;
use localhub_client::{ByteStream, Options};
use localhub_examples::say;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::io::{BufReader, Lines, ReadHalf, WriteHalf};

/// Calls a calculator in each way that JSON-RPC 2.0 has.
#[derive(Parser)]
struct Args {
    /// The name of the service.
    #[arg(default_value = "calculator")]
    service: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    localhub_examples::exit_code("json_rpc_client", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let hub = Options::new().connect().await?;
    let (reads, writes) = tokio::io::split(hub.open_stream(args.service.as_str()).await?);
    let lines = Received(BufReader::new(reads).lines());
    let calculator = ClientBuilder::default().build_with_tokio(Sent(writes), lines);
    call(&calculator).await?;
    drop(calculator);
    Ok(hub.close().await?)
}

async fn call(calculator: &JsonRpc) -> Result<(), anyhow::Error> {
    let difference: i64 = calculator.request("subtract", [42, 23]).await?;
    say!("by position: 42 - 23 = {difference}");

    let mut named = ObjectParams::new();
    named.insert("subtrahend", 23)?;
    named.insert("minuend", 42)?;
    let difference: i64 = calculator.request("subtract", named).await?;
    say!("by name: 42 - 23 = {difference}");

    for (what, method, params) in [
        ("1 / 0", "divide", rpc_params![1, 0]),
        ("an unknown method", "multiply", rpc_params![2, 3]),
        ("a wrong parameter", "subtract", rpc_params!["one", 2]),
    ] {
        match calculator.request::<i64, _>(method, params).await {
            Err(Error::Call(error)) => {
                let data = error.data().map_or("no data", |data| data.get());
                say!("{what}: {} ({}, {data})", error.message(), error.code());
            }
            other => bail!("{what}: {other:?}"),
        }
    }

    // There is no answer to a notification. What comes after it in the stream sees its effect.
    calculator.notification("add", [40]).await?;
    calculator.notification("add", [2]).await?;
    let total: i64 = calculator.request("total", rpc_params![]).await?;
    say!("after two notifications: total {total}");

    let mut batch = BatchRequestBuilder::new();
    batch.insert("subtract", [5, 3])?;
    batch.insert("divide", [9, 3])?;
    batch.insert("divide", [9, 0])?;
    let answers = calculator.batch_request::<i64>(batch).await?;
    say!(
        "a batch: {} done, {} failed",
        answers.num_successful_calls(),
        answers.num_failed_calls()
    );

    // All are on their way before the first is answered, and the first is answered last.
    let wait = calculator.request::<i64, _>("wait_for", [100]);
    let quick = async {
        let answers = tokio::try_join!(
            calculator.request::<i64, _>("subtract", [3, 2]),
            calculator.request::<i64, _>("subtract", [4, 2]),
            calculator.request::<i64, _>("subtract", [5, 2]),
        )?;
        say!("pipelined: {answers:?}, while `wait_for` waits");
        calculator.notification("add", [58]).await?;
        Ok(answers)
    };
    let (total, _) = tokio::try_join!(wait, quick)?;
    say!("pipelined: `wait_for` saw {total}");
    Ok(())
}

/// One direction of the stream.
struct Sent(WriteHalf<ByteStream>);

impl TransportSenderT for Sent {
    type Error = io::Error;

    async fn send(&mut self, mut message: String) -> io::Result<()> {
        message.push('\n');
        self.0.write_all(message.as_bytes()).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// The other direction.
struct Received(Lines<BufReader<ReadHalf<ByteStream>>>);

impl TransportReceiverT for Received {
    type Error = io::Error;

    async fn receive(&mut self) -> io::Result<ReceivedMessage> {
        let line = self.0.next_line().await?;
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(ReceivedMessage::Text(line))
    }
}
