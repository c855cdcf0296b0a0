//! Connections and sessions: how they begin, what keeps them alive, how they end.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use localhub_protocol::{
    ClientFrame, ClientName, Code, FrameError, Hello, Resume, Resumed, Version, Welcome,
};

use super::outgoing::NeverSent;
use super::{Core, Failure, Session};
use crate::ConnectionState;

/// The broker did not say anything for two ping intervals.
#[derive(Debug)]
pub(crate) struct Silent;

/// The broker answers this many pings at a time without stopping to read.
const PINGS_MAX: usize = 16;

impl Core {
    /// The first frame of a connection.
    pub(crate) fn hello(&mut self) -> Vec<u8> {
        let resume = match &self.session {
            Some(session) if self.settings.resume && !self.token_spent => Some(Resume {
                epoch: session.epoch,
                client: session.client,
                token: session.token.clone(),
                received: self.received,
            }),
            _ => None,
        };
        let ttl = self.settings.session_ttl;
        let mut bytes = Vec::new();
        ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: Vec::new(),
            name: self.settings.name.as_ref().map(ClientName::as_str),
            resume,
            ttl_ms: ttl.map(|ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX)),
        })
        .encode(&mut bytes);
        self.set_state(ConnectionState::Connecting);
        bytes
    }

    /// The connection stands: the session goes on, or a new one begins.
    ///
    /// # Errors
    /// The welcome contradicts itself or the session. [`Core::lost`] is to be called.
    pub(crate) fn welcome(
        &mut self,
        welcome: &Welcome<'_>,
        now: Instant,
    ) -> Result<(), FrameError> {
        let contradiction = |reason| FrameError::Malformed { reason };
        let name = welcome
            .name
            .parse()
            .map_err(|_| contradiction("a welcome with a name that is none"))?;
        let session = Session {
            epoch: welcome.epoch,
            client: welcome.client,
            name,
            token: welcome.token.clone(),
            limits: welcome.limits,
            ping: Duration::from_millis(welcome.ping_ms.into()),
        };
        let goes_on = |resumed: Resumed| resumed.recovered || resumed.lost.is_some();
        let before = self
            .session
            .replace(session)
            .map(|before| (before.epoch, before.client));
        if welcome.resumed.is_some_and(goes_on) {
            if before != Some((welcome.epoch, welcome.client)) {
                self.token_spent = true;
                return Err(contradiction("a welcome to another session"));
            }
            if let Err(NeverSent) = self.outgoing.resume(welcome.received) {
                self.token_spent = true;
                return Err(contradiction(
                    "a welcome with a position that was never sent",
                ));
            }
        } else {
            self.sessions += 1;
            if before.is_some() {
                self.begin_anew(now);
            }
        }
        self.token_spent = false;
        self.connected = true;
        self.run = None;
        self.told = self.received;
        self.untold_bytes = 0;
        self.tell_at = None;
        self.heard_at = now;
        self.probed = false;
        self.pings_in_flight = 0;
        self.ping_wanted = !self.confirms.is_empty()
            || self.doubtful > 0
            || self.closing.is_some()
            // Whoever waits for room may do so since before.
            || !self.has_room();
        self.set_state(ConnectionState::Connected {
            resumed: welcome.resumed,
            session: self.sessions,
        });
        self.release_publishers();
        Ok(())
    }

    /// The connection is gone, and another attempt is made after `retry_in`.
    pub(crate) fn lost(&mut self, reason: String, retry_in: Duration) {
        self.connected = false;
        self.blocked = false;
        self.control.clear();
        self.set_state(ConnectionState::Disconnected { reason, retry_in });
        self.release_publishers();
    }

    /// The broker does not know the resume token any more: the next hello asks for a new session.
    pub(crate) fn forget_token(&mut self) {
        self.token_spent = true;
    }

    /// The client is over: whatever waits is told so.
    pub(crate) fn finish(&mut self, code: Option<Code>, reason: String) {
        if self.end.is_some() {
            return;
        }
        self.connected = false;
        let end = Failure::Closed {
            code,
            reason: reason.clone(),
        };
        self.tickets.fail_all(&end, &mut self.wakes);
        self.finish_requests(code, &reason);
        self.finish_serving();
        self.end = Some(end);
        self.set_state(ConnectionState::Closed { code, reason });
        let inboxes = self
            .streams
            .values_mut()
            .map(|stream| &mut stream.inbox.waker);
        let watchers = self.watchers.values_mut().map(|watcher| &mut watcher.waker);
        self.wakes
            .extend(inboxes.chain(watchers).filter_map(Option::take));
        self.refusals.wake(&mut self.wakes);
        self.release_publishers();
    }

    /// What is to be written now, about `max` bytes of it.
    pub(crate) fn take(&mut self, batch: &mut VecDeque<Bytes>, max: usize, now: Instant) {
        if !self.connected {
            return;
        }
        self.outgoing.take(batch, max);
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell();
        }
        if !self.outgoing.has_unsent() {
            if self.ping_wanted && self.pings_in_flight < PINGS_MAX {
                self.ping();
            }
            self.say_goodbye(now);
        }
        if !self.control.is_empty() {
            batch.push_back(std::mem::take(&mut self.control).into());
        }
    }

    /// How long the broker asked to be left alone, if it announced that it closes the connection.
    pub(crate) fn take_away(&mut self) -> Option<Duration> {
        self.away.take()
    }

    /// Leaves a waker that is called when there is something to write, or room to read on.
    ///
    /// While it is `busy` with what it took before, it is called only for other reasons.
    pub(crate) fn register_link(&mut self, cx: &Context<'_>, busy: bool) {
        self.link_busy = busy;
        if self
            .link
            .as_ref()
            .is_none_or(|link| !link.will_wake(cx.waker()))
        {
            self.link = Some(cx.waker().clone());
        }
    }

    /// Does what is due at this time.
    ///
    /// # Errors
    /// The broker is silent for too long.
    pub(crate) fn elapse(&mut self, now: Instant) -> Result<(), Silent> {
        self.expire_requests(now);
        let Some(ping) = self.ping_interval() else {
            return Ok(());
        };
        let silence = now.saturating_duration_since(self.heard_at);
        if silence >= ping * 2 {
            return Err(Silent);
        }
        if silence >= ping && !self.probed {
            self.probed = true;
            self.ping();
        }
        Ok(())
    }

    /// When [`Core::elapse`] or [`Core::take`] has something to do next. While the link is `busy` with
    /// what it took before, there is nothing to be taken.
    pub(crate) fn deadline(&self, busy: bool) -> Option<Instant> {
        let silent = self
            .ping_interval()
            .map(|ping| self.heard_at + if self.probed { ping * 2 } else { ping });
        let tell = self.tell_at.filter(|_| !busy);
        let closing = self.closing.as_ref().map(|closing| closing.until);
        let request = self.requests_deadline();
        [silent, tell, closing, request].into_iter().flatten().min()
    }

    /// Whether a client that closes has waited long enough to do so properly.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|closing| now >= closing.until)
    }

    /// Ready when the application wants the client to end.
    pub(crate) fn poll_closing(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.closing.is_some() {
            return Poll::Ready(());
        }
        self.register_link(cx, true);
        Poll::Pending
    }

    /// Whether the application wants the client to end; and whether goodbye was said already.
    pub(crate) fn closing(&self) -> Option<bool> {
        self.closing.as_ref().map(|closing| closing.said)
    }

    /// The largest frame that the broker may send.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        /// Lists of members and answers to operators may be larger than any message.
        const FRAME_BYTES_MIN: usize = 16 * 1024 * 1024;
        self.limits().frame_bytes().max(FRAME_BYTES_MIN)
    }

    fn ping_interval(&self) -> Option<Duration> {
        let ping = self.session.as_ref()?.ping;
        (self.connected && !ping.is_zero()).then_some(ping)
    }

    /// Confirms what was received.
    pub(super) fn tell(&mut self) {
        self.control(&ClientFrame::Ack {
            received: self.received,
        });
        self.note_told();
    }

    pub(super) fn note_told(&mut self) {
        self.told = self.received;
        self.untold_bytes = 0;
        self.tell_at = None;
    }

    /// Sends a ping; its nonce is the position up to which the pong settles everything.
    fn ping(&mut self) {
        // What is not sent yet needs a ping of its own.
        self.ping_wanted &= self.outgoing.has_unsent();
        self.pings_in_flight += 1;
        self.control(&ClientFrame::Ping {
            nonce: self.outgoing.sent(),
            received: self.received,
        });
        self.note_told();
    }

    fn say_goodbye(&mut self, now: Instant) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        let settled = self.later_bytes == 0 && self.settled >= closing.position;
        if !closing.said && (settled || now >= closing.until) {
            closing.said = true;
            self.control(&ClientFrame::Close {
                code: Code::GOODBYE,
                detail: "",
            });
        }
    }
}
