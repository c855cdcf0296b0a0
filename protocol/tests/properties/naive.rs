//! Rules 7.6 and 7.7 of `docs/protocol.md`, level by level and without a thought for speed.

/// Whether the filter matches the topic; both are valid.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<_> = filter.split('/').collect();
    let topic: Vec<_> = topic.split('/').collect();
    rest_matches(&filter, &topic, true)
}

fn rest_matches(filter: &[&str], topic: &[&str], first: bool) -> bool {
    let hidden = first && topic[0].starts_with('$');
    match (filter, topic) {
        ([], []) => true,
        (["#"], _) => !hidden,
        (["+", filter @ ..], [_, topic @ ..]) => !hidden && rest_matches(filter, topic, false),
        ([same, filter @ ..], [level, topic @ ..]) if same == level => {
            rest_matches(filter, topic, false)
        }
        _ => false,
    }
}
