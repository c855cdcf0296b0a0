//! NATS: text lines over TCP (nats-server has no Unix socket).

use std::io::Write;

use anyhow::Result;

use super::{Opened, Role, Wire};
use crate::stream::{ByLength, Stream};

/// A nats-server.
pub struct Nats {
    pub port: u16,
}

impl Wire for Nats {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        let mut stream = Stream::tcp(self.port)?;
        stream.line()?; // INFO {..}
        stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        if let Some(topic) = role.hears {
            stream.write_all(format!("SUB {topic} 1\r\n").as_bytes())?;
        }
        stream.write_all(b"PING\r\n")?;
        stream.expect(b"PONG\r\n")?;

        let delivery =
            |topic: &str| format!("MSG {topic} 1 {}\r\n", role.size).len() + role.size + 2;
        Ok(Opened {
            stream,
            counter: Box::new(ByLength::new(role.hears.map_or(1, delivery))),
            message: role
                .says
                .map_or_else(Vec::new, |topic| publish(topic, role.size)),
            goodbye: Vec::new(),
        })
    }
}

fn publish(topic: &str, size: usize) -> Vec<u8> {
    let mut message = format!("PUB {topic} {size}\r\n").into_bytes();
    message.resize(message.len() + size, b'x');
    message.extend(b"\r\n");
    message
}
