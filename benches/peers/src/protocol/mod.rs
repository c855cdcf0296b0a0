//! What the generator needs of a broker, and the brokers that speak over a byte stream.

mod busrt;
mod dbus;
mod localhub;
mod mqtt;
mod nats;
mod redis;
pub mod relay;
mod sdk;
pub mod zmq;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::stream::{Counter, Stream, Tally};

pub use self::busrt::serve as serve_busrt;
pub use self::localhub::storm;

/// A broker, as the generator uses it.
pub trait Protocol: Sync {
    /// Connects and subscribes. Returns once the broker has the subscription.
    fn subscriber(&self, topic: &str, size: usize) -> Result<Box<dyn Subscriber>>;

    /// Connects, to publish messages of one size.
    fn publisher(&self, topic: &str, size: usize) -> Result<Box<dyn Publisher>>;

    /// Connects a client that does both, one message at a time.
    fn link(&self, hears: &str, says: &str, size: usize) -> Result<Box<dyn Link>>;
}

/// A client that receives as fast as it can.
pub trait Subscriber: Send {
    /// Receives until it has so many messages since it was made, or nothing more comes.
    fn receive(&mut self, count: u64) -> Result<Received>;
}

/// What a subscriber got.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// How many messages.
    pub messages: u64,
    /// When the last of them was there.
    pub last: Instant,
}

/// A client that publishes as fast as it can.
pub trait Publisher: Send {
    /// Publishes so many messages. They are out of this process when it returns, but not
    /// necessarily delivered, so the publisher has to be kept until they are.
    fn publish(&mut self, count: u64) -> Result<()>;
}

/// One end of round trips.
pub trait Link: Send {
    /// Sends a message and waits for the one that comes back, so many times: how long each took.
    fn ping(&mut self, count: usize) -> Result<Vec<Duration>>;

    /// Sends a message for each that comes, so many times.
    fn echo(&mut self, count: usize) -> Result<()>;
}

/// A link that blocks its thread.
pub trait Blocking: Send {
    /// Publishes one message.
    fn send(&mut self) -> Result<()>;

    /// Waits for one message.
    fn receive(&mut self) -> Result<()>;
}

impl<T: Blocking> Link for T {
    fn ping(&mut self, count: usize) -> Result<Vec<Duration>> {
        let times = (0..count).map(|_| {
            let start = Instant::now();
            self.send()?;
            self.receive()?;
            Ok(start.elapsed())
        });
        times.collect()
    }

    fn echo(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.receive()?;
            self.send()?;
        }
        Ok(())
    }
}

/// The broker of that name, whose socket is in the directory.
pub fn named(name: &str, directory: &Path) -> Result<Box<dyn Protocol>> {
    let socket = directory.join(format!("{name}.sock"));
    Ok(match name {
        "busrt" => Box::new(busrt::BusRt { socket }),
        "dbus-daemon" => Box::new(dbus::DBus { socket }),
        "localhub" => Box::new(localhub::Localhub { socket }),
        "localhub-sdk" => Box::new(sdk::Sdk {
            socket: directory.join("localhub.sock"),
        }),
        "mosquitto" => Box::new(mqtt::Mqtt { socket }),
        "nats" => Box::new(nats::Nats {
            port: port(directory, "nats")?,
        }),
        "redis" => Box::new(redis::Redis { socket }),
        "relay" => Box::new(relay::Relay { socket }),
        "zmq" => Box::new(zmq::Zmq::new(&socket)),
        _ => bail!("no broker is called {name}"),
    })
}

/// The port that `run` found out, for a broker that listens on one.
fn port(directory: &Path, name: &str) -> Result<u16> {
    let path = directory.join(format!("{name}.port"));
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("{} has no port", path.display()))
}

/// What a connection is for.
#[derive(Clone, Copy)]
struct Role<'a> {
    /// The topic that it subscribes to.
    hears: Option<&'a str>,
    /// The topic that it publishes to.
    says: Option<&'a str>,
    /// The payload of each message, in bytes.
    size: usize,
}

/// A connection that is ready for its role.
struct Opened {
    stream: Stream,
    /// Counts what arrives from here on.
    counter: Box<dyn Counter>,
    /// One message, as it goes over the wire; nothing if the role is not to publish.
    message: Vec<u8>,
    /// What the broker wants to hear before the connection ends.
    goodbye: Vec<u8>,
}

/// A protocol over a byte stream, in which one message is the same bytes each time.
trait Wire: Sync {
    /// Connects, says hello, subscribes, and has waited for every answer when it returns.
    fn open(&self, role: Role<'_>) -> Result<Opened>;
}

impl<W: Wire> Protocol for W {
    fn subscriber(&self, topic: &str, size: usize) -> Result<Box<dyn Subscriber>> {
        let opened = self.open(Role {
            hears: Some(topic),
            says: None,
            size,
        })?;
        Ok(Box::new(WireClient { opened, heard: 0 }))
    }

    fn publisher(&self, topic: &str, size: usize) -> Result<Box<dyn Publisher>> {
        let opened = self.open(Role {
            hears: None,
            says: Some(topic),
            size,
        })?;
        Ok(Box::new(WirePublisher::new(opened)?))
    }

    fn link(&self, hears: &str, says: &str, size: usize) -> Result<Box<dyn Link>> {
        let opened = self.open(Role {
            hears: Some(hears),
            says: Some(says),
            size,
        })?;
        Ok(Box::new(WireClient { opened, heard: 0 }))
    }
}

/// A client that reads its connection itself.
struct WireClient {
    opened: Opened,
    /// How many messages it has waited for one by one.
    heard: u64,
}

impl WireClient {
    /// Reads until so many messages are there or lost, or nothing more comes.
    fn read_until(&mut self, count: u64) -> Result<(Tally, Instant)> {
        let Opened {
            stream, counter, ..
        } = &mut self.opened;
        let mut last = Instant::now();
        loop {
            let tally = counter.tally();
            if tally.received + tally.lost >= count || !counter.read(stream)? {
                return Ok((tally, last));
            }
            last = Instant::now();
        }
    }
}

impl Subscriber for WireClient {
    fn receive(&mut self, count: u64) -> Result<Received> {
        let (tally, last) = self.read_until(count)?;
        Ok(Received {
            messages: tally.received,
            last,
        })
    }
}

impl Blocking for WireClient {
    fn send(&mut self) -> Result<()> {
        Ok(self.opened.stream.write_all(&self.opened.message)?)
    }

    fn receive(&mut self) -> Result<()> {
        self.heard += 1;
        let (tally, _) = self.read_until(self.heard)?;
        match tally.received >= self.heard {
            true => Ok(()),
            false => bail!("a message did not come back"),
        }
    }
}

impl Drop for WireClient {
    fn drop(&mut self) {
        // The broker may have closed the connection already.
        let _ = self.opened.stream.write_all(&self.opened.goodbye);
    }
}

/// A client that writes whole batches, while a thread reads and forgets what the broker answers.
struct WirePublisher {
    opened: Opened,
    batch: Vec<u8>,
    drain: Option<JoinHandle<()>>,
}

/// One write of a publisher has at most this many bytes, or one message.
const BATCH_BYTES: usize = 64 * 1024;

impl WirePublisher {
    fn new(opened: Opened) -> Result<Self> {
        let mut answers = opened.stream.try_clone()?;
        answers.set_read_timeout(None)?;
        let drain = thread::spawn(move || {
            // It ends with the connection, however that ends.
            let _ = io::copy(&mut answers, &mut io::sink());
        });
        let batch = opened
            .message
            .repeat((BATCH_BYTES / opened.message.len()).max(1));
        Ok(Self {
            opened,
            batch,
            drain: Some(drain),
        })
    }
}

impl Publisher for WirePublisher {
    fn publish(&mut self, count: u64) -> Result<()> {
        let mut left = count as usize * self.opened.message.len();
        while left > 0 {
            let bytes = left.min(self.batch.len());
            self.opened.stream.write_all(&self.batch[..bytes])?;
            left -= bytes;
        }
        Ok(())
    }
}

impl Drop for WirePublisher {
    fn drop(&mut self) {
        let _ = self.opened.stream.write_all(&self.opened.goodbye);
        self.opened.stream.shutdown();
        if let Some(drain) = self.drain.take() {
            let _ = drain.join();
        }
    }
}
