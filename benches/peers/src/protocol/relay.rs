//! The floor: a relay that copies what one client sends to all that listen, and looks at nothing.
//!
//! No broker can do less. A connection begins with two names of 8 bytes, what it hears and what it
//! says, and is answered with one byte; everything after that is copied, a read at a time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::{Opened, Role, Wire};
use crate::stream::{ByLength, Stream};

/// The relay.
pub struct Relay {
    pub socket: PathBuf,
}

/// A topic, filled up with zeros; all zeros is none.
type Topic = [u8; 8];

const NONE: Topic = [0; 8];
const READY: u8 = b'+';
const READ_BYTES: usize = 256 * 1024;

impl Wire for Relay {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        let mut stream = Stream::unix(&self.socket)?;
        stream.write_all(&role.hears.map_or(NONE, topic))?;
        stream.write_all(&role.says.map_or(NONE, topic))?;
        stream.expect(&[READY])?;

        // A length prefix, as any protocol has one; the relay does not look at it.
        let mut message = (role.size as u32).to_be_bytes().to_vec();
        message.resize(message.len() + role.size, b'x');
        Ok(Opened {
            stream,
            counter: Box::new(ByLength::new(message.len())),
            message,
            goodbye: Vec::new(),
        })
    }
}

fn topic(name: &str) -> Topic {
    let mut topic = NONE;
    topic[..name.len()].copy_from_slice(name.as_bytes());
    topic
}

/// Who hears what, each with the number of its connection.
type Listeners = Arc<Mutex<HashMap<Topic, Vec<(u64, UnixStream)>>>>;

/// Runs the relay until it is killed.
pub fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let listeners = Listeners::default();
    for (number, stream) in (0..).zip(listener.incoming()) {
        let (stream, listeners) = (stream?, listeners.clone());
        thread::spawn(move || {
            // A client that goes takes nothing but its own connection with it.
            let _ = relay(number, stream, &listeners);
        });
    }
    Ok(())
}

fn relay(number: u64, mut stream: UnixStream, listeners: &Listeners) -> Result<()> {
    let lock = || listeners.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut hears, mut says) = (NONE, NONE);
    stream.read_exact(&mut hears)?;
    stream.read_exact(&mut says)?;
    if hears != NONE {
        let receiver = (number, stream.try_clone()?);
        lock().entry(hears).or_default().push(receiver);
    }
    stream.write_all(&[READY])?;

    let copied = copy(&mut stream, says, listeners);
    if let Some(receivers) = lock().get_mut(&hears) {
        receivers.retain(|(other, _)| *other != number);
    }
    copied
}

/// Copies to whoever listens when the first bytes come.
fn copy(stream: &mut UnixStream, says: Topic, listeners: &Listeners) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut receivers: Option<Vec<UnixStream>> = None;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let receivers = match &mut receivers {
            Some(receivers) => receivers,
            None => {
                let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
                let streams = listeners.get(&says).into_iter().flatten();
                let clones = streams.map(|(_, stream)| stream.try_clone());
                receivers.insert(clones.collect::<Result<_, _>>()?)
            }
        };
        receivers.retain_mut(|receiver| receiver.write_all(&buffer[..read]).is_ok());
    }
}
