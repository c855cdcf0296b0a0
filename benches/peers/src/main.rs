//! localhub and its peers, measured side by side by one generator. `run` beside this is the way in.
//!
//! The generator sends messages that were encoded beforehand, in batches, over raw sockets, and
//! counts what arrives by its bytes, so that it costs next to nothing and the broker is what is
//! measured.

mod plan;
mod plot;
mod protocol;
mod report;
mod results;
mod stream;
mod work;

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::plan::Plan;

const USAGE: &str = "usage:
  peers serve relay|zmq|busrt SOCKET
  peers throughput|round-trips DIRECTORY ROUND full|quick BROKER..
  peers memory DIRECTORY ROUND full|quick BROKER PROCESS SESSIONS
  peers storm DIRECTORY ROUND full|quick
  peers report DIRECTORY OUTPUT.md

DIRECTORY has the sockets of the brokers, and gets the results. `run` does all of this.";

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", "relay", socket] => protocol::relay::serve(&PathBuf::from(socket)),
        ["serve", "zmq", socket] => protocol::zmq::serve(&PathBuf::from(socket)),
        ["serve", "busrt", socket] => protocol::serve_busrt(&PathBuf::from(socket)),
        ["throughput", directory, round, extent, ref brokers @ ..] => {
            Plan::new(directory, round, extent)?.throughput(brokers)
        }
        ["round-trips", directory, round, extent, ref brokers @ ..] => {
            Plan::new(directory, round, extent)?.round_trips(brokers)
        }
        [
            "memory",
            directory,
            round,
            extent,
            broker,
            process,
            sessions,
        ] => {
            let process = process.parse().context("PROCESS is a number")?;
            let sessions = sessions.parse().context("SESSIONS is a number")?;
            Plan::new(directory, round, extent)?.memory(broker, process, sessions)
        }
        ["storm", directory, round, extent] => Plan::new(directory, round, extent)?.storm(),
        ["report", directory, output] => {
            report::write(&PathBuf::from(directory), &PathBuf::from(output))
        }
        _ => bail!(USAGE),
    }
}
