//! The answer of a verb, on stdout.

use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal as _, Write};

use localhub::logging::is_unsafe;
use serde::Serialize;

/// The answer could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the answer")]
pub(crate) struct OutputError(#[source] pub(crate) io::Error);

/// Where the answer goes. It is complete only after [`flush`](Self::flush) said so.
pub(crate) struct Output {
    to: BufWriter<io::Stdout>,
    json: bool,
    columns: Option<usize>,
    dirty: bool,
}

impl Output {
    /// Writes to stdout, for a program if `json`.
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let columns = stdout.is_terminal().then(|| {
            terminal_size::terminal_size().map_or(80, |(columns, _)| usize::from(columns.0))
        });
        Self {
            to: BufWriter::new(stdout),
            json,
            columns,
            dirty: false,
        }
    }

    /// Whether the answer is for a program.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// How wide the terminal is, if the answer goes to one.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// Whether something was written since the last flush.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// One line for people, or several.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), OutputError> {
        self.dirty = true;
        writeln!(self.to, "{text}").map_err(OutputError)
    }

    /// One line for programs.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string(value).map_err(|error| OutputError(error.into()))?;
        self.line(harmless(&text))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.dirty = true;
        self.to.write_all(bytes).map_err(OutputError)
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        self.dirty = false;
        self.to.flush().map_err(OutputError)
    }
}

/// JSON on one line that a terminal may be shown: line breaks between tokens become spaces, and
/// what a terminal would obey is escaped, which in JSON changes nothing.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => text.push(' '),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text
}

/// Resolves when nobody reads stdout any more, as when `head` has its lines. Never on Windows,
/// where only the next write tells.
pub(crate) async fn reader_left() {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};

        let (left, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let stdout = io::stdout();
            // Errors are reported whether asked for or not, and nothing else is asked for.
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            while let Err(rustix::io::Errno::INTR) = poll(&mut watched, None) {}
            if watched[0]
                .revents()
                .intersects(PollFlags::ERR | PollFlags::HUP)
            {
                let _ = left.send(());
            }
        });
        if told.await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_that_a_terminal_does_not_obey_and_means_the_same() {
        let value =
            serde_json::json!({"a\u{9b}31m": ["\u{202e}x\u{e0041}", "\u{7f}\n", "Größe 👩‍🔧"]});
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let line = harmless(&text);
            assert!(!line.contains(is_unsafe), "{line:?}");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&line).unwrap(),
                value
            );
        }
    }
}
