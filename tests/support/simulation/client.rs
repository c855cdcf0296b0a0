use std::collections::VecDeque;

use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, Hello, Message, Policy, Resume,
    ResumeToken, Retain, Start, Target, Version,
};

use super::heard::{CONTENT, Ear};
use super::ledger::Ledger;
use super::link::Link;
use super::model::Model;
use super::pipe::frame_end;
use super::{Counts, FILTERS, TOPICS};
use crate::Rng;

/// A client that does what `docs/protocol.md` asks of one, and no more: it counts, confirms now and
/// then, comes back with its token, and says again what the hub has not confirmed.
#[derive(Debug)]
pub(super) struct Client {
    author: usize,
    /// Its session; of the hub itself while it has none.
    pub(super) id: ClientId,
    channels: u64,
    resume: Option<Resume>,
    ear: Ear,
    said: u64,
    /// What the hub has not confirmed, with positions.
    unconfirmed: VecDeque<(u64, Vec<u8>)>,
    /// The ids of the channels it joined, as far as it knows, the oldest first.
    joined: Vec<ChannelId>,
    welcomed: bool,
    scratch: Vec<u8>,
}

impl Client {
    pub(super) fn new(author: usize, channels: u64) -> Self {
        Self {
            author,
            id: ClientId::HUB,
            channels,
            resume: None,
            ear: Ear::default(),
            said: 0,
            unconfirmed: VecDeque::new(),
            joined: Vec::new(),
            welcomed: false,
            scratch: Vec::new(),
        }
    }

    /// The first frame of a connection.
    pub(super) fn hello(&mut self) -> Vec<u8> {
        self.welcomed = false;
        if let Some(resume) = &mut self.resume {
            resume.received = self.ear.received;
        }
        let mut bytes = Vec::new();
        ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: vec![],
            name: None,
            resume: self.resume.clone(),
            ttl_ms: None,
        })
        .encode(&mut bytes);
        bytes
    }

    /// Says something, if it has been welcomed.
    pub(super) fn speak(
        &mut self,
        link: &mut Link,
        rng: &mut Rng,
        other: ClientId,
        ledger: &mut Ledger,
    ) {
        if !self.welcomed {
            return;
        }
        let channel = match self.joined.len() as u64 {
            0 => ChannelId(1 + rng.below(self.channels)),
            n => self.joined[rng.below(n) as usize],
        };
        let filter = FILTERS[rng.below(FILTERS.len() as u64) as usize];
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        let content = CONTENT;
        let state = [rng.below(3) as u8];
        let name;
        let what = rng.below(100);
        let mut payload = std::mem::take(&mut self.scratch);
        if what >= 40 {
            payload.clear();
            payload.extend(ledger.open(self.author).1);
            if rng.once_in(3) {
                payload.resize(8 + rng.below(60) as usize, 0x55);
            }
        }
        let frame = match what {
            0..=9 => {
                name = format!("room/{}", rng.below(self.channels));
                ClientFrame::Join {
                    name: &name,
                    hidden: rng.once_in(4),
                    state: &state,
                }
            }
            10 => ClientFrame::Leave { channel },
            11..=18 => ClientFrame::Subscribe {
                channel,
                filter,
                start: match rng.once_in(2) {
                    true => Start::Retained,
                    false => Start::Live,
                },
                policy: Policy::DropOldest,
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
                received: self.ear.received,
            },
            36..=39 => ClientFrame::Ping {
                nonce: rng.below(9),
                received: self.ear.received,
            },
            40..=59 => ClientFrame::Message(Message::Direct {
                to: Target::Id(other),
                content,
                payload: &payload,
            }),
            60..=74 => ClientFrame::Message(Message::Broadcast {
                channel,
                content,
                payload: &payload,
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
                    payload: &payload,
                })
            }
        };
        if let ClientFrame::Leave { channel } = frame
            && rng.once_in(2)
        {
            // The other half goes on as if it were still a member.
            self.joined.retain(|known| *known != channel);
        }
        let up = link.up.end();
        let before = up.len();
        frame.encode(up);
        if !matches!(frame, ClientFrame::Ack { .. } | ClientFrame::Ping { .. }) {
            self.said += 1;
            self.unconfirmed
                .push_back((self.said, up[before..].to_vec()));
        }
        self.scratch = payload;
    }

    /// Reads what has arrived, and has the model judge every frame; `false` if the hub closed the
    /// connection.
    pub(super) fn read(&mut self, link: &mut Link, model: &mut Model, counts: &mut Counts) -> bool {
        let mut open = true;
        let mut dealt = 0;
        let Link { up, down, .. } = link;
        let arrived = down.arrived();
        while open && let Some(end) = frame_end(&arrived[dealt..]) {
            let body = &arrived[dealt + 4..dealt + end];
            let frame = BrokerFrame::decode(body).expect("a frame");
            open = self.hear(&frame, body, up.end(), model, counts);
            dealt += end;
        }
        down.forget(dealt);
        open
    }

    fn hear(
        &mut self,
        frame: &BrokerFrame<'_>,
        body: &[u8],
        up: &mut Vec<u8>,
        model: &mut Model,
        counts: &mut Counts,
    ) -> bool {
        let heard = self.ear.hear(frame, body);
        match frame {
            BrokerFrame::Welcome(welcome) => {
                counts.welcome(welcome.resumed);
                self.welcomed = true;
                self.ear.begin(self.id != welcome.client);
                if self.id != welcome.client {
                    self.id = welcome.client;
                    self.said = 0;
                    self.unconfirmed.clear();
                    self.joined.clear();
                }
                self.resume = Some(Resume {
                    epoch: welcome.epoch,
                    client: welcome.client,
                    token: ResumeToken(welcome.token.0),
                    received: 0,
                });
                self.confirmed(welcome.received);
                for (_, bytes) in &self.unconfirmed {
                    up.extend_from_slice(bytes);
                }
            }
            BrokerFrame::Ping { nonce, received } => {
                self.confirmed(*received);
                let (nonce, received) = (*nonce, self.ear.received);
                ClientFrame::Pong { nonce, received }.encode(up);
            }
            BrokerFrame::Ack { received } | BrokerFrame::Pong { received, .. } => {
                self.confirmed(*received);
            }
            BrokerFrame::Close { code, .. } => {
                assert_eq!(
                    *code,
                    Code::PING_TIMEOUT,
                    "to a client that did nothing wrong"
                );
                counts.hung += 1;
                return false;
            }
            BrokerFrame::GoAway { .. } => panic!("{frame:?} from a hub that does not stop"),
            BrokerFrame::Joined { channel, .. } if !self.joined.contains(channel) => {
                self.joined.push(*channel);
            }
            _ => {}
        }
        if let Some(heard) = heard {
            counts.heard(self.id, &heard);
            model.judge(self.id, &heard);
        }
        true
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
