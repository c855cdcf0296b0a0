//! The work itself, the same for every broker.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::protocol::{Protocol, Received};
use crate::results::Outcome;

const TOPIC: &str = "bench";

/// Publishes from one client to some others for about that long: deliveries per second.
///
/// The number of messages grows until a run takes at least half as long as wanted; the runs before
/// warm up.
pub fn throughput(
    protocol: &dyn Protocol,
    size: usize,
    subscribers: usize,
    wanted: Duration,
) -> Result<Outcome> {
    /// The first run: so many deliveries or bytes, whichever is less.
    const FIRST_DELIVERIES: usize = 100_000;
    const FIRST_BYTES: usize = 16 * 1024 * 1024;
    /// A run has at most so many times the messages of the one before.
    const GROWTH_MAX: f64 = 16.0;

    let deliveries = FIRST_DELIVERIES.min(FIRST_BYTES / size);
    let mut count = (deliveries / subscribers).max(8) as u64;
    loop {
        let (delivered, took) = publish(protocol, size, subscribers, count)?;
        let expected = count * subscribers as u64;
        let lost = 1.0 - delivered as f64 / expected as f64;
        if took >= wanted / 2 || lost > 0.0 {
            let value = delivered as f64 / took.as_secs_f64();
            return Ok(Outcome { value, lost });
        }
        let growth = wanted.as_secs_f64() / took.as_secs_f64();
        count = (count as f64 * growth.min(GROWTH_MAX)) as u64;
    }
}

/// Publishes so many messages: how many were delivered, and in which time.
fn publish(
    protocol: &dyn Protocol,
    size: usize,
    subscribers: usize,
    count: u64,
) -> Result<(u64, Duration)> {
    let connected = (0..subscribers)
        .map(|_| protocol.subscriber(TOPIC, size))
        .collect::<Result<Vec<_>>>()?;
    let mut publisher = protocol.publisher(TOPIC, size)?;
    let ready = Barrier::new(subscribers + 1);
    thread::scope(|scope| {
        let receiving: Vec<_> = connected
            .into_iter()
            .map(|mut subscriber| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    let received = subscriber.receive(count);
                    (received, subscriber)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        publisher.publish(count)?;

        let (mut delivered, mut last) = (0, start);
        // The subscribers go only when all have everything: a goodbye is work for the broker.
        let mut done = Vec::new();
        for thread in receiving {
            let (received, subscriber) = thread
                .join()
                .map_err(|_| anyhow!("a subscriber panicked"))?;
            let Received { messages, last: at } = received?;
            delivered += messages;
            last = last.max(at);
            done.push(subscriber);
        }
        ensure!(delivered > 0, "nothing was delivered");
        Ok((delivered, last - start))
    })
}

/// Sends a message from A to B and another one back, so many times: each of the times in
/// microseconds, ascending.
pub fn round_trips(protocol: &dyn Protocol, size: usize, count: usize) -> Result<Vec<f64>> {
    /// Not counted: the first ones touch everything for the first time.
    const WARM_UP: usize = 500;

    let mut b = protocol.link("ping", "pong", size)?;
    let mut a = protocol.link("pong", "ping", size)?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || b.echo(WARM_UP + count));
        let times = a.ping(WARM_UP + count)?;
        let mut times: Vec<_> = times[WARM_UP..]
            .iter()
            .map(|time| time.as_nanos() as f64 / 1_000.0)
            .collect();
        echo.join().map_err(|_| anyhow!("the echo panicked"))??;
        times.sort_by(f64::total_cmp);
        Ok(times)
    })
}

/// Opens connections with one subscription each, and says how much memory the broker takes more at
/// each of the counts, which ascend.
pub fn memory(
    protocol: &dyn Protocol,
    process: u32,
    counts: &[usize],
    mut each: impl FnMut(usize, f64) -> Result<()>,
) -> Result<()> {
    // What the first client makes the broker allocate once is not what a client costs.
    let mut held = vec![protocol.subscriber(TOPIC, 1)?];
    let empty = resident(process)?;
    for count in counts {
        while held.len() <= *count {
            held.push(protocol.subscriber(TOPIC, 1)?);
        }
        each(*count, resident(process)? - empty)?;
    }
    Ok(())
}

/// The memory of a process, in bytes.
fn resident(process: u32) -> Result<f64> {
    let path = Path::new("/proc").join(process.to_string()).join("status");
    let status = fs::read_to_string(&path).context("the broker is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("the system does not tell the memory of a process")?;
    Ok(kib * 1024.0)
}
