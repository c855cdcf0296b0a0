//! What the clients say.

use std::time::Duration;

use localhub_protocol::{
    ClientFrame, ClientId, Code, ContentType, Credit, Message, Put, Retain, ServeMode, Target,
};
use localhub_tests::Ask;

use super::{EXCLUSIVE, LARGE, QUIET, SHARED, Simulation, TOPICS, request_of};
use crate::judge::Asked;
use crate::model::{CHANNEL, CommandId};
use crate::outbox::Said;

/// A command that may be sent again.
#[derive(Clone, Debug)]
pub(super) struct Order {
    id: u64,
    to: To,
    method: &'static str,
    payload: Vec<u8>,
}

/// Whom a request is for.
#[derive(Clone, Debug)]
enum To {
    Id(ClientId),
    Name(String),
    Service(&'static str),
}

impl Simulation {
    // Requests.

    pub(super) fn ask(&mut self, n: usize) {
        let deadline_ms = match self.below(6) {
            0 => 0,
            _ if self.plan.heavy => 0,
            1 => u32::MAX,
            2 => 1,
            _ => 1 + self.below(8_000) as u32,
        };
        let to = self.target();
        let len = self.below(400);
        let mut order = Order {
            id: 0,
            to,
            method: ["print", "scan", ""][self.below(3)],
            payload: vec![b'p'; len],
        };
        let mut window = 0;
        if self.rng.once_in(if self.plan.heavy { 8 } else { 2 }) {
            window = u32::from(self.rng.once_in(2)) * 100;
        } else {
            window += u32::from(self.rng.once_in(40));
            order = self.order(order);
        }
        let command = (order.id > 0).then(|| command_id(order.id));
        let to = match &order.to {
            To::Id(client) => Target::Id(*client),
            To::Name(name) => Target::Name(name),
            To::Service(name) => Target::Service(name),
        };
        let ask = Ask {
            deadline_ms,
            command,
            window,
            method: order.method,
            payload: &order.payload,
            ..Ask::of(to)
        };
        let user = self.clients[n].user;
        let request = self.clients[n].puppet.said + 1;
        let wait = match deadline_ms {
            0 => 3_600_000,
            ms => ms.min(3_600_000),
        };
        let asked = Asked {
            command: command.map(|id| (user, id)),
            since: self.model.now,
            wait: Duration::from_millis(wait.into()),
            streamed: window > 0,
            cancelled: false,
        };
        let key = (self.clients[n].puppet.id, request);
        self.judge.is_asked(key, asked);
        self.clients[n].made.push(request);
        self.say(n, &ClientFrame::Message(request_of(ask)));
        if command.is_some() {
            let handed = self.model.requests.get(&key).map(|it| it.handler.is_some());
            let heard = self.model.sessions[&key.0].outbox.waiting().last();
            match (handed, heard) {
                (Some(true), _) => self.count("command", "handed over"),
                (Some(false), _) => self.count("command", "waited for by another"),
                (None, Some(Said::Failed(..) | Said::Forwarded(..))) => {
                    self.count("command", "answered again");
                }
                (None, _) => {}
            }
            self.orders.push(order);
        }
    }

    /// Makes a command of a request, or another one of it.
    fn order(&mut self, mut new: Order) -> Order {
        let newest = self.orders.iter().map(|order| order.id).max().unwrap_or(0);
        let recent = self.orders.len().saturating_sub(8);
        match self.below(10) {
            _ if self.orders.is_empty() => new.id = 2,
            // Every second number is left out, for now.
            0..=3 => new.id = newest + 2,
            // Somebody sends it again.
            4..=6 => {
                let at = recent + self.below(self.orders.len() - recent);
                new = self.orders[at].clone();
            }
            7 => {
                let at = recent + self.below(self.orders.len() - recent);
                let known = self.orders[at].clone();
                match self.below(3) {
                    0 => new.to = known.to.clone(),
                    1 => {
                        new.payload = known.payload.clone();
                        new.to = known.to.clone();
                        new.method = "staple";
                    }
                    _ => {}
                }
                new.id = known.id;
            }
            8 => {
                let at = self.below(self.orders.len());
                new = self.orders[at].clone();
            }
            _ => new.id = 1 + self.below(newest as usize + 1) as u64,
        }
        new
    }

    fn target(&mut self) -> To {
        let other = match self.plan.tight {
            true => self.below(QUIET),
            false => self.any_client(),
        };
        match self.below(16) {
            0..=2 => To::Id(self.clients[other].puppet.id),
            3 => To::Id(ClientId(2 + self.rng.below(30))),
            4 | 5 => To::Name(self.clients[other].puppet.name.clone()),
            6 => To::Name(self.clients[other].name.into()),
            7..=11 => To::Service(SHARED[self.below(2)]),
            12..=14 => To::Service(EXCLUSIVE[self.below(2)]),
            _ => To::Service("nobody-serves-this"),
        }
    }

    pub(super) fn reply(&mut self, n: usize) {
        let me = self.clients[n].puppet.id;
        let other = self.any_client();
        let mut keys = match self.below(14) {
            0 => self.clients[other].desk.clone(),
            1 => self.clients[n].past.clone(),
            2 => {
                // Perhaps it has not read them.
                let mine = self.model.requests.iter();
                let mine = mine.filter(|(_, request)| request.handler == Some(me));
                mine.map(|(key, _)| *key).collect()
            }
            3 => vec![(self.clients[other].puppet.id, 1 + self.rng.below(300))],
            _ => self.clients[n].desk.clone(),
        };
        if keys.is_empty() {
            return;
        }
        let key = keys.swap_remove(self.below(keys.len()));
        let request = self.model.requests.get(&key);
        let open = request.is_some();
        let is_command = request.is_some_and(|it| it.command.is_some());
        let mine = request.is_some_and(|it| it.handler == Some(me));
        let unread = mine && !self.clients[n].desk.contains(&key);
        let streamed = request.is_some_and(|it| it.streamed);
        let unwanted = request.is_some_and(|it| !it.wanted);
        self.note(reply_kind(open, mine, unread));
        if unwanted && mine {
            self.count("command", "replied to after the wait");
        }
        let error = match self.below(20) {
            0 => Some(Code::CANCELLED),
            1..=4 => Some(Code::FAILED),
            _ => None,
        };
        let more = self.rng.once_in(if streamed { 2 } else { 20 });
        let len = match self.plan.heavy && is_command {
            // So they come to just as much as is kept.
            true => LARGE * usize::from(!self.rng.once_in(8)),
            false => self.below(500),
        };
        let payload = vec![b'r'; len];
        let content = ContentType([0, 1, 3][self.below(3)]);
        if more && streamed && mine {
            self.count("streams", "parts");
        }
        self.say(
            n,
            &ClientFrame::Message(Message::Reply {
                to: key.0,
                request: key.1,
                error,
                more,
                content,
                payload: &payload,
            }),
        );
        if !more && !self.model.requests.contains_key(&key) {
            let client = &mut self.clients[n];
            client.desk.retain(|known| *known != key);
            client.past.push(key);
        }
    }

    pub(super) fn cancel(&mut self, n: usize, request: u64) {
        self.judge
            .is_cancelled((self.clients[n].puppet.id, request));
        self.clients[n].puppet.looks_at_the_clock(&self.world);
        self.say(n, &ClientFrame::Cancel { request });
    }

    pub(super) fn feed(&mut self, n: usize) {
        let mut request = self.some_request(n);
        let me = self.clients[n].puppet.id;
        let mine = self.model.requests.range((me, 0)..=(me, u64::MAX));
        let streamed = mine.filter(|(_, it)| it.streamed).map(|(key, _)| key.1);
        let streamed: Vec<_> = streamed.collect();
        if !streamed.is_empty() && !self.rng.once_in(4) {
            request = streamed[self.below(streamed.len())];
            self.count("streams", "feeds");
        }
        let more = !self.rng.once_in(3);
        let payload = vec![b'f'; self.below(300)];
        self.say(
            n,
            &ClientFrame::Message(Message::Feed {
                request,
                more,
                content: ContentType::BYTES,
                payload: &payload,
            }),
        );
    }

    pub(super) fn credit(&mut self, n: usize) {
        let me = self.clients[n].puppet.id;
        let all = self.model.requests.iter();
        let streamed = all.filter(|(_, request)| request.streamed);
        let mine = streamed.filter(|(key, it)| key.0 == me || it.handler == Some(me));
        let mine: Vec<_> = mine.map(|(key, _)| *key).collect();
        let request = self.some_request(n);
        let other = self.any_client();
        let (of, request) = match mine.is_empty() || self.rng.once_in(3) {
            true => (self.clients[other].puppet.id, request),
            false => mine[self.below(mine.len())],
        };
        let bytes = self.rng.below(1_000);
        let credit = Credit { of, request, bytes };
        self.say(n, &ClientFrame::Credit(credit));
    }

    /// One of its own requests, most likely a late one.
    pub(super) fn some_request(&mut self, n: usize) -> u64 {
        let made = self.clients[n].made.len();
        if made == 0 || self.rng.once_in(10) {
            return 1 + self.rng.below(200);
        }
        let back = 1 + self.below(made.min(8));
        self.clients[n].made[made - back]
    }

    // Services and values.

    pub(super) fn serve(&mut self, n: usize) {
        let (service, mode) = match self.below(12) {
            0..=5 => (SHARED[self.below(2)], ServeMode::Shared),
            6..=8 => (EXCLUSIVE[self.below(2)], ServeMode::Exclusive),
            9 | 10 => (EXCLUSIVE[self.below(2)], ServeMode::Takeover),
            _ => (
                self.any_service(),
                [ServeMode::Shared, ServeMode::Takeover][self.below(2)],
            ),
        };
        let description = b"\xa0";
        self.say(
            n,
            &ClientFrame::Serve {
                service,
                mode,
                description,
            },
        );
    }

    pub(super) fn any_service(&mut self) -> &'static str {
        let all = [SHARED, EXCLUSIVE].concat();
        all[self.below(4)]
    }

    pub(super) fn join_or_leave(&mut self, n: usize) {
        let id = self.clients[n].puppet.id;
        if !self.model.sessions[&id].is_member {
            let join = ClientFrame::Join {
                name: "kiosk",
                hidden: false,
                state: b"",
            };
            self.say(n, &join);
        } else if self.rng.once_in(3) {
            self.say(n, &ClientFrame::Leave { channel: CHANNEL });
        }
    }

    pub(super) fn put(&mut self, n: usize) {
        let id = self.clients[n].puppet.id;
        if !self.model.sessions[&id].is_member && !self.rng.once_in(10) {
            return self.join_or_leave(n);
        }
        let topic = TOPICS[self.below(TOPICS.len())];
        let version = self
            .model
            .values
            .get(topic)
            .map_or(0, |value| value.version);
        let expect = match self.below(4) {
            0 => Some(version),
            1 => Some(self.rng.below(version + 2)),
            _ => None,
        };
        let retain = [Retain::Set, Retain::Set, Retain::Set, Retain::Clear][self.below(4)];
        let payload = vec![b'v'; self.below(20)];
        let put = Put {
            expect,
            ttl_ms: [0, 1, 700, 30_000][self.below(4)],
            owned: self.rng.once_in(2),
            retain,
            content: ContentType::TEXT,
            topic,
            payload: &payload,
        };
        if self.rng.once_in(8) {
            let publish = ClientFrame::Message(Message::Publish {
                channel: CHANNEL,
                retain: [Retain::No, Retain::Set, Retain::Clear][self.below(3)],
                content: ContentType::TEXT,
                topic,
                payload: &payload,
            });
            self.say(n, &publish);
        } else {
            let channel = CHANNEL;
            self.say(n, &ClientFrame::Put { channel, put });
        }
    }
}

fn command_id(number: u64) -> CommandId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

const fn reply_kind(open: bool, mine: bool, unread: bool) -> (&'static str, &'static str) {
    let what = match (open, mine, unread) {
        (false, ..) => "to what is over",
        (_, false, _) => "by a stranger",
        (_, _, true) => "to what was not read",
        _ => "by the handler",
    };
    ("replies", what)
}
