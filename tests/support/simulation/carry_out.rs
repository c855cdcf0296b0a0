use std::rc::Rc;
use std::time::Duration;

use localhub_protocol::{
    ChannelId, ClientFrame, ClientId, Code, Message, PREFIX_BYTES, Policy, Retain, Start, Target,
};

use super::absence::Testament;
use super::heard::{Asked, ENTRY_BYTES, Item, Refused, Sent, Values};
use super::ledger::{Fate, MARK_BYTES};
use super::model::{Model, NOT_A_MEMBER};
use super::space::Load;

/// What the hub does with frames, in the plainest way.
impl Model {
    /// Whether the hub may refuse a frame because something is full. It may not if fewer messages
    /// than fit are unheard.
    pub(super) fn may_be_full(&mut self, client: ClientId, body: &[u8]) -> bool {
        let frame = ClientFrame::decode(body).expect("a client's frame");
        let tight = self.space.memory_is_tight;
        let (who, more) = match frame {
            ClientFrame::Message(Message::Direct {
                to: Target::Id(to), ..
            }) => {
                let bytes = (PREFIX_BYTES + body.len()) as u64 + ENTRY_BYTES;
                (to, Load { messages: 1, bytes })
            }
            ClientFrame::Message(Message::Publish { retain, .. }) => {
                return tight && retain == Retain::Set;
            }
            ClientFrame::WillSet { .. } => return tight,
            ClientFrame::Subscribe { channel, start, .. } => {
                (client, self.values_load(channel, start))
            }
            ClientFrame::Snapshot { channel, .. } => {
                (client, self.values_load(channel, Start::Retained))
            }
            _ => return false,
        };
        if self.is_over(who) {
            return false;
        }
        let unheard = self.client(who).unheard();
        tight || !self.space.fits(unheard, more)
    }

    /// The most that the answer to a subscription may be.
    fn values_load(&mut self, channel: ChannelId, start: Start) -> Load {
        let mut load = Load::default();
        load.add(ENTRY_BYTES + 64);
        let Some(room) = self.room(channel) else {
            return load;
        };
        let mut add = |sent: &Rc<Sent>| {
            load.add((PREFIX_BYTES + sent.body.len()) as u64 + ENTRY_BYTES);
        };
        match (start, &room.history) {
            (Start::Retained, _) => room.retained.values().for_each(&mut add),
            (Start::Last(_) | Start::After(_), Some(history)) => history.sent().for_each(&mut add),
            _ => {}
        }
        load
    }

    /// The hub has carried out a frame of a client, or refused it because something is full.
    pub(super) fn carry_out(&mut self, client: ClientId, body: &[u8], full: bool) {
        let frame = ClientFrame::decode(body).expect("a client's frame");
        let before = self.run.take();
        match frame {
            ClientFrame::Ack { received }
            | ClientFrame::Ping { received, .. }
            | ClientFrame::Pong { received, .. } => return self.client(client).confirm(received),
            ClientFrame::Close { .. } => return,
            _ => {}
        }
        self.progress += 1;
        let expected = self.client(client);
        assert!(
            expected.over.is_none(),
            "{client} is gone, and was carried out"
        );
        expected.said += 1;
        let request = expected.said;
        let done = |done: Option<()>| done.map(|()| Item::Done(request)).ok_or(NOT_A_MEMBER);
        let outcome = match frame {
            ClientFrame::Join {
                name,
                hidden,
                state,
            } => {
                self.join(client, request, name, hidden, state);
                return;
            }
            ClientFrame::Leave { channel } => done(self.leave(channel, client).then_some(())),
            ClientFrame::PresenceSet { channel, state } => {
                done(self.set_state(channel, client, state))
            }
            ClientFrame::PresenceWatch { channel, on } => match self.member(channel, client) {
                Some(member) => {
                    member.watching = on;
                    if on {
                        return self.members(channel, client, request);
                    }
                    Ok(Item::Done(request))
                }
                None => Err(NOT_A_MEMBER),
            },
            ClientFrame::Subscribe {
                channel,
                filter,
                start,
                policy,
            } => {
                let filter = self.filters.number(filter);
                let asked = self.asked(channel, filter, true, start);
                return self.values(client, request, (filter, policy), asked, full);
            }
            ClientFrame::Snapshot { channel, filter } => {
                let filter = self.filters.number(filter);
                let asked = self.asked(channel, filter, false, Start::Retained);
                let policy = Policy::default();
                return self.values(client, request, (filter, policy), asked, full);
            }
            ClientFrame::Unsubscribe { channel, filter } => {
                let filter = self.filters.number(filter);
                match self.member(channel, client) {
                    Some(member) if member.filters.contains(filter) => {
                        member.unsubscribe(filter);
                        Ok(Item::Done(request))
                    }
                    Some(_) => Err(Code::NOT_SUBSCRIBED),
                    None => Err(NOT_A_MEMBER),
                }
            }
            ClientFrame::ChannelSet { channel, settings } => {
                let refused = self.set_channel(channel, client, settings);
                refused.map_or(Ok(Item::Done(request)), Err)
            }
            ClientFrame::WillSet { channel, will } => {
                if full && self.member(channel, client).is_some() {
                    Err(Code::LIMIT_REACHED)
                } else {
                    let will = Testament {
                        delay: Duration::from_millis(will.delay_ms.into()),
                        topic: self.filters.topic(will.topic),
                        retain: will.retain,
                        content: will.content,
                        payload: will.payload.into(),
                    };
                    done(self.set_will(channel, client, will))
                }
            }
            ClientFrame::WillClear { channel, topic } => {
                let member = self.member(channel, client);
                done(member.map(|member| member.wills.retain(|will| *will.topic != *topic)))
            }
            ClientFrame::Message(message) => {
                let (payload, to) = (message.payload(), channel_of(&message));
                self.run = before;
                let outcome = self.message(client, request, &message, body, full);
                if payload.len() >= MARK_BYTES {
                    let accepted = outcome.is_ok();
                    let fate = if accepted {
                        Fate::Accepted
                    } else {
                        Fate::Refused
                    };
                    self.ledger.close(payload, to, fate);
                }
                match outcome {
                    Ok(()) => return,
                    Err(code) => Err(code),
                }
            }
            other => panic!("the simulated clients never say {other:?}"),
        };
        let item = outcome.unwrap_or_else(|code| {
            let asked = None;
            Item::Refused(Box::new(Refused {
                request,
                code,
                asked,
            }))
        });
        self.expect(client, item);
    }

    fn asked(&self, channel: ChannelId, filter: usize, subscribe: bool, start: Start) -> Asked {
        Asked {
            channel,
            filter: self.filters.text(filter),
            subscribe,
            start,
        }
    }

    fn values(
        &mut self,
        client: ClientId,
        request: u64,
        (filter, policy): (usize, Policy),
        asked: Asked,
        full: bool,
    ) {
        let channel = asked.channel;
        let now = self.now;
        let code = match self.room(channel) {
            Some(room) if room.members.contains_key(&client) => {
                if let Some(history) = &mut room.history
                    && asked.subscribe
                {
                    history.trim(now);
                }
                match asked.start {
                    Start::After(after) if after > room.offset => Some(Code::UNKNOWN_OFFSET),
                    _ => full.then_some(Code::OUTBOX_FULL),
                }
            }
            _ => Some(NOT_A_MEMBER),
        };
        if let Some(code) = code {
            self.counts.unknown_offsets += u64::from(code == Code::UNKNOWN_OFFSET);
            let asked = Some(asked);
            let refused = Refused {
                request,
                code,
                asked,
            };
            return self.expect(client, Item::Refused(Box::new(refused)));
        }
        let filters = &self.filters;
        let matches = |sent: &Sent| {
            let topic = sent.topic.as_ref().expect("values have topics");
            filters.matching(topic).contains(filter)
        };
        let room = self.rooms[channel.0 as usize].as_mut();
        let room = room.expect("it has a member");
        let offset = room.offset;
        let (values, since) = match (asked.start, &room.history) {
            (Start::Retained, _) => {
                let retained = room.retained.values();
                let matching = retained.filter(|sent| matches(sent)).cloned();
                (matching.collect(), offset)
            }
            (Start::Live, _) | (_, None) => (Vec::new(), offset),
            (start, Some(history)) => {
                let (values, since) = history.replay(start, matches);
                self.counts.history_starts += u64::from(!values.is_empty());
                (values, since)
            }
        };
        if let Start::After(after) = asked.start
            && since > after
        {
            self.counts.history_losses += 1;
        }
        if asked.subscribe
            && let Some(member) = room.members.get_mut(&client)
        {
            self.counts.policy_changes += u64::from(member.filters.contains(filter));
            member.subscribe(filter, policy);
        }
        self.client(client).parks |= asked.subscribe && policy == Policy::Park;
        let answer = Values {
            request,
            offset,
            count: values.len() as u64,
            since,
            asked,
        };
        self.expect(client, Item::Values(Box::new(answer)));
        for sent in values {
            let retained = true;
            self.expect(client, Item::Message { sent, retained });
        }
    }

    fn message(
        &mut self,
        client: ClientId,
        request: u64,
        message: &Message<'_>,
        body: &[u8],
        full: bool,
    ) -> Result<(), Code> {
        let payload_bytes = message.payload().len();
        let before = self.run.take();
        let (channel, topic, retain) = match message {
            Message::Direct {
                to: Target::Id(to), ..
            } => {
                if self.is_over(*to) {
                    return Err(Code::UNKNOWN_CLIENT);
                }
                if full {
                    return Err(Code::OUTBOX_FULL);
                }
                let sent = Rc::new(Sent {
                    channel: None,
                    topic: None,
                    sender: client,
                    offset: request,
                    body: body.into(),
                    payload_bytes,
                });
                let retained = false;
                self.expect(*to, Item::Message { sent, retained });
                return Ok(());
            }
            Message::Broadcast { channel, .. } => (*channel, None, Retain::No),
            Message::Publish {
                channel,
                topic,
                retain,
                ..
            } => (*channel, Some(self.filters.topic(topic)), *retain),
            other => panic!("the simulated clients never say {other:?}"),
        };
        if self.member(channel, client).is_none() {
            return Err(NOT_A_MEMBER);
        }
        if full {
            return Err(Code::RETAINED_FULL);
        }
        self.run = before;
        self.publish(client, channel, topic, retain, body, payload_bytes);
        Ok(())
    }

    /// A message gets its place in its channel, and goes to whoever wants it.
    pub(super) fn publish(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        topic: Option<Rc<str>>,
        retain: Retain,
        body: &[u8],
        payload_bytes: usize,
    ) {
        let now = self.now;
        let way = match (&topic, retain) {
            (Some(topic), Retain::No) => Some((client, channel, topic.clone())),
            _ => None,
        };
        let again = way.is_some() && self.run == way;
        self.run = way;
        let room = self.room(channel).expect("it has a member");
        room.offset += 1;
        let sent = Rc::new(Sent {
            channel: Some(channel),
            topic: topic.clone(),
            sender: client,
            offset: room.offset,
            body: body.into(),
            payload_bytes,
        });
        if topic.is_some()
            && let Some(history) = &mut room.history
        {
            history.push(sent.clone(), again, now);
        }
        match (retain, topic) {
            (Retain::Set, Some(topic)) => {
                room.retained.insert(topic, sent.clone());
            }
            (Retain::Clear, Some(topic)) => {
                room.retained.remove(&topic);
            }
            _ => {}
        }
        self.forward(&sent);
    }
}

fn channel_of(message: &Message<'_>) -> Option<ChannelId> {
    match message {
        Message::Publish { channel, .. } | Message::Broadcast { channel, .. } => Some(*channel),
        _ => None,
    }
}
