//! Payloads: each begins with what it belongs to. `c` is a call, `o` a command, `e` a handling.

/// So many bytes that begin with a letter and a number.
pub(crate) fn payload(letter: char, number: usize, bytes: usize) -> Vec<u8> {
    filled(format!("{letter}{number} "), bytes)
}

/// The part `at` of the handling `n`.
pub(crate) fn part(n: usize, at: usize, bytes: usize) -> Vec<u8> {
    filled(format!("e{n} {at} "), bytes)
}

/// The number behind that letter, if a payload begins so.
pub(crate) fn number(payload: &[u8], letter: char) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    let text = text.strip_prefix(letter)?;
    let digits = text.split(' ').next()?;
    digits.parse().ok()
}

/// The beginning of a payload, for people.
pub(crate) fn short(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    text.trim_end_matches('.').trim_end().to_owned()
}

/// The id of the command `n`: higher for later ones.
pub(crate) fn command_id(n: usize) -> [u8; 16] {
    (n as u128 + 1).to_be_bytes()
}

/// A payload is at least so long, whatever number it begins with.
pub(crate) const BYTES_MIN: usize = 24;

fn filled(text: String, bytes: usize) -> Vec<u8> {
    let mut text = text.into_bytes();
    text.resize(bytes.max(BYTES_MIN), b'.');
    text
}
