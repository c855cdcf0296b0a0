use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use localhub_protocol::{ChannelId, ChannelName, ClientId, ClientName, ContentType, Epoch, Retain};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A message that another client sent, or this one itself. Clones share their memory.
#[derive(Clone)]
pub struct Message {
    pub(crate) origin: Arc<Origin>,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) payload: Bytes,
    pub(crate) offset: u64,
    pub(crate) content: ContentType,
    pub(crate) retain: Retain,
}

/// What the messages of one run have in common.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) channel: Option<ChannelName>,
    /// The channel for the broker, which knows it by number.
    pub(crate) place: Option<(Epoch, ChannelId)>,
    pub(crate) sender: Sender,
    pub(crate) retained: bool,
}

/// Who sent a message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sender {
    /// The sender's session.
    pub id: ClientId,
    /// The name it had when it sent the message.
    pub name: ClientName,
}

/// A place in the messages of a channel. It means something as long as the broker has the channel.
///
/// As text it is three words with slashes between, to be kept in a file or passed on the command line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cursor {
    pub(crate) epoch: Epoch,
    pub(crate) channel: ChannelId,
    pub(crate) offset: u64,
}

/// The text is not a [`Cursor`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a cursor is an epoch of 32 hexadecimal digits, a channel's number and an offset, as in EPOCH/5/40"
)]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.epoch, self.channel, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let mut words = text.split('/');
        let (Some(epoch), Some(channel), Some(offset), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(CursorError);
        };
        let hex = epoch.len() == 32 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
        let epoch = u128::from_str_radix(epoch, 16).ok().filter(|_| hex);
        Ok(Self {
            epoch: Epoch(epoch.ok_or(CursorError)?.to_be_bytes()),
            channel: ChannelId(channel.parse().map_err(|_| CursorError)?),
            offset: offset.parse().map_err(|_| CursorError)?,
        })
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

impl TryFrom<String> for Cursor {
    type Error = CursorError;

    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse()
    }
}

impl Cursor {
    /// The offset of the last message before it.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Message {
    /// The channel it was sent to; `None` for a direct message.
    pub fn channel(&self) -> Option<&ChannelName> {
        self.origin.channel.as_ref()
    }

    /// The topic it was published to; `None` for broadcasts and direct messages.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// Who sent it.
    pub fn sender(&self) -> &Sender {
        &self.origin.sender
    }

    /// Its place in the channel: all members see the same offsets, ascending. For a direct message,
    /// its place among all that its sender sent.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether both are the same message of the same life of a channel.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.offset == other.offset && self.origin.place == other.origin.place
    }

    /// Whether its channel keeps it, or kept it then, as the last value of its topic.
    pub(crate) fn is_value(&self) -> bool {
        self.retain == Retain::Set
    }

    /// Where the stream is once this message is dealt with: to go on from there later, also in another
    /// process, see [`StartAt::After`](crate::StartAt::After). `None` for a direct message.
    pub fn cursor(&self) -> Option<Cursor> {
        let (epoch, channel) = self.origin.place?;
        Some(Cursor {
            epoch,
            channel,
            offset: self.offset,
        })
    }

    /// Whether the channel had kept this message from before the subscription, as a last value or in its
    /// history, and it is not live.
    pub fn is_retained(&self) -> bool {
        self.origin.retained
    }

    /// Whether this message made the channel forget the last value of the topic.
    pub fn is_cleared(&self) -> bool {
        self.retain == Retain::Clear
    }

    /// Whether it was sent to all members of the channel, whatever they are subscribed to.
    pub fn is_broadcast(&self) -> bool {
        self.origin.channel.is_some() && self.topic.is_none()
    }

    /// What the sender says the payload is.
    pub fn content(&self) -> ContentType {
        self.content
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload as text, if it is UTF-8, whatever the sender says it is.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }

    /// The payload as a value: CBOR or JSON, as the sender says; text is read as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] if the payload is something else, or not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode(self.content, &self.payload)
    }
}

impl fmt::Debug for Message {
    /// All but the payload, which is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("channel", &self.channel().map(ChannelName::as_str))
            .field("topic", &self.topic())
            .field("sender", &self.sender().name.as_str())
            .field("offset", &self.offset)
            .field("content", &self.content)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Reads a value as what its sender says it is.
pub(crate) fn decode<T: DeserializeOwned>(content: ContentType, bytes: &[u8]) -> Result<T, Error> {
    let reason = match content {
        ContentType::CBOR => match ciborium::from_reader(bytes) {
            Ok(value) => return Ok(value),
            Err(error) => error.to_string(),
        },
        ContentType::JSON | ContentType::TEXT => match serde_json::from_slice(bytes) {
            Ok(value) => return Ok(value),
            Err(error) => error.to_string(),
        },
        other => format!("the sender calls it {}, not CBOR or JSON", other.name()),
    };
    Err(Error::Decode { reason })
}

/// What is sent: bytes, and a hint at what they are.
///
/// Text becomes [`ContentType::TEXT`], bytes [`ContentType::BYTES`].
#[derive(Clone, Debug)]
pub struct Payload {
    content: ContentType,
    data: Data,
}

/// Short payloads are kept in place, so that publishing one costs no allocation.
#[derive(Clone)]
enum Data {
    Short {
        bytes: [u8; SHORT_BYTES_MAX],
        length: u8,
    },
    Shared(Bytes),
}

/// As much as most messages have, and still cheap to move.
const SHORT_BYTES_MAX: usize = 94;

impl Payload {
    /// Bytes of the given type. The broker never looks at them.
    pub fn new(content: ContentType, bytes: impl Into<Bytes>) -> Self {
        Self {
            content,
            data: Data::Shared(bytes.into()),
        }
    }

    /// The value as CBOR, which is smaller and faster than JSON.
    ///
    /// # Errors
    /// [`Error::Encode`] if the type cannot be written as CBOR.
    pub fn cbor<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(|error| Error::Encode {
            reason: error.to_string(),
        })?;
        Ok(Self::new(ContentType::CBOR, bytes))
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// [`Error::Encode`] if the type cannot be written as JSON, such as a map with keys that are no
    /// strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::Encode {
            reason: error.to_string(),
        })?;
        Ok(Self::new(ContentType::JSON, bytes))
    }

    /// The value as CBOR or JSON, such as the request was that it answers.
    ///
    /// # Errors
    /// [`Error::Encode`] for another type of content, and as [`cbor`](Self::cbor) and [`json`](Self::json).
    pub fn encode<T: Serialize + ?Sized>(content: ContentType, value: &T) -> Result<Self, Error> {
        match content {
            ContentType::CBOR => Self::cbor(value),
            ContentType::JSON => Self::json(value),
            other => Err(Error::Encode {
                reason: format!("a value is CBOR or JSON, not content {}", other.0),
            }),
        }
    }

    /// What the bytes are.
    pub fn content(&self) -> ContentType {
        self.content
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Short { bytes, length } => &bytes[..usize::from(*length)],
            Data::Shared(bytes) => bytes,
        }
    }

    fn copy(content: ContentType, from: &[u8]) -> Self {
        let data = match u8::try_from(from.len()) {
            Ok(length) if from.len() <= SHORT_BYTES_MAX => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..from.len()].copy_from_slice(from);
                Data::Short { bytes, length }
            }
            _ => Data::Shared(Bytes::copy_from_slice(from)),
        };
        Self { content, data }
    }
}

impl Default for Payload {
    /// No bytes.
    fn default() -> Self {
        Self::new(ContentType::BYTES, Bytes::new())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content && self.bytes() == other.bytes()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Short { length, .. } => usize::from(*length),
            Self::Shared(bytes) => bytes.len(),
        };
        write!(f, "{bytes} bytes")
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::copy(ContentType::TEXT, text.as_bytes())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::new(ContentType::TEXT, text)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::copy(ContentType::BYTES, bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(ContentType::BYTES, bytes)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(ContentType::BYTES, bytes)
    }
}

impl From<&Message> for Payload {
    fn from(message: &Message) -> Self {
        Self::new(message.content, message.payload.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
    struct Reading {
        volts: u32,
    }

    #[test]
    fn a_payload_knows_what_it_is() {
        for (payload, content, bytes) in [
            (Payload::from("text"), ContentType::TEXT, &b"text"[..]),
            (Payload::from("text".to_owned()), ContentType::TEXT, b"text"),
            (Payload::from(b"bytes"), ContentType::BYTES, b"bytes"),
            (Payload::from(vec![1, 2]), ContentType::BYTES, &[1, 2]),
            (
                Payload::json(&Reading { volts: 5 }).unwrap(),
                ContentType::JSON,
                b"{\"volts\":5}",
            ),
            (
                Payload::cbor(&Reading { volts: 5 }).unwrap(),
                ContentType::CBOR,
                b"\xa1evolts\x05",
            ),
        ] {
            assert_eq!(
                (payload.content(), payload.bytes()),
                (content, bytes),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn payloads_of_any_length_keep_their_bytes() {
        for length in [
            0,
            1,
            SHORT_BYTES_MAX - 1,
            SHORT_BYTES_MAX,
            SHORT_BYTES_MAX + 1,
            255,
            256,
            70_000,
        ] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(Payload::from(&bytes[..]).bytes(), bytes, "{length} bytes");
        }
    }

    #[test]
    fn a_value_is_read_as_what_its_sender_says_it_is() {
        let reading = Reading { volts: 5 };
        for payload in [
            Payload::cbor(&reading).unwrap(),
            Payload::json(&reading).unwrap(),
        ] {
            assert_eq!(
                decode::<Reading>(payload.content(), payload.bytes()).unwrap(),
                reading
            );
        }
        assert_eq!(decode::<u8>(ContentType::TEXT, b"7").unwrap(), 7);

        let error = decode::<Reading>(ContentType::BYTES, b"{}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the payload cannot be decoded: the sender calls it bytes, not CBOR or JSON"
        );
        let error = decode::<Reading>(ContentType::JSON, b"{}").unwrap_err();
        assert!(
            error.to_string().contains("missing field `volts`"),
            "{error}"
        );
    }
}
