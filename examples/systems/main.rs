//! Whole systems of examples: each program a process, on a broker in this one.
//!
//! `cargo test -p localhub-examples` builds the examples as well; with `--test systems` alone they
//! are those that were built last.

#![cfg(unix)]

mod devices;
mod players;

use std::env;

use localhub::{Broker, config::Config};
use localhub_client::{Client, Endpoint, Options};
use localhub_tests::process::{self, Process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A broker, and what runs the clients of a test.
struct Hub {
    runtime: Runtime,
    broker: Broker,
    directory: TempDir,
}

impl Hub {
    fn start() -> Self {
        let directory = process::private_directory();
        let runtime = Runtime::new().unwrap();
        let broker = broker(&runtime, &directory);
        Self {
            runtime,
            broker,
            directory,
        }
    }

    /// Stops the broker, and starts another one in its place, which knows nothing.
    fn starts_anew(self) -> Self {
        let Self {
            runtime,
            broker: old,
            directory,
        } = self;
        runtime.block_on(old.stop());
        let broker = broker(&runtime, &directory);
        Self {
            runtime,
            broker,
            directory,
        }
    }

    /// Runs an example as a process.
    fn runs(&self, example: &str, arguments: &[&str]) -> Process {
        // Tests are in target/PROFILE/deps, examples in target/PROFILE/examples.
        let test = env::current_exe().unwrap();
        let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
        let program = profile.join("examples").join(example);
        let mut command = process::command(&program, self.directory.path());
        command.args(arguments);
        Process::start(command)
    }

    /// A client in this process.
    fn client(&self, name: &str) -> Client {
        let endpoint: Endpoint = self.broker.endpoint().clone();
        let options = Options::new().name(name).endpoint(endpoint);
        self.runtime.block_on(options.connect()).unwrap()
    }
}

fn broker(runtime: &Runtime, directory: &TempDir) -> Broker {
    let endpoint = directory.path().join("hub.sock");
    let config = Config {
        endpoint: Some(endpoint.display().to_string()),
        ..Config::default()
    };
    runtime.block_on(Broker::start(&config)).unwrap()
}

/// Reads what a process prints up to a line that contains `text`, that one included.
fn read_until(process: &Process, text: &str) -> Vec<String> {
    let mut lines = vec![process.line()];
    while !lines.last().is_some_and(|line| line.contains(text)) {
        lines.push(process.line());
    }
    lines
}

/// How many lines contain a text.
fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}
