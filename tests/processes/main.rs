//! The real binary, in real processes: sockets, permissions, users, signals, exit codes, outputs.
//!
//! What these tests wait for are conditions, never times.

#![cfg(unix)]

mod broker;
mod demo;
mod heir;
mod history;
mod messages;
mod mischief;
mod operators;
mod services;
mod values;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use localhub_protocol::limits::HELLO_BYTES_MAX;
use localhub_protocol::{BrokerFrame, ClientFrame, Code};
use localhub_tests::hello;
use localhub_tests::process::{Daemon, Process, command, private_directory, until};

const LOCALHUB: &str = env!("CARGO_BIN_EXE_localhub");

/// The user that nobody is, whom every Unix has.
const NOBODY: u32 = 65_534;

fn daemon() -> Daemon {
    Daemon::start(LOCALHUB, "")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A subscriber that is ready: it has printed the retained value that was there before it.
fn subscriber(daemon: &Daemon, filter: &str) -> Process {
    let topic = if filter == "#" { "ready" } else { filter };
    daemon.prints(["pub", "kiosk", topic, "yes", "--retain"]);
    let subscriber = daemon.spawns(["sub", "kiosk", filter, "--json"]);
    assert!(
        subscriber.line().contains("\"yes\""),
        "the retained value comes first"
    );
    subscriber
}
