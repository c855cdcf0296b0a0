//! What `pub`, `broadcast` and `send` send: from the command line, a file, or stdin.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use localhub_client::{ContentType, Payload};
use tokio::sync::mpsc;

use super::content::is_json;
use super::diagnostic::diagnostic;
use super::exit::note;

/// Lines that may wait to be sent.
const WAITING_LINES_MAX: usize = 256;

#[derive(clap::Args, Debug)]
pub(crate) struct Input {
    /// What to send [default: each line of stdin as a message]
    payload: Option<String>,
    /// Send this file as one message; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// What the payload is [default: json for an object or array, else text; bytes if not UTF-8]
    #[arg(long, value_enum, value_name = "TYPE")]
    content: Option<Content>,
}

/// One payload, or none.
#[derive(clap::Args, Debug)]
pub(crate) struct Single {
    /// The payload [default: none]
    payload: Option<String>,
    /// Take the payload from this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// What the payload is [default: json for an object or array, else text; bytes if not UTF-8]
    #[arg(long, value_enum, value_name = "TYPE")]
    content: Option<Content>,
}

/// What a payload is, as somebody says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Content {
    /// CBOR: JSON is converted, a file is taken as it is
    Cbor,
    /// Any JSON value
    Json,
    /// UTF-8
    Text,
    /// Anything
    Bytes,
}

/// The messages of an [`Input`], one after the other.
pub(crate) struct Messages {
    content: Option<Content>,
    rest: Rest,
}

enum Rest {
    None,
    One(Source, Vec<u8>),
    Lines(mpsc::Receiver<io::Result<Vec<u8>>>),
}

/// Whether bytes were typed or are a file, which may be CBOR already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    File,
    Typed,
}

impl Input {
    /// Starts to read. A payload has at most `bytes_max` bytes.
    pub(crate) fn messages(self, bytes_max: u64) -> anyhow::Result<Messages> {
        let rest = match (self.payload, self.file) {
            (Some(payload), _) => Rest::One(Source::Typed, payload.into_bytes()),
            (None, Some(path)) => Rest::One(Source::File, file(&path, bytes_max)?),
            (None, None) => {
                if io::stdin().is_terminal() {
                    note("each line is a message; ctrl-d ends");
                }
                Rest::Lines(lines(bytes_max))
            }
        };
        Ok(Messages {
            content: self.content,
            rest,
        })
    }
}

impl Single {
    /// Reads it. It has at most `bytes_max` bytes.
    pub(crate) fn payload(self, bytes_max: u64) -> anyhow::Result<Payload> {
        match (self.payload, self.file) {
            (Some(text), _) => payload(self.content, Source::Typed, text.into_bytes()),
            (None, Some(path)) => payload(self.content, Source::File, file(&path, bytes_max)?),
            (None, None) => Ok(Payload::default()),
        }
    }
}

impl Messages {
    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Payload>> {
        let (source, bytes) = match std::mem::replace(&mut self.rest, Rest::None) {
            Rest::None => return Ok(None),
            Rest::One(source, bytes) => (source, bytes),
            Rest::Lines(mut lines) => match lines.recv().await {
                None => return Ok(None),
                Some(line) => {
                    self.rest = Rest::Lines(lines);
                    (Source::Typed, line.context("cannot read stdin")?)
                }
            },
        };
        payload(self.content, source, bytes).map(Some)
    }
}

fn file(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let bytes = match path.as_os_str() == "-" {
        true => read_whole(io::stdin(), bytes_max),
        false => File::open(path).and_then(|file| read_whole(file, bytes_max)),
    };
    bytes.with_context(|| format!("cannot send the file {}", path.display()))
}

fn payload(content: Option<Content>, source: Source, bytes: Vec<u8>) -> anyhow::Result<Payload> {
    let utf8 = || std::str::from_utf8(&bytes).context("the payload is not UTF-8");
    let content = match content {
        None => guess(&bytes),
        Some(Content::Bytes) => ContentType::BYTES,
        Some(Content::Text) => {
            utf8()?;
            ContentType::TEXT
        }
        Some(Content::Json) => {
            serde_json::from_str::<serde::de::IgnoredAny>(utf8()?)
                .context("the payload is not JSON")?;
            ContentType::JSON
        }
        Some(Content::Cbor) if source == Source::File => {
            if diagnostic(&bytes, usize::MAX).is_none() {
                bail!("the file is not one CBOR item");
            }
            ContentType::CBOR
        }
        Some(Content::Cbor) => {
            // This type keeps the order of keys.
            let value: ciborium::Value = serde_json::from_str(utf8()?)
                .context("the payload is not JSON, which --content cbor would convert")?;
            return Ok(Payload::cbor(&value)?);
        }
    };
    Ok(Payload::new(content, bytes))
}

/// What bytes most probably are. A JSON number or word is more often meant as text.
pub(crate) fn guess(bytes: &[u8]) -> ContentType {
    match std::str::from_utf8(bytes) {
        Err(_) => ContentType::BYTES,
        Ok(text) if text.trim_start().starts_with(['{', '[']) && is_json(text) => ContentType::JSON,
        Ok(_) => ContentType::TEXT,
    }
}

fn read_whole(from: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(too_long("the file", bytes_max)),
        false => Ok(bytes),
    }
}

/// The lines of stdin, read by a thread of its own: nothing else can wait for a pipe on all systems.
fn lines(bytes_max: u64) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (to, lines) = mpsc::channel(WAITING_LINES_MAX);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut number = 0;
        loop {
            number += 1;
            let line = read_line(&mut stdin, number, bytes_max);
            let last = matches!(&line, Ok(None) | Err(_));
            if let Some(line) = line.transpose()
                && to.blocking_send(line).is_err()
            {
                return;
            }
            if last {
                return;
            }
        }
    });
    lines
}

/// One line without its end; `None` after the last.
fn read_line(
    from: &mut impl io::BufRead,
    number: u64,
    bytes_max: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // One byte more than allowed, and the end of the line.
    let length = from
        .take(bytes_max.saturating_add(3))
        .read_until(b'\n', &mut line)?;
    if length == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|last| *last == b'\r');
    }
    match line.len() as u64 > bytes_max {
        true => Err(too_long(&format!("line {number}"), bytes_max)),
        false => Ok(Some(line)),
    }
}

fn too_long(what: &str, bytes_max: u64) -> io::Error {
    io::Error::other(format!(
        "{what} has more than {bytes_max} bytes, as much as a payload may have"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_or_array_is_json_and_everything_else_text() {
        for (bytes, expected) in [
            (&br#"{"on": true}"#[..], ContentType::JSON),
            (b" [1, 2]\n", ContentType::JSON),
            (b"{not json}", ContentType::TEXT),
            (b"[info] started", ContentType::TEXT),
            (b"42", ContentType::TEXT),
            (b"true", ContentType::TEXT),
            (b"\"quoted\"", ContentType::TEXT),
            (b"", ContentType::TEXT),
            (b"\xff\xfe", ContentType::BYTES),
        ] {
            assert_eq!(guess(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_somebody_says_is_checked() {
        let made = |content, source, bytes: &[u8]| {
            payload(Some(content), source, bytes.to_vec())
                .map(|payload| (payload.content(), payload.bytes().to_vec()))
                .map_err(|error| error.to_string())
        };
        let typed = Source::Typed;
        assert_eq!(
            made(Content::Json, typed, b"42"),
            Ok((ContentType::JSON, b"42".into()))
        );
        assert_eq!(
            made(Content::Json, typed, b"{"),
            Err("the payload is not JSON".into())
        );
        assert_eq!(
            made(Content::Text, typed, b"{}"),
            Ok((ContentType::TEXT, b"{}".into()))
        );
        assert_eq!(
            made(Content::Text, typed, b"\xff"),
            Err("the payload is not UTF-8".into())
        );
        assert_eq!(
            made(Content::Bytes, typed, b"{}"),
            Ok((ContentType::BYTES, b"{}".into()))
        );
    }

    #[test]
    fn cbor_is_converted_from_what_was_typed_and_taken_from_files() {
        let bytes = |source, bytes: &[u8]| {
            payload(Some(Content::Cbor), source, bytes.to_vec()).map(|made| made.bytes().to_vec())
        };
        assert_eq!(
            bytes(Source::Typed, b"{\"a\":1}").unwrap(),
            [0xa1, 0x61, b'a', 1]
        );
        assert_eq!(bytes(Source::Typed, b"1").unwrap(), [1]);
        assert_eq!(
            bytes(Source::Typed, b"{\"b\":-1,\"a\":[null]}").unwrap(),
            [0xa2, 0x61, b'b', 0x20, 0x61, b'a', 0x81, 0xf6]
        );
        assert!(bytes(Source::Typed, b"hello").is_err());
        assert_eq!(bytes(Source::File, &[0x82, 1, 2]).unwrap(), [0x82, 1, 2]);
        assert!(bytes(Source::File, &[0x82, 1]).is_err());
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return_and_have_a_limit() {
        let read = |text: &str| {
            let mut from = text.as_bytes();
            let mut lines = Vec::new();
            while let Some(line) = read_line(&mut from, 1 + lines.len() as u64, 4)? {
                lines.push(String::from_utf8(line).unwrap());
            }
            io::Result::Ok(lines)
        };
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert_eq!(
            read("one\r\n\ntwo\nlast").unwrap(),
            ["one", "", "two", "last"]
        );
        assert_eq!(read("1234\r\n").unwrap(), ["1234"]);
        for text in ["1\n12345", "1\n12345\n", "1\n12345\r\n", "1\n1234567890"] {
            assert_eq!(
                read(text).unwrap_err().to_string(),
                "line 2 has more than 4 bytes, as much as a payload may have"
            );
        }
    }

    #[test]
    fn a_file_has_a_limit() {
        assert_eq!(read_whole(&b"1234"[..], 4).unwrap(), b"1234");
        assert!(read_whole(&b"12345"[..], 4).is_err());
        assert!(read_whole(io::repeat(0), 4).is_err());
    }
}
