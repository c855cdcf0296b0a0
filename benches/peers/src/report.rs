//! Writes the report: a page of tables, and plots beside it.

mod goals;
mod tables;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::plan::{PER_MILLE, results_of};
use crate::plot::{Line, Plot};
use crate::results::{Results, Spread, Work};

/// The brokers by their names, as the report shows them, each with a colour.
const BROKERS: [(&str, &str, &str); 9] = [
    ("relay", "relay (floor)", "#888888"),
    ("localhub", "localhub", "#d1495b"),
    ("localhub-sdk", "localhub SDK", "#8d1f3c"),
    ("nats", "nats-server", "#0072b2"),
    ("redis", "redis", "#e69f00"),
    ("mosquitto", "mosquitto", "#009e73"),
    ("zmq", "zmq proxy", "#56b4e9"),
    ("dbus-daemon", "dbus-daemon", "#9467bd"),
    ("busrt", "BUS/RT", "#7f5539"),
];

/// Writes the page, and the plots in a folder beside it that has the name of the page.
pub fn write(directory: &Path, output: &Path) -> Result<()> {
    let results = Results::read(&results_of(directory))?;
    let about = read_about(directory)?;
    let plots = output.with_extension("");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    let folder = plots
        .file_name()
        .context("the report needs a name")?
        .to_string_lossy()
        .into_owned();
    for (name, svg) in draw(&results) {
        fs::write(plots.join(name), svg)?;
    }
    let page = [
        introduction(&about, &results),
        goals::section(&results),
        tables::sections(&results, &folder),
        method(&about),
    ];
    fs::write(output, page.join("\n")).with_context(|| format!("cannot write {}", output.display()))
}

/// What `run` found out about the machine and the brokers.
fn read_about(directory: &Path) -> Result<HashMap<String, String>> {
    let text = fs::read_to_string(directory.join("about.tsv"))?;
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect())
}

fn introduction(about: &HashMap<String, String>, results: &Results) -> String {
    let get = |key: &str| about.get(key).map_or("unknown", String::as_str);
    let quick = match get("extent") {
        "full" => "",
        _ => {
            "\n**This is a quick run: it shows that everything works. Its numbers mean nothing.**\n"
        }
    };
    let virtual_machine = match get("virtual") {
        "none" | "" | "unknown" => String::new(),
        kind => format!(" (virtual: {kind})"),
    };
    format!(
        "# Performance\n\n\
         <!-- Written by benches/peers/run. Do not edit: run it again. -->\n\n\
         localhub and its peers, measured by one generator on one machine in one run. Each number is \
         the median of {rounds} rounds, with the lowest and the highest in brackets; within a round \
         the brokers take turns, work by work. Compare numbers within this page only: another machine, \
         or another hour on this one, gives others.\n{quick}\n\
         | | |\n| --- | --- |\n\
         | date | {date} |\n\
         | command | `{command}` (took {took}) |\n\
         | processor | {processor}{virtual_machine} |\n\
         | memory | {memory} |\n\
         | system | {system} |\n\
         | open files | {files} |\n\
         | load before | {load} |\n\
         | localhub | {localhub}, commit {commit}, {compiler} |\n\
         | peers | nats-server {nats}, redis-server {redis}, mosquitto {mosquitto}, libzmq {zmq}, \
         dbus-daemon {dbus}, busrt {busrt} |\n",
        rounds = results.rounds(),
        date = get("date"),
        command = get("command").trim_end(),
        took = get("took"),
        processor = get("processor"),
        memory = get("memory"),
        system = get("system"),
        files = get("open files"),
        load = get("load before"),
        localhub = get("localhub"),
        commit = get("commit"),
        compiler = get("compiler"),
        nats = get("nats-server"),
        redis = get("redis-server"),
        mosquitto = get("mosquitto"),
        zmq = get("libzmq5"),
        dbus = get("dbus-daemon"),
        busrt = get("busrt"),
    )
}

/// How it was measured, and what to keep in mind.
fn method(about: &HashMap<String, String>) -> String {
    let cores = about.get("processor").map_or("?", String::as_str);
    let cores = cores.split_whitespace().next().unwrap_or("?");
    format!(
        "## How it is measured\n\n\
         - **One generator.** It writes messages that were encoded beforehand, 64 KiB at a time, and \
         counts what arrives by its bytes: it costs next to nothing, and the broker is measured. The \
         exceptions are libzmq and the SDK, whose cost is part of what is shown.\n\
         - **The relay is the floor.** It copies bytes from one socket to others and looks at nothing. \
         It has a thread for each publisher, which writes to all receivers in turn.\n\
         - **All share {cores} cores**, generator and broker alike. A fan-out is limited by how fast \
         the receivers can read.\n\
         - **Unix sockets**, but for nats-server, which has TCP only (127.0.0.1, no delay).\n\
         - **Delivered, not sent.** A rate counts what arrived, from the first write to the last \
         receiver's last message. If anything was lost, the table says how much.\n\
         - **Round trips** are pinned to core 0, brokers and generator: across the cores of a virtual \
         machine a wake-up costs more than any broker, and hides them all.\n\
         - **Memory** is the growth of the resident set of a broker just started, from its second \
         connection on. The storm is timed from the first connection dropped to the last `Welcome`, \
         every session `recovered`; its client is one process with two threads.\n\
         - **localhub** runs as `localhub serve` with its defaults. Its sessions are resumable, \
         its subscribers confirm what they receive, answer pings and say goodbye. Topics are in one channel.\n\
         - **The peers** run with their buffers opened wide (nats-server `max_pending`, redis \
         `client-output-buffer-limit`, mosquitto `max_queued`, no high-water marks in zmq, quotas of \
         dbus-daemon, a queue of 131,072 frames in BUS/RT), because the generator publishes as fast \
         as it can. They guarantee less and keep less: QoS 0, no sessions, no resume. Redis does not \
         answer publishes here.\n\
         - **Noise.** This is not a quiet laboratory. Where the brackets of two brokers overlap, they \
         are not shown to differ.\n\n\
         ## Where the time goes, and what was tried\n\n\
         Found with `perf record -a`, `callgrind` and interleaved runs of two builds of the broker (medians of 4 to 6 \
         runs of 2 s, beside other work; 2026-11-21):\n\n\
         - **64 B, 1→1:** the broker has half of both processors, the generator a third, and the rest idles between their \
         wakes. Of the broker's half, 53 % is the system copying to and from sockets, 17 % waking the other side, 20 % \
         localhub itself. A message has 81 bytes here and 68 in the relay, and is kept until it is confirmed.\n\
         - **Confirming after 256 KiB** and not after 256 messages: 17.7 to 20.3 M/s at 64 B. Each confirmation cost a \
         write, and woke the publisher.\n\
         - **Reading 128 KiB at once** and not 64: 41 to 45 M/s at fan-out 8. 192 and 256 KiB give no more.\n\
         - **One turn that reads, carries out and writes:** 14,000 to 10,300 instructions for a message through the \
         broker, alone on its way; 36.4 to 35.2 µs for a round trip.\n\
         - **News of room to write only while there is none:** 53 to 40.5 µs for a round trip through the SDK. Before, \
         whoever wrote was woken again when it was read.\n\
         - **Without effect:** socket buffers of half to eight times the size; confirming as a subscriber after 128 KiB \
         to 2 MiB; another allocator (mimalloc is as fast as glibc that keeps freed blocks, and takes 1.2 KB more for \
         an idle session).\n\
         - **Not built: writing to a receiver's socket from the publisher's task** when nothing waits. The receiver's own \
         task is about 1,500 of the 10,300 instructions, 2 % of a round trip; the socket would belong to two tasks.\n\n\
         ## What is left out\n\n\
         - Shared memory: localhub has no such path yet.\n\
         - nats-server, redis and mosquitto on several machines, with persistence or TLS: not what \
         localhub does.\n\
         - Client libraries of the peers: only localhub is shown through its SDK as well.\n\
         - Memory of zmq, dbus-daemon, BUS/RT and the relay; the storm with anything but localhub, as \
         the others have no sessions to resume.\n\
         - dbus-broker: its launcher wants systemd and the journal, and does not run beside them in a \
         private place. dbus-daemon, the reference implementation, stands for D-Bus.\n"
    )
}

/// The plots, with the names of their files.
fn draw(results: &Results) -> [(&'static str, String); 4] {
    let sizes = Plot {
        title: "One publisher, one subscriber",
        x: "payload (log)",
        ticks: ticks(results, Work::OneToOne, tables::bytes),
        y: "messages delivered per second (log)",
        lines: lines(results, Work::OneToOne, |x| x as f64),
    };
    // One subscriber at 64 bytes is the first point of the fan-out.
    let mut fan_out = Plot {
        title: "Fan-out of 64-byte messages",
        x: "subscribers (log)",
        ticks: ticks(results, Work::FanOut, |x| x.to_string()),
        y: "messages delivered per second, in all (log)",
        lines: lines(results, Work::FanOut, |x| x as f64),
    };
    fan_out.ticks.insert(0, (1.0, "1".into()));
    for line in &mut fan_out.lines {
        let broker = BROKERS.iter().find(|(_, shown, _)| *shown == line.name);
        if let Some(single) = broker.and_then(|(name, ..)| results.values(name, Work::OneToOne, 64))
        {
            line.points.insert(0, (1.0, single));
        }
    }
    // The x of the k-th slowest part: 2 for the median, 10 for the slowest tenth.
    let rarity = |per_mille: u64| 1_000.0 / (1_000.0 - per_mille as f64);
    let percentiles = |per_mille: &u64| (10..1_000).contains(per_mille) && *per_mille != 10;
    let mut round_trips = Plot {
        title: "Round trip of 64 bytes, everything on one core",
        x: "percentile of the round trips",
        ticks: PER_MILLE
            .into_iter()
            .filter(percentiles)
            .map(|x| (rarity(x), tables::percentile(x)))
            .collect(),
        y: "microseconds (log)",
        lines: lines(results, Work::RoundTrip, rarity),
    };
    for line in &mut round_trips.lines {
        line.points.retain(|(x, _)| x.is_finite() && *x > 1.5);
    }
    let mut memory = Plot {
        title: "Memory of the broker by idle connections",
        x: "connections with one subscription each (log)",
        ticks: ticks(results, Work::Memory, |x| x.to_string()),
        y: "resident memory, MiB (log)",
        lines: lines(results, Work::Memory, |x| x as f64),
    };
    for (_, spread) in memory.lines.iter_mut().flat_map(|line| &mut line.points) {
        *spread = spread.scaled(1.0 / 1_048_576.0);
    }
    [
        ("throughput.svg", sizes.svg()),
        ("fan-out.svg", fan_out.svg()),
        ("round-trip.svg", round_trips.svg()),
        ("memory.svg", memory.svg()),
    ]
}

fn ticks(results: &Results, work: Work, label: impl Fn(u64) -> String) -> Vec<(f64, String)> {
    let xs = results.xs(work).into_iter();
    xs.map(|x| (x as f64, label(x))).collect()
}

fn lines(results: &Results, work: Work, place: impl Fn(u64) -> f64) -> Vec<Line> {
    let line = |(name, shown, colour): &(&str, &str, &'static str)| Line {
        name: (*shown).into(),
        colour,
        strong: *name == "localhub",
        points: results
            .xs(work)
            .into_iter()
            .filter_map(|x| Some((place(x), results.values(name, work, x)?)))
            .collect(),
    };
    let lines = BROKERS.iter().map(line);
    lines.filter(|line| !line.points.is_empty()).collect()
}

/// `12.3 (11.0–14.2)`
fn spread(spread: Spread) -> String {
    let Spread { min, median, max } = spread;
    format!("{} ({}–{})", number(median), number(min), number(max))
}

/// Three digits.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
