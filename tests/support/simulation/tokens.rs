use std::collections::HashMap;
use std::time::Duration;

use localhub_protocol::ResumeToken;

/// The tokens of one session.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// What the last welcome told.
    newest: Option<ResumeToken>,
    /// What was shown for that one, until the client has spoken.
    shown: Option<ResumeToken>,
}

impl Tokens {
    pub(super) fn are_good(&self, token: &ResumeToken) -> bool {
        [&self.newest, &self.shown].contains(&&Some(token.clone()))
    }

    /// A welcome tells a new one, to who has shown another.
    pub(super) fn renew(&mut self, newest: ResumeToken, shown: Option<ResumeToken>) {
        (self.newest, self.shown) = (Some(newest), shown);
    }

    /// The client has spoken on the connection that the newest token came with.
    pub(super) fn prove(&mut self) {
        self.shown = None;
    }
}

/// Wrong tokens of each process: when it showed the first that is remembered, and how many since.
#[derive(Debug, Default)]
pub(super) struct Strikes(HashMap<u32, (Duration, u32)>);

/// So many wrong tokens in a minute are too many.
const STRIKES_MAX: u32 = 5;

/// How long they are remembered.
const MINUTE: Duration = Duration::from_secs(60);

impl Strikes {
    /// Whether a process has to wait before it may show a token.
    pub(super) fn has_to_wait(&self, pid: u32, now: Duration) -> bool {
        let strikes = self.0.get(&pid);
        strikes.is_some_and(|(first, count)| now < *first + MINUTE && *count >= STRIKES_MAX)
    }

    pub(super) fn strike(&mut self, pid: u32, now: Duration) {
        let strikes = self.0.entry(pid).or_insert((now, 0));
        if now >= strikes.0 + MINUTE {
            *strikes = (now, 0);
        }
        strikes.1 += 1;
    }
}
