//! What holds for all frames, names and topics, and not only for those of the vectors.

mod frames;
mod naive;

use localhub_protocol::{
    BrokerFrame, ChannelName, ClientFrame, ClientName, FrameError, PREFIX_BYTES, RawFrame, Topic,
    TopicFilter, Version, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use frames::{broker_frame, client_frame, shaped};

fn wire_of_client(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    wire
}

fn wire_of_broker(frame: &BrokerFrame<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    wire
}

/// The body of a frame that is alone in `wire`.
fn body(wire: &[u8]) -> &[u8] {
    let (frame, rest) = RawFrame::split(wire, wire.len())
        .unwrap()
        .expect("a whole frame");
    assert!(rest.is_empty());
    assert_eq!(frame.as_bytes(), wire);
    frame.body()
}

/// What is accepted has one encoding, and others who read CBOR see the same array.
fn check_if_accepted(found: &[u8]) {
    if let Ok(frame) = ClientFrame::decode(found) {
        assert_eq!(body(&wire_of_client(&frame)), found, "{frame:?}");
        check_that_others_read_it(found);
    }
    if let Ok(frame) = BrokerFrame::decode(found) {
        let wire = wire_of_broker(&frame);
        // A newer minor may tell more limits, which are passed over.
        if matches!(frame, BrokerFrame::Welcome(_)) && body(&wire).len() < found.len() {
            assert_eq!(BrokerFrame::decode(body(&wire)), Ok(frame));
        } else {
            assert_eq!(body(&wire), found, "{frame:?}");
        }
        check_that_others_read_it(found);
    }
}

fn check_that_others_read_it(found: &[u8]) {
    let mut rest = found;
    let value: ciborium::Value = ciborium::from_reader(&mut rest).expect("CBOR");
    assert!(rest.is_empty());
    let items = value.as_array().expect("an array");
    assert!(items[0].is_integer(), "a kind");
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Cut(Index),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Set(Index, u8),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(length))),
            Self::Repeat(one, other) => {
                let (one, other) = (one.index(length), other.index(length));
                let piece = bytes[one.min(other)..one.max(other)].to_vec();
                bytes.extend(piece);
            }
            Self::Set(at, byte) => bytes[at.index(length)] = *byte,
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let any_byte = || any::<u8>();
    // Heads and small numbers are where a decoder decides.
    let byte = prop_oneof![
        any_byte(),
        0..=0x20_u8,
        0x40..=0x44_u8,
        0x60..=0x64_u8,
        0xf4..=0xf7_u8
    ];
    let mutation = prop_oneof![
        1 => any::<Index>().prop_map(Mutation::Cut),
        2 => (any::<Index>(), any_byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        2 => any::<Index>().prop_map(Mutation::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Mutation::Repeat(one, other)),
        6 => (any::<Index>(), byte).prop_map(|(at, byte)| Mutation::Set(at, byte)),
    ];
    vec(mutation, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_client_frame_survives_the_wire(frame in client_frame()) {
        let wire = wire_of_client(&frame);
        prop_assert_eq!(ClientFrame::decode(body(&wire)), Ok(frame));
        check_if_accepted(body(&wire));
    }

    #[test]
    fn a_broker_frame_survives_the_wire(frame in broker_frame()) {
        let wire = wire_of_broker(&frame);
        prop_assert_eq!(BrokerFrame::decode(body(&wire)), Ok(frame));
        check_if_accepted(body(&wire));
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        check_if_accepted(&bytes);
    }

    #[test]
    fn any_items_in_the_shape_of_a_frame_are_a_frame_or_an_error(bytes in shaped()) {
        check_if_accepted(&bytes);
    }

    #[test]
    fn a_client_frame_with_changes_is_a_frame_or_an_error(
        frame in client_frame(),
        mutations in mutations(),
    ) {
        let mut bytes = wire_of_client(&frame).split_off(PREFIX_BYTES);
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        check_if_accepted(&bytes);
    }

    #[test]
    fn a_broker_frame_with_changes_is_a_frame_or_an_error(
        frame in broker_frame(),
        mutations in mutations(),
    ) {
        let mut bytes = wire_of_broker(&frame).split_off(PREFIX_BYTES);
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        check_if_accepted(&bytes);
    }

    // protocol.md 3.4
    #[test]
    fn frames_arrive_in_pieces_of_any_size(
        frames in vec(client_frame(), 1..6),
        pieces in vec(1..100_usize, 1..50),
    ) {
        let sent: Vec<u8> = frames.iter().flat_map(wire_of_client).collect();
        let (mut arrived, mut buffer, mut rest) = (Vec::new(), Vec::new(), &sent[..]);
        let mut sizes = pieces.iter().cycle();
        while !rest.is_empty() {
            let size = sizes.next().map_or(1, |size| rest.len().min(*size));
            let piece = rest.split_off(..size).unwrap();
            buffer.extend_from_slice(piece);
            while let Some((frame, after)) = RawFrame::split(&buffer, sent.len()).unwrap() {
                arrived.push(frame.as_bytes().to_vec());
                buffer = after.to_vec();
            }
        }
        prop_assert_eq!(arrived.concat(), sent);
        prop_assert_eq!(arrived, frames.iter().map(wire_of_client).collect::<Vec<_>>());
    }

    // protocol.md 3.3
    #[test]
    fn a_prefix_above_the_limit_is_an_error_and_no_other(max in 0..=2_000_u32, more in -2..=2_i64) {
        let length = u32::try_from(i64::from(max) + more).unwrap_or(u32::MAX);
        let (bytes, max) = (length as usize, max as usize);
        let mut wire = length.to_be_bytes().to_vec();
        let prefix_alone = RawFrame::split(&wire, max).map(|found| found.is_some());
        if bytes > max {
            prop_assert_eq!(prefix_alone, Err(FrameError::TooLarge { bytes, max }));
        } else {
            prop_assert_eq!(prefix_alone, Ok(bytes == 0));
            wire.resize(PREFIX_BYTES + bytes, 0);
            let (frame, rest) = RawFrame::split(&wire, max).unwrap().expect("a whole frame");
            prop_assert_eq!((frame.wire_bytes(), rest.len()), (wire.len(), 0));
        }
    }

    // protocol.md 4.6
    #[test]
    fn both_sides_choose_the_same_version(ours in versions(), theirs in versions()) {
        let chosen = Version::choose(ours, theirs);
        prop_assert_eq!(chosen, Version::choose(theirs, ours));
        if let Some(version) = chosen {
            prop_assert!(ours.0 <= version && version <= ours.1);
            prop_assert!(theirs.0 <= version && version <= theirs.1);
        } else {
            prop_assert!(ours.1 < theirs.0 || theirs.1 < ours.0);
        }
    }

    // protocol.md 7.6
    #[test]
    fn a_filter_matches_as_the_rules_say(filter in filter(), topic in topic()) {
        prop_assert!(Topic::check(&topic).is_ok());
        let parsed: TopicFilter = filter.parse().unwrap();
        prop_assert_eq!(parsed.matches(&topic), naive::matches(&filter, &topic));
    }

    #[test]
    fn a_filter_without_wildcards_matches_itself_alone(one in topic(), other in topic()) {
        let filter: TopicFilter = one.parse().unwrap();
        prop_assert!(filter.matches(&one));
        prop_assert_eq!(filter.matches(&other), one == other);
    }

    // protocol.md 7
    #[test]
    fn a_text_is_a_name_as_the_rules_say_and_stays_what_it_is(text in text()) {
        let bytes = text.len();
        let plain = |segment: &str| !segment.is_empty() && segment.bytes().all(is_plain);
        let is_channel = bytes <= limits::CHANNEL_NAME_BYTES_MAX && text.split('/').all(plain);
        prop_assert_eq!(text.parse::<ChannelName>().is_ok(), is_channel);
        let is_id = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_client = bytes <= limits::CLIENT_NAME_BYTES_MAX && plain(&text) && !is_id;
        prop_assert_eq!(text.parse::<ClientName>().is_ok(), is_client);

        let levels: Vec<_> = text.split('/').collect();
        let fits = bytes <= limits::TOPIC_BYTES_MAX && levels.len() <= limits::TOPIC_LEVELS_MAX;
        let is_label = |level: &str| !level.is_empty() && !level.chars().any(is_special);
        let is_topic = fits && levels.iter().all(|level| is_label(level));
        prop_assert_eq!(text.parse::<Topic>().is_ok(), is_topic);
        prop_assert_eq!(Topic::check(&text).is_ok(), is_topic);
        let is_filter = fits && levels.iter().enumerate().all(|(n, level)| match *level {
            "+" => true,
            "#" => n + 1 == levels.len(),
            level => is_label(level),
        });
        prop_assert_eq!(text.parse::<TopicFilter>().is_ok(), is_filter);

        let shown = [
            text.parse::<ChannelName>().map(|name| name.to_string()).ok(),
            text.parse::<ClientName>().map(|name| name.to_string()).ok(),
            text.parse::<Topic>().map(|topic| topic.to_string()).ok(),
            text.parse::<TopicFilter>().map(|filter| filter.to_string()).ok(),
        ];
        for shown in shown.into_iter().flatten() {
            prop_assert_eq!(&shown, &text);
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

fn is_special(c: char) -> bool {
    matches!(c, '+' | '#' | '\0'..='\x1f' | '\x7f'..='\u{9f}')
}

/// A text that is often a name, a topic or a filter, and often nearly one.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9._-]{1,80}",
        "[a-z0-9._/-]{1,300}",
        "[a-c]{1,2}(/[a-c$]{1,2}){0,20}",
        "([a-c]|\\+)(/([a-c]|\\+)){0,18}(/#)?",
        "[abAZ/]{1,4}",
        "[aA+#/ \u{0}\u{1f}\u{7f}\u{9f}\u{a0}é]{0,12}",
    ]
}

fn level() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["a", "b", "ab", "A", "$", "$a", "é", " "])
}

fn topic() -> impl Strategy<Value = String> {
    vec(level(), 1..=5).prop_map(|levels| levels.join("/"))
}

fn filter() -> impl Strategy<Value = String> {
    let levels = vec(prop_oneof![3 => level(), 2 => Just("+")], 0..=5);
    (levels, any::<bool>()).prop_filter_map("a filter has a level", |(mut levels, open)| {
        levels.extend(open.then_some("#"));
        (!levels.is_empty()).then(|| levels.join("/"))
    })
}

fn versions() -> impl Strategy<Value = (Version, Version)> {
    let version = || (0..4_u16, 0..4_u16).prop_map(|(major, minor)| Version { major, minor });
    (version(), version()).prop_map(|(one, other)| (one.min(other), one.max(other)))
}
