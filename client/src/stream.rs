use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use localhub_protocol::TopicFilter;
use tokio_stream::Stream;

use crate::core::{Core, Entry, Failure, LastTopic, RoomId, StreamId, Takes, Ticket};
use crate::shared::Handle;
use crate::{Gap, Message, Refused};

/// Messages as they come, with a [`Gap`] wherever some are missing.
///
/// The stream ends when the client leaves the channel or is closed. When the last stream of a
/// filter is dropped, the subscription ends.
///
/// After a gap with `lost: None` the client has a new session; a stream from
/// [`subscribe`](crate::Channel::subscribe) then begins again with the last values.
pub struct Messages {
    handle: Arc<Handle>,
    filter: Option<TopicFilter>,
    /// `None` if the stream could not be opened, and is at its end.
    id: Option<StreamId>,
    /// What was taken out of the inbox.
    batch: VecDeque<Entry>,
    last_topic: LastTopic,
}

impl Messages {
    /// Opens a stream; with a ticket to wait for if the broker has to be asked. If there is an error
    /// instead, the stream is at its end.
    pub(crate) fn open(
        handle: &Arc<Handle>,
        room: Option<RoomId>,
        takes: Takes,
    ) -> (Self, Result<Option<Ticket>, Failure>) {
        let filter = match &takes {
            Takes::Topics { filter, .. } => Some(filter.clone()),
            Takes::Broadcasts | Takes::Directs => None,
        };
        let (id, ticket) = match handle.shared.with(|core| core.open_stream(room, takes)) {
            Ok((id, ticket)) => (Some(id), Ok(ticket)),
            Err(failure) => (None, Err(failure)),
        };
        let (batch, last_topic) = (VecDeque::new(), LastTopic::default());
        (
            Self {
                handle: handle.clone(),
                filter,
                id,
                batch,
                last_topic,
            },
            ticket,
        )
    }

    /// The next message or gap of the batch.
    fn next_taken(&mut self) -> Option<Result<Message, Gap>> {
        loop {
            match self.batch.front_mut()? {
                Entry::Run(piece) => match piece.next(&mut self.last_topic) {
                    Some(message) => return Some(Ok(message)),
                    None => self.batch.pop_front(),
                },
                Entry::Gap(_) => match self.batch.pop_front() {
                    Some(Entry::Gap(gap)) => return Some(Err(gap)),
                    _ => unreachable!("looked at it above"),
                },
            };
        }
    }

    /// The topic filter, if the stream is of a subscription.
    pub fn filter(&self) -> Option<&TopicFilter> {
        self.filter.as_ref()
    }

    /// How many messages made way for newer ones of their topic, if the stream's policy is
    /// [`Policy::Latest`](crate::Policy::Latest). They are no gap: the stream asked for it.
    pub fn conflated(&self) -> u64 {
        let shared = &self.handle.shared;
        self.id
            .map_or(0, |id| shared.with(|core| core.conflated(id)))
    }

    /// For a reader that goes by snapshots as well: if the answer to a subscription is lost in a new session, what
    /// comes before the next answer is missed, and a gap is to tell that.
    pub(crate) fn tell_restarts(&self) {
        if let Some(id) = self.id {
            self.handle.shared.with(|core| core.tell_restarts(id));
        }
    }

    /// How many messages made way for newer ones, whichever stream of the filter has that policy.
    pub(crate) fn made_way(&self) -> u64 {
        let shared = &self.handle.shared;
        self.id
            .map_or(0, |id| shared.with(|core| core.made_way(id)))
    }

    /// The next message or gap; `None` at the end.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Result<Message, Gap>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Messages {
    type Item = Result<Message, Gap>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A loop that always finds a message must leave others a chance to run.
        let proceed = ready!(tokio::task::coop::poll_proceed(cx));
        let this = &mut *self;
        let mut next = this.next_taken();
        if let (None, Some(id)) = (&next, this.id) {
            ready!(
                this.handle
                    .shared
                    .with(|core| core.poll_stream(id, &mut this.batch, cx))
            );
            next = this.next_taken();
        }
        proceed.made_progress();
        Poll::Ready(next)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.handle.shared.with(|core| core.close_stream(id));
        }
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Refusals of unconfirmed messages as they come: see [`Client::refusals`](crate::Client::refusals).
///
/// A reader that is more than 1,024 behind misses the oldest; the log has all of them, rate limited.
pub struct Refusals {
    handle: Arc<Handle>,
    id: StreamId,
}

impl Refusals {
    pub(crate) fn open(handle: &Arc<Handle>) -> Self {
        let id = handle.shared.with(Core::listen_to_refusals);
        Self {
            handle: handle.clone(),
            id,
        }
    }

    /// The next refusal; `None` once the client is closed.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Refused> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Refusals {
    type Item = Refused;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Refused>> {
        self.handle
            .shared
            .with(|core| core.poll_refusals(self.id, cx))
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        self.handle.shared.with(|core| core.close_refusals(self.id));
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").finish_non_exhaustive()
    }
}
