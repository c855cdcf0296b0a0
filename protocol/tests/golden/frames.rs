use std::collections::BTreeSet;

use localhub_protocol::{BrokerFrame, ClientFrame, FrameError, PREFIX_BYTES, RawFrame};
use serde_json::Value;

use crate::cbor::{head, items, replaced};
use crate::meaning::{self, broker_frame, client_frame};
use crate::source;
use crate::vectors::{Sender, hex_of, session, valid};

const MAX: usize = 1024 * 1024;

/// Decoding gives the frame, and encoding the frame gives the bytes.
fn check(name: &str, sender: Sender, wire: &[u8], frame: &Value) {
    let (raw, rest) = RawFrame::split(wire, MAX)
        .unwrap()
        .unwrap_or_else(|| panic!("{name} is cut"));
    assert!(rest.is_empty(), "{name}: bytes after the frame");
    let mut again = Vec::new();
    if sender.is_client() {
        let expected = client_frame(frame);
        assert_eq!(
            ClientFrame::decode(raw.body()),
            Ok(expected.clone()),
            "{name}, by a client"
        );
        expected.encode(&mut again);
        assert_eq!(hex_of(&again), hex_of(wire), "{name}, by a client");
    }
    if sender.is_broker() {
        let expected = broker_frame(frame);
        assert_eq!(
            BrokerFrame::decode(raw.body()),
            Ok(expected.clone()),
            "{name}, by the broker"
        );
        again.clear();
        expected.encode(&mut again);
        assert_eq!(hex_of(&again), hex_of(wire), "{name}, by the broker");
    }
}

#[test]
fn a_vector_is_its_frame_byte_for_byte() {
    for vector in valid() {
        check(&vector.name, vector.sender, &vector.wire, &vector.frame);
    }
}

#[test]
fn the_session_is_made_of_its_frames_byte_for_byte() {
    for said in session() {
        assert_ne!(said.sender, Sender::Both, "{}", said.note);
        check(&said.note, said.sender, &said.wire, &said.frame);
    }
}

#[test]
fn names_of_vectors_are_unique() {
    let mut names = BTreeSet::new();
    for vector in valid() {
        assert!(
            names.insert(vector.name.clone()),
            "{} is there twice",
            vector.name
        );
    }
}

#[test]
fn every_kind_has_a_vector_with_its_number_and_its_senders() {
    let vectors = valid();
    for (name, number) in source::kinds() {
        let sender = sender_of(number).unwrap_or_else(|| panic!("no decoder knows {name}"));
        let mut of_kind = vectors
            .iter()
            .filter(|vector| meaning::kind(&vector.frame).0 == name)
            .peekable();
        assert!(of_kind.peek().is_some(), "no vector of {name}");
        for vector in of_kind {
            assert_eq!(vector.sender, sender, "{}", vector.name);
            let found = items(&vector.wire[PREFIX_BYTES..]);
            assert_eq!(
                (found[1].major, found[1].value),
                (0, number),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn kinds_that_are_no_constants_are_unknown() {
    let known: BTreeSet<_> = source::kinds()
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    for kind in (0..1_000)
        .filter(|kind| !known.contains(kind))
        .chain([u64::MAX])
    {
        assert_eq!(sender_of(kind), None, "kind {kind}");
    }
}

// protocol.md 4.13
#[test]
fn limits_of_a_newer_minor_are_passed_over() {
    let vectors = valid();
    let welcome = vectors
        .iter()
        .find(|vector| vector.name == "welcome_to_a_new_session")
        .unwrap();
    let body = &welcome.wire[PREFIX_BYTES..];
    let limits = items(body)
        .into_iter()
        .find(|item| item.path == [11])
        .unwrap();
    assert_eq!(
        (limits.value, limits.all.end),
        (5, body.len()),
        "the limits come last"
    );
    for more in 1..=27 {
        let mut newer = replaced(body, &limits.head, &head(4, 5 + more));
        newer.extend(std::iter::repeat_n(head(0, u64::MAX), more as usize).flatten());
        assert_eq!(
            BrokerFrame::decode(&newer),
            Ok(broker_frame(&welcome.frame))
        );
    }
}

/// Who sends frames of a kind, as the decoders have it: no kind has a frame of one item, so that a
/// frame of the kind alone is out of order, unknown, or cut short.
pub(crate) fn sender_of(kind: u64) -> Option<Sender> {
    let alone = [head(4, 1), head(0, kind)].concat();
    let of = |outcome: Result<(), FrameError>| match outcome {
        Err(FrameError::Malformed { .. }) => Some(true),
        Err(FrameError::OutOfOrder { kind: found }) => {
            assert_eq!(found, kind);
            Some(false)
        }
        Err(FrameError::UnknownKind { kind: found }) => {
            assert_eq!(found, kind);
            None
        }
        other => panic!("kind {kind}: {other:?}"),
    };
    let client = of(ClientFrame::decode(&alone).map(|_| ()));
    let broker = of(BrokerFrame::decode(&alone).map(|_| ()));
    match (client?, broker?) {
        (true, true) => Some(Sender::Both),
        (true, false) => Some(Sender::Client),
        (false, true) => Some(Sender::Broker),
        (false, false) => panic!("nobody sends kind {kind}"),
    }
}
