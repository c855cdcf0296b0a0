//! Redis: RESP3, which lets one connection subscribe and publish. A publisher has its replies
//! switched off, so that redis does no more than the brokers that do not reply.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::{Opened, Role, Wire};
use crate::stream::{ByLength, Stream};

/// A redis-server.
pub struct Redis {
    pub socket: PathBuf,
}

impl Wire for Redis {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        let mut stream = Stream::unix(&self.socket)?;
        stream.write_all(b"HELLO 3\r\n")?;
        skip_hello(&mut stream)?;
        if let Some(topic) = role.hears {
            stream.write_all(&command(&[b"SUBSCRIBE", topic.as_bytes()]))?;
            let length = topic.len();
            stream.expect(
                format!(">3\r\n$9\r\nsubscribe\r\n${length}\r\n{topic}\r\n:1\r\n").as_bytes(),
            )?;
        }
        if role.says.is_some() {
            // This very command is not answered any more.
            stream.write_all(b"CLIENT REPLY OFF\r\n")?;
        }

        let payload = vec![b'x'; role.size];
        let message = |topic: &str| command(&[b"PUBLISH", topic.as_bytes(), &payload]);
        // A delivery is the array of "message", topic and payload: as long as the command is,
        // since both words have seven letters.
        let delivery = role.hears.map_or(1, |topic| message(topic).len());
        Ok(Opened {
            stream,
            counter: Box::new(ByLength::new(delivery)),
            message: role.says.map_or_else(Vec::new, message),
            goodbye: Vec::new(),
        })
    }
}

/// Reads the answer to `HELLO`: a map whose last value is the empty list of modules.
fn skip_hello(stream: &mut Stream) -> Result<()> {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"modules\r\n*0\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Ok(())
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend(format!("${}\r\n", word.len()).as_bytes());
        command.extend(*word);
        command.extend(b"\r\n");
    }
    command
}
