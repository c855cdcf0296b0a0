use std::collections::BTreeSet;

use localhub_protocol::{BrokerFrame, ClientFrame, Code, FrameError, PREFIX_BYTES, RawFrame};

use crate::cbor::{Item, head, head_of, items, replaced};
use crate::meaning;
use crate::source;
use crate::vectors::{Sender, Valid, hex_of, mistakes, valid};

const MAX: usize = 1024 * 1024;

/// What the readers of frames of that side find wrong; they must agree.
fn wrong(name: &str, sender: Sender, body: &[u8]) -> FrameError {
    let client = || ClientFrame::decode(body).map(|frame| format!("{frame:?}"));
    let broker = || BrokerFrame::decode(body).map(|frame| format!("{frame:?}"));
    let found = match sender {
        Sender::Client => client(),
        Sender::Broker => broker(),
        Sender::Both => {
            let (client, broker) = (client(), broker());
            assert_eq!(client, broker, "{name}: the two sides read the same");
            client
        }
    };
    match found {
        Err(error) => error,
        Ok(frame) => panic!("{name}: {} is accepted as {frame}", hex_of(body)),
    }
}

#[test]
fn each_mistake_has_its_code() {
    for mistake in mistakes() {
        let name = &mistake.name;
        let error = match RawFrame::split(&mistake.wire, mistake.limit.unwrap_or(MAX)) {
            Ok(Some((frame, rest))) => {
                assert!(rest.is_empty(), "{name}: bytes after the frame");
                wrong(name, mistake.sender, frame.body())
            }
            Ok(None) => panic!("{name}: the frame is cut"),
            Err(error) => error,
        };
        let code = Code(mistake.code);
        assert_eq!(error.code(), code, "{name}: {error}; but {}", mistake.why);
        assert!(code.closes() && Code::ALL.contains(&code), "{name}");
    }
}

#[test]
fn every_code_that_decoding_gives_has_a_mistake() {
    let found: BTreeSet<_> = mistakes()
        .iter()
        .map(|mistake| Code(mistake.code).name().to_uppercase())
        .collect();
    let given: BTreeSet<_> = source::decoding_codes()
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(found, given);
}

#[test]
fn names_of_mistakes_are_unique() {
    let mut names = BTreeSet::new();
    for mistake in mistakes() {
        assert!(
            names.insert(mistake.name.clone()),
            "{} is there twice",
            mistake.name
        );
    }
}

/// Each vector with each of its items, and what becomes of the frame if they are changed.
fn mutate(change: impl Fn(&Valid, &[u8]) -> Vec<(String, Vec<u8>)>) {
    let mut tried = 0;
    for vector in valid() {
        for (what, body) in change(&vector, &vector.wire[PREFIX_BYTES..]) {
            let name = format!("{}, {what}", vector.name);
            let error = wrong(&name, vector.sender, &body);
            assert_eq!(
                error.code(),
                Code::MALFORMED_FRAME,
                "{name}: {}",
                hex_of(&body)
            );
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} changed frames");
}

// protocol.md 3.9
#[test]
fn a_frame_that_is_cut_anywhere_is_malformed() {
    mutate(|_, body| {
        (0..body.len())
            .map(|end| (format!("cut after {end}"), body[..end].to_vec()))
            .collect()
    });
}

// protocol.md 3.9
#[test]
fn a_frame_with_any_byte_behind_it_is_malformed() {
    mutate(|_, body| {
        let more = |byte| {
            (
                format!("with {byte:#x} behind it"),
                [body, &[byte]].concat(),
            )
        };
        (0..=u8::MAX).map(more).collect()
    });
}

// protocol.md 3.5
#[test]
fn an_item_whose_head_is_not_the_shortest_is_malformed() {
    mutate(|_, body| {
        let mut changed = Vec::new();
        for item in items(body) {
            for size in [1, 2, 4, 8]
                .into_iter()
                .filter(|size| item.head.len() < 1 + size)
            {
                let head = head_of(item.major, item.value, size);
                let what = format!("{size} bytes for the head at {}", item.head.start);
                changed.push((what, replaced(body, &item.head, &head)));
            }
        }
        changed
    });
}

// protocol.md 3.5
#[test]
fn an_item_of_indefinite_length_is_malformed() {
    mutate(|_, body| {
        let mut changed = Vec::new();
        for item in items(body)
            .into_iter()
            .filter(|item| matches!(item.major, 2..=4))
        {
            let content = match item.major {
                4 => &body[item.head.end..item.all.end],
                // A string of indefinite length is made of strings.
                _ => &body[item.all.clone()],
            };
            let indefinite = [&[item.major << 5 | 31], content, &[0xff]].concat();
            let what = format!("the item at {} indefinite", item.all.start);
            changed.push((what, replaced(body, &item.all, &indefinite)));
        }
        changed
    });
}

// protocol.md 3.6
#[test]
fn an_item_of_a_type_that_no_header_has_is_malformed() {
    let strange: [(&str, &[u8]); 11] = [
        ("-1", &[0x20]),
        ("an empty map", &[0xa0]),
        ("a tagged number", &[0xc1, 0x00]),
        ("undefined", &[0xf7]),
        ("a half float", &[0xf9, 0x3c, 0x00]),
        ("a float", &[0xfa, 0x3f, 0x80, 0x00, 0x00]),
        ("a double", &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("simple value 0", &[0xe0]),
        ("simple value 255", &[0xf8, 0xff]),
        ("a break", &[0xff]),
        ("a reserved head", &[0x1c]),
    ];
    mutate(|_, body| {
        let mut changed = Vec::new();
        for item in items(body) {
            for (what, bytes) in strange {
                let what = format!("{what} at {}", item.all.start);
                changed.push((what, replaced(body, &item.all, bytes)));
            }
        }
        changed
    });
}

// protocol.md 3.6
#[test]
fn an_item_of_another_type_than_its_field_is_malformed() {
    let types: [(u8, &[u8]); 5] = [
        (0, &[0x00]),
        (2, &[0x40]),
        (3, &[0x60]),
        (4, &[0x80]),
        (7, &[0xf4]),
    ];
    mutate(|vector, body| {
        let (kind, _) = meaning::kind(&vector.frame);
        let mut changed = Vec::new();
        for item in items(body) {
            // A receiver is an id or a name, and what may be null may be something else as well.
            let receiver = matches!(kind, "direct" | "request") && item.path == [1];
            if receiver || item.is_null() {
                continue;
            }
            for (major, bytes) in types.into_iter().filter(|(major, _)| *major != item.major) {
                let what = format!("major type {major} at {}", item.all.start);
                changed.push((what, replaced(body, &item.all, bytes)));
            }
        }
        changed
    });
}

// protocol.md 3.7
#[test]
fn an_array_with_an_item_more_or_less_is_malformed() {
    mutate(|vector, body| {
        let (kind, _) = meaning::kind(&vector.frame);
        let all = items(body);
        let mut changed = Vec::new();
        for item in all.iter().filter(|item| item.major == 4) {
            // These are lists, which have as many items as there are.
            if matches!(
                (kind, &item.path[..]),
                ("hello", [4]) | ("welcome", [2]) | ("members", [5])
            ) {
                continue;
            }
            let at = item.all.start;
            let content = &body[item.head.end..item.all.end];
            // A newer minor may tell more limits.
            if (kind, &item.path[..]) != ("welcome", &[11]) {
                let longer = [&head(4, item.value + 1), content, &[0]].concat();
                changed.push((
                    format!("longer at {at}"),
                    replaced(body, &item.all, &longer),
                ));
            }
            let is_last = |inner: &&Item| {
                inner.path.split_last() == Some((&(item.value - 1), &item.path[..]))
            };
            let last = all
                .iter()
                .find(is_last)
                .expect("no frame has an empty array that is no list");
            let content = &body[item.head.end..last.all.start];
            let shorter = [&head(4, item.value - 1), content].concat();
            changed.push((
                format!("shorter at {at}"),
                replaced(body, &item.all, &shorter),
            ));
        }
        changed
    });
}
