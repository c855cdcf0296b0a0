use std::fmt::{Debug, Display};
use std::str::FromStr;

use localhub_protocol::{ChannelName, ClientName, Topic, TopicFilter};

use crate::vectors::{Text, names};

fn check<T: FromStr<Err: Debug> + Display + Debug>(texts: &[Text]) {
    for Text { text, valid, why } in texts {
        match text.parse::<T>() {
            Ok(name) => {
                assert!(valid, "{text:?} is accepted; but {why}");
                assert_eq!(name.to_string(), *text);
            }
            Err(error) => assert!(!valid, "{text:?}: {error:?}"),
        }
    }
    for valid in [true, false] {
        assert!(
            texts.iter().any(|text| text.valid == valid),
            "no vector that is valid = {valid}"
        );
    }
}

// protocol.md 7
#[test]
fn names_topics_and_filters_are_what_the_vectors_say() {
    let names = names();
    check::<ChannelName>(&names.channel_names);
    check::<ClientName>(&names.client_names);
    check::<Topic>(&names.topics);
    check::<TopicFilter>(&names.filters);
}

#[test]
fn checking_a_topic_is_parsing_it() {
    for Text { text, valid, .. } in names().topics {
        assert_eq!(Topic::check(&text).is_ok(), valid, "{text:?}");
    }
}

// protocol.md 7
#[test]
fn filters_match_what_the_vectors_say() {
    for vector in names().matches {
        Topic::check(&vector.topic).unwrap();
        let filter: TopicFilter = vector.filter.parse().unwrap();
        let matches = filter.matches(&vector.topic);
        assert_eq!(
            matches, vector.matches,
            "{} and {}",
            vector.filter, vector.topic
        );
    }
}
