use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The id of a command: 16 bytes, higher for commands made later.
///
/// Whoever wants to send a command again after its own end, such as after a restart of the program,
/// keeps the id with the intention, before the command is sent first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CommandId(pub [u8; 16]);

/// The last id of this program.
static LAST: Mutex<u128> = Mutex::new(0);

impl CommandId {
    /// A new id: a UUID of version 7, from the time and at random, and higher than all that this
    /// program has made before.
    #[expect(clippy::new_without_default, reason = "no two of them are the same")]
    pub fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "ids must be higher than those of earlier programs"
        )]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        let fresh = uuid_v7(millis, fastrand::u128(..));
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock may have been set back.
        *last = fresh.max(*last + 1);
        Self(last.to_be_bytes())
    }
}

/// RFC 9562, 5.7.
fn uuid_v7(millis: u128, random: u128) -> u128 {
    const VERSION: u128 = 0x7 << 76;
    const VARIANT: u128 = 0b10 << 62;
    let low = random & ((1 << 62) - 1);
    let middle = (random >> 64) & 0xfff;
    (millis & 0xffff_ffff_ffff) << 80 | VERSION | middle << 64 | VARIANT | low
}

impl From<[u8; 16]> for CommandId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// The text is not a [`CommandId`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a command id is 32 hexadecimal digits, as of a UUID")]
pub struct CommandIdError;

impl FromStr for CommandId {
    type Err = CommandIdError;

    /// As UUIDs are written, with or without the hyphens.
    fn from_str(text: &str) -> Result<Self, CommandIdError> {
        let hex: String = text.split('-').collect();
        let digits = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(&hex, 16).ok().filter(|_| digits);
        id.map(|id| Self(id.to_be_bytes())).ok_or(CommandIdError)
    }
}

impl fmt::Display for CommandId {
    /// As UUIDs are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", u128::from_be_bytes(self.0));
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &hex[range]);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7() {
        let id = CommandId(uuid_v7(0x0123_4567_89ab, u128::MAX).to_be_bytes());
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        let id = CommandId(uuid_v7(1, 0).to_be_bytes());
        assert_eq!(id.to_string(), "00000000-0001-7000-8000-000000000000");
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = CommandId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            id.to_string().replace('-', "").to_uppercase().parse(),
            Ok(id)
        );
        for wrong in ["", "1", "+1234567-89ab-7fff-bfff-ffffffffffff", "x"] {
            assert_eq!(wrong.parse::<CommandId>(), Err(CommandIdError), "{wrong}");
        }
    }

    #[test]
    fn later_ids_are_higher() {
        let ids: Vec<_> = (0..1_000).map(|_| CommandId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
