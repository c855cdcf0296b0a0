use localhub_protocol::{ClientId, Status, admin};

use super::{Channel, Member, State};
use crate::hub::admin::millis;
use crate::hub::history::History;

/// What the members of a channel had it keep, for operators.
fn settings_of(state: &State) -> admin::SettingsView {
    let bounds = state.history.as_deref().map(History::bounds);
    let bounds = bounds.unwrap_or_default();
    admin::SettingsView {
        history_messages: bounds.messages,
        history_bytes: bounds.bytes,
        history_age_ms: millis(bounds.age),
        debounce_ms: millis(state.debounce),
    }
}

/// A member's status as one word, for operators.
pub(in crate::hub) const fn status_word(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
        Status::Stalled => "stalled",
    }
}

impl Channel {
    pub(in crate::hub) fn summary(&self) -> admin::ChannelSummary {
        let state = self.state.lock();
        self.summary_of(&state)
    }

    pub(in crate::hub) fn view(&self) -> admin::ChannelView {
        let state = self.state.lock();
        admin::ChannelView {
            summary: self.summary_of(&state),
            settings: settings_of(&state),
            members: state
                .members
                .iter()
                .map(|(client, member)| admin::MemberView {
                    id: *client,
                    name: member.session.name.to_string(),
                    state: status_word(member.status).into(),
                    hidden: member.hidden,
                    filters: member.held().collect(),
                    presence: member.state.to_vec(),
                })
                .collect(),
            retained: state
                .values
                .iter()
                .map(|(topic, retained)| admin::RetainedView {
                    topic: topic.to_string(),
                    bytes: retained.payload_bytes as u64,
                    content: retained.content.0,
                    sender: retained.sender.name.to_string(),
                    offset: retained.offset,
                })
                .collect(),
        }
    }

    fn summary_of(&self, state: &State) -> admin::ChannelSummary {
        let history = state.history.as_deref();
        admin::ChannelSummary {
            name: self.name.to_string(),
            members: state.members.len() as u64,
            subscriptions: state.filters.len() as u64,
            offset: state.offset,
            retained: state.values.len() as u64,
            retained_bytes: state.values.bytes(),
            history: history.map_or(0, History::messages),
            history_bytes: history.map_or(0, History::bytes),
        }
    }

    /// The subscriptions of a member.
    pub(in crate::hub) fn subscriptions_of(
        &self,
        client: ClientId,
    ) -> Vec<admin::SubscriptionView> {
        let state = self.state.lock();
        let member = state.members.get(&client);
        member.map_or_else(Vec::new, |member| member.held().collect())
    }
}

impl Member {
    fn held(&self) -> impl Iterator<Item = admin::SubscriptionView> {
        self.filters
            .iter()
            .map(|(filter, policy)| admin::SubscriptionView {
                filter: filter.to_string(),
                policy: policy.name().into(),
            })
    }
}
