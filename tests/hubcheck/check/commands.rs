//! Commands: each is done once at most, and answered the same whoever asks, and however often.

use localhub_protocol::Code;

use super::{Violation, violation};
use crate::calls::{Asked, Executed, Lives};
use crate::history::History;
use crate::record::{hash, how, left};

const ID_REUSE: u64 = Code::ID_REUSE.0 as u64;
const NOT_EXECUTED: u64 = Code::NOT_EXECUTED.0 as u64;
const OUTCOME_UNKNOWN: u64 = Code::OUTCOME_UNKNOWN.0 as u64;
const STALE_COMMAND: u64 = Code::STALE_COMMAND.0 as u64;

/// I13: nobody does a command a second time.
///
/// The broker knows nothing of commands that were sent to the one before it. So who sends one again by itself
/// in another life of the broker may see it done again, once in each; the SDK never sends it by itself.
pub(crate) fn commands_are_done_once(history: &History) -> Vec<Violation> {
    let lives = Lives::new(&history.runner);
    let mut found = Vec::new();
    for (asked, executed) in history.calls.commands() {
        if executed.len() < 2 {
            continue;
        }
        let since = asked.first().map_or(0, |first| lives.first(first.at));
        let too_many = executed.iter().enumerate().any(|(before, execution)| {
            let asked = asked.iter().filter(|it| it.at < execution.at);
            lives.last(execution.at) < since + before || asked.count() <= before
        });
        if too_many {
            found.push(violation(format!(
                "done {} times: {executed:?}, asked for as {asked:?}",
                executed.len()
            )));
        }
    }
    found
}

/// I13: `not_executed`, and what was refused, was not done.
pub(crate) fn not_done_is_not_done(history: &History) -> Vec<Violation> {
    let lives = Lives::new(&history.runner);
    let mut found = Vec::new();
    for (asked, executed) in history.calls.commands() {
        for execution in executed {
            // Somebody's request made it be done.
            let mut others = asked.iter().filter(|it| it.hash == execution.hash);
            if others.all(|it| it.at > execution.at || was_not_done(it)) && !asked.is_empty() {
                found.push(violation(format!(
                    "done although all were told that it was not: {execution:?}, asked for as \
                     {asked:?}"
                )));
            }
            let told = asked.iter().find(|it| {
                // Of what another command has done that has the same id, nothing is said.
                let told = was_not_done(it) && it.code(how::REFUSED) != Some(ID_REUSE);
                let over = it.outcome.map_or(0, |outcome| outcome.at);
                let here = lives.only(asked[0].at, over).is_some();
                told && here && execution.at < it.at && !it.ended(how::UNSENT)
            });
            if let Some(told) = told {
                found.push(violation(format!(
                    "said not to be done when it was: {told:?}, {execution:?}"
                )));
            }
        }
    }
    found
}

/// Whether the caller was told that this request of his did nothing.
fn was_not_done(asked: &Asked) -> bool {
    asked.ended(how::UNSENT)
        || asked.code(how::NO_REPLY) == Some(NOT_EXECUTED)
        || asked
            .code(how::REFUSED)
            .is_some_and(|code| code != STALE_COMMAND)
        || asked
            .code(how::LEFT)
            .is_some_and(|code| code <= left::NOT_SERVED)
}

/// I13: all who ask for a command get the same answer, also that nobody knows it; and once there is one,
/// nobody gets another.
pub(crate) fn answers_stay(history: &History) -> Vec<Violation> {
    let lives = Lives::new(&history.runner);
    let mut found = Vec::new();
    for (asked, _) in history.calls.commands() {
        if asked.len() < 2 {
            continue;
        }
        // What was said first, in one life of the broker.
        let mut first: Option<(usize, &Asked)> = None;
        let mut said: Vec<_> = asked.iter().filter(|it| it.outcome.is_some()).collect();
        said.sort_unstable_by_key(|it| it.outcome.map(|outcome| outcome.at));
        for asked in said {
            let Some(outcome) = asked.outcome else {
                continue;
            };
            let Some(life) = lives.only(asked.at, outcome.at) else {
                continue;
            };
            let known = first.filter(|(of, _)| *of == life).map(|(_, known)| known);
            let what = match (known, answer(asked)) {
                (None, None) => continue,
                (None, Some(_)) => {
                    first = Some((life, asked));
                    continue;
                }
                (Some(known), Some(mine)) if answer(known) != Some(mine) => "another answer",
                (Some(known), None) if knows_nothing(known, asked) => "no answer",
                _ => continue,
            };
            let known = known.map(|known| (known.number, known.outcome));
            found.push(violation(format!(
                "{what} after there was one ({known:?}): {asked:?}"
            )));
        }
    }
    found
}

/// What is said to all who ask for a command.
///
/// That its outcome is unknown the SDK says, too, in its own words: of what it has written to a broker that
/// was gone by then.
fn answer(asked: &Asked) -> Option<(u64, u64)> {
    let outcome = asked.outcome?;
    let by_hub = hash(Code::OUTCOME_UNKNOWN.description().as_bytes());
    let unknown = asked.code(how::NO_REPLY) == Some(OUTCOME_UNKNOWN) && outcome.hash == by_hub;
    let unknown = unknown.then_some((how::NO_REPLY, OUTCOME_UNKNOWN));
    outcome.answer().or(unknown)
}

/// Whether a request was told that its command was not done, though it was made after an answer to it.
fn knows_nothing(known: &Asked, asked: &Asked) -> bool {
    let later = known.outcome.is_some_and(|outcome| outcome.at < asked.at);
    later && known.hash == asked.hash && was_not_done(asked) && !asked.ended(how::UNSENT)
}

/// I13: an id that was used for one thing is not used for another.
pub(crate) fn ids_are_not_reused(history: &History) -> Vec<Violation> {
    let lives = Lives::new(&history.runner);
    let mut found = Vec::new();
    for (asked, executed) in history.calls.commands() {
        let Some(other) = asked.iter().find(|it| it.hash != asked[0].hash) else {
            continue;
        };
        let here = |it: &&Executed| lives.only(asked[0].at, it.at).is_some();
        let mut done = executed.iter().filter(here);
        if let Some(first) = done.next()
            && let Some(second) = done.find(|it| it.hash != first.hash)
        {
            found.push(violation(format!(
                "one id, two things done: {first:?}, {second:?}"
            )));
        }
        // The first had its answer, and the other one gets an answer, too.
        let both = [other.hash, asked[0].hash].map(|hash| {
            let same = asked.iter().filter(move |it| it.hash == hash);
            let certain = |it: &&Asked| {
                let over = it.outcome.map_or(u64::MAX, |outcome| outcome.at);
                answer(it).is_some() && lives.only(asked[0].at, over).is_some()
            };
            same.clone().any(|it| certain(&it))
        });
        if both == [true, true] {
            found.push(violation(format!("one id, two things answered: {asked:?}")));
        }
    }
    found
}
