//! How a verb ends: an exit code, and at most one line on stderr.

use std::io::{self, Write as _};
use std::process::ExitCode;

use localhub::logging::escaped;

use super::output::OutputError;

/// How a verb ended. The numbers are promised in `--help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotRunning = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Tells the user what went wrong, in one line.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    let exit = exit_of(error);
    if exit != Exit::Done {
        note(&line(error));
    }
    exit
}

/// Tells the user what is wrong with the command line, or shows the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    let exit = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    };
    let help_instead =
        error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if exit == Exit::Done || help_instead {
        return match error.print().map_err(OutputError) {
            Ok(()) => exit,
            Err(problem) => report(&problem.into()),
        };
    }
    note(&usage_line(&error.to_string()));
    exit
}

/// Says something on stderr. Nobody may be there to read it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "localhub: {}", escaped(text));
}

fn exit_of(error: &anyhow::Error) -> Exit {
    use localhub_client::Error;
    use localhub_client::endpoint::ConnectError;

    for cause in error.chain() {
        if let Some(OutputError(source)) = cause.downcast_ref()
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever read the answer has enough of it.
            return Exit::Done;
        }
        if let Some(Error::NotRunning { .. }) = cause.downcast_ref() {
            return Exit::NotRunning;
        }
        if let Some(ConnectError::NotRunning { .. }) = cause.downcast_ref() {
            return Exit::NotRunning;
        }
    }
    Exit::Failed
}

/// The error and its causes, as far as they say something new.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line += ": ";
        }
        line += &text;
        if exit_of(error) == Exit::NotRunning {
            // That the socket does not exist is how we know, not what to do about it.
            break;
        }
    }
    line
}

/// What clap says on several lines, on one.
fn usage_line(text: &str) -> String {
    let mut parts = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let line = line.strip_prefix("tip: ").unwrap_or(line);
        if !line.is_empty() {
            parts.push(line);
        }
    }
    let mut said = parts.join("; ").replace(":;", ":");
    said += " (see `localhub --help`)";
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use localhub_client::{Endpoint, Error};

    fn broken_pipe() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    #[test]
    fn no_broker_has_an_exit_code_of_its_own_and_says_what_to_do() {
        let path = if cfg!(windows) {
            r"\\.\pipe\x"
        } else {
            "/run/x"
        };
        let error = anyhow::Error::new(Error::NotRunning {
            endpoint: Endpoint::new(path).unwrap(),
            source: io::ErrorKind::NotFound.into(),
        });
        assert_eq!(exit_of(&error), Exit::NotRunning);
        assert_eq!(
            line(&error),
            format!("no broker is running at {path} (start one with `localhub serve`)")
        );
    }

    #[test]
    fn only_a_reader_who_left_is_no_failure() {
        assert_eq!(exit_of(&OutputError(broken_pipe()).into()), Exit::Done);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(exit_of(&OutputError(full).into()), Exit::Failed);
        assert_eq!(exit_of(&broken_pipe().into()), Exit::Failed);
    }

    #[test]
    fn causes_are_told_once() {
        let error = Err::<(), _>(io::Error::other("disk full"))
            .context("cannot write")
            .context("cannot write: disk full (free some space)")
            .unwrap_err();
        assert_eq!(line(&error), "cannot write: disk full (free some space)");
        let error = anyhow::Error::new(io::Error::other("disk full")).context("cannot write");
        assert_eq!(line(&error), "cannot write: disk full");
    }

    #[test]
    fn a_mistake_in_the_command_line_is_one_line() {
        for (words, expected) in [
            (
                &["localhub", "wach"][..],
                "unrecognized subcommand 'wach'; a similar subcommand exists: 'watch' (see `localhub --help`)",
            ),
            (
                &["localhub", "watch"],
                "the following required arguments were not provided: <CHANNEL> (see `localhub --help`)",
            ),
            (
                &["localhub", "watch", "Kiosk"],
                "invalid value 'Kiosk' for '<CHANNEL>': a name cannot contain 'K' (use a-z 0-9 . _ -) \
                 (see `localhub --help`)",
            ),
        ] {
            let error = crate::cli::command()
                .try_get_matches_from(words)
                .unwrap_err();
            assert_eq!(usage_line(&error.to_string()), expected);
        }
    }
}
