use std::collections::VecDeque;

use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, ContentType, Epoch, Message, RawFrame,
    Resume, ResumeToken, Retain, Target,
};

use super::model::{Heard, Model};
use super::{Counts, Link};
use crate::Rng;

/// A client that does what `docs/protocol.md` asks of one, and no more: it counts, confirms now and
/// then, comes back with its token, and says again what the hub has not confirmed.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) link: Option<Link>,
    /// Its session; of the hub itself while it has none.
    pub(super) id: ClientId,
    channels: u64,
    token: Option<ResumeToken>,
    received: u64,
    said: u64,
    /// What the hub has not confirmed, with positions.
    unconfirmed: VecDeque<(u64, Vec<u8>)>,
    /// The ids of the channels it joined, as far as it knows, the oldest first.
    joined: Vec<ChannelId>,
    /// What it read of a frame that is not whole yet.
    partial: Vec<u8>,
    /// The run that the next message belongs to: channel, sender, messages left, retained.
    run: Option<(Option<ChannelId>, ClientId, u64, bool)>,
    welcomed: bool,
    payloads: u64,
}

const TOPICS: [&str; 5] = ["a", "a/b", "a/c", "b", "$x"];
const FILTERS: [&str; 6] = ["#", "a/#", "a/+", "b", "+", "$x"];

impl Client {
    pub(super) fn new(channels: u64) -> Self {
        Self {
            link: None,
            id: ClientId::HUB,
            channels,
            token: None,
            received: 0,
            said: 0,
            unconfirmed: VecDeque::new(),
            joined: Vec::new(),
            partial: Vec::new(),
            run: None,
            welcomed: false,
            payloads: 0,
        }
    }

    pub(super) fn resume(&self, epoch: Epoch) -> Option<Resume> {
        let token = self.token.clone()?;
        Some(Resume {
            epoch,
            client: self.id,
            token,
            received: self.received,
        })
    }

    /// Forgets what belonged to the connection before.
    pub(super) fn expects_welcome(&mut self) {
        self.partial.clear();
        self.run = None;
        self.welcomed = false;
    }

    /// Says something, if it has been welcomed.
    pub(super) fn speak(&mut self, rng: &mut Rng, other: ClientId) {
        if !self.welcomed {
            return;
        }
        let channel = match self.joined.len() as u64 {
            0 => ChannelId(1 + rng.below(self.channels)),
            n => self.joined[rng.below(n) as usize],
        };
        let filter = FILTERS[rng.below(FILTERS.len() as u64) as usize];
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        let payload = self.payload(rng);
        let payload = &payload[..];
        let content = ContentType::BYTES;
        let name = format!("room/{}", rng.below(self.channels));
        let state = [rng.below(3) as u8];
        let frame = match rng.below(100) {
            0..=9 => ClientFrame::Join {
                name: &name,
                hidden: rng.once_in(4),
                state: &state,
            },
            10 => ClientFrame::Leave { channel },
            11..=18 => ClientFrame::Subscribe {
                channel,
                filter,
                snapshot: rng.once_in(2),
            },
            19..=20 => ClientFrame::Unsubscribe { channel, filter },
            21..=23 => ClientFrame::PresenceWatch {
                channel,
                on: !rng.once_in(4),
            },
            24 => ClientFrame::PresenceSet {
                channel,
                state: &state,
            },
            25 => ClientFrame::Snapshot { channel, filter },
            26..=35 => ClientFrame::Ack {
                received: self.received,
            },
            36..=39 => ClientFrame::Ping {
                nonce: rng.below(9),
                received: self.received,
            },
            40..=59 => ClientFrame::Message(Message::Direct {
                to: Target::Id(other),
                content,
                payload,
            }),
            60..=74 => ClientFrame::Message(Message::Broadcast {
                channel,
                content,
                payload,
            }),
            _ => {
                let retain = match rng.below(10) {
                    0 => Retain::Set,
                    1 if rng.once_in(3) => Retain::Clear,
                    _ => Retain::No,
                };
                ClientFrame::Message(Message::Publish {
                    channel,
                    retain,
                    content,
                    topic,
                    payload,
                })
            }
        };
        if let ClientFrame::Leave { channel } = frame
            && rng.once_in(2)
        {
            // The other half goes on as if it were still a member.
            self.joined.retain(|known| *known != channel);
        }
        let counted = !matches!(frame, ClientFrame::Ack { .. } | ClientFrame::Ping { .. });
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        if let Some(link) = &mut self.link {
            link.up.extend_from_slice(&bytes);
        }
        if counted {
            self.said += 1;
            self.unconfirmed.push_back((self.said, bytes));
        }
    }

    /// Bytes that no other message has, of a length that varies.
    fn payload(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.payloads += 1;
        let mut payload = (self.id.0 << 32 | self.payloads).to_be_bytes().to_vec();
        if rng.once_in(3) {
            payload.resize(8 + rng.below(60) as usize, 0x55);
        }
        payload
    }

    /// Reads at most so many bytes of its link, and has the model judge every frame.
    pub(super) fn read(&mut self, bytes: usize, model: &mut Model, counts: &mut Counts) {
        let Some(link) = &mut self.link else {
            return;
        };
        let bytes = bytes.min(link.down.len());
        self.partial.extend(link.down.drain(..bytes));
        let read = std::mem::take(&mut self.partial);
        let mut rest = &read[..];
        while let Some((frame, after)) = RawFrame::split(rest, 1 << 20).expect("a frame's length") {
            rest = after;
            let body = frame.body();
            self.hear(
                &BrokerFrame::decode(body).expect("a frame"),
                body,
                model,
                counts,
            );
        }
        self.partial = rest.to_vec();
    }

    fn hear(
        &mut self,
        frame: &BrokerFrame<'_>,
        body: &[u8],
        model: &mut Model,
        counts: &mut Counts,
    ) {
        let heard = match frame {
            BrokerFrame::Welcome(welcome) => {
                match welcome.resumed {
                    Some(resumed) if resumed.lost.is_none() => counts.replaced += 1,
                    Some(resumed) if resumed.recovered => counts.recovered += 1,
                    Some(_) => counts.lossy += 1,
                    None => {}
                }
                self.token = Some(welcome.token.clone());
                self.welcomed = true;
                if self.id != welcome.client {
                    self.id = welcome.client;
                    (self.received, self.said) = (0, 0);
                    self.unconfirmed.clear();
                    self.joined.clear();
                    return;
                }
                self.confirmed(welcome.received);
                if let Some(link) = &mut self.link {
                    for (_, bytes) in &self.unconfirmed {
                        link.up.extend_from_slice(bytes);
                    }
                }
                return;
            }
            BrokerFrame::Ack { received }
            | BrokerFrame::Ping { received, .. }
            | BrokerFrame::Pong { received, .. } => return self.confirmed(*received),
            BrokerFrame::GoAway { .. } | BrokerFrame::Close { .. } => {
                panic!("{frame:?} to a client that did nothing wrong")
            }
            BrokerFrame::Run(run) => {
                assert!(self.run.is_none(), "a run within a run");
                self.run = Some((run.channel, run.sender, run.count, run.retained));
                return;
            }
            BrokerFrame::Gap(gap) => {
                self.received += gap.lost;
                counts.lost += gap.lost;
                Heard::Gap(gap.channel, gap.lost)
            }
            BrokerFrame::Message(_) => {
                let (channel, sender, left, retained) = self.run.take().expect("a run's header");
                if left > 1 {
                    self.run = Some((channel, sender, left - 1, retained));
                }
                self.received += 1;
                counts.messages += 1;
                Heard::Message {
                    channel,
                    sender,
                    retained,
                    body,
                }
            }
            BrokerFrame::Presence {
                channel,
                revision,
                change,
                member,
            } => {
                self.received += 1;
                Heard::Presence(*channel, member.client, *change, *revision)
            }
            BrokerFrame::Joined {
                request, channel, ..
            } => {
                self.received += 1;
                if !self.joined.contains(channel) {
                    self.joined.push(*channel);
                }
                Heard::Answer(*request)
            }
            BrokerFrame::Refusal { request, code, .. } => {
                self.received += 1;
                counts.direct_refused += u64::from(*code == Code::OUTBOX_FULL);
                Heard::Refusal(*request)
            }
            BrokerFrame::Done { request }
            | BrokerFrame::Values { request, .. }
            | BrokerFrame::Members { request, .. } => {
                self.received += 1;
                Heard::Answer(*request)
            }
        };
        counts.checksum = counts
            .checksum
            .wrapping_mul(0x0100_0000_01b3)
            .wrapping_add(body.iter().map(|byte| u64::from(*byte)).sum::<u64>() + self.id.0);
        model.judge(self.id, &heard);
    }

    fn confirmed(&mut self, received: u64) {
        assert!(
            received <= self.said,
            "the hub confirms what was never said"
        );
        while self
            .unconfirmed
            .front()
            .is_some_and(|(position, _)| *position <= received)
        {
            self.unconfirmed.pop_front();
        }
    }
}
