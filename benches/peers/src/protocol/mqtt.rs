//! MQTT 3.1.1 at QoS 0.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

use super::{Opened, Role, Wire};
use crate::stream::{ByLength, Stream};

/// A mosquitto.
pub struct Mqtt {
    pub socket: PathBuf,
}

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xe0;

impl Wire for Mqtt {
    fn open(&self, role: Role<'_>) -> Result<Opened> {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);

        let mut stream = Stream::unix(&self.socket)?;
        let name = format!(
            "{}-{}",
            process::id(),
            CLIENTS.fetch_add(1, Ordering::Relaxed)
        );
        let mut connect = text("MQTT");
        connect.extend([4, 2, 0, 0]); // version 3.1.1, clean session, no keep-alive
        connect.extend(text(&name));
        stream.write_all(&packet(CONNECT, &connect))?;
        stream.expect(&[CONNACK, 2, 0, 0])?;

        if let Some(topic) = role.hears {
            let mut subscribe = vec![0, 1];
            subscribe.extend(text(topic));
            subscribe.push(0);
            stream.write_all(&packet(SUBSCRIBE, &subscribe))?;
            let mut suback = [0; 5];
            stream.read_exact(&mut suback)?;
            ensure!(
                suback == [SUBACK, 3, 0, 1, 0],
                "the subscription is refused"
            );
        }

        let message = |topic: &str| {
            let mut publish = text(topic);
            publish.resize(publish.len() + role.size, b'x');
            packet(PUBLISH, &publish)
        };
        Ok(Opened {
            stream,
            counter: Box::new(ByLength::new(
                role.hears.map_or(1, |topic| message(topic).len()),
            )),
            message: role.says.map_or_else(Vec::new, message),
            goodbye: packet(DISCONNECT, &[]),
        })
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        packet.push((length % 128) as u8 | u8::from(more) << 7);
        length /= 128;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
