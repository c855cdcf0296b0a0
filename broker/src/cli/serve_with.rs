//! `localhub serve-with`.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use localhub::logging::escaped;
use localhub_client::{ContentType, Failure, Incoming, Payload, Serve, Service};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::Globals;
use super::shared::exit::{Exit, note};
use super::shared::input::guess;
use super::shared::interrupt::Interrupts;
use super::shared::{block_on, link};

/// Serve a service with a program: it is run once for each request
///
/// The request's payload is on the program's stdin, its stdout is the reply, its stderr goes to that of this command.
/// If it ends with another exit code than 0 the request has failed, with the last line of stderr as the reason. A
/// reply of text loses the line break at its end. LOCALHUB_METHOD, LOCALHUB_CALLER and, for commands,
/// LOCALHUB_COMMAND_ID are in its environment. If the request is cancelled or has waited too long, the program is killed.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub serve-with upper -- tr a-z A-Z\n  localhub serve-with backup --exclusive -- ./backup.sh --fast"
)]
pub(crate) struct Args {
    /// The service
    service: String,
    /// Be the only one to serve it; wait until nobody else does
    #[arg(long)]
    exclusive: bool,
    /// Be the only one to serve it; take it from who does
    #[arg(long, conflicts_with = "exclusive")]
    takeover: bool,
    /// Programs that run at one time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// What the service offers, for `localhub services`
    #[arg(long, value_name = "JSON")]
    description: Option<serde_json::Map<String, serde_json::Value>>,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1..)]
    program: Vec<OsString>,
}

/// A line of stderr is told the caller up to this length.
const REASON_BYTES_MAX: usize = 500;

/// What is kept of stderr to find its last line.
const STDERR_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let mut interrupts = Interrupts::new()?;
        let client = globals.connect().await?;
        let bytes_max = client.limits().payload_bytes;
        let mut serve = Serve::new();
        if args.exclusive {
            serve = serve.exclusive();
        }
        if args.takeover {
            serve = serve.takeover();
        }
        if let Some(description) = &args.description {
            serve = serve.description(Payload::cbor(description)?);
        }
        let mut service = client.serve_with(&args.service, serve).await?;
        note(&format!("serving {}", args.service));
        let program: Arc<[OsString]> = args.program.into();
        let mut connection = link::Connection::new(&client);
        let outcome = tokio::select! {
            () = interrupts.next() => Ok(()),
            () = handle(&mut service, args.concurrency, program, bytes_max) => Ok(()),
            error = connection.ended() => Err(error),
        };
        drop(service);
        link::close(client).await;
        outcome.map(|()| Exit::Done)
    })
}

async fn handle(service: &mut Service, concurrency: u16, program: Arc<[OsString]>, bytes_max: u64) {
    service
        .run(concurrency.into(), move |request| {
            let program = program.clone();
            async move { answer(&request, &program, bytes_max).await }
        })
        .await;
}

/// Runs the program for one request.
async fn answer(
    request: &Incoming,
    program: &[OsString],
    bytes_max: u64,
) -> Result<Payload, Failure> {
    let broken = |error: anyhow::Error| {
        note(&format!("{error:#}"));
        Failure::new("broken", format!("{error:#}"))
    };
    let (output, reason, status) = execute(request, program, bytes_max).await.map_err(broken)?;
    if !status.success() {
        let code = match status.code() {
            Some(code) => format!("exit_{code}"),
            None => "killed".to_owned(),
        };
        return Err(Failure::new(code, reason));
    }
    if output.len() as u64 > bytes_max {
        let message = format!("the reply has more than {bytes_max} bytes");
        return Err(Failure::new("too_large", message));
    }
    Ok(reply(output))
}

/// What the program wrote, the last line of its complaints, and how it ended.
async fn execute(
    request: &Incoming,
    program: &[OsString],
    bytes_max: u64,
) -> anyhow::Result<(Vec<u8>, String, std::process::ExitStatus)> {
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .env("LOCALHUB_METHOD", request.method())
        .env("LOCALHUB_CALLER", request.caller().name.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A request that is over drops what runs for it.
        .kill_on_drop(true);
    if let Some(id) = request.command_id() {
        command.env("LOCALHUB_COMMAND_ID", id.to_string());
    }
    let name = program[0].display();
    let mut child: Child = command
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program need not read what it is given.
            let _ = stdin.write_all(request.payload()).await;
        }
    };
    let complaints = async {
        match stderr {
            Some(stderr) => pass_on(stderr).await,
            None => String::new(),
        }
    };
    // One byte more shows that there is too much.
    let output = read(stdout, bytes_max + 1);
    let ((), output, reason) = tokio::join!(feed, output, complaints);
    let output = output.with_context(|| format!("cannot read what {name} writes"))?;
    let status = child
        .wait()
        .await
        .with_context(|| format!("cannot wait for {name}"))?;
    Ok((output, reason, status))
}

async fn read(from: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(bytes_max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Shows what a program complains of, and gives the last line of it.
async fn pass_on(mut from: impl AsyncRead + Unpin) -> String {
    let mut last = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        last.extend_from_slice(&buffer[..bytes]);
        while let Some(end) = last.iter().position(|byte| *byte == b'\n') {
            if end + 1 == last.len() {
                break;
            }
            note_line(&last[..end]);
            last.drain(..=end);
        }
        let too_much = last.len().saturating_sub(STDERR_BYTES_MAX);
        last.drain(..too_much);
    }
    let line = String::from_utf8_lossy(&last).trim_end().to_owned();
    if !line.is_empty() {
        note_line(line.as_bytes());
    }
    escaped(&line).chars().take(REASON_BYTES_MAX).collect()
}

fn note_line(line: &[u8]) {
    note(&String::from_utf8_lossy(line));
}

/// What a program wrote, as a reply.
fn reply(mut output: Vec<u8>) -> Payload {
    let content = guess(&output);
    if content != ContentType::BYTES && output.ends_with(b"\n") {
        output.pop();
        if output.ends_with(b"\r") {
            output.pop();
        }
    }
    Payload::new(content, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_text_loses_its_line_break() {
        let said = |output: &[u8]| {
            let payload = reply(output.to_vec());
            (payload.content(), payload.bytes().to_vec())
        };
        assert_eq!(said(b"ok\n"), (ContentType::TEXT, b"ok".to_vec()));
        assert_eq!(said(b"ok\r\n"), (ContentType::TEXT, b"ok".to_vec()));
        assert_eq!(said(b"a\n\n"), (ContentType::TEXT, b"a\n".to_vec()));
        assert_eq!(said(b"[1]\n"), (ContentType::JSON, b"[1]".to_vec()));
        assert_eq!(said(b"\xff\n"), (ContentType::BYTES, b"\xff\n".to_vec()));
    }
}
