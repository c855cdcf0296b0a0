use cddl_cat::cbor::validate_cbor;
use cddl_cat::context::BasicContext;
use cddl_cat::flatten::flatten_from_str;
use ciborium::Value;
use localhub_protocol::{PREFIX_BYTES, limits};

use crate::vectors::{self, Cddl, Sender, Text, hex_of};

/// `docs/protocol.cddl`.
struct Shapes(BasicContext);

impl Shapes {
    fn read() -> Self {
        let text = include_str!("../../../docs/protocol.cddl");
        // A regular expression of CDDL is about the whole text; that of this library finds a part.
        let mut anchored = String::new();
        for line in text.lines() {
            match line
                .split_once(".regexp \"")
                .and_then(|(start, end)| Some((start, end.strip_suffix('"')?)))
            {
                Some((start, pattern)) => {
                    anchored += &format!("{start}.regexp \"^(?:{pattern})$\"\n")
                }
                None => anchored += &format!("{line}\n"),
            }
        }
        Self(BasicContext::new(
            flatten_from_str(&anchored).expect("the CDDL is right"),
        ))
    }

    /// Whether the first item of `bytes` is what the rule says.
    fn check(&self, rule: &str, bytes: &[u8]) -> Result<(), String> {
        let definition = self
            .0
            .rules
            .get(rule)
            .unwrap_or_else(|| panic!("no rule {rule}"));
        let value: Value = ciborium::from_reader(bytes).map_err(|error| error.to_string())?;
        validate_cbor(definition, &value, &self.0).map_err(|error| error.to_string())
    }
}

fn rules(sender: Sender) -> &'static [&'static str] {
    match sender {
        Sender::Both => &["client-frame", "broker-frame"],
        Sender::Broker => &["broker-frame"],
        Sender::Client => &["client-frame"],
    }
}

#[test]
fn every_vector_has_its_shape() {
    let shapes = Shapes::read();
    for vector in vectors::valid() {
        for rule in rules(vector.sender) {
            let found = shapes.check(rule, &vector.wire[PREFIX_BYTES..]);
            assert_eq!(found, Ok(()), "{} is no {rule}", vector.name);
        }
    }
}

#[test]
fn a_frame_of_one_side_has_not_the_shape_of_the_other() {
    let shapes = Shapes::read();
    for vector in vectors::valid() {
        let other = match vector.sender {
            Sender::Both => continue,
            Sender::Broker => "client-frame",
            Sender::Client => "broker-frame",
        };
        let found = shapes.check(other, &vector.wire[PREFIX_BYTES..]);
        assert!(found.is_err(), "{} is a {other}", vector.name);
    }
}

#[test]
fn a_mistake_is_rejected_if_it_is_one_of_shape_and_not_of_encoding() {
    let shapes = Shapes::read();
    for mistake in vectors::mistakes() {
        // A wrong length prefix has no frame behind it.
        if mistake.limit.is_some() {
            assert_eq!(mistake.cddl, Cddl::CannotSee, "{}", mistake.name);
            continue;
        }
        let body = &mistake.wire[PREFIX_BYTES..];
        for rule in rules(mistake.sender) {
            let found = shapes.check(rule, body);
            let rejects = mistake.cddl == Cddl::Rejects;
            assert_eq!(
                found.is_err(),
                rejects,
                "{}: {} as a {rule}",
                mistake.name,
                hex_of(body)
            );
        }
    }
}

#[test]
fn every_admin_payload_has_its_shape() {
    let shapes = Shapes::read();
    for vector in vectors::admin() {
        let rule = vector.shape.replace('_', "-");
        assert_eq!(
            shapes.check(&rule, &vector.payload),
            Ok(()),
            "{}",
            vector.name
        );
        assert!(shapes.check(&rule, &[0xf6]).is_err(), "null is a {rule}");
    }
}

#[test]
fn names_have_their_shape_if_they_are_valid() {
    let shapes = Shapes::read();
    let names = vectors::names();
    for (rule, texts, max) in [
        (
            "channel-name",
            &names.channel_names,
            limits::CHANNEL_NAME_BYTES_MAX,
        ),
        (
            "client-name",
            &names.client_names,
            limits::CLIENT_NAME_BYTES_MAX,
        ),
        ("topic", &names.topics, limits::TOPIC_BYTES_MAX),
        ("topic-filter", &names.filters, limits::TOPIC_BYTES_MAX),
    ] {
        // What CDDL cannot say beside a regular expression is the length.
        for Text { text, valid, why } in texts.iter().filter(|vector| vector.text.len() <= max) {
            let mut bytes = Vec::new();
            ciborium::into_writer(text, &mut bytes).unwrap();
            let found = shapes.check(rule, &bytes);
            assert_eq!(
                found.is_ok(),
                *valid,
                "{text:?} as a {rule}: {found:?}; {why}"
            );
        }
    }
}
