//! What the examples share: how a program ends, the versions of contracts, and [`ipc`].

pub mod ipc;
mod version;

pub use version::Version;

use std::io::{self, Write as _};
use std::{fmt, process::ExitCode};

use localhub_client::Error;

/// Prints why `program` ended, if it failed, and gives its exit code: 0 done, 1 failed,
/// 3 no broker is running.
pub fn exit_code(program: &str, outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS; // `head` has read enough
    }
    if let Some(Error::NotRunning { .. }) = error.downcast_ref() {
        eprintln!("{program}: {error}");
        return ExitCode::from(3);
    }
    eprintln!("{program}: {error:#}"); // with its causes
    ExitCode::FAILURE
}

/// Prints a line, as `println!` does, but ends the program when nobody reads it any more: `head` has enough.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::print_line(format_args!($($text)*))
    };
}

/// What [`say!`] does.
#[expect(clippy::disallowed_methods, reason = "nobody is left to tell")]
pub fn print_line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        let code = u8::from(error.kind() != io::ErrorKind::BrokenPipe);
        std::process::exit(code.into());
    }
}

/// The README, whose program is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The recipe's program, likewise.
#[cfg(doctest)]
#[doc = include_str!("../docs/recipes/ipc.md")]
pub struct IpcRecipe;
