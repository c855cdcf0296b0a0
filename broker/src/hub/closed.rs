use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use localhub_protocol::admin::ClosedView;

use super::Identity;
use super::admin::millis;
use super::session::Session;

/// The ends of connections and sessions, the last ones only.
#[derive(Debug, Default)]
pub(super) struct ClosedLog {
    ends: VecDeque<End>,
    so_far: u64,
}

/// How a connection or session ended. The times in `view` are since the hub began until it is asked for.
#[derive(Debug)]
pub(super) struct End {
    at: Duration,
    view: ClosedView,
}

/// What an operator may want to look back on, in a few megabytes.
const ENDS_MAX: usize = 10_000;

impl ClosedLog {
    pub(super) fn push(&mut self, mut end: End) {
        if self.ends.len() == ENDS_MAX {
            self.ends.pop_front();
        }
        self.so_far += 1;
        end.view.number = self.so_far;
        self.ends.push_back(end);
    }

    /// The ends before number `before`, the newest first, each seen from `now`.
    pub(super) fn before(
        &self,
        before: Option<u64>,
        now: Duration,
    ) -> impl Iterator<Item = ClosedView> {
        self.ends
            .iter()
            .rev()
            .filter(move |end| before.is_none_or(|before| end.view.number < before))
            .map(move |end| ClosedView {
                ago_ms: millis(now.saturating_sub(end.at)),
                ..end.view.clone()
            })
    }
}

impl End {
    /// The end of a connection that was not let in.
    pub(super) fn of_stranger(
        identity: Identity,
        reason: &str,
        detail: &str,
        now: Duration,
    ) -> Self {
        Self {
            at: now,
            view: ClosedView {
                number: 0,
                ago_ms: 0,
                reason: reason.into(),
                detail: detail.into(),
                parked: false,
                id: None,
                name: None,
                pid: identity.pid,
                executable: identity.executable,
                user: identity.user.to_string(),
                age_ms: 0,
                messages_in: 0,
                messages_out: 0,
                messages_lost: 0,
                refused: 0,
            },
        }
    }

    /// The end of a session or of one of its connections.
    pub(super) fn of_session(
        session: &Session,
        reason: &str,
        detail: &str,
        parked: bool,
        now: Duration,
    ) -> Self {
        let identity = session.identity.lock().clone();
        let mut end = Self::of_stranger(identity, reason, detail, now);
        let (held, totals) = (session.outbox.holds(), &session.totals);
        end.view = ClosedView {
            parked,
            id: Some(session.id),
            name: Some(session.name.to_string()),
            age_ms: millis(now.saturating_sub(session.since)),
            messages_in: totals.messages.load(Ordering::Relaxed),
            messages_out: held.totals.messages,
            messages_lost: held.totals.lost,
            refused: totals.refused.load(Ordering::Relaxed),
            ..end.view
        };
        end
    }
}
