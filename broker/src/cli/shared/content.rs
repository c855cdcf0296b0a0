//! Payloads, as people and programs are shown them.

use std::borrow::Cow;
use std::fmt::Write as _;

use localhub::logging::escaped;
use localhub_client::ContentType;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::diagnostic::diagnostic;

/// A payload on one line: JSON and text as they are, CBOR in diagnostic notation, bytes as text if
/// they are for reading, everything else in hexadecimal. Broken off soon after `length_max` bytes of
/// text.
///
/// A payload that is not what its sender says is shown as what it is.
pub(crate) fn shown(content: ContentType, payload: &[u8], length_max: usize) -> String {
    if content == ContentType::CBOR
        && let Some(text) = diagnostic(payload, length_max)
    {
        return escaped(&text).into_owned();
    }
    match std::str::from_utf8(payload) {
        Ok(text) if content == ContentType::JSON && is_json(text) => {
            escaped(&one_line(beginning(text, length_max))).into_owned()
        }
        Ok(text) if content == ContentType::TEXT || content == ContentType::JSON => {
            escaped(&beginning(text, length_max)).into_owned()
        }
        Ok(text) if content != ContentType::CBOR && is_readable(text) => {
            escaped(&beginning(text, length_max)).into_owned()
        }
        _ => hex(payload, length_max),
    }
}

/// A payload as fields of a JSON object. Exactly one of them is there.
#[derive(Debug, Serialize)]
pub(crate) struct PayloadFields {
    /// JSON as it is, text as a string, CBOR as the JSON it converts to.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    /// Whatever cannot be said in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl PayloadFields {
    pub(crate) fn new(content: ContentType, payload: &[u8]) -> Self {
        let text = || std::str::from_utf8(payload).ok();
        let json = match content {
            ContentType::CBOR => json_of_cbor(payload).and_then(|value| to_raw_value(&value).ok()),
            ContentType::JSON => text()
                .and_then(|text| RawValue::from_string(text.trim().into()).ok())
                .or_else(|| to_raw_value(text()?).ok()),
            _ => text().and_then(|text| to_raw_value(text).ok()),
        };
        match json {
            Some(payload) => Self {
                payload: Some(payload),
                payload_hex: None,
            },
            None => Self {
                payload: None,
                payload_hex: Some(hex(payload, usize::MAX)),
            },
        }
    }
}

/// The JSON that says the same as a CBOR item, if there is any.
pub(crate) fn json_of_cbor(bytes: &[u8]) -> Option<serde_json::Value> {
    // Checks depth and form before anything is built.
    diagnostic(bytes, usize::MAX)?;
    ciborium::from_reader(bytes).ok()
}

/// Whether a text is one JSON value.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether a text is for reading: control characters other than line breaks and tabs are not.
fn is_readable(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// JSON without line breaks, which it has between tokens only.
fn one_line(json: Cow<'_, str>) -> Cow<'_, str> {
    if json.contains(['\n', '\r', '\t']) {
        json.split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .into()
    } else {
        json
    }
}

fn beginning(text: &str, length_max: usize) -> Cow<'_, str> {
    if text.len() <= length_max {
        return text.into();
    }
    let end = (0..=length_max)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

fn hex(bytes: &[u8], length_max: usize) -> String {
    let shown = bytes.len().min(length_max / 2);
    let mut text = String::with_capacity(2 * shown + 3);
    for byte in &bytes[..shown] {
        let _ = write!(text, "{byte:02x}");
    }
    if shown < bytes.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_shown_as_what_they_are() {
        let cbor = [0xa1, 0x61, b'a', 1];
        for (content, payload, expected) in [
            (ContentType::TEXT, &b"ready"[..], "ready"),
            (ContentType::TEXT, b"two\nlines\t.", r"two\nlines\t."),
            (ContentType::TEXT, b"", ""),
            (
                ContentType::JSON,
                b"{\n  \"a\": [1,\n 2]\n}",
                r#"{ "a": [1, 2] }"#,
            ),
            (ContentType::JSON, b"{\"a\": \"x  y\"}", r#"{"a": "x  y"}"#),
            (ContentType::JSON, b"{broken\n", r"{broken\n"),
            (ContentType::CBOR, &cbor, r#"{"a": 1}"#),
            (ContentType::CBOR, b"hello", "68656c6c6f"),
            (ContentType::BYTES, b"hello", "hello"),
            (ContentType::BYTES, b"\x00\xff", "00ff"),
            (ContentType::BYTES, b"\x1b[2J", "1b5b324a"),
            (ContentType(77), b"hello", "hello"),
            (ContentType::TEXT, b"\x1b[2J", r"\u{1b}[2J"),
            (ContentType::TEXT, b"\xff", "ff"),
            (ContentType::TEXT, "\u{202e}x".as_bytes(), r"\u{202e}x"),
        ] {
            assert_eq!(
                shown(content, payload, 1000),
                expected,
                "{content:?} {payload:?}"
            );
        }
    }

    #[test]
    fn long_payloads_are_broken_off() {
        assert_eq!(shown(ContentType::TEXT, "äöü".as_bytes(), 3), "ä…");
        assert_eq!(shown(ContentType::BYTES, &[0xff; 100], 6), "ffffff…");
        assert_eq!(shown(ContentType::JSON, b"[1, 2, 3]", 4), "[1, …");
    }

    #[test]
    fn programs_get_json_where_that_is_possible() {
        for (content, payload, expected) in [
            (ContentType::TEXT, &b"a\"b"[..], r#"{"payload":"a\"b"}"#),
            (
                ContentType::JSON,
                b" {\"b\": 1.50, \"a\": 12345678901234567890123} ",
                r#"{"payload":{"b": 1.50, "a": 12345678901234567890123}}"#,
            ),
            (ContentType::JSON, b"{broken", r#"{"payload":"{broken"}"#),
            (
                ContentType::CBOR,
                &[0xa1, 0x61, b'a', 0x18, 42],
                r#"{"payload":{"a":42}}"#,
            ),
            (ContentType::CBOR, &[0x41, 1], r#"{"payload_hex":"4101"}"#),
            (
                ContentType::CBOR,
                &[0xa1, 1, 2],
                r#"{"payload_hex":"a10102"}"#,
            ),
            (ContentType::BYTES, &[0, 0xff], r#"{"payload_hex":"00ff"}"#),
        ] {
            let fields = serde_json::to_string(&PayloadFields::new(content, payload)).unwrap();
            assert_eq!(fields, expected);
        }
    }
}
