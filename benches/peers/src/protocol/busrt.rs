//! BUS/RT: its broker, from the crate `busrt`, behind a small server, and its protocol, raw.
//!
//! A BUS/RT client has a queue in the broker, and is disconnected when that is full. The queue is
//! made larger than its default here; what a client does not get any more counts as lost.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use busrt::broker::{Broker, ServerConfig};
use busrt::{GREETINGS, OP_PUBLISH, OP_SUBSCRIBE, PROTOCOL_VERSION, QoS, RESPONSE_OK};
use tokio::runtime::Builder;

use super::{Opened, Role, Wire};
use crate::stream::{Counter, Frame, Frames, Stream, Tally};

/// A BUS/RT broker.
pub struct BusRt {
    pub socket: PathBuf,
}

/// What may wait for one client, in frames (BUS/RT's own default: 8,192).
const QUEUE_FRAMES: usize = 131_072;

/// How long a client may be silent: longer than any measurement.
const SILENCE: Duration = Duration::from_secs(600);

/// The head of a frame of the broker: its kind, the length of the rest, and one byte.
const HEAD_BYTES: usize = 6;

impl Wire for BusRt {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);

        let mut stream = Stream::unix(&self.socket)?;
        let mut greeting = GREETINGS.to_vec();
        greeting.extend(PROTOCOL_VERSION.to_le_bytes());
        stream.expect(&greeting)?;
        stream.write_all(&greeting)?;
        stream.expect(&[RESPONSE_OK])?;
        let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", process::id());
        stream.write_all(&(name.len() as u16).to_le_bytes())?;
        stream.write_all(name.as_bytes())?;
        stream.expect(&[RESPONSE_OK])?;

        if let Some(topic) = role.hears {
            stream.write_all(&frame(OP_SUBSCRIBE, QoS::Processed, topic.as_bytes()))?;
            let mut answer = [0; HEAD_BYTES];
            stream.read_exact(&mut answer)?;
            ensure!(answer[5] == RESPONSE_OK, "the subscription is refused");
        }

        // Who does both wants answers at once: without "real time" the broker waits for more to
        // write.
        let qos = match role.hears {
            Some(_) => QoS::Realtime,
            None => QoS::No,
        };
        let message = |topic: &str| {
            let mut body = topic.as_bytes().to_vec();
            body.push(0);
            body.resize(body.len() + role.size, b'x');
            frame(OP_PUBLISH, qos, &body)
        };
        Ok(Opened {
            stream,
            counter: Box::new(ByFrame(Frames::new(Tally::default()))),
            message: role.says.map_or_else(Vec::new, message),
            goodbye: Vec::new(),
        })
    }
}

struct ByFrame(Frames);

impl Counter for ByFrame {
    fn read(&mut self, stream: &mut Stream) -> Result<bool> {
        self.0.read(stream, |bytes| {
            let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
                return Ok(None);
            };
            let mut adds = Tally::default();
            let mut length = HEAD_BYTES;
            if head[0] == OP_PUBLISH {
                adds.received = 1;
                length += u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            }
            Ok(Some(Frame { length, adds }))
        })
    }

    fn tally(&self) -> Tally {
        self.0.tally()
    }
}

fn frame(operation: u8, qos: QoS, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0, operation | (qos as u8) << 6];
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(body);
    frame
}

/// Runs the broker until it is killed.
pub fn serve(socket: &Path) -> Result<()> {
    let path = socket.to_str().context("the path is not UTF-8")?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut broker = Broker::new();
        broker.set_queue_size(QUEUE_FRAMES);
        let config = ServerConfig::new().timeout(SILENCE);
        broker
            .spawn_unix_server(path, config)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        std::future::pending().await
    })
}
