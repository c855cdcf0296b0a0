//! How values are set, and how they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{
    ChannelName, ClientFrame, ClientId, ClientName, ContentType, Message, Put, Retain, Topic,
};
use parking_lot::Mutex;

use super::values::Retained;
use super::{Channel, Run, State};
use crate::hub::outbox::Sender;
use crate::hub::{Refusal, Session, Wakes};

/// When values of channels end by themselves, by channel. A leaf, as the outboxes are.
pub(in crate::hub) type ValueAlarms = Mutex<BTreeSet<(Duration, ChannelName)>>;

impl Channel {
    /// Keeps or forgets the last value of a topic.
    pub(super) fn retain(
        &self,
        state: &mut State,
        sender: &Arc<Sender>,
        topic: &str,
        run: &Run<'_>,
    ) -> Result<(), Refusal> {
        if run.retain == Retain::Clear {
            state.values.clear(topic);
            return Ok(());
        }
        // Its own allocation: a kept value must not keep a whole read buffer.
        let frame = Bytes::copy_from_slice(&run.frames);
        let offset = state.offset + 1;
        let value = Retained::new(
            sender.clone(),
            offset,
            frame,
            run.content,
            run.payload_bytes,
        );
        state.values.set(topic, value)
    }

    /// Sets or deletes a value, if it has the version that it is to have. Gives the offset of the message.
    pub(in crate::hub) fn put(
        &self,
        session: &Session,
        sender: &Arc<Sender>,
        put: &Put<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<u64, Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.members.contains_key(&session.id) {
            return Err(Refusal::NotAMember);
        }
        Topic::check(put.topic).map_err(Refusal::BadTopic)?;
        let version = state.values.version(put.topic);
        if let Some(expected) = put.expect.filter(|expected| *expected != version) {
            return Err(Refusal::VersionConflict { expected, version });
        }
        let run = self.value_run(put.retain, put.content, put.topic, put.payload);
        self.carry_out(state, sender, run, now, wakes)?;
        if put.retain == Retain::Set {
            let ttl = Duration::from_millis(put.ttl_ms.into());
            let until = (!ttl.is_zero()).then_some(now + ttl);
            let owner = put.owned.then_some(session.id);
            state.values.bind(put.topic, until, owner);
            self.set_value_alarm(state, wakes);
        }
        Ok(state.offset)
    }

    /// Deletes the values whose time is over.
    pub(in crate::hub) fn end_values(&self, now: Duration, wakes: &mut Wakes) {
        let mut state = self.state.lock();
        while let Some(topic) = state.values.first_due(now) {
            self.end_value(&mut state, &topic, now, wakes);
        }
        self.set_value_alarm(&mut state, wakes);
    }

    /// Deletes a value, and says so in the channel: the hub does, not the client that set it.
    pub(super) fn end_value(
        &self,
        state: &mut State,
        topic: &Topic,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let hub = Arc::new(Sender {
            client: ClientId::HUB,
            name: ClientName::hub(),
        });
        let run = self.value_run(Retain::Clear, ContentType::BYTES, topic.as_str(), b"");
        if let Err(refusal) = self.carry_out(state, &hub, run, now, wakes) {
            debug_assert!(false, "a value can always be deleted: {refusal}");
            state.values.clear(topic.as_str());
        }
    }

    /// A publish that was not sent as one.
    pub(super) fn value_run<'a>(
        &self,
        retain: Retain,
        content: ContentType,
        topic: &'a str,
        payload: &[u8],
    ) -> Run<'a> {
        let mut frame = Vec::new();
        ClientFrame::Message(Message::Publish {
            channel: self.id,
            retain,
            content,
            topic,
            payload,
        })
        .encode(&mut frame);
        Run {
            topic: Some(topic),
            retain,
            content,
            payload_bytes: payload.len(),
            frames: frame.into(),
            count: 1,
        }
    }

    /// Has the hub come back when the next value ends.
    pub(super) fn set_value_alarm(&self, state: &mut State, wakes: &mut Wakes) {
        let next = state.values.next_expiry();
        let before = std::mem::replace(&mut state.value_alarm, next);
        if before == next {
            return;
        }
        let mut alarms = self.alarms.lock();
        if let Some(at) = before {
            alarms.remove(&(at, self.name.clone()));
        }
        if let Some(at) = next {
            alarms.insert((at, self.name.clone()));
            wakes.ring();
        }
    }
}
