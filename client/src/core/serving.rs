//! What the application serves, and the leases of it.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use bytes::Bytes;
use localhub_protocol::{ClientFrame, Code, LeaseState, ServeMode, ServiceName};

use super::ask::Ask;
use super::handling::{HandlingId, Handlings};
use super::wakers::Wakers;
use super::{Answer, Core, Failure, Ticket};
use crate::Lease;

/// The services of this client, and the requests that it handles.
#[derive(Default)]
pub(super) struct Serving {
    posts: BTreeMap<PostId, Post>,
    by_name: BTreeMap<ServiceName, PostId>,
    /// For requests to this client itself.
    own: Option<PostId>,
    pub(super) handlings: Handlings,
}

impl Serving {
    /// How much is remembered, by what it is.
    pub(super) fn holds(&self) -> Vec<(&'static str, usize)> {
        let [open, by_key] = self.handlings.holds();
        vec![
            ("posts", self.posts.len()),
            ("services", self.by_name.len()),
            ("handlings", open),
            ("keys", by_key),
        ]
    }
}

/// Identifies a place where requests arrive: a service, or this client itself.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PostId(u64);

impl PostId {
    /// Where nothing arrives.
    pub(crate) const NONE: Self = Self(0);
}

struct Post {
    service: Option<Offer>,
    queue: VecDeque<HandlingId>,
    /// The payloads in the queue.
    bytes: usize,
    /// How many streams of the application take from it.
    takers: usize,
    ended: bool,
    wakers: Wakers,
}

/// What a service is, for the broker.
struct Offer {
    name: ServiceName,
    mode: ServeMode,
    description: Bytes,
    /// Who waits for the broker to agree.
    ticket: Option<Ticket>,
    /// Where the broker was told of it last.
    offered: u64,
    /// The broker has agreed to that. What it says of leases before is of an earlier service of that
    /// name, or is said again.
    stands: bool,
    /// The broker was told that it ends.
    stopping: bool,
    /// What the broker said of the lease, if there is one.
    lease: Option<Lease>,
    lease_changes: u64,
    lease_wakers: Wakers,
}

/// So many requests wait in a queue; the next are answered at once with a failure.
const QUEUE_MAX: usize = 1_024;

impl Core {
    /// Offers a service. The ticket is settled when the broker has agreed.
    pub(crate) fn serve(
        &mut self,
        name: ServiceName,
        mode: ServeMode,
        description: Bytes,
    ) -> Result<(PostId, Ticket), Failure> {
        self.open()?;
        if self.serving.by_name.contains_key(&name) {
            return Err(Failure::Refused {
                code: Code::BAD_REQUEST,
                detail: "this client serves it already".to_owned(),
            });
        }
        let id = PostId(self.next_id());
        let ticket = self.tickets.issue();
        let exclusive = mode != ServeMode::Shared;
        let mut post = Post::new();
        post.takers = 1;
        post.service = Some(Offer {
            name: name.clone(),
            mode,
            description,
            ticket: Some(ticket),
            offered: 0,
            stands: false,
            stopping: false,
            lease: exclusive.then_some(Lease::Queued),
            lease_changes: 0,
            lease_wakers: Wakers::default(),
        });
        self.serving.posts.insert(id, post);
        self.serving.by_name.insert(name, id);
        self.offer(id);
        Ok((id, ticket))
    }

    /// Takes requests to this client itself.
    pub(crate) fn take_own_requests(&mut self) -> Result<PostId, Failure> {
        self.open()?;
        let id = match self.serving.own {
            Some(id) => id,
            None => PostId(self.next_id()),
        };
        self.serving.own = Some(id);
        let post = self.serving.posts.entry(id).or_insert_with(Post::new);
        post.takers += 1;
        Ok(id)
    }

    /// Nobody takes requests there any more, unless another stream does.
    pub(crate) fn close_post(&mut self, id: PostId) {
        let Some(post) = self.serving.posts.get_mut(&id) else {
            return;
        };
        post.takers = post.takers.saturating_sub(1);
        if post.takers > 0 {
            return;
        }
        let Some(post) = self.serving.posts.remove(&id) else {
            return;
        };
        if self.serving.own == Some(id) {
            self.serving.own = None;
        }
        if let Some(offer) = post.service
            && self.serving.by_name.get(&offer.name) == Some(&id)
        {
            self.serving.by_name.remove(&offer.name);
            let service = offer.name.as_str();
            let position = self.outgoing.push(&ClientFrame::Unserve { service });
            self.pending.insert(position, Ask::Unserve(id));
            self.wake_link();
        }
        for handling in post.queue {
            self.refuse_handling(handling, NOT_SERVED);
        }
    }

    /// Serves it no longer. What arrives before the broker has agreed can still be taken.
    pub(crate) fn stop_serving(&mut self, id: PostId) {
        let Some(post) = self.serving.posts.get_mut(&id).filter(|post| !post.ended) else {
            return;
        };
        let Some(offer) = post.service.as_mut().filter(|offer| !offer.stopping) else {
            return;
        };
        offer.stopping = true;
        let service = offer.name.as_str();
        let position = self.outgoing.push(&ClientFrame::Unserve { service });
        self.pending.insert(position, Ask::Unserve(id));
        self.wake_link();
    }

    /// The next request that arrived there; `None` at the end.
    pub(crate) fn poll_post(&mut self, id: PostId, cx: &Context<'_>) -> Poll<Option<HandlingId>> {
        let over = self.end.is_some();
        let Some(post) = self.serving.posts.get_mut(&id).filter(|_| !over) else {
            return Poll::Ready(None);
        };
        if let Some(next) = post.queue.pop_front() {
            post.bytes -= self.serving.handlings.hand_out(next);
            return Poll::Ready(Some(next));
        }
        if post.ended {
            return Poll::Ready(None);
        }
        post.wakers.add(cx, &mut self.wakes);
        Poll::Pending
    }

    /// The lease of a service.
    pub(crate) fn lease(&self, id: PostId) -> Option<Lease> {
        self.serving.posts.get(&id)?.service.as_ref()?.lease
    }

    /// Ready with the lease if it is not the one with the number `seen`; `None` after the last.
    pub(crate) fn poll_lease(
        &mut self,
        id: PostId,
        seen: &mut u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Lease>> {
        let over = self.end.is_some();
        let Some(post) = self.serving.posts.get_mut(&id) else {
            return Poll::Ready(None);
        };
        let Some(offer) = &mut post.service else {
            return Poll::Ready(None);
        };
        if *seen != offer.lease_changes {
            *seen = offer.lease_changes;
            return Poll::Ready(offer.lease);
        }
        if post.ended || over || offer.lease.is_none() {
            return Poll::Ready(None);
        }
        offer.lease_wakers.add(cx, &mut self.wakes);
        Poll::Pending
    }

    /// The broker told of a lease.
    pub(super) fn lease_told(&mut self, service: &str, state: LeaseState, fence: u64) {
        let Some(id) = self.post_of(Some(service)) else {
            return;
        };
        if self.offer_of(id).is_none_or(|offer| !offer.stands) {
            return;
        }
        let lease = match state {
            LeaseState::Queued => Lease::Queued,
            LeaseState::Held => Lease::Held { fence },
            LeaseState::Lost => Lease::Lost,
        };
        self.set_lease(id, lease);
        if let Some(ticket) = self.offer_of(id).and_then(|offer| offer.ticket.take()) {
            self.settle(ticket, Ok(Answer::Done));
        }
        if state == LeaseState::Lost {
            self.end_post(id);
        }
    }

    /// The broker agreed to a service.
    pub(super) fn served(&mut self, id: PostId, position: u64) {
        let Some(offer) = self.offer_of(id).filter(|it| it.offered == position) else {
            return;
        };
        offer.stands = true;
        // Of a service that one client has at a time, the lease follows.
        if offer.mode == ServeMode::Shared
            && let Some(ticket) = offer.ticket.take()
        {
            self.settle(ticket, Ok(Answer::Done));
        }
    }

    /// The broker refused a service; says whether nobody waited to be told.
    pub(super) fn serve_refused(&mut self, id: PostId, position: u64, failure: Failure) -> bool {
        // What the broker says to the last one counts: it may agree to that.
        if self.offer_of(id).is_some_and(|it| it.offered != position) {
            return false;
        }
        let ticket = self.offer_of(id).and_then(|offer| offer.ticket.take());
        self.end_post(id);
        match ticket {
            Some(ticket) => {
                self.settle(ticket, Err(failure));
                false
            }
            None => self.serving.posts.contains_key(&id),
        }
    }

    /// Offers in a new session what was served in the one before.
    pub(super) fn serve_anew(&mut self) {
        let served: Vec<_> = self.serving.by_name.values().copied().collect();
        for id in served {
            if self.lease(id).is_some() {
                self.set_lease(id, Lease::Queued);
            }
            self.offer(id);
        }
    }

    /// What the broker said of leases may be lost: it says it again when it is asked.
    pub(super) fn doubt_leases(&mut self) {
        let served: Vec<_> = self.serving.by_name.values().copied().collect();
        for id in served {
            let stopping = self.offer_of(id).is_some_and(|offer| offer.stopping);
            if self.lease(id).is_some() && !stopping {
                self.offer_again(id);
            }
        }
    }

    /// Tells the broker once more in the same session. If it was to be taken over, that was said already,
    /// and somebody else may have it by now.
    pub(super) fn offer_again(&mut self, id: PostId) {
        if let Some(offer) = self.offer_of(id)
            && offer.mode == ServeMode::Takeover
        {
            offer.mode = ServeMode::Exclusive;
        }
        self.offer(id);
    }

    /// The client is over: nothing more arrives.
    pub(super) fn finish_serving(&mut self) {
        for post in self.serving.posts.values_mut() {
            post.wakers.wake(&mut self.wakes);
            if let Some(offer) = &mut post.service {
                offer.lease_wakers.wake(&mut self.wakes);
            }
        }
        self.finish_handlings();
    }

    /// Puts a request into a queue; or says with what failure to answer it.
    pub(super) fn queue_handling(
        &mut self,
        post: PostId,
        handling: HandlingId,
        bytes: usize,
    ) -> Result<(), (&'static str, &'static str)> {
        let most = self.settings.inbox.bytes;
        let Some(post) = self.serving.posts.get_mut(&post) else {
            return Err(NOT_SERVED);
        };
        let full = post.bytes.saturating_add(bytes) > most && !post.queue.is_empty();
        if full || post.queue.len() >= QUEUE_MAX {
            return Err(OVERLOADED);
        }
        post.bytes += bytes;
        post.queue.push_back(handling);
        post.wakers.wake(&mut self.wakes);
        Ok(())
    }

    /// Takes a request out of its queue.
    pub(super) fn unqueue_handling(&mut self, post: PostId, handling: HandlingId, bytes: usize) {
        if let Some(post) = self.serving.posts.get_mut(&post) {
            post.queue.retain(|queued| *queued != handling);
            post.bytes -= bytes;
        }
    }

    /// Where requests to a service arrive, or those to this client itself.
    pub(super) fn post_of(&self, service: Option<&str>) -> Option<PostId> {
        match service {
            Some(name) => self.serving.by_name.get(name).copied(),
            None => self.serving.own,
        }
    }

    /// Tells the broker of a service.
    pub(super) fn offer(&mut self, id: PostId) {
        let Some(post) = self.serving.posts.get_mut(&id) else {
            return;
        };
        let Some(offer) = &mut post.service else {
            return;
        };
        let position = self.outgoing.push(&ClientFrame::Serve {
            service: offer.name.as_str(),
            mode: offer.mode,
            description: &offer.description,
        });
        (offer.offered, offer.stands) = (position, false);
        self.pending.insert(position, Ask::Serve(id));
        self.wake_link();
    }

    fn offer_of(&mut self, id: PostId) -> Option<&mut Offer> {
        self.serving.posts.get_mut(&id)?.service.as_mut()
    }

    fn set_lease(&mut self, id: PostId, lease: Lease) {
        let Some(post) = self.serving.posts.get_mut(&id) else {
            return;
        };
        let Some(offer) = &mut post.service else {
            return;
        };
        // What was taken over once is not to be taken from whoever has it by then.
        if offer.mode == ServeMode::Takeover && matches!(lease, Lease::Held { .. }) {
            offer.mode = ServeMode::Exclusive;
        }
        if offer.lease != Some(lease) {
            offer.lease = Some(lease);
            offer.lease_changes += 1;
            offer.lease_wakers.wake(&mut self.wakes);
        }
    }

    /// This client does not serve it any more. What has arrived may still be taken.
    pub(super) fn end_post(&mut self, id: PostId) {
        let Some(post) = self.serving.posts.get_mut(&id) else {
            return;
        };
        post.ended = true;
        post.wakers.wake(&mut self.wakes);
        if let Some(offer) = &mut post.service {
            offer.lease_wakers.wake(&mut self.wakes);
            if self.serving.by_name.get(&offer.name) == Some(&id) {
                self.serving.by_name.remove(&offer.name);
            }
        }
    }
}

impl Post {
    fn new() -> Self {
        Self {
            service: None,
            queue: VecDeque::new(),
            bytes: 0,
            takers: 0,
            ended: false,
            wakers: Wakers::default(),
        }
    }
}

/// The code of the failure, and what it says, if nobody takes requests.
pub(super) const NOT_SERVED: (&str, &str) =
    ("not_served", "this client does not take that request");

/// As well, if there are too many.
const OVERLOADED: (&str, &str) = ("overloaded", "too many requests wait for this client");
