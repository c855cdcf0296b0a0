//! ZeroMQ: an XSUB/XPUB proxy between PUB and SUB sockets, all without high-water marks.
//!
//! libzmq sends and receives in threads of its own, so its clients cost more than the others do.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use zmq::{Context, Message, PUB, SUB, Socket, SocketType, XPUB, XSUB};

use super::{Blocking, Link, Protocol, Publisher, Received, Subscriber};
use crate::stream::SILENCE_MAX;

/// A proxy.
pub struct Zmq {
    context: Context,
    publishers: String,
    subscribers: String,
}

/// How long to wait for a probe before another one is sent.
const PROBE_MS: i32 = 10;

impl Zmq {
    /// The proxy whose two sockets begin with this path.
    pub fn new(socket: &Path) -> Self {
        let (publishers, subscribers) = ends(socket);
        Self {
            context: Context::new(),
            publishers,
            subscribers,
        }
    }

    fn hear(&self, topic: &str) -> Result<Socket> {
        let socket = unlimited(&self.context, SUB)?;
        socket.set_rcvtimeo(SILENCE_MAX.as_millis() as i32)?;
        socket.connect(&self.subscribers)?;
        socket.set_subscribe(topic.as_bytes())?;
        Ok(socket)
    }

    fn speak(&self) -> Result<Socket> {
        let socket = unlimited(&self.context, PUB)?;
        socket.connect(&self.publishers)?;
        Ok(socket)
    }

    /// Waits until what `speaker` publishes reaches `hearer`, by a topic of its own that sorts
    /// behind all others: subscriptions travel in order.
    fn wait(&self, speaker: &Socket, hearer: &Socket) -> Result<()> {
        static PROBES: AtomicU64 = AtomicU64::new(0);

        let probe = format!("~{}.", PROBES.fetch_add(1, Ordering::Relaxed));
        hearer.set_subscribe(probe.as_bytes())?;
        let start = Instant::now();
        loop {
            speaker.send(&probe, 0)?;
            if hearer.poll(zmq::POLLIN, PROBE_MS.into())? > 0 {
                break;
            }
            if start.elapsed() > SILENCE_MAX {
                bail!("the proxy forwards nothing");
            }
        }
        hearer.set_unsubscribe(probe.as_bytes())?;
        while hearer.poll(zmq::POLLIN, PROBE_MS.into())? > 0 {
            hearer.recv_bytes(0)?;
        }
        Ok(())
    }
}

impl Protocol for Zmq {
    fn subscriber(&self, topic: &str, _size: usize) -> Result<Box<dyn Subscriber>> {
        let socket = self.hear(topic)?;
        self.wait(&self.speak()?, &socket)?;
        Ok(Box::new(ZmqSubscriber { socket }))
    }

    fn publisher(&self, topic: &str, size: usize) -> Result<Box<dyn Publisher>> {
        let socket = self.speak()?;
        self.wait(&socket, &self.hear("~")?)?;
        Ok(Box::new(ZmqPublisher {
            message: message(topic, size),
            socket,
        }))
    }

    fn link(&self, hears: &str, says: &str, size: usize) -> Result<Box<dyn Link>> {
        let (speaker, hearer) = (self.speak()?, self.hear(hears)?);
        self.wait(&speaker, &hearer)?;
        Ok(Box::new(ZmqLink {
            message: message(says, size),
            speaker,
            hearer,
        }))
    }
}

struct ZmqSubscriber {
    socket: Socket,
}

impl Subscriber for ZmqSubscriber {
    fn receive(&mut self, count: u64) -> Result<Received> {
        let (mut messages, mut last) = (0, Instant::now());
        let mut message = Message::new();
        while messages < count {
            match self.socket.recv(&mut message, 0) {
                Ok(()) => messages += 1,
                Err(zmq::Error::EAGAIN) => return Ok(Received { messages, last }),
                Err(error) => return Err(error.into()),
            }
            // The clock is read now and then only: it costs as much as the message.
            if messages % 64 == 0 || messages == count {
                last = Instant::now();
            }
        }
        Ok(Received { messages, last })
    }
}

struct ZmqPublisher {
    socket: Socket,
    message: Vec<u8>,
}

impl Publisher for ZmqPublisher {
    fn publish(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            self.socket.send(&self.message[..], 0)?;
        }
        Ok(())
    }
}

struct ZmqLink {
    message: Vec<u8>,
    speaker: Socket,
    hearer: Socket,
}

impl Blocking for ZmqLink {
    fn send(&mut self) -> Result<()> {
        Ok(self.speaker.send(&self.message[..], 0)?)
    }

    fn receive(&mut self) -> Result<()> {
        self.hearer
            .recv_bytes(0)
            .context("a message did not come back")?;
        Ok(())
    }
}

/// Runs the proxy until it is killed.
pub fn serve(socket: &Path) -> Result<()> {
    let context = Context::new();
    let (publishers, subscribers) = ends(socket);
    let (from, to) = (unlimited(&context, XSUB)?, unlimited(&context, XPUB)?);
    from.bind(&publishers)?;
    to.bind(&subscribers)?;
    // `run` waits for this file.
    std::fs::write(socket, "ready")?;
    Ok(zmq::proxy(&from, &to)?)
}

fn ends(socket: &Path) -> (String, String) {
    let end = |suffix: &str| {
        let mut path = PathBuf::from(socket);
        path.set_extension(suffix);
        format!("ipc://{}", path.display())
    };
    (end("in"), end("out"))
}

fn unlimited(context: &Context, kind: SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(0)?;
    Ok(socket)
}

fn message(topic: &str, size: usize) -> Vec<u8> {
    let mut message = topic.as_bytes().to_vec();
    message.resize(message.len() + size, b'x');
    message
}
