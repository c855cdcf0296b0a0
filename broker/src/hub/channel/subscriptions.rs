use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use localhub_protocol::{BrokerFrame, ClientId, Policy, Start, TopicFilter};

use super::{Channel, Member, State};
use crate::hub::outbox::{Entry, Origin, Outbox};
use crate::hub::{Refusal, Wakes};

/// One receiver of a topic.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) outbox: Arc<Outbox>,
    pub(super) policy: Policy,
}

/// How much a policy gives up, the one that gives up least first.
const fn frugality(policy: Policy) -> u8 {
    match policy {
        Policy::Park => 0,
        Policy::Block => 1,
        Policy::DropOldest => 2,
        Policy::DropNewest => 3,
        Policy::Latest => 4,
    }
}

impl Channel {
    /// Adds a subscription, or sets its policy; what it is to start with comes first. The session may
    /// hold `limit` of them over all channels.
    #[expect(clippy::too_many_arguments, reason = "all that a subscription is")]
    pub(in crate::hub) fn subscribe(
        &self,
        client: ClientId,
        request: u64,
        filter: TopicFilter,
        start: Start,
        policy: Policy,
        limit: u64,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get(&client).ok_or(Refusal::NotAMember)?;
        let session = member.session.clone();
        let known = member
            .filters
            .iter()
            .position(|(known, _)| *known == filter);
        if known.is_none() && session.subscriptions.load(Ordering::Relaxed) >= limit {
            return Err(Refusal::LimitReached {
                what: "too many subscriptions",
                limit,
            });
        }
        if let Some(history) = &mut state.history {
            history.trim(now);
        }
        let values = self.values(state, &session.outbox, request, &filter, start)?;
        if known.is_none() {
            state.filters.insert(&filter, client);
            session.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        match known {
            Some(at) => {
                let before = std::mem::replace(&mut member.filters[at].1, policy);
                member.special -= usize::from(before != Policy::default());
            }
            None => {
                if member.filters.is_empty() {
                    // Most members have no other.
                    member.filters.reserve_exact(1);
                }
                member.filters.push((filter, policy));
            }
        }
        member.special += usize::from(policy != Policy::default());
        state.routes.clear();
        session.outbox.answer_entries(values, wakes);
        Ok(())
    }

    /// Ends a subscription.
    pub(in crate::hub) fn unsubscribe(
        &self,
        client: ClientId,
        filter: &str,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let at = member
            .filters
            .iter()
            .position(|(known, _)| known.as_str() == filter)
            .ok_or(Refusal::NotSubscribed)?;
        let (filter, policy) = member.filters.swap_remove(at);
        member.special -= usize::from(policy != Policy::default());
        member.session.subscriptions.fetch_sub(1, Ordering::Relaxed);
        state.filters.remove(&filter, client);
        state.routes.clear();
        Ok(())
    }

    /// Answers with the retained values that match.
    pub(in crate::hub) fn snapshot(
        &self,
        client: ClientId,
        request: u64,
        filter: &TopicFilter,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let state = self.state.lock();
        let member = state.members.get(&client).ok_or(Refusal::NotAMember)?;
        let outbox = &member.session.outbox;
        let values = self.values(&state, outbox, request, filter, Start::Retained)?;
        outbox.answer_entries(values, wakes);
        Ok(())
    }

    /// The answer to a subscription or snapshot: the count, then the messages that it starts with.
    fn values(
        &self,
        state: &State,
        outbox: &Outbox,
        request: u64,
        filter: &TopicFilter,
        start: Start,
    ) -> Result<Vec<Entry>, Refusal> {
        let offset = state.offset;
        let (mut entries, since) = match (start, &state.history) {
            (Start::After(after), _) if after > offset => {
                return Err(Refusal::UnknownOffset { after, offset });
            }
            (Start::Live, _) => (vec![], offset),
            (Start::Retained, _) => {
                let values = state.values.matching(filter);
                (values.map(|value| value.entry(self.id)).collect(), offset)
            }
            (start, Some(history)) => history.replay(filter, start),
            (_, None) => (vec![], offset),
        };
        let bytes: usize = entries.iter().map(|entry| entry.frames.len()).sum();
        let count: u64 = entries.iter().map(|entry| entry.count).sum();
        if !outbox.has_room(bytes as u64, entries.len() as u64 + 1, count + 1) {
            return Err(Refusal::OutboxFull);
        }
        let mut head = Vec::new();
        BrokerFrame::Values {
            request,
            channel: self.id,
            offset,
            count,
            since,
        }
        .encode(&mut head);
        entries.insert(0, Entry::new(Origin::Answer, head, 1));
        Ok(entries)
    }
}

impl State {
    pub(super) fn route(&self, topic: &str) -> Box<[Route]> {
        self.filters
            .matching(topic)
            .into_iter()
            .filter_map(|client| self.members.get(&client))
            .map(|member| Route {
                outbox: member.session.outbox.clone(),
                policy: member.policy_of(topic),
            })
            .collect()
    }
}

impl Member {
    /// The policy for messages of a topic: of the subscriptions that match, the one that gives up least.
    fn policy_of(&self, topic: &str) -> Policy {
        if self.special == 0 {
            return Policy::default();
        }
        let matching = self.filters.iter();
        matching
            .filter(|(filter, _)| filter.matches(topic))
            .map(|(_, policy)| *policy)
            .min_by_key(|policy| frugality(*policy))
            .unwrap_or_default()
    }
}
