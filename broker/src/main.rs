//! The command `localhub`: the broker as a daemon, and what operators do with it.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
