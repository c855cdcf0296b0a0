use std::collections::VecDeque;

use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, Code, Hello, Message, Policy, Resume,
    ResumeToken, Retain, Start, Target, Version, Will,
};

use super::heard::{CONTENT, Ear, Heard};
use super::ledger::Ledger;
use super::link::Link;
use super::model::Model;
use super::{FILTERS, POLICIES, TOPICS, WILL_DELAYS_MS, settings};
use crate::{Rng, frame_end};

/// A client that does what `docs/protocol.md` asks of one, and no more: it counts, confirms now and
/// then, comes back with its token, and says again what the hub has not confirmed.
#[derive(Debug)]
pub(super) struct Client {
    author: usize,
    /// Its session; of the hub itself while it has none.
    pub(super) id: ClientId,
    name: Option<String>,
    ttl_ms: Option<u32>,
    /// The policy that it likes best.
    favourite: Policy,
    channels: u64,
    /// Memory is tight: it has the hub keep nothing.
    frugal: bool,
    resume: Option<Resume>,
    /// A token that it has used already.
    old_token: ResumeToken,
    ear: Ear,
    said: u64,
    /// What the hub has not confirmed, with positions.
    unconfirmed: VecDeque<(u64, Vec<u8>)>,
    /// The channels it joined, as far as it knows, and how far they had come.
    joined: Vec<(ChannelId, u64)>,
    welcomed: bool,
    goodbye: bool,
    scratch: Vec<u8>,
}

impl Client {
    pub(super) fn new(author: usize, channels: u64, frugal: bool) -> Self {
        Self {
            author,
            id: ClientId::HUB,
            name: author.is_multiple_of(3).then(|| format!("plain-{author}")),
            ttl_ms: match author % 10 {
                3 => Some(15_000),
                7 => Some(0),
                _ => None,
            },
            favourite: POLICIES[author % POLICIES.len()],
            channels,
            frugal,
            resume: None,
            old_token: ResumeToken([9; 32]),
            ear: Ear::default(),
            said: 0,
            unconfirmed: VecDeque::new(),
            joined: Vec::new(),
            welcomed: false,
            goodbye: false,
            scratch: Vec::new(),
        }
    }

    /// The first frame of a connection. It may show a token that is not good any more.
    pub(super) fn hello(&mut self, wrong: bool) -> Vec<u8> {
        self.welcomed = false;
        let mut resume = self.resume.clone();
        if let Some(resume) = &mut resume {
            resume.received = self.ear.received;
            if wrong {
                resume.token = self.old_token.clone();
            }
        }
        let mut bytes = Vec::new();
        ClientFrame::Hello(Hello {
            versions: (Version::CURRENT, Version::CURRENT),
            features: vec![],
            name: self.name.as_deref(),
            resume,
            ttl_ms: self.ttl_ms,
        })
        .encode(&mut bytes);
        bytes
    }

    /// Begins anew, without anything that it knew.
    pub(super) fn forget(&mut self, ledger: &mut Ledger) {
        self.author = ledger.begin();
        self.id = ClientId::HUB;
        self.resume = None;
        self.goodbye = false;
        self.welcomed = false;
    }

    /// Whether its last word was that it ends its session.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.goodbye
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
        let up = link.up.end();
        if rng.once_in(600) {
            let (code, detail) = (Code::GOODBYE, "");
            ClientFrame::Close { code, detail }.encode(up);
            self.goodbye = true;
            return;
        }
        let at = rng.below(self.joined.len().max(1) as u64) as usize;
        let (channel, offset) = match self.joined.get(at) {
            Some(joined) => *joined,
            None => (ChannelId(1 + rng.below(self.channels)), 0),
        };
        let filter = FILTERS[rng.below(FILTERS.len() as u64) as usize];
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        let content = CONTENT;
        let state = [rng.below(3) as u8];
        let name;
        let will = [rng.below(200) as u8; 3];
        let what = rng.below(100);
        let mut payload = std::mem::take(&mut self.scratch);
        if what >= 44 {
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
            11..=20 => ClientFrame::Subscribe {
                channel,
                filter,
                start: start(rng, offset),
                policy: self.policy(rng),
            },
            21 => ClientFrame::Unsubscribe { channel, filter },
            22..=24 => ClientFrame::PresenceWatch {
                channel,
                on: !rng.once_in(4),
            },
            25 => ClientFrame::PresenceSet {
                channel,
                state: &state,
            },
            26 => ClientFrame::Snapshot { channel, filter },
            27 => ClientFrame::ChannelSet {
                channel,
                settings: settings(rng, self.frugal),
            },
            28 => ClientFrame::WillSet {
                channel,
                will: Will {
                    delay_ms: WILL_DELAYS_MS[rng.below(WILL_DELAYS_MS.len() as u64) as usize],
                    retain: match rng.below(6) {
                        0 if !self.frugal => Retain::Set,
                        1 => Retain::Clear,
                        _ => Retain::No,
                    },
                    content,
                    topic,
                    payload: &will,
                },
            },
            29 if rng.once_in(2) => ClientFrame::WillClear { channel, topic },
            29..=39 => ClientFrame::Ack {
                received: self.ear.received,
            },
            40..=43 => ClientFrame::Ping {
                nonce: rng.below(9),
                received: self.ear.received,
            },
            44..=59 => ClientFrame::Message(Message::Direct {
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
            self.joined.retain(|(known, _)| *known != channel);
        }
        let before = up.len();
        frame.encode(up);
        if !matches!(frame, ClientFrame::Ack { .. } | ClientFrame::Ping { .. }) {
            self.said += 1;
            self.unconfirmed
                .push_back((self.said, up[before..].to_vec()));
        }
        self.scratch = payload;
    }

    fn policy(&self, rng: &mut Rng) -> Policy {
        if rng.once_in(3) {
            return POLICIES[rng.below(POLICIES.len() as u64) as usize];
        }
        self.favourite
    }

    /// Reads what has arrived, and has the model judge every frame; `false` if the hub closed the
    /// connection.
    pub(super) fn read(&mut self, link: &mut Link, model: &mut Model) -> bool {
        let mut open = true;
        let mut dealt = 0;
        let Link { up, down, .. } = link;
        let arrived = down.arrived();
        while open && let Some(end) = frame_end(&arrived[dealt..]) {
            let body = &arrived[dealt + 4..dealt + end];
            let frame = BrokerFrame::decode(body).expect("a frame");
            open = self.hear(&frame, body, up.end(), model);
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
    ) -> bool {
        let heard = self.ear.hear(frame, body);
        match frame {
            BrokerFrame::Welcome(welcome) => {
                model.counts.welcome(welcome.resumed);
                self.welcomed = true;
                self.ear.begin(self.id != welcome.client);
                if self.id != welcome.client {
                    self.id = welcome.client;
                    self.said = 0;
                    self.unconfirmed.clear();
                    self.joined.clear();
                }
                let resume = Resume {
                    epoch: welcome.epoch,
                    client: welcome.client,
                    token: ResumeToken(welcome.token.0),
                    received: 0,
                };
                if let Some(before) = self.resume.replace(resume) {
                    self.old_token = before.token;
                }
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
                if *code == Code::KICKED {
                    self.forget(&mut model.ledger);
                }
                return false;
            }
            BrokerFrame::GoAway { .. } => panic!("{frame:?} from a hub that does not stop"),
            BrokerFrame::Joined {
                channel, offset, ..
            } => {
                self.joined.retain(|(known, _)| known != channel);
                self.joined.push((*channel, *offset));
            }
            _ => {}
        }
        if let Some(heard) = heard {
            self.note_offset(&heard);
            model.judge(self.id, &heard);
        }
        true
    }

    /// Remembers how far a channel has come.
    fn note_offset(&mut self, heard: &Heard<'_>) {
        if let Some(run) = &heard.run {
            let mut joined = self.joined.iter_mut();
            if let Some((_, last)) = joined.find(|(known, _)| Some(*known) == run.channel) {
                *last = run.next.max(*last);
            }
        }
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

/// Where to begin, for who knows how far the channel has come.
fn start(rng: &mut Rng, offset: u64) -> Start {
    match rng.below(8) {
        0..=2 => Start::Live,
        3..=4 => Start::Retained,
        5 => Start::Last(rng.below(12)),
        _ if rng.once_in(10) => Start::After(offset + rng.below(50)),
        _ => Start::After(offset.saturating_sub(rng.below(20))),
    }
}
