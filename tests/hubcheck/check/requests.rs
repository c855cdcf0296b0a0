//! Requests of any kind, each for itself: one outcome, and what a handler did of it.

use std::collections::HashSet;

use localhub_protocol::Code;

use super::{Violation, violation};
use crate::calls::{Asked, Executed};
use crate::history::History;
use crate::plan::{BY_SESSION, SOLE};
use crate::record::{Event, how, left};

/// A deadline is counted from when the broker takes the request in, by a clock that it reads once for many.
const EARLY_NS: u64 = 20_000_000;

/// How long after its deadline a request may have no outcome: the SDK waits for five seconds for what the
/// broker says, and the machine is busy.
const LATE_NS: u64 = 25_000_000_000;

/// I12: each request has one outcome, which is one that it may have, in its time.
pub(crate) fn requests_end_once(history: &History) -> Vec<Violation> {
    let killed: HashSet<u64> = history
        .runner
        .iter()
        .filter_map(|record| match record.event {
            Event::Killed { sender } => Some(sender),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for (sender, record) in &history.calls.loose {
        let what = format!("an outcome of what was not begun, of {sender:x}: {record:?}");
        found.push(violation(what));
    }
    for asked in &history.calls.asked {
        let wrong = match asked.outcomes {
            // Its process was killed while it waited.
            0 if killed.contains(&asked.sender) => None,
            0 => Some("has no outcome"),
            1 => ends_wrongly(asked),
            _ => Some("has more than one outcome"),
        };
        found.extend(wrong.map(|what| violation(format!("a request {what}: {asked:?}"))));
    }
    found
}

fn ends_wrongly(asked: &Asked) -> Option<&'static str> {
    const DEADLINE: u64 = Code::DEADLINE.0 as u64;
    const PEER_GONE: u64 = Code::PEER_GONE.0 as u64;
    const NOT_EXECUTED: u64 = Code::NOT_EXECUTED.0 as u64;
    const OUTCOME_UNKNOWN: u64 = Code::OUTCOME_UNKNOWN.0 as u64;
    const OUTBOX_FULL: u64 = Code::OUTBOX_FULL.0 as u64;
    const ID_REUSE: u64 = Code::ID_REUSE.0 as u64;
    const STALE_COMMAND: u64 = Code::STALE_COMMAND.0 as u64;
    let outcome = asked.outcome?;
    let (took, wait) = (
        outcome.at - asked.at,
        u64::from(asked.timeout_ms) * 1_000_000,
    );
    if outcome.how != how::GIVEN_UP && took > wait + LATE_NS {
        return Some("ended long after its time");
    }
    match (outcome.how, outcome.code) {
        (how::NO_REPLY, DEADLINE) => (took + EARLY_NS < wait).then_some("ended before its time"),
        (how::NO_REPLY, PEER_GONE) if asked.is_command() => {
            Some("is a command, and ended as a plain one")
        }
        (how::NO_REPLY, PEER_GONE | OUTBOX_FULL | OUTCOME_UNKNOWN) => None,
        (how::NO_REPLY, NOT_EXECUTED) if asked.is_command() => None,
        (how::NO_REPLY, _) => Some("ended as it cannot"),
        (how::REFUSED, ID_REUSE | STALE_COMMAND) if !asked.is_command() => {
            Some("is plain, and ended as a command")
        }
        (how::CLOSED, _) => Some("ended with its client"),
        _ => None,
    }
}

/// I12: what is done was asked for, of whom does it, as it was asked for; and what a handler says is what its
/// caller hears.
pub(crate) fn replies_are_true(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (asked, executed) in history.calls.subjects() {
        for execution in executed {
            if let Some(what) = done_wrongly(asked, execution) {
                found.push(violation(format!("{what}: {execution:?} of {asked:?}")));
            }
        }
        for asked in asked {
            if let Some(what) = heard_wrongly(asked, executed) {
                found.push(violation(format!("{what}: {asked:?} of {executed:?}")));
            }
        }
    }
    found
}

fn done_wrongly(asked: &[Asked], execution: &Executed) -> Option<&'static str> {
    let same = asked.iter().filter(|it| it.hash == execution.hash);
    let Some(first) = same.map(|it| it.at).min() else {
        return Some("nobody asked for this");
    };
    let to = asked.first().map_or(execution.place, |it| it.to);
    if first > execution.at {
        return Some("done before it was asked for");
    }
    // Whose session it was nobody knows any more.
    let elsewhere = to < BY_SESSION && to != execution.place;
    if elsewhere || (execution.place == SOLE) != (to == SOLE) {
        return Some("done by one who was not asked");
    }
    None
}

fn heard_wrongly(asked: &Asked, executed: &[Executed]) -> Option<&'static str> {
    let outcome = asked.outcome?;
    let mut done = executed
        .iter()
        .filter(|it| it.hash == asked.hash && it.at < outcome.at);
    match outcome.how {
        how::REPLIED | how::FAILED => {
            let said = Some((outcome.how, outcome.hash));
            let heard = done.any(|it| it.answered == said);
            (!heard).then_some("an answer that no handler gave to it")
        }
        how::LEFT if outcome.code == left::DROPPED => done
            .next()
            .is_none()
            .then_some("let go of by a handler that never had it"),
        _ => None,
    }
}

/// I12: a plain request is done once at most, and not at all if it was refused.
pub(crate) fn plain_requests_are_done_once(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (asked, executed) in history.calls.plain() {
        if executed.len() > 1 {
            found.push(violation(format!("done twice: {asked:?}: {executed:?}")));
        }
        let never = asked.iter().any(|it| {
            it.ended(how::REFUSED)
                || it.ended(how::UNSENT)
                || it
                    .code(how::LEFT)
                    .is_some_and(|code| code <= left::NOT_SERVED)
        });
        if never && !executed.is_empty() {
            let what = format!("done although it was refused: {asked:?}: {executed:?}");
            found.push(violation(what));
        }
    }
    found
}
