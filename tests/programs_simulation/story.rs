//! What happened, for who has to find out why a run failed.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Duration;

/// The last steps of a run, which are shown if it fails.
#[derive(Debug, Default)]
pub(crate) struct Story(VecDeque<String>);

/// So many are shown. `STORY=n` shows more or fewer.
const LINES: usize = 200;

impl Story {
    /// Adds a line.
    pub(crate) fn tell(&mut self, now: Duration, line: impl Display) {
        self.0
            .push_back(format!("{:>11.6} s  {line}", now.as_secs_f64()));
        if self.0.len() > lines() {
            self.0.pop_front();
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the last {} steps:", self.0.len());
            self.0.iter().for_each(|line| println!("{line}"));
        }
    }
}

fn lines() -> usize {
    let asked = std::env::var("STORY").ok();
    asked.and_then(|lines| lines.parse().ok()).unwrap_or(LINES)
}
