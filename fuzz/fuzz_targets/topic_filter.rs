//! Topics and filters, separated by a line feed: parsing never panics, and a filter matches what the
//! rules say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use localhub_protocol::{Topic, TopicFilter};

#[path = "../../protocol/tests/properties/naive.rs"]
mod naive;

fuzz_target!(|text: &str| {
    let (filter, topic) = text.split_once('\n').unwrap_or((text, text));
    let parsed = topic.parse::<Topic>();
    assert_eq!(parsed.is_ok(), Topic::check(topic).is_ok());
    let (Ok(parsed_topic), Ok(parsed_filter)) = (parsed, filter.parse::<TopicFilter>()) else {
        return;
    };
    assert_eq!(parsed_topic.as_str(), topic);
    assert_eq!(parsed_filter.as_str(), filter);
    assert_eq!(parsed_filter.matches(topic), naive::matches(filter, topic));
});
