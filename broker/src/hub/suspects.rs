use std::collections::BTreeMap;
use std::time::Duration;

use super::identity::{Identity, User};

/// Who showed tokens lately that resume nothing.
///
/// A token cannot be guessed; this keeps who tries from costing anybody else anything. A program that has
/// its own token never comes here, so nobody is locked out by the wrong tokens of others.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<Who, Strikes>);

/// A process of a user, as far as the system tells.
type Who = (User, Option<u32>);

#[derive(Debug)]
struct Strikes {
    count: u32,
    since: Duration,
}

/// So many wrong tokens may a process show before it has to wait.
const STRIKES_MAX: u32 = 5;

/// How long wrong tokens are remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// So many processes are remembered; then those that were seen first are forgotten.
const SUSPECTS_MAX: usize = 1_024;

impl Suspects {
    /// How long that process has to wait before it may show a token again; `None` if it may now.
    pub(super) fn wait(&mut self, who: &Identity, now: Duration) -> Option<Duration> {
        let key = (who.user.clone(), who.pid);
        let strikes = self.0.get(&key)?;
        let until = strikes.since + MEMORY;
        if until <= now {
            self.0.remove(&key);
            return None;
        }
        (strikes.count >= STRIKES_MAX).then_some(until - now)
    }

    /// Notes a wrong token.
    pub(super) fn strike(&mut self, who: &Identity, now: Duration) {
        let key = (who.user.clone(), who.pid);
        if self.0.len() >= SUSPECTS_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, strikes| strikes.since + MEMORY > now);
            let first = self.0.iter().min_by_key(|(_, strikes)| strikes.since);
            if self.0.len() >= SUSPECTS_MAX
                && let Some(first) = first.map(|(who, _)| who.clone())
            {
                self.0.remove(&first);
            }
        }
        let strikes = self.0.entry(key).or_insert(Strikes {
            count: 0,
            since: now,
        });
        strikes.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Identity {
        Identity {
            user: User::Uid(1_000),
            gid: None,
            pid: Some(pid),
            executable: None,
        }
    }

    #[test]
    fn only_who_shows_many_wrong_tokens_has_to_wait() {
        let mut suspects = Suspects::default();
        let now = Duration::from_secs(100);
        for _ in 0..STRIKES_MAX {
            assert_eq!(suspects.wait(&process(1), now), None);
            suspects.strike(&process(1), now);
        }
        assert_eq!(suspects.wait(&process(1), now), Some(MEMORY));
        assert_eq!(suspects.wait(&process(2), now), None);
        assert_eq!(suspects.wait(&process(1), now + MEMORY), None);
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let mut suspects = Suspects::default();
        for pid in 0..2 * SUSPECTS_MAX as u32 {
            suspects.strike(&process(pid), Duration::from_millis(pid.into()));
        }
        assert_eq!(suspects.0.len(), SUSPECTS_MAX);
    }
}
