//! What a program does with the SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use localhub_client::{Join, Policy, StartAt, Subscribe, Will};
use localhub_protocol::ClientId;

use super::app::{App, Done, Room, Told};
use super::filters::Filters;
use super::ledger::Ledger;
use super::model::DEBOUNCE_MAX_MS;
use super::stream::{Place, Stream, Takes};
use super::{FILTERS, POLICIES, TOPICS, WILL_DELAYS_MS, settings};
use crate::Rng;

const ROOMS_MAX: usize = 3;

impl App {
    /// Does something.
    pub(super) fn act(
        &mut self,
        rng: &mut Rng,
        other: ClientId,
        filters: &mut Filters,
        ledger: &mut Ledger,
    ) {
        // What was waiting for room goes first: messages leave in the order of the calls.
        self.poll_operations(ledger);
        let ready: Vec<usize> = (0..self.rooms.len())
            .filter(|at| self.rooms[*at].channel.is_some() && !self.rooms[*at].left)
            .collect();
        let what = rng.below(100);
        if what < 20 {
            return self.direct(rng, other, ledger);
        }
        if what >= 95 {
            // What still waits for room is behind the flush.
            let waits = self.fates.iter().position(|told| *told == Told::Nothing);
            let before = waits.unwrap_or(self.fates.len()) as u32;
            let client = self.client.clone();
            return self.begin(ledger, "flush", async move {
                Done::Flushed(before, client.flush().await)
            });
        }
        if ready.is_empty() || what < 25 && self.rooms.len() < ROOMS_MAX {
            return self.join(rng, ledger);
        }
        let at = ready[rng.below(ready.len() as u64) as usize];
        match what {
            0..=60 => self.publish(rng, at, ledger),
            61..=74 => self.subscribe(rng, at, filters, ledger),
            75..=80 => self.unsubscribe(rng, at),
            81..=84 => self.watch(at, ledger),
            85 => self.rooms[at].presence = None,
            86..=88 => self.set_state(rng, at, ledger),
            89..=90 => self.ask_snapshot(rng, at, ledger),
            91 => self.configure(rng, at, ledger),
            92 => self.set_will(rng, at, ledger),
            _ if rng.once_in(3) => self.leave(at, ledger),
            _ => {}
        }
    }

    fn mark(&mut self, rng: &mut Rng, ledger: &mut Ledger) -> (u32, Vec<u8>) {
        let (number, mark) = ledger.open(self.author);
        self.fates.push(Told::Nothing);
        let mut payload = mark.to_vec();
        if rng.once_in(3) {
            payload.resize(8 + rng.below(60) as usize, 0x55);
        }
        (number, payload)
    }

    fn direct(&mut self, rng: &mut Rng, other: ClientId, ledger: &mut Ledger) {
        let (number, payload) = self.mark(rng, ledger);
        let client = self.client.clone();
        self.begin(ledger, "send", async move {
            Done::Sent(number, true, client.send(other, payload).await)
        });
    }

    fn publish(&mut self, rng: &mut Rng, at: usize, ledger: &mut Ledger) {
        let Some(channel) = self.rooms[at].channel.clone() else {
            return;
        };
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        let (number, payload) = self.mark(rng, ledger);
        match rng.below(10) {
            0..=2 => self.begin(ledger, "broadcast", async move {
                Done::Sent(number, false, channel.broadcast(payload).await)
            }),
            3..=5 => self.begin(ledger, "publish confirmed", async move {
                let outcome = channel.publish_confirmed(topic, payload).await;
                Done::Sent(number, true, outcome)
            }),
            6 => self.begin(ledger, "retain", async move {
                Done::Sent(number, false, channel.retain(topic, payload).await)
            }),
            _ => self.begin(ledger, "publish", async move {
                Done::Sent(number, false, channel.publish(topic, payload).await)
            }),
        }
    }

    fn join(&mut self, rng: &mut Rng, ledger: &Ledger) {
        let name = format!("room/{}", rng.below(self.habits.channels));
        if self.rooms.len() >= ROOMS_MAX || self.rooms.iter().any(|room| room.name == name) {
            return;
        }
        let (hidden, value) = (rng.once_in(4), rng.below(20) as u8);
        let mut join = Join::new()
            .state(&[("n", value)].into_iter().collect::<Map>())
            .expect("a map is a state");
        if hidden {
            join = join.hidden();
        }
        self.rooms.push(Room {
            name: name.clone(),
            id: None,
            channel: None,
            hidden,
            state: state(value),
            wills: BTreeMap::new(),
            streams: Vec::new(),
            presence: None,
            asks_presence: false,
            left: false,
        });
        let client = self.client.clone();
        self.begin(ledger, "join", async move {
            let joined = client.join_with(&name, join).await;
            Done::Joined(name, joined)
        });
    }

    /// Leaves a channel for good; the program forgets it when that is done.
    fn leave(&mut self, at: usize, ledger: &Ledger) {
        let room = &mut self.rooms[at];
        let Some(channel) = room.channel.clone() else {
            return;
        };
        room.left = true;
        self.leaves += 1;
        room.streams.iter_mut().for_each(Stream::end);
        let name = room.name.clone();
        self.begin(ledger, "leave", async move {
            Done::Left(name, channel.leave().await)
        });
    }

    fn subscribe(&mut self, rng: &mut Rng, at: usize, filters: &mut Filters, ledger: &Ledger) {
        let room = &mut self.rooms[at];
        let Some(channel) = room.channel.clone() else {
            return;
        };
        let number = filters.number(FILTERS[rng.below(FILTERS.len() as u64) as usize]);
        let all = filters.number("#");
        let topics = |number, start, origin, policy, everything| Takes::Topics {
            filter: filters.text(number),
            number,
            start,
            origin,
            policy,
            everything,
        };
        let policy = match rng.below(3) {
            0 => POLICIES[rng.below(POLICIES.len() as u64) as usize],
            _ => POLICIES[self.author / 2 % POLICIES.len()],
        };
        let last = room.streams.iter().find_map(|known| known.last);
        let takes = match (rng.below(10), last) {
            (0, _) => Takes::Broadcasts,
            (1, _) => topics(all, StartAt::Now, None, Policy::default(), true),
            (2..=4, _) => topics(number, StartAt::Retained, None, policy, false),
            (5, _) => topics(number, StartAt::Last(rng.below(12)), None, policy, false),
            (6..=7, Some(Place { cursor, channel })) => {
                let start = StartAt::After(cursor);
                topics(number, start, Some(channel), policy, false)
            }
            _ => topics(number, StartAt::Now, None, policy, false),
        };
        if room
            .streams
            .iter()
            .any(|known| known.takes.is_alike(&takes))
        {
            return;
        }
        self.streams += 1;
        let key = self.streams;
        let (filter, how, everything) = match &takes {
            Takes::Topics {
                filter,
                start,
                policy,
                everything,
                ..
            } => {
                let how = Subscribe::new().start(*start).policy(*policy);
                (filter.clone(), how, *everything)
            }
            _ => {
                let broadcasts = channel.broadcasts();
                return room.streams.push(Stream::new(key, takes, Some(broadcasts)));
            }
        };
        let name = room.name.clone();
        let mut stream = Stream::new(key, takes.clone(), None);
        if let Some(id) = room.id {
            stream.asks(id);
        }
        room.streams.push(stream);
        self.begin(ledger, "subscribe", async move {
            let messages = if everything {
                channel.everything().await
            } else {
                channel.subscribe_with(&filter, how).await
            };
            Done::Subscribed(name, takes, messages)
        });
    }

    /// Drops a stream whose subscription stands.
    fn unsubscribe(&mut self, rng: &mut Rng, at: usize) {
        let streams = &mut self.rooms[at].streams;
        if !streams.is_empty() {
            let at = rng.below(streams.len() as u64) as usize;
            if streams[at].live && streams[at].messages.is_some() {
                streams.remove(at);
            }
        }
    }

    fn watch(&mut self, at: usize, ledger: &Ledger) {
        let room = &mut self.rooms[at];
        let (Some(channel), None, false) = (&room.channel, &room.presence, room.asks_presence)
        else {
            return;
        };
        room.asks_presence = true;
        let (name, channel) = (room.name.clone(), channel.clone());
        self.begin(ledger, "presence", async move {
            Done::Watched(name, channel.presence().await)
        });
    }

    fn set_state(&mut self, rng: &mut Rng, at: usize, ledger: &Ledger) {
        let room = &mut self.rooms[at];
        let (Some(channel), value) = (room.channel.clone(), rng.below(20) as u8) else {
            return;
        };
        room.state = state(value);
        self.begin(ledger, "set state", async move {
            let state: Map = [("n", value)].into_iter().collect();
            Done::Set(channel.set_state(&state).await)
        });
    }

    fn configure(&mut self, rng: &mut Rng, at: usize, ledger: &Ledger) {
        let Some(channel) = self.rooms[at].channel.clone() else {
            return;
        };
        let mut settings = settings(rng, self.habits.frugal);
        settings.debounce_ms = settings.debounce_ms.min(DEBOUNCE_MAX_MS);
        self.begin(ledger, "configure", async move {
            Done::Set(channel.configure(settings).await)
        });
    }

    /// Leaves a will, or takes one back.
    fn set_will(&mut self, rng: &mut Rng, at: usize, ledger: &Ledger) {
        let room = &mut self.rooms[at];
        let (Some(channel), false) = (room.channel.clone(), self.habits.frugal) else {
            return;
        };
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        if rng.once_in(3) {
            room.wills.remove(topic);
            return self.begin(ledger, "clear will", async move {
                Done::Set(channel.clear_will(topic).await)
            });
        }
        let delay_ms = WILL_DELAYS_MS[rng.below(WILL_DELAYS_MS.len() as u64) as usize];
        let delay = Duration::from_millis(delay_ms.into());
        let payload = vec![rng.below(200) as u8; 4];
        room.wills.insert(topic, (delay, payload.clone()));
        let will = match rng.once_in(4) {
            true => Will::retain(payload),
            false => Will::publish(payload),
        };
        self.begin(ledger, "set will", async move {
            Done::Set(channel.set_will(topic, will.delay(delay)).await)
        });
    }

    fn ask_snapshot(&mut self, rng: &mut Rng, at: usize, ledger: &Ledger) {
        let filter = FILTERS[rng.below(FILTERS.len() as u64) as usize];
        let Some(channel) = self.rooms[at].channel.clone() else {
            return;
        };
        if self.operations.iter().any(|known| known.what == "snapshot") {
            return;
        }
        self.begin(ledger, "snapshot", async move {
            Done::Snapshot(channel.snapshot(filter).await)
        });
    }
}

type Map = BTreeMap<&'static str, u8>;

/// A presence state as it goes over the wire.
fn state(value: u8) -> Vec<u8> {
    assert!(value < 24, "a number of one byte");
    vec![0xa1, 0x61, b'n', value]
}
