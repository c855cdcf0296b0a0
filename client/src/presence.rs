use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use localhub_protocol::{Change, ClientId, ClientName, Code, ContentType, Epoch, Status};
use serde::de::DeserializeOwned;
use tokio_stream::Stream;

use crate::core::{Answer, RoomId, Seen, StreamId};
use crate::shared::Handle;
use crate::{Error, message};

/// Who is in a channel: a view, and the stream of its changes.
///
/// If changes come faster than they are read, or the client had to start a new session, several
/// changes of one member become one; the view is right after each event in any case. If the broker was started anew,
/// everybody leaves and joins: ids mean something for one life of a broker only.
pub struct Presence {
    handle: Arc<Handle>,
    id: StreamId,
    /// The members after the events yielded so far.
    members: BTreeMap<ClientId, Member>,
    /// What happened, or must have happened, since.
    events: VecDeque<PresenceEvent>,
    /// Whose ids these are.
    epoch: Epoch,
}

impl Presence {
    pub(crate) async fn open(handle: &Arc<Handle>, room: RoomId) -> Result<Self, Error> {
        let shared = &handle.shared;
        let (id, ticket) = shared.with(|core| core.members(room, true))?;
        let id = id.expect("events were asked for");
        let (members, events) = (BTreeMap::new(), VecDeque::new());
        let epoch = shared.with(|core| core.epoch());
        let mut presence = Self {
            handle: handle.clone(),
            id,
            members,
            events,
            epoch,
        };
        match shared.outcome(ticket).await? {
            Answer::Members(members) => presence.members = by_id(members),
            _ => unreachable!("a watch is answered with members"),
        }
        presence.epoch = shared.with(|core| core.epoch());
        Ok(presence)
    }

    /// The members after the events yielded so far, by ascending id. Hidden members are left out.
    pub fn members(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// The next change; `None` once the client left the channel or is closed.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    pub async fn next(&mut self) -> Option<PresenceEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Presence {
    type Item = PresenceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceEvent>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.events.pop_front() {
                apply(&event, &mut this.members);
                return Poll::Ready(Some(event));
            }
            match ready!(
                this.handle
                    .shared
                    .with(|core| core.poll_watcher(this.id, cx))
            ) {
                Seen::Events(events) => this.events = events,
                Seen::Anew {
                    members,
                    revision,
                    epoch,
                } => {
                    let comparable = std::mem::replace(&mut this.epoch, epoch) == epoch;
                    let members = by_id(members);
                    this.events = difference(&this.members, &members, revision, comparable);
                }
                Seen::End => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.handle.shared.with(|core| core.close_watcher(self.id));
    }
}

fn by_id(members: Vec<Member>) -> BTreeMap<ClientId, Member> {
    members
        .into_iter()
        .map(|member| (member.id, member))
        .collect()
}

fn apply(event: &PresenceEvent, members: &mut BTreeMap<ClientId, Member>) {
    if event.change == Change::Left {
        members.remove(&event.member.id);
    } else {
        members.insert(event.member.id, event.member.clone());
    }
}

/// The events that lead from one view to another: first who left, then the others. If the views are not
/// `comparable`, nobody of the one is in the other: their ids are of different epochs.
fn difference(
    before: &BTreeMap<ClientId, Member>,
    after: &BTreeMap<ClientId, Member>,
    revision: u64,
    comparable: bool,
) -> VecDeque<PresenceEvent> {
    let event = |change, member: &Member| PresenceEvent {
        change,
        cause: None,
        member: member.clone(),
        revision,
    };
    let left = before
        .values()
        .filter(|member| !comparable || !after.contains_key(&member.id))
        .map(|member| event(Change::Left, member));
    let others = after.values().filter_map(|member| {
        let change = match before.get(&member.id).filter(|_| comparable) {
            None => Change::Joined,
            Some(before) if before == member => return None,
            Some(before) if before.state != member.state => Change::Updated,
            Some(_) => match member.status {
                Status::Online => Change::Back,
                Status::Away => Change::Away,
                Status::Stalled => Change::Stalled,
            },
        };
        Some(event(change, member))
    });
    left.chain(others).collect()
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// One change of a channel's presence.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PresenceEvent {
    /// What changed.
    pub change: Change,
    /// Why a member left or is away, if that is known: [`Code::GOODBYE`] if it said so itself,
    /// [`Code::PROCESS_DIED`], [`Code::SESSION_EXPIRED`], [`Code::KICKED`], [`Code::CONNECTION_LOST`],
    /// [`Code::PING_TIMEOUT`] and others.
    pub cause: Option<Code>,
    /// The member, as it is after the change; as it was before it, if it left.
    pub member: Member,
    /// The channel's presence revision.
    pub revision: u64,
}

/// A member of a channel.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// The member's session.
    pub id: ClientId,
    /// Its name.
    pub name: ClientName,
    /// Whether it has a connection.
    pub status: Status,
    /// Its presence state: a CBOR map, or nothing.
    pub state: Bytes,
}

impl Member {
    /// The presence state as a value; without a state, what an empty map is.
    ///
    /// # Errors
    /// [`Error::Decode`] if the state is not a `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, Error> {
        /// A map without entries.
        const EMPTY: &[u8] = &[0xa0];
        let state = if self.state.is_empty() {
            EMPTY
        } else {
            &self.state
        };
        message::decode(ContentType::CBOR, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, status: Status, state: &'static [u8]) -> Member {
        let name = format!("m{id}").parse().unwrap();
        Member {
            id: ClientId(id),
            name,
            status,
            state: Bytes::from_static(state),
        }
    }

    #[test]
    fn the_difference_leads_from_one_view_to_the_other() {
        let before = by_id(vec![
            member(1, Status::Online, b"a"),
            member(2, Status::Online, b"a"),
            member(3, Status::Online, b"a"),
            member(4, Status::Away, b"a"),
            member(5, Status::Online, b"a"),
        ]);
        let after = by_id(vec![
            member(2, Status::Online, b"a"),
            member(3, Status::Away, b"a"),
            member(4, Status::Online, b"a"),
            member(5, Status::Away, b"b"),
            member(6, Status::Online, b"a"),
        ]);
        let events = difference(&before, &after, 9, true);
        let changes: Vec<_> = events
            .iter()
            .map(|event| (event.member.id.0, event.change))
            .collect();
        let expected = [
            (1, Change::Left),
            (3, Change::Away),
            (4, Change::Back),
            (5, Change::Updated),
            (6, Change::Joined),
        ];
        assert_eq!(changes, expected);
        let mut view = before;
        events.iter().for_each(|event| apply(event, &mut view));
        assert_eq!(view, after);
    }

    #[test]
    fn in_another_epoch_the_same_id_is_somebody_else() {
        let before = by_id(vec![member(1, Status::Online, b"a")]);
        let after = by_id(vec![member(1, Status::Online, b"a")]);
        assert!(difference(&before, &after, 9, true).is_empty());
        let changes: Vec<_> = difference(&before, &after, 9, false)
            .iter()
            .map(|event| event.change)
            .collect();
        assert_eq!(changes, [Change::Left, Change::Joined]);
    }

    #[test]
    fn a_member_without_a_state_is_read_as_an_empty_one() {
        #[derive(Debug, serde::Deserialize, Eq, PartialEq)]
        struct State {
            #[serde(default)]
            busy: bool,
        }
        let read = |state| member(1, Status::Online, state).state::<State>();
        assert_eq!(read(b"").unwrap(), State { busy: false });
        assert_eq!(read(b"\xa1dbusy\xf5").unwrap(), State { busy: true });
        assert!(matches!(read(b"\xa1dbusy\x07"), Err(Error::Decode { .. })));
    }
}
