use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use localhub_client::simulation::Driver;
use localhub_client::{
    Channel, Client, Code, Error, Messages, Options, Presence, Refusals, Snapshot,
};
use localhub_protocol::ChannelId;

use super::heard::{Asked, Sent};
use super::ledger::Ledger;
use super::stream::{Kind, Stream, Takes};
use crate::{Flag, Task, nowhere};

/// A program that uses the SDK, does whatever comes to its mind, and holds what it is told against
/// what it has to be told.
///
/// It uses the same handles as any program ([`Client`], [`Channel`], [`Messages`]), but polls them
/// by hand, and only when they were woken.
pub(super) struct App {
    pub(super) author: usize,
    pub(super) client: Client,
    pub(super) habits: Habits,
    pub(super) rooms: Vec<Room>,
    pub(super) directs: Stream,
    refusals: Refusals,
    pub(super) operations: Vec<Operation>,
    /// Retained values of the snapshot that was asked for last.
    pub(super) snapshot: Vec<Rc<Sent>>,
    /// How often answers may have been lost: with a session, or in a gap that names no channel.
    pub(super) upsets: u64,
    /// The number of the first message after the last of them.
    pub(super) firm: u32,
    pub(super) sessions: u64,
    /// How often it left a channel, and with it whatever it was doing there.
    pub(super) leaves: u64,
    pub(super) fates: Vec<Told>,
    /// Messages that were handed to a connection.
    pub(super) handed: BTreeSet<u32>,
    /// Messages that the SDK said are lost with their session.
    pub(super) told_lost: u64,
    /// Refusals of messages that nobody waited for.
    pub(super) told_refused: u64,
    /// Messages that streams gave.
    pub(super) seen: u64,
    /// Streams so far.
    pub(super) streams: u64,
}

/// How a program uses the SDK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Its inboxes hold few messages.
    pub(super) small_inbox: bool,
    /// It reads its streams now and then only.
    pub(super) slow: bool,
    /// It has the hub keep nothing: memory is tight.
    pub(super) frugal: bool,
    /// How many channels there are to choose from.
    pub(super) channels: u64,
}

/// A channel that the program is in, or about to be.
pub(super) struct Room {
    pub(super) name: String,
    pub(super) id: Option<ChannelId>,
    pub(super) channel: Option<Channel>,
    pub(super) hidden: bool,
    /// Its presence state, as CBOR.
    pub(super) state: Vec<u8>,
    /// The wills that it wants, by topic: their delays and payloads.
    pub(super) wills: BTreeMap<&'static str, (Duration, Vec<u8>)>,
    pub(super) streams: Vec<Stream>,
    pub(super) presence: Option<Watched>,
    pub(super) asks_presence: bool,
    pub(super) left: bool,
}

/// A presence stream, and when to look at it.
pub(super) struct Watched {
    pub(super) presence: Presence,
    pub(super) flag: Arc<Flag>,
    revision: u64,
}

/// Something that the program waits for.
pub(super) struct Operation {
    task: Task<Done>,
    /// What it was, for people.
    pub(super) what: &'static str,
    upsets: u64,
}

/// What an operation came to.
pub(super) enum Done {
    Flushed(u32, Result<(), Error>),
    Joined(String, Result<Channel, Error>),
    Left(String, Result<(), Error>),
    Sent(u32, bool, Result<(), Error>),
    Snapshot(Result<Snapshot, Error>),
    /// A state, a will, or what a channel keeps.
    Set(Result<(), Error>),
    Subscribed(String, Takes, Result<Messages, Error>),
    Watched(String, Result<Presence, Error>),
}

/// What the program was told of one of its messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// Nothing yet.
    Nothing,
    /// It was queued, and no more.
    Queued,
    /// It was carried out.
    Accepted,
    /// It was refused.
    Refused,
    /// It was never queued.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// Inboxes of this many messages overflow.
const SMALL_INBOX: usize = 6;

/// Small enough that publishing waits now and then.
const UNCONFIRMED_BYTES: usize = 2 * 1024;

impl App {
    pub(super) fn new(author: usize, habits: Habits) -> (Self, Driver) {
        let mut options = Options::new()
            .name(format!("app-{author}"))
            .unconfirmed_bytes(UNCONFIRMED_BYTES);
        if habits.small_inbox {
            options = options.inbox_messages(SMALL_INBOX);
        }
        let (driver, client) = Driver::new(options, nowhere()).expect("a name");
        let app = Self {
            author,
            habits,
            rooms: Vec::new(),
            directs: Stream::new(0, Takes::Directs, Some(client.directs())),
            refusals: client.refusals(),
            client,
            operations: Vec::new(),
            snapshot: Vec::new(),
            upsets: 0,
            firm: 0,
            sessions: 0,
            leaves: 0,
            streams: 0,
            fates: Vec::new(),
            handed: BTreeSet::new(),
            told_lost: 0,
            told_refused: 0,
            seen: 0,
        };
        (app, driver)
    }

    /// Starts something, and sees whether it is done at once.
    pub(super) fn begin(
        &mut self,
        ledger: &Ledger,
        what: &'static str,
        future: impl Future<Output = Done> + 'static,
    ) {
        let mut operation = Operation {
            task: Task::new(future),
            what,
            upsets: self.upsets,
        };
        match operation.task.go_on() {
            Poll::Ready(done) => self.done(done, self.upsets, ledger),
            Poll::Pending => self.operations.push(operation),
        }
    }

    /// Lets everything go on that was woken.
    pub(super) fn poll_operations(&mut self, ledger: &Ledger) {
        let mut at = 0;
        while at < self.operations.len() {
            let operation = &mut self.operations[at];
            if let Poll::Ready(done) = operation.task.go_on() {
                let upsets = self.operations.remove(at).upsets;
                self.done(done, upsets, ledger);
            } else {
                at += 1;
            }
        }
    }

    /// Reads everything that can be read.
    pub(super) fn read_streams(&mut self) {
        let (id, small) = (self.client.id(), self.habits.small_inbox);
        self.directs.read(id, small, &mut self.seen);
        for room in &mut self.rooms {
            room.streams
                .retain_mut(|stream| stream.read(id, small, &mut self.seen));
            let ended = room
                .presence
                .as_mut()
                .is_some_and(|watched| !watched.read());
            if ended {
                assert!(room.left, "{id}: presence ended by itself");
                room.presence = None;
            }
        }
        let waiting = &self.operations;
        let leaving = waiting.iter().any(|operation| operation.what == "leave");
        self.rooms.retain(|room| {
            !room.left || leaving || !room.streams.is_empty() || room.presence.is_some()
        });
        self.read_refusals();
    }

    fn read_refusals(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let refusals = Pin::new(&mut self.refusals);
            let Poll::Ready(Some(refused)) = tokio_stream::Stream::poll_next(refusals, cx) else {
                return;
            };
            if refused.cause == localhub_client::Cause::SessionLost {
                self.told_lost += refused.messages;
            } else {
                self.told_refused += refused.messages;
            }
        }
    }

    pub(super) fn room(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.name == name)
    }

    /// The stream of that number.
    pub(super) fn stream(&mut self, key: u64) -> Option<&mut Stream> {
        let mut streams = self.rooms.iter_mut().flat_map(|room| &mut room.streams);
        streams.find(|stream| stream.key == key)
    }

    /// The stream that such a subscription is for.
    pub(super) fn asking(&mut self, asked: &Asked) -> Option<&mut Stream> {
        let mut rooms = self.rooms.iter_mut();
        let room = rooms.find(|room| room.id == Some(asked.channel))?;
        room.streams.iter_mut().find(|stream| {
            let asks = stream.takes.asks(&asked.filter, Kind::of(asked.start));
            asks && !stream.live && !stream.ended
        })
    }

    /// What is still not done, for people.
    pub(super) fn waits_for(&self) -> VecDeque<&'static str> {
        self.operations.iter().map(|known| known.what).collect()
    }

    /// Answers may be lost.
    pub(super) fn upset(&mut self) {
        self.upsets += 1;
        self.firm = self.fates.len() as u32;
        let streams = self.rooms.iter_mut().flat_map(|room| &mut room.streams);
        streams.for_each(Stream::upset);
    }

    pub(super) fn is_upset(&self, since: u64) -> bool {
        self.upsets != since
    }
}

impl Room {
    pub(super) fn watched(&mut self, presence: Presence) {
        let flag = Flag::new();
        self.asks_presence = false;
        self.presence = Some(Watched {
            presence,
            flag,
            revision: 0,
        });
    }

    /// The program does not wait for presence any more, and has none.
    pub(super) fn unwatched(&mut self) {
        self.asks_presence = false;
    }
}

impl Watched {
    /// Reads what there is; `false` at the end.
    fn read(&mut self) -> bool {
        if !self.flag.lower() {
            return true;
        }
        let waker = self.flag.waker();
        let cx = &mut Context::from_waker(&waker);
        loop {
            let presence = Pin::new(&mut self.presence);
            match tokio_stream::Stream::poll_next(presence, cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => return false,
                Poll::Ready(Some(event)) => self.revision = event.revision,
            }
        }
    }
}

/// A refusal that programs have to live with, and no other.
pub(super) fn is_full(code: Code) -> bool {
    code == Code::OUTBOX_FULL
}
