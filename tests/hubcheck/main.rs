//! A checker of histories: real processes do and suffer what they may, each writes down what it did
//! and saw, and afterwards the promises are checked over all that was written down.
//!
//! It knows nothing of the broker but its program, and of the clients but the SDK. What it does is
//! told in `docs/testing.md`.

#[cfg(unix)]
mod asker;
#[cfg(unix)]
mod board;
#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod handler;
#[cfg(unix)]
mod history;
#[cfg(unix)]
mod holder;
#[cfg(unix)]
mod nemesis;
#[cfg(unix)]
mod plan;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod record;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod roles;
#[cfg(unix)]
mod runner;
#[cfg(unix)]
mod values;
#[cfg(unix)]
mod watcher;
#[cfg(unix)]
mod wire;
#[cfg(unix)]
mod workload;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    roles::main()
}

#[cfg(not(unix))]
fn main() {
    println!("hubcheck needs signals and sockets of Unix: nothing was tested");
}
