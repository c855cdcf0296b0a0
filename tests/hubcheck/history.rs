//! All that was written down, put together so that questions can be asked of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::calls::Calls;
use crate::plan::{client_of, takes};
use crate::record::{DIRECT, Event, NONE, Record, outcome, read};
use crate::values::Values;

/// A message, by who sent it and the sender's own number for it.
pub(crate) type Key = (u64, u64);

/// A channel in one life of the broker.
pub(crate) type Row = (u64, u64);

/// Everything that happened in a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) sent: HashMap<Key, Sent>,
    pub(crate) streams: Vec<Stream>,
    /// The sessions that each process had, as (epoch, session).
    pub(crate) sessions: HashMap<u64, HashSet<(u64, u64)>>,
    /// What the clients told of themselves beside that, by process.
    pub(crate) told: BTreeMap<u64, Vec<Record>>,
    /// Requests, commands and leases.
    pub(crate) calls: Calls,
    /// The board.
    pub(crate) values: Values,
    /// What the runner did and saw.
    pub(crate) runner: Vec<Record>,
    /// Which message has which offset, as far as anybody heard it; all that was heard.
    pub(crate) rows: HashMap<Row, BTreeMap<u64, Key>>,
}

/// A call that was to send a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) channel: u64,
    pub(crate) to: u64,
    /// `None` for broadcasts and direct messages.
    pub(crate) topic: Option<u64>,
    pub(crate) hash: u64,
    /// When the call was over, and with what; `None` if the process ended before.
    pub(crate) done: Option<(u64, u64)>,
}

/// A stream of messages within one session.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) sender: u64,
    pub(crate) opened_at: u64,
    pub(crate) channel: u64,
    pub(crate) filter: u64,
    /// Everything behind this offset belongs into the stream.
    pub(crate) start: u64,
    pub(crate) epoch: u64,
    pub(crate) session: u64,
    pub(crate) items: Vec<Item>,
    /// If it was read to its end: up to which time and which offset it is complete.
    pub(crate) end: Option<(u64, u64)>,
}

/// What comes out of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    Gap {
        /// `None` if the session ended; nothing of the stream counts behind it.
        lost: Option<u64>,
        /// Whether only messages of this channel can be among them.
        scoped: bool,
    },
    Message(Heard),
}

/// A message that came out of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) at: u64,
    pub(crate) offset: u64,
    /// The sender, as the hub shows it.
    pub(crate) session: u64,
    pub(crate) key: Key,
    pub(crate) hash: u64,
    pub(crate) topic: Option<u64>,
}

impl Sent {
    pub(crate) fn is_ok(&self) -> bool {
        self.done.is_some_and(|(_, done)| done == outcome::OK)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.done.is_some_and(|(_, done)| done == outcome::REFUSED)
    }
}

impl Stream {
    /// The messages that came out of it.
    pub(crate) fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.items.iter().filter_map(|item| match item {
            Item::Message(heard) => Some(heard),
            Item::Gap { .. } => None,
        })
    }

    /// How many messages it was told were lost.
    pub(crate) fn lost(&self) -> u64 {
        let lost = self.items.iter().map(|item| match item {
            Item::Gap { lost, .. } => lost.unwrap_or(0),
            Item::Message(_) => 0,
        });
        lost.sum()
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.channel == DIRECT
    }

    /// Whether a message of its channel belongs into it.
    pub(crate) fn wants(&self, key: Key, topic: Option<u64>) -> bool {
        // Nobody hears a broadcast of his own.
        takes(self.filter, topic) && (topic.is_some() || key.0 != self.sender)
    }

    /// Whom it is, for people.
    pub(crate) fn name(&self) -> String {
        let Self {
            sender,
            channel,
            filter,
            epoch,
            session,
            ..
        } = self;
        let (client, life) = (client_of(*sender), sender & 0xffff_ffff);
        let what = match self.is_direct() {
            true => "direct messages".to_owned(),
            false => format!("room {channel}, filter {filter}"),
        };
        format!("c{client} (life {life}, session {session} of epoch {epoch:016x}), {what}")
    }
}

impl History {
    /// Reads the files of a folder: `runner`, and one for each life of a client, named by its number.
    pub(crate) fn load(folder: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let (records, _) = read(&entry.path())?;
            match name.parse() {
                Ok(sender) => history.add(sender, &records),
                Err(_) if name == "runner" => history.runner = records,
                Err(_) => {}
            }
        }
        history.index();
        Ok(history)
    }

    /// Takes in what one process told.
    pub(crate) fn add(&mut self, sender: u64, records: &[Record]) {
        let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
        let told = self.told.entry(sender).or_default();
        for record in records {
            let at = record.at;
            match record.event {
                Event::Session { epoch, session } => {
                    let sessions = self.sessions.entry(sender).or_default();
                    sessions.insert((epoch, session));
                }
                Event::Opened {
                    stream,
                    channel,
                    filter,
                    offset,
                    epoch,
                    session,
                } => {
                    let items = Vec::new();
                    let opened = Stream {
                        sender,
                        opened_at: at,
                        channel,
                        filter,
                        start: offset,
                        epoch,
                        session,
                        items,
                        end: None,
                    };
                    streams.insert(stream, opened);
                }
                Event::Invoke {
                    number,
                    channel,
                    to,
                    topic,
                    hash,
                    ..
                } => {
                    let topic = known(topic);
                    let sent = Sent {
                        at,
                        channel,
                        to,
                        topic,
                        hash,
                        done: None,
                    };
                    self.sent.insert((sender, number), sent);
                }
                Event::Done { number, outcome } => {
                    if let Some(sent) = self.sent.get_mut(&(sender, number)) {
                        sent.done = Some((at, outcome));
                    }
                }
                Event::Heard { stream, .. }
                | Event::Gap { stream, .. }
                | Event::Closed { stream, .. } => {
                    if let Some(stream) = streams.get_mut(&stream) {
                        stream.take(record);
                    }
                }
                Event::Asked { .. }
                | Event::Outcome { .. }
                | Event::Executing { .. }
                | Event::Answered { .. }
                | Event::Lease { .. }
                | Event::Listed { .. }
                | Event::Leased { .. }
                | Event::Put { .. }
                | Event::PutOver { .. }
                | Event::Set { .. }
                | Event::Unset { .. }
                | Event::LeftBoard { .. }
                | Event::Board { .. }
                | Event::Kept { .. } => {}
                _ => told.push(*record),
            }
        }
        self.calls.add(sender, records);
        self.values.add(sender, records);
        self.streams.extend(streams.into_values());
    }

    /// Finds out which message has which offset. To be called when all is there.
    pub(crate) fn index(&mut self) {
        self.calls.index();
        for stream in self.streams.iter().filter(|stream| !stream.is_direct()) {
            let row = self.rows.entry((stream.epoch, stream.channel)).or_default();
            for heard in stream.heard() {
                // That two claim one offset is for a check to find.
                row.entry(heard.offset).or_insert(heard.key);
            }
        }
    }

    /// How often something happened.
    pub(crate) fn count(&self, mut which: impl FnMut(&Event) -> bool) -> u64 {
        let runner = self.runner.iter().filter(|record| which(&record.event));
        runner.count() as u64
    }
}

impl Stream {
    fn take(&mut self, record: &Record) {
        match record.event {
            Event::Heard {
                offset,
                session,
                sender,
                number,
                hash,
                topic,
                ..
            } => self.items.push(Item::Message(Heard {
                at: record.at,
                offset,
                session,
                key: (sender, number),
                hash,
                topic: known(topic),
            })),
            Event::Gap { lost, scoped, .. } => self.items.push(Item::Gap {
                lost: known(lost),
                scoped: scoped == 1,
            }),
            Event::Closed {
                offset, asked_at, ..
            } => self.end = known(offset).map(|offset| (asked_at, offset)),
            _ => {}
        }
    }
}

fn known(number: u64) -> Option<u64> {
    (number != NONE).then_some(number)
}
