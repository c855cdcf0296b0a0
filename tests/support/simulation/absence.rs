use std::rc::Rc;
use std::time::Duration;

use localhub_protocol::{
    Change, ChannelId, ClientFrame, ClientId, Code, ContentType, Message, PREFIX_BYTES,
    ResumeToken, Retain, Status,
};

use super::heard::{Item, Presence};
use super::model::Model;

/// Something that is to be done at some time. What is due at the same time is done in this order.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Alarm {
    /// Tell the others that a member is away.
    Absence(ClientId, ChannelId),
    /// Publish the wills with that delay.
    Wills(ClientId, ChannelId, Duration),
    /// The history of a channel without members has become too old.
    History(ChannelId),
}

/// A message to be published when its member is lost.
#[derive(Clone, Debug)]
pub(super) struct Testament {
    pub(super) delay: Duration,
    pub(super) topic: Rc<str>,
    pub(super) retain: Retain,
    pub(super) content: ContentType,
    pub(super) payload: Box<[u8]>,
}

/// How sessions come, are away and end: what the others are told, and the wills.
impl Model {
    /// The client has a new connection, with a token for the next; it came with another one if it resumes.
    pub(super) fn attach(
        &mut self,
        client: ClientId,
        ttl: Duration,
        newest: ResumeToken,
        shown: Option<ResumeToken>,
    ) {
        let index = client.0 as usize;
        if index >= self.clients.len() {
            self.clients.resize_with(index + 1, Default::default);
        }
        let expected = &mut self.clients[index];
        if expected.attached > 0 && expected.parked.is_none() {
            // Another connection takes the place of one that the hub believed in.
            expected.breaks += 1;
        }
        expected.attached += 1;
        expected.ttl = ttl;
        expected.stalled = false;
        expected.tokens.renew(newest, shown);
        if let Some(until) = expected.parked.take() {
            self.parked.remove(&(until, client));
        }
        for alarm in std::mem::take(&mut self.client(client).alarms) {
            self.alarms.remove(&alarm);
            match alarm.1 {
                Alarm::Absence(..) => self.counts.debounced += 1,
                Alarm::Wills(..) => self.counts.wills_cancelled += 1,
                Alarm::History(_) => {}
            }
        }
        self.set_status(client, Status::Online);
    }

    /// The client's connection is gone.
    pub(super) fn park(&mut self, client: ClientId, cause: Code) {
        let now = self.now;
        let expected = self.client(client);
        expected.breaks += 1;
        expected.stalled = false;
        if expected.over.is_some() || expected.parked.is_some() {
            return;
        }
        if expected.ttl.is_zero() {
            return self.end(client, cause);
        }
        let until = now + expected.ttl;
        expected.parked = Some(until);
        self.parked.insert((until, client));
        let rooms: Vec<_> = self.client(client).rooms.iter().copied().collect();
        for channel in rooms {
            let Some(room) = self.room(channel) else {
                continue;
            };
            let debounce = room.debounce;
            let Some(member) = room.members.get_mut(&client) else {
                continue;
            };
            (member.status, member.away_because) = (Status::Away, cause);
            let wills: Vec<_> = member.wills.iter().map(|will| will.delay).collect();
            if debounce.is_zero() {
                self.tell_status(channel, client);
            } else {
                self.set_alarm(client, now + debounce, Alarm::Absence(client, channel));
            }
            for delay in wills {
                self.set_alarm(client, now + delay, Alarm::Wills(client, channel, delay));
            }
        }
    }

    /// The hub closes the connection of that number, and says why.
    pub(super) fn closes(&mut self, client: ClientId, number: u64, code: Code) {
        let expected = self.client(client);
        match expected.over {
            // The hub may close it before it looks at its session again.
            Some(_) if code == Code::PING_TIMEOUT => {}
            Some(cause) => assert_eq!(code, cause, "{client} is told why it is over"),
            None if number != expected.attached => {
                assert_eq!(
                    code,
                    Code::SUPERSEDED,
                    "{client} is told of its other connection"
                );
            }
            None if code == Code::SLOW_CONSUMER => {
                assert!(expected.parks, "{client} did not ask to be parked");
                self.counts.parks += 1;
            }
            None => {
                assert_eq!(code, Code::PING_TIMEOUT, "{client} did nothing wrong");
                self.counts.hung += 1;
            }
        }
    }

    fn set_alarm(&mut self, client: ClientId, at: Duration, alarm: Alarm) {
        if self.alarms.insert((at, alarm.clone())) {
            self.client(client).alarms.push((at, alarm));
        }
    }

    /// When there is something to do next.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        let over = self.parked.first().map(|(until, _)| *until);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        over.into_iter().chain(alarm).min()
    }

    /// Does what is due.
    pub(super) fn expire(&mut self) {
        while let Some(next) = self.next_alarm()
            && next <= self.now
        {
            self.progress += 1;
            if self.alarms.first().is_some_and(|(at, _)| *at == next) {
                if let Some(alarm) = self.alarms.pop_first() {
                    self.carry_out_alarm(&alarm);
                }
            } else if let Some((_, client)) = self.parked.pop_first() {
                self.end(client, Code::SESSION_EXPIRED);
            }
        }
    }

    fn carry_out_alarm(&mut self, alarm: &(Duration, Alarm)) {
        let (client, channel, delay) = match alarm.1 {
            Alarm::Absence(client, channel) => (client, channel, None),
            Alarm::Wills(client, channel, delay) => (client, channel, Some(delay)),
            Alarm::History(channel) => {
                let now = self.now;
                if let Some(room) = self.room(channel) {
                    room.linger = None;
                    if let Some(history) = &mut room.history {
                        history.trim(now);
                    }
                }
                return self.close_if_idle(channel);
            }
        };
        self.client(client).alarms.retain(|known| known != alarm);
        match delay {
            None => {
                self.counts.told_late += 1;
                self.tell_status(channel, client);
            }
            Some(delay) => self.publish_wills(channel, client, |of| of == delay),
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self, client: ClientId, cause: Code) {
        let expected = self.client(client);
        if expected.over.is_some() {
            return;
        }
        let was_away = expected.parked.take();
        let alarms = std::mem::take(&mut expected.alarms);
        let rooms = std::mem::take(&mut expected.rooms);
        // It hears nothing of its own end.
        expected.over = Some(cause);
        if let Some(until) = was_away {
            self.parked.remove(&(until, client));
        }
        for alarm in &alarms {
            self.alarms.remove(alarm);
        }
        if cause != Code::GOODBYE {
            for room in &rooms {
                // The others have been published in this absence.
                let open = |delay| {
                    let will = Alarm::Wills(client, *room, delay);
                    was_away.is_none() || alarms.iter().any(|(_, alarm)| *alarm == will)
                };
                self.publish_wills(*room, client, open);
            }
        }
        self.counts.ended(cause);
        for room in rooms {
            self.part(room, client, cause);
        }
    }

    /// Publishes the wills of a member whose delays are due.
    fn publish_wills(
        &mut self,
        channel: ChannelId,
        client: ClientId,
        due: impl Fn(Duration) -> bool,
    ) {
        let Some(member) = self.member(channel, client) else {
            return;
        };
        let wills = member.wills.iter();
        let wills: Vec<_> = wills.filter(|will| due(will.delay)).cloned().collect();
        for will in wills {
            let mut frame = Vec::new();
            ClientFrame::Message(Message::Publish {
                channel,
                retain: will.retain,
                content: will.content,
                topic: &will.topic,
                payload: &will.payload,
            })
            .encode(&mut frame);
            self.run = None;
            self.counts.wills_published += 1;
            self.counts.wills_at_end += u64::from(self.client(client).parked.is_none());
            let (body, payload_bytes) = (&frame[PREFIX_BYTES..], will.payload.len());
            self.publish(
                client,
                channel,
                Some(will.topic),
                will.retain,
                body,
                payload_bytes,
            );
            self.run = None;
        }
    }

    /// The client has a connection, and reads and answers, or does not.
    pub(super) fn set_stalled(&mut self, client: ClientId, stalled: bool) {
        let expected = self.client(client);
        if expected.over.is_some() || expected.parked.is_some() {
            return;
        }
        expected.stalled = stalled;
        self.counts.stalled += u64::from(stalled);
        let status = if stalled {
            Status::Stalled
        } else {
            Status::Online
        };
        self.set_status(client, status);
    }

    fn set_status(&mut self, client: ClientId, status: Status) {
        let rooms: Vec<_> = self.client(client).rooms.iter().copied().collect();
        for room in rooms {
            if let Some(member) = self.member(room, client) {
                member.status = status;
                self.tell_status(room, client);
            }
        }
    }

    /// Tells of a member's status, unless the others know it.
    fn tell_status(&mut self, channel: ChannelId, client: ClientId) {
        let Some(member) = self.member(channel, client) else {
            return;
        };
        if member.told == member.status {
            return;
        }
        member.told = member.status;
        let (change, cause) = match member.status {
            Status::Online => (Change::Back, None),
            Status::Stalled => (Change::Stalled, None),
            Status::Away => (Change::Away, Some(member.away_because)),
        };
        if !member.hidden {
            self.tell(channel, client, change, cause);
        }
    }

    pub(super) fn tell(
        &mut self,
        channel: ChannelId,
        client: ClientId,
        change: Change,
        cause: Option<Code>,
    ) {
        let Some(room) = &mut self.rooms[channel.0 as usize] else {
            return;
        };
        room.revision += 1;
        let watchers = room.members.iter().filter(|(_, member)| member.watching);
        let watchers: Vec<_> = watchers.map(|(client, _)| *client).collect();
        if watchers.is_empty() {
            return;
        }
        let presence = Rc::new(Presence {
            channel,
            revision: room.revision,
            change,
            cause,
            member: room.members[&client].seen(client),
        });
        for watcher in watchers {
            self.expect(watcher, Item::Presence(presence.clone()));
        }
    }
}
