//! How often what happened to requests, commands and leases.

use std::collections::{BTreeSet, HashSet};

use localhub_protocol::Code;

use crate::calls::{Asked, Executed, Seen};
use crate::history::History;
use crate::plan::{BRIEF, MINE, SOLE};
use crate::record::{Event, NONE, how, lease};
use crate::values::Put;

/// What is counted, how often it happened, and how often it has to in a minute; 0 if it need not.
pub(crate) type Count = (&'static str, u64, u64);

/// Counts all that requests, commands and leases came to.
pub(crate) fn tally(history: &History) -> Vec<Count> {
    let killed: HashSet<u64> = history
        .runner
        .iter()
        .filter_map(|record| match record.event {
            Event::Killed { sender } => Some(sender),
            _ => None,
        })
        .collect();
    let (mut commands, mut again, mut elsewhere, mut twice, mut later) = (0, 0, 0, 0, 0);
    let (mut done, mut unheard, mut stuck) = (0, 0, 0);
    for (asked, executed) in history.calls.commands() {
        let answered = asked.iter().filter(|it| answer(it)).count() as u64;
        let over = asked.iter().filter_map(|it| it.outcome);
        let over = over.map(|outcome| outcome.at).min().unwrap_or(u64::MAX);
        commands += 1;
        done += executed.len() as u64;
        again += answered.saturating_sub(1);
        elsewhere += u64::from(asked.iter().any(|it| it.sender != asked[0].sender));
        twice += u64::from(asked.iter().skip(1).any(|it| it.at < over));
        later += executed.len().saturating_sub(1) as u64;
        stuck += u64::from(is_stuck(asked, executed));
        let died = |it: &Executed| it.answered.is_none() && killed.contains(&it.handler);
        unheard += executed.iter().filter(|it| died(it)).count() as u64;
    }
    let asked = &history.calls.asked;
    let count = |which: &dyn Fn(&Asked) -> bool| asked.iter().filter(|it| which(it)).count() as u64;
    let no_reply = |command: bool, code: Code| {
        let code = u64::from(code.0);
        count(&|it| it.is_command() == command && it.code(how::NO_REPLY) == Some(code))
    };
    let refused = |code: Code| count(&|it| it.code(how::REFUSED) == Some(code.0.into()));
    let leases = history.calls.leases.iter();
    let granted = leases.clone().filter(|look| look.fence != NONE);
    let granted: BTreeSet<_> = granted.map(|look| (look.epoch, look.fence)).collect();
    let taken = leases.filter_map(|look| match look.seen {
        Seen::Own {
            sender,
            service,
            state: lease::LOST,
        } => Some((sender, service)),
        _ => None,
    });
    let taken: HashSet<_> = taken.collect();
    let sole = history.calls.executed.iter().filter(|it| it.place == SOLE);
    // Commands are forgotten when there are many newer ones.
    let stale = u64::from(commands > 400_000);
    vec![
        ("plain requests", count(&|it| !it.is_command()), 600),
        ("commands", commands, 12_000),
        (
            "times a command was sent",
            count(&Asked::is_command),
            12_000,
        ),
        ("times a command was done", done, 12_000),
        ("commands sent again before they had an outcome", twice, 600),
        ("commands sent again by the next process", elsewhere, 60),
        ("commands answered again from the store", again, 600),
        (
            "commands done by a process that was killed before it answered",
            unheard,
            6,
        ),
        (
            "commands done again because they were sent again to another broker",
            later,
            0,
        ),
        (
            "commands with an unknown outcome",
            no_reply(true, Code::OUTCOME_UNKNOWN),
            30,
        ),
        (
            "commands that were not executed",
            no_reply(true, Code::NOT_EXECUTED),
            3,
        ),
        (
            "other commands with the same id",
            refused(Code::ID_REUSE),
            60,
        ),
        ("stale commands", refused(Code::STALE_COMMAND), stale),
        (
            "commands without an answer in time",
            no_reply(true, Code::DEADLINE),
            60,
        ),
        ("of these, never begun in seconds", stuck, 0),
        (
            "plain requests without an answer in time",
            no_reply(false, Code::DEADLINE),
            9,
        ),
        (
            "plain requests whose handler was gone",
            no_reply(false, Code::PEER_GONE),
            3,
        ),
        (
            "plain requests with an unknown outcome",
            no_reply(false, Code::OUTCOME_UNKNOWN),
            1,
        ),
        (
            "requests refused for a full outbox",
            refused(Code::OUTBOX_FULL),
            30,
        ),
        (
            "requests that nobody served",
            refused(Code::NO_SUCH_SERVICE),
            9,
        ),
        ("requests beyond a limit", refused(Code::LIMIT_REACHED), 0),
        (
            "requests cancelled, or that nobody waited for",
            count(&|it| it.ended(how::GIVEN_UP)),
            300,
        ),
        (
            "requests whose process was killed before the outcome",
            count(&|it| it.outcomes == 0),
            60,
        ),
        (
            "failures of handlers",
            count(&|it| it.ended(how::FAILED)),
            300,
        ),
        (
            "answers in place of a handler",
            count(&|it| it.ended(how::LEFT)),
            60,
        ),
        ("leases granted", granted.len() as u64, 9),
        ("leases taken over", taken.len() as u64, 1),
        ("requests done under a lease", sole.count() as u64, 600),
    ]
}

/// Counts all that the board came to.
pub(crate) fn tally_of_values(history: &History) -> Vec<Count> {
    let values = &history.values;
    let puts = || values.put.values();
    let count = |which: &dyn Fn(&&Put) -> bool| puts().filter(|put| which(put)).count() as u64;
    let conflict = |put: &&Put| {
        let code = put.over.map(|over| over.code);
        put.is_refused() && code == Some(Code::VERSION_CONFLICT.0.into())
    };
    let gone = |from: u64, to: u64| {
        let gone = values.seen().filter(|(_, seen)| seen.value.is_none());
        gone.filter(|(_, seen)| (from..to).contains(&seen.topic))
            .count() as u64
    };
    let left: usize = values.left.values().map(Vec::len).sum();
    vec![
        ("values set and deleted", count(&|put| put.is_ok()), 2_400),
        (
            "of these, counters under a condition",
            count(&|put| put.is_counter() && put.is_ok()),
            1_200,
        ),
        (
            "counters deleted",
            count(&|put| put.deletes && put.is_ok()),
            12,
        ),
        ("changes refused for another version", count(&conflict), 300),
        (
            "changes whose outcome nobody knows",
            count(&|put| !put.is_ok() && !put.is_refused()),
            6,
        ),
        ("values seen in maps", values.seen().count() as u64, 12_000),
        ("values seen to end with their owner", gone(MINE, BRIEF), 60),
        ("values seen to end with their time", gone(BRIEF, NONE), 300),
        ("maps that were followed", values.maps.len() as u64, 30),
        ("times the board was left", left as u64, 12),
    ]
}

/// Whether a command waited for its answer for long, and nobody has begun it.
///
/// One that is lost on the way to a handler that goes on has no outcome while that one's session lives.
fn is_stuck(asked: &[Asked], executed: &[Executed]) -> bool {
    const LONG_MS: u32 = 1_000;
    let deadline = Some(u64::from(Code::DEADLINE.0));
    executed.is_empty()
        && asked
            .iter()
            .any(|it| it.timeout_ms > LONG_MS && it.code(how::NO_REPLY) == deadline)
}

fn answer(asked: &Asked) -> bool {
    asked
        .outcome
        .is_some_and(|outcome| outcome.answer().is_some())
}
