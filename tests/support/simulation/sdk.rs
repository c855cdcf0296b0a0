use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_client::simulation::{Driver, Received};
use localhub_protocol::{BrokerFrame, ClientFrame, Code, Gap, RawFrame};

use super::app::{App, Habits};
use super::heard::{Ear, Item, Sent, Values as Following};
use super::ledger::MARK_BYTES;
use super::link::Link;
use super::model::Model;
use super::stream::Takes;
use crate::{Flag, frame_end};

/// The SDK's core on a simulated connection, and the program that uses it.
///
/// Beside the core an [`Ear`] listens to the same frames. It tells the model what was heard, and from
/// what the model says that this was follows what each stream of the program has to give.
pub(super) struct Sdk {
    pub(super) app: App,
    driver: Driver,
    /// Is up when the core woke its link.
    flag: Arc<Flag>,
    /// Whether there may be something to write.
    may_write: bool,
    ear: Ear,
    welcomed: bool,
    /// Whole frames that the core has not taken in yet.
    chunk: Bytes,
    /// Until when it waits for a full inbox.
    blocked_until: Option<Duration>,
    /// Whose retained values come next.
    values: Option<Values>,
}

/// Whose retained values come next, and how many.
struct Values {
    to: To,
    left: u64,
}

enum To {
    Snapshot,
    Stream(u64),
}

/// What the core hands out at a time.
const TAKE_BYTES: usize = 700;

/// What a link holds for a hub that does not read.
const UP_BYTES_MAX: usize = 4 * 1024;

impl Sdk {
    pub(super) fn new(author: usize, habits: Habits) -> Self {
        let (app, driver) = App::new(author, habits);
        Self {
            app,
            driver,
            flag: Flag::new(),
            may_write: false,
            ear: Ear::default(),
            welcomed: false,
            chunk: Bytes::new(),
            blocked_until: None,
            values: None,
        }
    }

    /// The first frame of a connection.
    pub(super) fn hello(&self) -> Vec<u8> {
        self.driver.hello()
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.welcomed = false;
        self.chunk = Bytes::new();
        self.blocked_until = None;
        self.driver.lost("cut");
    }

    /// Writes what the core wants to be written, if it asked to be asked.
    pub(super) fn write(&mut self, link: &mut Link, now: Duration) {
        if link.up.len() >= UP_BYTES_MAX || !self.welcomed {
            return;
        }
        if !self.driver.elapse(now) {
            // Whoever reads next sees it as well, and ends the connection.
            return;
        }
        self.may_write |= self.flag.lower() || self.driver.deadline().is_some_and(|at| at <= now);
        if !self.may_write {
            return;
        }
        let mut batch = VecDeque::new();
        self.driver.take(&mut batch, TAKE_BYTES, now);
        self.may_write = !batch.is_empty();
        let up = link.up.end();
        for piece in &batch {
            up.extend_from_slice(piece);
            self.app.handed.extend(marks(piece));
        }
        self.driver.register(&self.flag.waker());
    }

    /// Reads what has arrived, and lets the program go on; `false` if the connection is over.
    pub(super) fn read(&mut self, link: &mut Link, now: Duration, model: &mut Model) -> bool {
        if !self.driver.elapse(now) {
            model.counts.silent += 1;
            return false;
        }
        if !self.welcomed && !self.take_welcome(link, now, model) {
            return true;
        }
        let open = self.take_frames(link, now, model);
        self.app.poll_operations(&model.ledger);
        open
    }

    fn take_welcome(&mut self, link: &mut Link, now: Duration, model: &mut Model) -> bool {
        let arrived = link.down.arrived();
        let Some(end) = frame_end(arrived) else {
            return false;
        };
        let frame = BrokerFrame::decode(&arrived[4..end]).expect("a frame");
        let BrokerFrame::Welcome(welcome) = frame else {
            panic!("{frame:?} before a welcome");
        };
        model.counts.welcome(welcome.resumed);
        let anew = self.app.client.id() != welcome.client;
        self.driver.welcome(&welcome, now).expect("a good welcome");
        self.driver.register(&self.flag.waker());
        self.may_write = true;
        self.ear.begin(anew);
        self.welcomed = true;
        if anew {
            self.app.sessions += 1;
            self.values = None;
            if self.app.sessions > 1 {
                self.app.upset();
                self.app.directs.lose_session();
                for room in &mut self.app.rooms {
                    room.id = None;
                    let streams = room.streams.iter_mut();
                    streams.for_each(super::stream::Stream::lose_session);
                }
            }
        }
        link.down.forget(end);
        true
    }

    fn take_frames(&mut self, link: &mut Link, now: Duration, model: &mut Model) -> bool {
        if self.chunk.is_empty() {
            let arrived = link.down.arrived();
            let mut whole = 0;
            while let Some(end) = frame_end(&arrived[whole..]) {
                whole += end;
            }
            if whole > 0 {
                self.chunk = Bytes::copy_from_slice(&arrived[..whole]);
                link.down.forget(whole);
            }
        }
        if self.chunk.is_empty() {
            return true;
        }
        if self.blocked_until.is_some_and(|until| now < until) {
            // The core wakes its link when there is room again.
            if !self.flag.lower() {
                return true;
            }
            self.may_write = true;
        }
        let before = self.chunk.clone();
        let progress = self
            .driver
            .receive(&mut self.chunk, now)
            .expect("good frames");
        self.driver.register(&self.flag.waker());
        self.may_write = true;
        let mut taken = &before[..before.len() - self.chunk.len()];
        while let Some(end) = frame_end(taken) {
            self.hear(&taken[4..end], model);
            taken = &taken[end..];
        }
        self.blocked_until = match progress {
            Received::All => None,
            Received::Blocked { until } => {
                model.counts.blocked += 1;
                Some(until)
            }
            Received::Closed { code } => {
                assert!(
                    matches!(code, Code::PING_TIMEOUT | Code::SLOW_CONSUMER),
                    "{code:?} to a client that did nothing wrong"
                );
                return false;
            }
        };
        true
    }

    /// Hears what the core heard.
    fn hear(&mut self, body: &[u8], model: &mut Model) {
        let frame = BrokerFrame::decode(body).expect("a frame");
        let Some(heard) = self.ear.hear(&frame, body) else {
            return;
        };
        let id = self.app.client.id();
        let item = model.judge(id, &heard);
        match (item, heard.frame) {
            (None, BrokerFrame::Gap(gap)) => self.gap(gap),
            (Some(Item::Joined(joined)), _) => {
                if let Some(room) = self.app.room(&joined.name) {
                    room.id = Some(joined.channel);
                    let streams = room.streams.iter_mut();
                    streams.for_each(|stream| stream.asks(joined.channel));
                }
            }
            (Some(Item::Message { sent, retained }), _) if retained => {
                let Some(values) = &mut self.values else {
                    return;
                };
                values.left -= 1;
                match values.to {
                    To::Snapshot => self.app.snapshot.push(sent),
                    To::Stream(key) => {
                        if let Some(stream) = self.app.stream(key) {
                            stream.expect_message(&sent, true);
                        }
                    }
                }
                if values.left == 0 {
                    self.values = None;
                }
            }
            (Some(Item::Message { sent, .. }), _) => self.message(&sent, model),
            (Some(Item::Values(values)), _) => self.values(&values),
            (Some(Item::Refused(refused)), _) => {
                let asked = refused.asked.filter(|asked| asked.subscribe);
                if let Some(stream) = asked.and_then(|asked| self.app.asking(&asked)) {
                    stream.end();
                }
            }
            _ => {}
        }
    }

    /// A live message: for every stream that takes it.
    fn message(&mut self, sent: &Rc<Sent>, model: &Model) {
        let Some(channel) = sent.channel else {
            return self.app.directs.expect_message(sent, false);
        };
        let rooms = self.app.rooms.iter_mut();
        for room in rooms.filter(|room| room.id == Some(channel)) {
            for stream in room.streams.iter_mut().filter(|stream| stream.live) {
                let takes = match (&sent.topic, &stream.takes) {
                    (Some(topic), Takes::Topics { number, .. }) => {
                        model.filters.matching(topic).contains(*number)
                    }
                    (None, Takes::Topics { everything, .. }) => *everything,
                    (None, Takes::Broadcasts) => true,
                    _ => false,
                };
                if takes {
                    stream.expect_message(sent, false);
                }
            }
        }
    }

    /// Lost messages: they may be missing in every stream of their channel, or anywhere. Those that made way
    /// for newer ones are no loss for who wants it so.
    fn gap(&mut self, gap: &Gap) {
        let lost = Some(gap.lost);
        if gap.channel.is_none() {
            self.app.upset();
            if let Some(values) = &mut self.values {
                values.left = values.left.saturating_sub(gap.lost);
                if values.left == 0 || matches!(values.to, To::Snapshot) {
                    self.values = None;
                }
            }
            self.app.directs.expect_gap(lost);
        }
        let rooms = self.app.rooms.iter_mut();
        for room in rooms.filter(|room| gap.channel.is_none() || room.id == gap.channel) {
            for stream in &mut room.streams {
                if gap.cause != Code::CONFLATED {
                    stream.expect_gap(lost);
                } else if stream.live && stream.takes.wants_latest() {
                    stream.conflated += gap.lost;
                }
            }
        }
    }

    /// A subscription stands, or a snapshot follows.
    fn values(&mut self, values: &Following) {
        let asked = &values.asked;
        let to = if asked.subscribe {
            let Some(stream) = self.app.asking(asked) else {
                // The program has dropped it meanwhile.
                self.values = None;
                return;
            };
            stream.begins(values);
            To::Stream(stream.key)
        } else {
            self.app.snapshot.clear();
            To::Snapshot
        };
        let left = values.count;
        self.values = (left > 0).then_some(Values { to, left });
    }
}

/// The numbers of the messages in what is written, which is whole frames.
fn marks(mut frames: &[u8]) -> Vec<u32> {
    let mut marks = Vec::new();
    while let Some((frame, rest)) = RawFrame::split(frames, usize::MAX).expect("frames") {
        frames = rest;
        if let Ok(ClientFrame::Message(message)) = ClientFrame::decode(frame.body())
            && let Some(mark) = message.payload().first_chunk::<MARK_BYTES>()
        {
            // The author is the other half.
            marks.push(u64::from_be_bytes(*mark) as u32);
        }
    }
    marks
}
