//! What both sides' frames are read and written with.

use crate::cbor::{Reader, Writer};
use crate::{ChannelId, Code, FrameError, kind};

/// How many items a frame has, its kind among them, and the kind.
pub(super) fn read_kind(r: &mut Reader<'_>) -> Result<(usize, u64), FrameError> {
    match r.array()? {
        0 => Err(FrameError::malformed("an empty array")),
        items => Ok((items, r.uint()?)),
    }
}

pub(super) fn read_ack(items: usize, r: &mut Reader<'_>) -> Result<u64, FrameError> {
    expect(items, 2)?;
    r.uint()
}

/// The nonce of a ping or pong, and how far its sender has come.
pub(super) fn read_probe(items: usize, r: &mut Reader<'_>) -> Result<(u64, u64), FrameError> {
    expect(items, 3)?;
    Ok((r.uint()?, r.uint()?))
}

pub(super) fn read_close<'a>(
    items: usize,
    r: &mut Reader<'a>,
) -> Result<(Code, &'a str), FrameError> {
    expect(items, 3)?;
    Ok((Code(r.u16()?), r.text()?))
}

pub(super) fn write_ack<'w, 'b>(received: u64, w: &'w mut Writer<'b>) -> &'w mut Writer<'b> {
    w.array(2).uint(kind::ACK).uint(received)
}

pub(super) fn write_probe<'w, 'b>(
    kind: u64,
    nonce: u64,
    received: u64,
    w: &'w mut Writer<'b>,
) -> &'w mut Writer<'b> {
    w.array(3).uint(kind).uint(nonce).uint(received)
}

pub(super) fn write_close<'w, 'b>(
    code: Code,
    detail: &str,
    w: &'w mut Writer<'b>,
) -> &'w mut Writer<'b> {
    w.array(3)
        .uint(kind::CLOSE)
        .uint(code.0.into())
        .text(detail)
}

pub(super) fn write_channel(channel: Option<ChannelId>, w: &mut Writer<'_>) {
    w.optional(channel, |w, channel| {
        w.uint(channel.0);
    });
}

pub(super) fn expect(items: usize, length: usize) -> Result<(), FrameError> {
    if items == length {
        Ok(())
    } else {
        Err(FrameError::malformed(
            "a frame has another length than its kind",
        ))
    }
}

/// Writes a frame's body behind its length prefix.
pub(super) fn framed(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    let start = buffer.len();
    // Most frames but messages are shorter: otherwise a buffer would grow by steps.
    buffer.reserve(64);
    buffer.extend_from_slice(&[0; 4]);
    write(&mut Writer::new(buffer));
    let length = (buffer.len() - start - 4) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
