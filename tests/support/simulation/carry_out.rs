use std::rc::Rc;

use localhub_protocol::{ChannelId, ClientFrame, ClientId, Code, Message, Retain, Start, Target};

use super::heard::{Asked, Item, Refused, Sent, Values};
use super::ledger::{Fate, MARK_BYTES};
use super::model::{Model, NOT_A_MEMBER};

/// What the hub may refuse for want of room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// How many messages an outbox holds.
    pub(super) outbox_messages: u64,
    /// Whether all outboxes together may be full as well.
    pub(super) memory_is_tight: bool,
}

impl Model {
    /// Whether the hub may refuse a frame because something is full. It may not if fewer messages
    /// than fit are unheard.
    pub(super) fn may_be_full(&mut self, client: ClientId, body: &[u8], space: Space) -> bool {
        let frame = ClientFrame::decode(body).expect("a client's frame");
        let (who, more) = match frame {
            ClientFrame::Message(Message::Direct {
                to: Target::Id(to), ..
            }) => (to, 1),
            ClientFrame::Message(Message::Publish { retain, .. }) => {
                return space.memory_is_tight && retain == Retain::Set;
            }
            ClientFrame::Subscribe { channel, .. } | ClientFrame::Snapshot { channel, .. } => {
                let values = self.room(channel).map_or(0, |room| room.retained.len());
                (client, 1 + values as u64)
            }
            _ => return false,
        };
        !self.is_over(who)
            && (space.memory_is_tight || self.client(who).waiting() + more > space.outbox_messages)
    }

    /// The hub has carried out a frame of a client, or refused it because something is full.
    pub(super) fn carry_out(&mut self, client: ClientId, body: &[u8], full: bool) {
        let frame = ClientFrame::decode(body).expect("a client's frame");
        if matches!(
            frame,
            ClientFrame::Ack { .. } | ClientFrame::Ping { .. } | ClientFrame::Pong { .. }
        ) {
            return;
        }
        self.progress += 1;
        let expected = self.client(client);
        assert!(!expected.over, "{client} is gone, and was carried out");
        expected.said += 1;
        let request = expected.said;
        let outcome = match frame {
            ClientFrame::Join {
                name,
                hidden,
                state,
            } => {
                self.join(client, request, name, hidden, state);
                return;
            }
            ClientFrame::Leave { channel } => self
                .leave(channel, client)
                .then_some(Item::Done(request))
                .ok_or(NOT_A_MEMBER),
            ClientFrame::PresenceSet { channel, state } => self
                .set_state(channel, client, state)
                .map(|()| Item::Done(request))
                .ok_or(NOT_A_MEMBER),
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
                policy: _,
            } => {
                let snapshot = start == Start::Retained;
                let filter = self.filters.number(filter);
                let asked = self.asked(channel, filter, true, snapshot);
                return self.values(client, request, filter, asked, full);
            }
            ClientFrame::Snapshot { channel, filter } => {
                let filter = self.filters.number(filter);
                let asked = self.asked(channel, filter, false, true);
                return self.values(client, request, filter, asked, full);
            }
            ClientFrame::Unsubscribe { channel, filter } => {
                let filter = self.filters.number(filter);
                match self.member(channel, client) {
                    Some(member) if member.filters.contains(filter) => {
                        member.filters.remove(filter);
                        Ok(Item::Done(request))
                    }
                    Some(_) => Err(Code::NOT_SUBSCRIBED),
                    None => Err(NOT_A_MEMBER),
                }
            }
            ClientFrame::Message(message) => {
                let (payload, to) = (message.payload(), channel_of(&message));
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
        self.client(client).expect(item);
    }

    fn asked(&self, channel: ChannelId, filter: usize, subscribe: bool, snapshot: bool) -> Asked {
        Asked {
            channel,
            filter: self.filters.text(filter),
            subscribe,
            snapshot,
        }
    }

    fn values(&mut self, client: ClientId, request: u64, filter: usize, asked: Asked, full: bool) {
        let channel = asked.channel;
        let code = match self.member(channel, client) {
            None => Some(NOT_A_MEMBER),
            Some(_) if full => Some(Code::OUTBOX_FULL),
            Some(member) => {
                if asked.subscribe {
                    member.filters.insert(filter);
                }
                None
            }
        };
        if let Some(code) = code {
            let asked = Some(asked);
            return self.client(client).expect(Item::Refused(Box::new(Refused {
                request,
                code,
                asked,
            })));
        }
        let room = self.room(channel).expect("it has a member");
        let offset = room.offset;
        let mut values: Vec<Rc<Sent>> = Vec::new();
        if asked.snapshot {
            values.extend(room.retained.values().cloned());
            values.retain(|sent| {
                let topic = sent.topic.as_ref().expect("values have topics");
                self.filters.matching(topic).contains(filter)
            });
        }
        let expected = self.client(client);
        expected.expect(Item::Values(Box::new(Values {
            request,
            offset,
            count: values.len() as u64,
            asked,
        })));
        for sent in values {
            let retained = true;
            expected.expect(Item::Message { sent, retained });
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
        let sent = |channel, topic, offset| {
            Rc::new(Sent {
                channel,
                topic,
                sender: client,
                offset,
                body: body.into(),
                payload_bytes,
            })
        };
        if let Message::Direct {
            to: Target::Id(to), ..
        } = message
        {
            if self.is_over(*to) {
                return Err(Code::UNKNOWN_CLIENT);
            }
            if full {
                return Err(Code::OUTBOX_FULL);
            }
            let (sent, retained) = (sent(None, None, request), false);
            self.client(*to).expect(Item::Message { sent, retained });
            return Ok(());
        }
        let (channel, topic, retain) = match message {
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
        let room = self.room(channel).expect("it has a member");
        room.offset += 1;
        let sent = sent(Some(channel), topic.clone(), room.offset);
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
        Ok(())
    }
}

fn channel_of(message: &Message<'_>) -> Option<ChannelId> {
    match message {
        Message::Publish { channel, .. } | Message::Broadcast { channel, .. } => Some(*channel),
        _ => None,
    }
}
