//! The invariants: each is a function that takes a history and says what is wrong with it.

mod broker;
mod commands;
mod guards;
mod leases;
mod messages;
mod requests;
mod sessions;
mod streams;
mod tally;
mod values;

pub(crate) use broker::{faults_heal, the_broker_stays_small};
pub(crate) use commands::{
    answers_stay, commands_are_done_once, ids_are_not_reused, not_done_is_not_done,
};
pub(crate) use guards::{Guard, guards};
pub(crate) use leases::{
    fences_grow, holders_are_asked, leases_have_one_holder, the_lease_finds_its_heir,
};
pub(crate) use messages::{
    calls_in_turn_keep_their_order, nothing_comes_twice, nothing_is_invented, offsets_agree,
    refused_is_refused, senders_keep_their_order,
};
pub(crate) use requests::{plain_requests_are_done_once, replies_are_true, requests_end_once};
pub(crate) use sessions::{
    deaths, deaths_are_told, presence_is_true, the_window_holds, who_is_replaced_is_fenced,
};
pub(crate) use streams::{
    channels_keep_their_order, confirmed_is_delivered_or_told, gaps_are_honest, nothing_is_silent,
};
pub(crate) use values::{
    conflicts_have_a_cause, maps_are_true, values_are_what_was_set,
    values_last_as_long_as_they_should, versions_are_replaced_once,
};

use crate::history::History;

/// A promise that was broken.
#[derive(Debug)]
pub(crate) struct Violation {
    /// What happened, with the records that show it.
    pub(crate) what: String,
}

/// Looks at a history.
pub(crate) type Check = fn(&History) -> Vec<Violation>;

/// The invariants with their numbers.
pub(crate) const CHECKS: [(&str, &str, Check); 32] = [
    ("I1", "nothing is invented or changed", nothing_is_invented),
    ("I2", "nothing comes twice", nothing_comes_twice),
    ("I3", "nothing is lost silently", nothing_is_silent),
    ("I4", "gaps count exactly what is missing", gaps_are_honest),
    (
        "I5",
        "confirmed is delivered or told",
        confirmed_is_delivered_or_told,
    ),
    ("I6", "all agree on offsets", offsets_agree),
    ("I7", "channels keep their order", channels_keep_their_order),
    ("I8", "senders keep their order", senders_keep_their_order),
    (
        "I9",
        "calls in turn keep their order",
        calls_in_turn_keep_their_order,
    ),
    ("I10", "the window holds", the_window_holds),
    ("I11", "refused is refused", refused_is_refused),
    ("I12", "a request has one outcome", requests_end_once),
    ("I12", "what is replied was done", replies_are_true),
    (
        "I12",
        "a plain request is done once at most",
        plain_requests_are_done_once,
    ),
    (
        "I13",
        "a command is done once at most",
        commands_are_done_once,
    ),
    ("I13", "what was not done is not", not_done_is_not_done),
    ("I13", "a command has one answer", answers_stay),
    ("I13", "an id is for one command", ids_are_not_reused),
    ("I14", "a lease has one holder", leases_have_one_holder),
    ("I14", "fences grow", fences_grow),
    ("I14", "who has the lease is asked", holders_are_asked),
    ("I14", "a lease finds its heir", the_lease_finds_its_heir),
    (
        "I15",
        "who is replaced is fenced",
        who_is_replaced_is_fenced,
    ),
    ("I16", "presence ends up true", presence_is_true),
    ("I16", "a death is told soon", deaths_are_told),
    ("I18", "the broker stays small", the_broker_stays_small),
    ("I19", "all is well after the faults", faults_heal),
    ("I20", "values are what was set", values_are_what_was_set),
    (
        "I20",
        "a version is replaced once",
        versions_are_replaced_once,
    ),
    ("I20", "a conflict has a cause", conflicts_have_a_cause),
    (
        "I20",
        "values last as long as they should",
        values_last_as_long_as_they_should,
    ),
    ("I20", "maps are true in the end", maps_are_true),
];

fn violation(what: String) -> Violation {
    Violation { what }
}
