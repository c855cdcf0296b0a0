//! A calculator that speaks JSON-RPC 2.0 with each client over a stream of bytes through the hub.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example json_rpc_server
//! $ cargo run --example json_rpc_client       # in another terminal, any number of them
//! ```
//!
//! Each message is a line. The methods are looked up and called by the crate `jsonrpsee-core`; what
//! is here is what a transport has to do.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use jsonrpsee_core::server::{MethodResponse, Methods, RpcModule};
use jsonrpsee_core::{RegisterMethodError, traits::ToRpcParams};
use jsonrpsee_types::{ErrorCode, ErrorObject, ErrorObjectOwned, Id};
use localhub_client::{ByteStream, Client};
use localhub_examples::say;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{Mutex, watch};
use tokio::{signal, task::JoinSet, time};

/// Serves a calculator in JSON-RPC 2.0, one message in each line of a stream.
#[derive(Parser)]
struct Args {
    /// The name of the service: a-z 0-9 . _ -
    #[arg(default_value = "calculator")]
    service: String,
}

/// How many requests of one client are at work at a time. Then no more of it is read.
const REQUESTS_MAX: usize = 64;

/// How long `wait_for` waits. A caller may be gone without a word after the last line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The codes of the calculator's own errors. The protocol keeps -32768 to -32000 for itself.
const DIVISION_BY_ZERO: i32 = 1;
const NOT_REACHED: i32 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::select! {
        outcome = run(&args.service) => outcome,
        _ = signal::ctrl_c() => Ok(()),
    };
    localhub_examples::exit_code("json_rpc_server", outcome)
}

async fn run(service: &str) -> anyhow::Result<()> {
    let hub = Client::connect("json-rpc-server").await?;
    let mut requests = hub.serve(service).await?;
    say!("serving {service}");
    while let Some(request) = requests.next().await {
        let caller = request.caller().name.clone();
        tokio::spawn(async move {
            let outcome = match request.accept_stream() {
                Ok(stream) => answer_all(stream).await,
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(()) => say!("{caller} has finished"),
                Err(error) => say!("{caller} is gone: {error:#}"),
            }
        });
    }
    anyhow::bail!("the hub has ended us")
}

/// What the calculator can do. Each client has a total of its own.
fn methods() -> Result<Methods, RegisterMethodError> {
    // Parameters come by name or by position: serde reads a struct from either.
    #[derive(Deserialize)]
    struct Subtract {
        minuend: i64,
        subtrahend: i64,
    }
    #[derive(Deserialize)]
    struct Divide {
        dividend: i64,
        divisor: i64,
    }
    #[derive(Deserialize)]
    struct Amount {
        amount: i64,
    }

    let mut module = RpcModule::new(watch::Sender::new(0_i64));
    module.register_method("subtract", |params, _, _| {
        let Subtract {
            minuend,
            subtrahend,
        } = params.parse()?;
        Ok::<_, ErrorObjectOwned>(minuend.saturating_sub(subtrahend))
    })?;
    module.register_method("divide", |params, _, _| {
        let Divide { dividend, divisor } = params.parse()?;
        dividend.checked_div(divisor).ok_or_else(|| {
            let data = Some(format!("{dividend} / {divisor}"));
            ErrorObject::owned(DIVISION_BY_ZERO, "division by zero", data)
        })
    })?;
    module.register_method("add", |params, total, _| {
        let Amount { amount } = params.parse()?;
        total.send_modify(|total| *total = total.saturating_add(amount));
        Ok::<_, ErrorObjectOwned>(*total.borrow())
    })?;
    module.register_method("total", |_, total, _| *total.borrow())?;
    module.register_async_method("wait_for", |params, total, _| async move {
        let Amount { amount } = params.parse()?;
        let mut totals = total.subscribe();
        let reached = time::timeout(PATIENCE, totals.wait_for(|total| *total >= amount)).await;
        let reached = reached.ok().and_then(Result::ok).map(|total| *total);
        reached.ok_or_else(|| ErrorObject::owned(NOT_REACHED, "not reached in time", None::<()>))
    })?;
    Ok(module.into())
}

/// Answers one client until it has finished. Its requests are at work at the same time, and answered
/// as they are done; its notifications are carried out in order.
async fn answer_all(stream: ByteStream) -> anyhow::Result<()> {
    let methods = methods()?;
    let (reads, writes) = tokio::io::split(stream);
    let writes = Arc::new(Mutex::new(writes));
    let mut lines = BufReader::new(reads).lines();
    let mut answering = JoinSet::new();
    while let Some(line) = lines.next_line().await? {
        if notify(&methods, &line).await {
            continue;
        }
        while answering.try_join_next().is_some() {}
        if answering.len() == REQUESTS_MAX {
            answering.join_next().await;
        }
        let (methods, writes) = (methods.clone(), writes.clone());
        answering.spawn(async move {
            if let Some(mut answer) = answer(&methods, &line).await {
                answer.push('\n');
                // If the client is gone, the next read says so.
                let _ = writes.lock().await.write_all(answer.as_bytes()).await;
            }
        });
    }
    answering.join_all().await;
    writes.lock().await.shutdown().await?;
    Ok(())
}

/// The answer to a request or to a batch; none to a batch of notifications.
async fn answer(methods: &Methods, line: &str) -> Option<String> {
    if !line.trim_start().starts_with('[') {
        return Some(answer_one(methods, line).await);
    }
    let batch: Vec<&RawValue> = match serde_json::from_str(line) {
        Ok(batch) => batch,
        Err(_) => return Some(error(ErrorCode::ParseError)),
    };
    if batch.is_empty() {
        return Some(error(ErrorCode::InvalidRequest));
    }
    let mut answers = Vec::new();
    for message in batch {
        if !notify(methods, message.get()).await {
            answers.push(answer_one(methods, message.get()).await);
        }
    }
    (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
}

async fn answer_one(methods: &Methods, request: &str) -> String {
    match methods.raw_json_request(request, 1).await {
        Ok((answer, _)) => answer.get().to_owned(),
        Err(_) if serde_json::from_str::<IgnoredAny>(request).is_err() => {
            error(ErrorCode::ParseError)
        }
        Err(_) => error(ErrorCode::InvalidRequest),
    }
}

/// Carries out a notification, whose outcome nobody hears of; `false` if it is none.
async fn notify(methods: &Methods, message: &str) -> bool {
    /// What has no `id`.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Notification {
        #[serde(rename = "jsonrpc")]
        _version: jsonrpsee_types::TwoPointZero,
        method: String,
        params: Option<Box<RawValue>>,
    }
    impl ToRpcParams for Notification {
        fn to_rpc_params(self) -> serde_json::Result<Option<Box<RawValue>>> {
            Ok(self.params)
        }
    }

    let Ok(notification) = serde_json::from_str::<Notification>(message) else {
        return false;
    };
    let method = notification.method.clone();
    let _ = methods.call::<_, IgnoredAny>(&method, notification).await;
    true
}

/// The answer to what is no request.
fn error(code: ErrorCode) -> String {
    let answer = MethodResponse::error(Id::Null, ErrorObject::from(code));
    answer.into_json().get().to_owned()
}
