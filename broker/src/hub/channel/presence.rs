use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::limits::{
    CLIENT_NAME_BYTES_MAX, MEMBERS_PER_FRAME_MAX, PAYLOAD_BYTES_MAX_FLOOR, PRESENCE_STATE_BYTES_MAX,
};
use localhub_protocol::{BrokerFrame, Change, ClientId, Code, Member as WireMember, Status};

use super::{Channel, Member, State};
use crate::hub::outbox::{Entry, Origin};
use crate::hub::{Refusal, Wakes};

/// What is to be done for a member that lost its connection, and when, if it does not come back before.
#[derive(Debug, Default)]
pub(in crate::hub) struct Absence {
    /// Tell the others.
    pub(in crate::hub) tell_after: Option<Duration>,
    /// Publish its wills that have such a delay.
    pub(in crate::hub) wills_after: Vec<Duration>,
}

impl Channel {
    /// A member lost its connection. Those who watch are told at once, or later.
    pub(in crate::hub) fn lose(&self, client: ClientId, cause: Code, wakes: &mut Wakes) -> Absence {
        let mut state = self.state.lock();
        let debounce = state.debounce;
        let Some(member) = state.members.get_mut(&client) else {
            return Absence::default();
        };
        member.status = Status::Away;
        member.away_because = cause;
        let mut wills_after: Vec<_> = member.wills.iter().map(|will| will.delay).collect();
        wills_after.sort_unstable();
        wills_after.dedup();
        let tell_after = (!debounce.is_zero()).then_some(debounce);
        if tell_after.is_none() {
            self.tell_status(&mut state, client, wakes);
        }
        Absence {
            tell_after,
            wills_after,
        }
    }

    /// A member has a connection again, and reads and answers, or does not.
    pub(in crate::hub) fn set_present(&self, client: ClientId, stalled: bool, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.get_mut(&client) {
            member.status = if stalled {
                Status::Stalled
            } else {
                Status::Online
            };
            self.tell_status(&mut state, client, wakes);
        }
    }

    /// A member has been away for so long that those who watch are told.
    pub(in crate::hub) fn tell_absence(&self, client: ClientId, wakes: &mut Wakes) {
        self.tell_status(&mut self.state.lock(), client, wakes);
    }

    /// Tells those who watch of a member's status, unless they know it.
    fn tell_status(&self, state: &mut State, client: ClientId, wakes: &mut Wakes) {
        let Some(member) = state.members.get_mut(&client) else {
            return;
        };
        if member.told == member.status {
            return;
        }
        member.told = member.status;
        if member.hidden {
            return;
        }
        let (change, cause) = match member.status {
            Status::Online => (Change::Back, None),
            Status::Away => (Change::Away, Some(member.away_because)),
            Status::Stalled => (Change::Stalled, None),
        };
        self.tell(state, client, change, cause, wakes);
    }

    /// Replaces a member's presence state and tells those who watch.
    pub(in crate::hub) fn set_presence(
        &self,
        client: ClientId,
        presence: &[u8],
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        if member.state != presence {
            member.state = Bytes::copy_from_slice(presence);
            if !member.hidden {
                self.tell(&mut state, client, Change::Updated, None, wakes);
            }
        }
        Ok(())
    }

    /// Starts or stops presence changes; the start is answered with all members.
    pub(in crate::hub) fn watch(
        &self,
        client: ClientId,
        request: u64,
        on: bool,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        state.watchers = state.watchers - usize::from(member.watching) + usize::from(on);
        member.watching = on;
        let outbox = member.session.outbox.clone();
        if !on {
            outbox.answer(&BrokerFrame::Done { request }, wakes);
            return Ok(());
        }
        outbox.answer_entries(self.members(state, request), wakes);
        Ok(())
    }

    /// The members as one or more frames, each below the limits of a frame.
    fn members(&self, state: &State, request: u64) -> Vec<Entry> {
        let visible: Vec<_> = state
            .members
            .iter()
            .filter(|(_, member)| !member.hidden)
            .map(|(client, member)| member.on_the_wire(*client))
            .collect();
        let mut pages: Vec<&[WireMember<'_>]> = visible.chunks(MEMBERS_PER_FRAME_MAX).collect();
        if pages.is_empty() {
            pages.push(&[]);
        }
        let last = pages.len() - 1;
        let mut entries = Vec::with_capacity(pages.len());
        for (n, page) in pages.into_iter().enumerate() {
            let mut bytes = Vec::new();
            BrokerFrame::Members {
                request,
                channel: self.id,
                revision: state.revision,
                more: n < last,
                members: page.to_vec(),
            }
            .encode(&mut bytes);
            entries.push(Entry::new(Origin::Answer, bytes, 1));
        }
        entries
    }

    /// Tells those who watch of a change of one member, the member itself too.
    pub(super) fn tell(
        &self,
        state: &mut State,
        client: ClientId,
        change: Change,
        cause: Option<Code>,
        wakes: &mut Wakes,
    ) {
        state.revision += 1;
        if state.watchers == 0 {
            return;
        }
        let mut frame = Vec::new();
        BrokerFrame::Presence {
            channel: self.id,
            revision: state.revision,
            change,
            cause,
            member: state.members[&client].on_the_wire(client),
        }
        .encode(&mut frame);
        let origin = Origin::Channel {
            channel: self.id,
            sender: None,
            first: 0,
            retained: false,
        };
        let entry = Entry::new(origin, frame, 1);
        for member in state.members.values().filter(|member| member.watching) {
            member.session.outbox.push(entry.to_all(), wakes);
        }
    }
}

impl Member {
    fn on_the_wire(&self, client: ClientId) -> WireMember<'_> {
        WireMember {
            client,
            name: self.session.name.as_str(),
            status: self.told,
            state: &self.state,
        }
    }
}

// A page of members with the largest states is a frame within the smallest limit.
const _: () = assert!(
    MEMBERS_PER_FRAME_MAX * (PRESENCE_STATE_BYTES_MAX + CLIENT_NAME_BYTES_MAX + 32)
        <= PAYLOAD_BYTES_MAX_FLOOR
);
