//! D-Bus: signals, raw. A topic is the member of a signal, and a subscription a match rule.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{Opened, Role, Wire};
use crate::stream::{Counter, Frame, Frames, Stream, Tally};

/// A message bus.
pub struct DBus {
    pub socket: PathBuf,
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const SIGNAL: u8 = 4;

const BUS: &str = "org.freedesktop.DBus";
const INTERFACE: &str = "org.localhub.Bench";

/// The part of a message that has the same length in all of them.
const HEAD_BYTES: usize = 16;

impl Wire for DBus {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        let mut stream = Stream::unix(&self.socket)?;
        let user = fs::metadata("/proc/self")?.uid().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let answer = stream.line()?;
        ensure!(answer.starts_with("OK "), "the bus answers {answer:?}");
        stream.write_all(b"BEGIN\r\n")?;
        call(&mut stream, "Hello", None)?;
        if let Some(topic) = role.hears {
            let rule = format!("type='signal',interface='{INTERFACE}',member='{topic}'");
            call(&mut stream, "AddMatch", Some(&rule))?;
        }

        let message = |topic: &str| {
            let mut body = (role.size as u32).to_le_bytes().to_vec();
            body.resize(body.len() + role.size, b'x');
            let fields = [
                (1, b'o', "/bench"),
                (2, b's', INTERFACE),
                (3, b's', topic),
                (8, b'g', "ay"),
            ];
            encode(SIGNAL, &fields, &body)
        };
        Ok(Opened {
            stream,
            counter: Box::new(ByMessage(Frames::new(Tally::default()))),
            message: role.says.map_or_else(Vec::new, message),
            goodbye: Vec::new(),
        })
    }
}

/// Calls a method of the bus itself, and waits for the answer.
fn call(stream: &mut Stream, method: &str, argument: Option<&str>) -> Result<()> {
    let mut fields = vec![
        (1, b'o', "/org/freedesktop/DBus"),
        (2, b's', BUS),
        (3, b's', method),
        (6, b's', BUS),
    ];
    let mut body = Vec::new();
    if let Some(argument) = argument {
        fields.push((8, b'g', "s"));
        put_text(&mut body, argument);
    }
    stream.write_all(&encode(METHOD_CALL, &fields, &body))?;
    loop {
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head)?;
        let mut rest = vec![0; length(&head) - HEAD_BYTES];
        stream.read_exact(&mut rest)?;
        // The signal NameAcquired may come in between.
        if head[1] != SIGNAL {
            ensure!(head[1] == METHOD_RETURN, "the bus refuses {method}");
            return Ok(());
        }
    }
}

struct ByMessage(Frames);

impl Counter for ByMessage {
    fn read(&mut self, stream: &mut Stream) -> Result<bool> {
        self.0.read(stream, |bytes| {
            let Some(head) = bytes.first_chunk() else {
                return Ok(None);
            };
            // The bus's own signal, NameAcquired, has a text in its body and no array of bytes,
            // but it comes before the subscription is confirmed, and is not seen here.
            let adds = Tally {
                received: u64::from(head[1] == SIGNAL),
                ..Tally::default()
            };
            Ok(Some(Frame {
                length: length(head),
                adds,
            }))
        })
    }

    fn tally(&self) -> Tally {
        self.0.tally()
    }
}

/// The length of a message: head, fields up to a multiple of 8, body.
fn length(head: &[u8; HEAD_BYTES]) -> usize {
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    HEAD_BYTES + (number(12) as usize).next_multiple_of(8) + number(4) as usize
}

/// Encodes a message with these header fields: code, type and text of each.
fn encode(kind: u8, fields: &[(u8, u8, &str)], body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (code, signature, text) in fields {
        encoded.resize(encoded.len().next_multiple_of(8), 0);
        encoded.extend([*code, 1, *signature, 0]);
        match signature {
            b'g' => {
                encoded.push(text.len() as u8);
                encoded.extend(text.as_bytes());
                encoded.push(0);
            }
            _ => put_text(&mut encoded, text),
        }
    }
    let mut message = vec![b'l', kind, 0, 1];
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(1_u32.to_le_bytes()); // the serial number, which nobody refers to
    message.extend((encoded.len() as u32).to_le_bytes());
    message.extend(&encoded);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}
