use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::limits::WILLS_MAX;
use localhub_protocol::{ClientId, ContentType, Retain, Topic, Will};

use super::values::RETAINED_BYTES;
use super::{Channel, Run};
use crate::hub::outbox::Sender;
use crate::hub::{Refusal, Wakes};

/// A message to be published when its member is lost.
#[derive(Debug)]
pub(super) struct Testament {
    pub(super) delay: Duration,
    topic: Topic,
    retain: Retain,
    content: ContentType,
    payload_bytes: usize,
    /// The publish as it goes over the wire.
    frame: Bytes,
}

impl Channel {
    /// Leaves a message to be published when the member is lost.
    pub(in crate::hub) fn set_will(
        &self,
        client: ClientId,
        will: &Will<'_>,
    ) -> Result<(), Refusal> {
        let topic: Topic = will.topic.parse().map_err(Refusal::BadTopic)?;
        let run = self.value_run(will.retain, will.content, will.topic, will.payload);
        let will = Testament {
            delay: Duration::from_millis(will.delay_ms.into()),
            topic,
            retain: will.retain,
            content: will.content,
            payload_bytes: will.payload.len(),
            frame: run.frames,
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let known = member.wills.iter().position(|old| old.topic == will.topic);
        let before = known.map_or(0, |at| member.wills[at].charge());
        let after = will.charge();
        if after > before && !self.budget.fits(after - before) {
            return Err(Refusal::LimitReached {
                what: "the broker's memory, in bytes",
                limit: self.budget.limit(),
            });
        }
        match known {
            Some(at) => member.wills[at] = will,
            None if member.wills.len() >= WILLS_MAX => {
                return Err(Refusal::LimitReached {
                    what: "too many wills in one channel",
                    limit: WILLS_MAX as u64,
                });
            }
            None => member.wills.push(will),
        }
        self.budget.refund(before);
        self.budget.charge(after);
        state.wills_bytes = state.wills_bytes - before + after;
        Ok(())
    }

    /// Takes a will back, if there is one.
    pub(in crate::hub) fn clear_will(&self, client: ClientId, topic: &str) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(&client).ok_or(Refusal::NotAMember)?;
        let mut wills = member.wills.iter();
        if let Some(at) = wills.position(|will| will.topic.as_str() == topic) {
            let charge = member.wills.remove(at).charge();
            state.wills_bytes -= charge;
            self.budget.refund(charge);
        }
        Ok(())
    }

    /// Publishes the wills of a member that have such a delay, or all that have a longer one than
    /// `delay` if `rest`.
    pub(in crate::hub) fn publish_wills(
        &self,
        client: ClientId,
        due: impl Fn(Duration) -> bool,
        now: Duration,
        wakes: &mut Wakes,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(member) = state.members.get(&client) else {
            return;
        };
        let session = member.session.clone();
        let sender = Arc::new(Sender {
            client,
            name: session.name.clone(),
        });
        let due: Vec<_> = member
            .wills
            .iter()
            .filter(|will| due(will.delay))
            .map(|will| (will.topic.clone(), will.run()))
            .collect();
        for (topic, run) in due {
            let run = Run {
                topic: Some(topic.as_str()),
                ..run
            };
            if let Err(refusal) = self.carry_out(state, &sender, run, now, wakes) {
                session.totals.refuse(refusal.code(), 1);
            }
        }
    }
}

impl Testament {
    pub(super) fn charge(&self) -> u64 {
        self.frame.len() as u64 + RETAINED_BYTES
    }

    /// The message, but for its topic.
    fn run(&self) -> Run<'static> {
        Run {
            topic: None,
            retain: self.retain,
            content: self.content,
            payload_bytes: self.payload_bytes,
            frames: self.frame.clone(),
            count: 1,
        }
    }
}
