//! Who is in a channel.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use localhub_protocol::{Change, ChannelId, Code, Epoch, Member as WireMember};

use super::ask::Ask;
use super::room::{RoomId, StreamId, WatchState, Watcher};
use super::{Answer, Core, Failure, Ticket};
use crate::{Member, PresenceEvent};

/// What a presence stream finds.
pub(crate) enum Seen {
    Events(VecDeque<PresenceEvent>),
    /// The members are these; how that came about is for the reader to find out.
    Anew {
        members: Vec<Member>,
        revision: u64,
        /// In another epoch an id is somebody else's.
        epoch: Epoch,
    },
    End,
}

/// Events that wait to be read; a reader that is further behind is given the members anew.
const EVENTS_MAX: usize = 1_024;

impl Core {
    /// Asks for the members of a channel. The ticket's answer are the members; if there is a
    /// `watcher`, it gets what happens from then on.
    pub(crate) fn members(
        &mut self,
        id: RoomId,
        with_events: bool,
    ) -> Result<(Option<StreamId>, Ticket), Failure> {
        self.member_of(id)?;
        let watcher = with_events.then(|| StreamId(self.next_id()));
        let ticket = self.tickets.issue();
        if let Some(watcher) = watcher {
            let fresh = Watcher {
                room: id,
                events: VecDeque::new(),
                behind: false,
                ended: false,
                waker: None,
            };
            self.watchers.insert(watcher, fresh);
        }
        let Some(room) = self.rooms.get_mut(&id) else {
            return Err(Failure::not_a_member());
        };
        room.watch.watchers.extend(watcher);
        match room.watch.state {
            WatchState::On => {
                let members = room.watch.members.values().cloned().collect();
                self.settle(ticket, Ok(Answer::Members(members)));
            }
            WatchState::Asked => room.watch.waiting.push(ticket),
            WatchState::Off => {
                room.watch.waiting.push(ticket);
                self.watch(id);
            }
        }
        Ok((watcher, ticket))
    }

    /// Has the broker tell who is in the channel, now and from now on. Without a membership this
    /// happens when there is one.
    pub(super) fn watch(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        if room.channel.is_some() {
            room.watch.state = WatchState::Asked;
            room.watch.incoming.clear();
            self.ask(id, Ask::Watch(id));
        }
    }

    pub(crate) fn close_watcher(&mut self, id: StreamId) {
        let Some(watcher) = self.watchers.remove(&id) else {
            return;
        };
        if let Some(room) = self.rooms.get_mut(&watcher.room) {
            room.watch.watchers.retain(|other| *other != id);
            self.unwatch_if_unwanted(watcher.room);
        }
    }

    fn unwatch_if_unwanted(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        if room.watch.state == WatchState::On && !room.watch.is_wanted() {
            room.watch.state = WatchState::Off;
            room.watch.members.clear();
            self.ask(id, Ask::Unwatch);
        }
    }

    pub(super) fn end_watcher(&mut self, id: StreamId) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.ended = true;
            self.wakes.extend(watcher.waker.take());
        }
    }

    /// What happened, or who is there now if too much did.
    pub(crate) fn poll_watcher(&mut self, id: StreamId, cx: &Context<'_>) -> Poll<Seen> {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Poll::Ready(Seen::End);
        };
        let room = self.rooms.get(&watcher.room).map(|room| &room.watch);
        match room {
            Some(watch) if watcher.behind && watch.state == WatchState::On => {
                watcher.behind = false;
                watcher.events.clear();
                let members = watch.members.values().cloned().collect();
                let revision = watch.revision;
                return Poll::Ready(Seen::Anew {
                    members,
                    revision,
                    epoch: self.epoch(),
                });
            }
            _ if !watcher.events.is_empty() => {
                return Poll::Ready(Seen::Events(std::mem::take(&mut watcher.events)));
            }
            _ => {}
        }
        if watcher.ended || self.end.is_some() {
            return Poll::Ready(Seen::End);
        }
        watcher.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The broker says who is in a channel, or a part of it.
    pub(super) fn members_told(
        &mut self,
        request: u64,
        revision: u64,
        more: bool,
        members: &[WireMember<'_>],
    ) {
        let Some(Ask::Watch(id)) = self.pending.get(&request) else {
            return;
        };
        let id = *id;
        if !more {
            self.pending.remove(&request);
        }
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        room.watch.incoming.extend(members.iter().filter_map(read));
        if more {
            return;
        }
        let members = std::mem::take(&mut room.watch.incoming);
        room.watch.members = members
            .into_iter()
            .map(|member| (member.id, member))
            .collect();
        room.watch.revision = revision;
        room.watch.state = WatchState::On;
        for watcher in &room.watch.watchers {
            if let Some(watcher) = self.watchers.get_mut(watcher) {
                watcher.behind = true;
                self.wakes.extend(watcher.waker.take());
            }
        }
        let members: Vec<_> = room.watch.members.values().cloned().collect();
        for ticket in std::mem::take(&mut room.watch.waiting) {
            self.settle(ticket, Ok(Answer::Members(members.clone())));
        }
        self.unwatch_if_unwanted(id);
    }

    /// One presence change.
    pub(super) fn presence_changed(
        &mut self,
        channel: ChannelId,
        revision: u64,
        (change, cause): (Change, Option<Code>),
        member: &WireMember<'_>,
    ) {
        let Some(id) = self.by_channel.get(&channel).copied() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        let watch = &mut room.watch;
        if watch.state != WatchState::On || revision <= watch.revision {
            return;
        }
        let Some(member) = read(member).filter(|_| revision == watch.revision + 1) else {
            // A change is missing: only the broker knows who is there.
            return self.watch(id);
        };
        watch.revision = revision;
        if change == Change::Left {
            watch.members.remove(&member.id);
        } else {
            watch.members.insert(member.id, member.clone());
        }
        for watcher in &watch.watchers {
            let Some(watcher) = self.watchers.get_mut(watcher) else {
                continue;
            };
            if watcher.events.len() >= EVENTS_MAX {
                watcher.behind = true;
            }
            if !watcher.behind {
                let member = member.clone();
                watcher.events.push_back(PresenceEvent {
                    change,
                    cause,
                    member,
                    revision,
                });
            }
            self.wakes.extend(watcher.waker.take());
        }
    }

    /// Whether nobody waited to be told.
    pub(super) fn watch_refused(&mut self, id: RoomId, failure: &Failure) -> bool {
        let Some(room) = self.rooms.get_mut(&id) else {
            return false;
        };
        room.watch.state = WatchState::Off;
        let waiting = std::mem::take(&mut room.watch.waiting);
        let watchers = std::mem::take(&mut room.watch.watchers);
        let unheard = waiting.is_empty();
        watchers
            .into_iter()
            .for_each(|watcher| self.end_watcher(watcher));
        waiting
            .into_iter()
            .for_each(|ticket| self.settle(ticket, Err(failure.clone())));
        unheard
    }
}

fn read(member: &WireMember<'_>) -> Option<Member> {
    Some(Member {
        id: member.client,
        name: member.name.parse().ok()?,
        status: member.status,
        state: Bytes::copy_from_slice(member.state),
    })
}
