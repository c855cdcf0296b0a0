//! What is printed in the end.

use std::fmt::Write as _;
use std::time::Duration;

use crate::check::{CHECKS, Guard, deaths, guards};
use crate::history::{History, Item};
use crate::record::Event;

/// So many violations of one invariant are shown.
const SHOWN: usize = 5;

/// Checks a history: the report, and whether all is well.
pub(crate) fn report(history: &History, time: Duration, seed: u64) -> (String, bool) {
    let mut text = String::new();
    let mut good = true;
    let mut line = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes everything");
        text.push('\n');
    };
    line(format_args!(
        "hubcheck: {} s, seed {seed}, {} processes, {} streams",
        time.as_secs(),
        history.told.len(),
        history.streams.len()
    ));
    for Guard { what, count, least } in guards(history, time.as_secs()) {
        let few = count < least;
        good &= !few;
        let verdict = match (least, count) {
            (0, 0) => "; the run shows nothing of that".to_owned(),
            (0, _) => String::new(),
            _ if few => format!(" (at least {least})  TOO FEW: the run shows nothing"),
            _ => format!(" (at least {least})"),
        };
        line(format_args!("  {count:>9} {what}{verdict}"));
    }
    let items = || history.streams.iter().flat_map(|stream| &stream.items);
    let told: u64 = history.streams.iter().map(|stream| stream.lost()).sum();
    let unknown = items().filter(|item| matches!(item, Item::Gap { lost: None, .. }));
    line(format_args!("  {told:>9} messages counted in gaps"));
    line(format_args!(
        "  {:>9} gaps of unknown size (a session ended)",
        unknown.count()
    ));
    let samples = history
        .runner
        .iter()
        .filter_map(|record| match record.event {
            Event::Sample {
                rss, descriptors, ..
            } => Some((rss, descriptors)),
            _ => None,
        });
    let (rss, descriptors) = samples.fold((0, 0), |most, sample| {
        (most.0.max(sample.0), most.1.max(sample.1))
    });
    line(format_args!(
        "  {:>9} MiB of memory in the broker at most",
        rss >> 20
    ));
    line(format_args!(
        "  {descriptors:>9} descriptors in the broker at most"
    ));
    let mut times: Vec<_> = deaths(history)
        .into_iter()
        .filter_map(|death| death.2)
        .collect();
    times.sort_unstable();
    if let Some(longest) = times.last() {
        let middle = times[times.len() / 2];
        line(format_args!(
            "  {:>9} deaths seen by others, after {:.1} ms (median) and {:.1} ms (longest)",
            times.len(),
            middle as f64 / 1e6,
            *longest as f64 / 1e6
        ));
    }
    for (number, name, check) in CHECKS {
        let violations = check(history);
        good &= violations.is_empty();
        match violations.len() {
            0 => line(format_args!("  {number:<4} {name}: yes")),
            count => line(format_args!("  {number:<4} {name}: NO, {count} times")),
        }
        for violation in violations.iter().take(SHOWN) {
            line(format_args!("         {}", violation.what));
        }
    }
    if !good {
        line(format_args!(
            "  again: just hubcheck --seconds {} --seed {seed}",
            time.as_secs()
        ));
    }
    (text, good)
}
