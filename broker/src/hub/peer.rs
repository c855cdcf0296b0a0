use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use localhub_protocol::limits::{HEADER_BYTES_MAX, PRESENCE_STATE_BYTES_MAX};
use localhub_protocol::{
    BrokerFrame, ChannelId, ClientFrame, ClientId, ClientName, Code, ContentType, Message, Policy,
    Put, RawFrame, Retain, Start, Target, TopicFilter, Will,
};

use super::channel::{Channel, Run};
use super::joined::Joined;
use super::outbox::{Entry, Offer, Origin, Sender};
use super::requests::{Asked, Replied};
use super::session::{FIRST_GENERATION, Session};
use super::wakes::STALL_MAX;
use super::{Batch, Close, Hub, Refusal, Wakes};

/// The broker's side of one connection.
///
/// A peer carries out its client's frames. Messages go straight to a channel it has joined or to
/// another client's outbox; only what changes who is where (join, leave) takes the hub's lock.
#[derive(Debug)]
pub struct Peer {
    hub: Arc<Hub>,
    session: Arc<Session>,
    generation: u64,
    sender: Arc<Sender>,
    /// The channels this client is in. A shortcut, never the authority: the channel itself
    /// refuses a sender that it does not know.
    joined: Joined,
    /// Control frames that go out before anything else.
    control: Vec<u8>,
    /// Pongs to send, each once everything up to a position is sent.
    pongs: Vec<Pong>,
    /// How many of the client's messages were carried out, as of the last turn.
    received: u64,
    /// How many of them the client has been told.
    confirmed: u64,
    /// How much was received since then.
    unconfirmed_bytes: usize,
    /// How many bytes stay in use as long as something does of what is carried out now.
    pinned: usize,
    /// Whether the client has yet to show that it got the token of its welcome.
    token_unproven: bool,
    /// Whether others have been told that the client does not read or answer.
    stalled: bool,
    /// Why the connection ends.
    end: Option<(String, String)>,
}

/// How a client has begun to keep up with what it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// It does not read or answer: so many bytes wait for it.
    Stalled {
        /// How many.
        queued_bytes: u64,
    },
    /// It reads and answers again.
    Recovered {
        /// How many messages it has lost in its session.
        lost: u64,
    },
}

#[derive(Debug)]
struct Pong {
    nonce: u64,
    after: u64,
    received: u64,
}

/// What the server has to do after a peer carried out frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Turn {
    /// An operator asked the broker to stop.
    pub stop: bool,
    /// The client said goodbye.
    pub goodbye: bool,
}

/// What is carried out in one turn, before others get theirs.
const TURN_BYTES_MAX: usize = 512 * 1024;

/// A client is told how far the broker has come after so many bytes, asked or not. Each time costs a write, and
/// the client a wake; what it keeps until then is little to it.
const CONFIRM_BYTES: usize = 256 * 1024;

/// The same if there is something else to write: that costs only to encode and decode it.
const CONFIRM_BESIDE_BYTES: usize = 4 * 1024;

/// Less than this is copied out of what was read, so that a short message that waits does not keep a
/// whole read buffer.
const SHARE_BYTES_MIN: usize = 16 * 1024;

/// A message that waits keeps at most so many times its size: what is charged for it is its size alone.
const PIN_SHARE: usize = 4;

/// Pings that may wait for their pong; a client that asks faster is not read from.
const PONGS_MAX: usize = 64;

impl Peer {
    pub(super) fn new(
        hub: Arc<Hub>,
        session: Arc<Session>,
        generation: u64,
        received: u64,
        joined: Joined,
    ) -> Self {
        let sender = Arc::new(Sender {
            client: session.id,
            name: session.name.clone(),
        });
        Self {
            hub,
            session,
            generation,
            sender,
            joined,
            control: Vec::new(),
            pongs: Vec::new(),
            received,
            confirmed: received,
            unconfirmed_bytes: 0,
            pinned: 0,
            token_unproven: generation != FIRST_GENERATION,
            stalled: false,
            end: None,
        }
    }

    /// The session's id.
    pub fn client(&self) -> ClientId {
        self.session.id
    }

    /// Which of the session's connections it is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The client's name.
    pub fn name(&self) -> &str {
        self.session.name.as_str()
    }

    /// Carries out the whole frames at the front of `buffer`, a bounded number of them, and takes
    /// them out of it. Call [`Wakes::fire`] afterwards.
    ///
    /// Call it again while it takes something; `buffer` then holds at most a part of a frame. If the client
    /// [`is_flooded`](Peer::is_flooded), not before it has read something. `pinned` is how many bytes stay in use
    /// as long as some of the buffer does: its capacity when it was new.
    ///
    /// # Errors
    /// The client broke the rules, or its session is over: the connection must end.
    pub fn receive(
        &mut self,
        buffer: &mut BytesMut,
        pinned: usize,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<Turn, Close> {
        let max = self.hub.settings.limits.frame_bytes();
        let whole = whole_frames(buffer, max)?;
        self.pinned = pinned;
        let session = self.session.clone();
        let mut received = session.turn.lock();
        self.still_valid()?;
        if whole > 0 && std::mem::take(&mut self.token_unproven) {
            self.hub.forget_spent_token(session.id, self.generation);
        }
        let before = *received;
        let chunk = buffer.split_to(whole).freeze();
        let mut turn = Turn::default();
        let mut rest = chunk.clone();
        let result = loop {
            let Ok(Some((frame, _))) = RawFrame::split(&rest, max) else {
                break Ok(());
            };
            match self.carry_out(frame, &rest, &mut received, now, &mut turn, wakes) {
                Ok(bytes) => rest.advance(bytes),
                Err(close) => break Err(close),
            }
            if self.is_flooded() && !rest.is_empty() {
                // One small frame can ask for megabytes.
                let mut waits = BytesMut::from(&rest[..]);
                waits.extend_from_slice(buffer);
                *buffer = waits;
                break Ok(());
            }
        };
        let (messages, bytes) = (*received - before, (chunk.len() - rest.len()) as u64);
        session
            .totals
            .messages
            .fetch_add(messages, Ordering::Relaxed);
        session.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.hub
            .counters
            .messages_in
            .fetch_add(messages, Ordering::Relaxed);
        self.received = *received;
        self.unconfirmed_bytes += bytes as usize;
        result.map(|()| turn)
    }

    /// Carries out the frame at the front of `rest`, and those behind it that go the same way. Says
    /// how many bytes that were.
    fn carry_out(
        &mut self,
        frame: RawFrame<'_>,
        rest: &Bytes,
        received: &mut u64,
        now: Duration,
        turn: &mut Turn,
        wakes: &mut Wakes,
    ) -> Result<usize, Close> {
        let bytes = frame.wire_bytes();
        // The table of contents of the broker: one line for each kind of frame.
        let (request, outcome) = match ClientFrame::decode(frame.body())? {
            ClientFrame::Ack { received } => return self.confirm(received).map(|()| bytes),
            ClientFrame::Ping {
                nonce,
                received: theirs,
            } => {
                self.confirm(theirs)?;
                return self.ping(nonce, *received).map(|()| bytes);
            }
            ClientFrame::Pong { received, .. } => return self.confirm(received).map(|()| bytes),
            ClientFrame::Close { .. } => {
                turn.goodbye = true;
                return Ok(rest.len());
            }
            ClientFrame::Hello(_) => {
                return Err(Close::new(Code::OUT_OF_ORDER, "a second hello"));
            }
            ClientFrame::Message(message) => {
                return Ok(self.forward(message, bytes, rest, received, now, turn, wakes));
            }
            ClientFrame::Join {
                name,
                hidden,
                state,
            } => {
                *received += 1;
                (*received, self.join(*received, name, hidden, state, wakes))
            }
            ClientFrame::Leave { channel } => {
                *received += 1;
                (*received, self.leave(*received, channel, now, wakes))
            }
            ClientFrame::PresenceSet { channel, state } => {
                *received += 1;
                (
                    *received,
                    self.presence_set(*received, channel, state, wakes),
                )
            }
            ClientFrame::PresenceWatch { channel, on } => {
                *received += 1;
                let outcome = self
                    .channel(channel)
                    .and_then(|channel| channel.watch(self.session.id, *received, on, wakes));
                (*received, outcome)
            }
            ClientFrame::Subscribe {
                channel,
                filter,
                start,
                policy,
            } => {
                *received += 1;
                let subscription = (filter, start, policy);
                (
                    *received,
                    self.subscribe(*received, channel, subscription, now, wakes),
                )
            }
            ClientFrame::Unsubscribe { channel, filter } => {
                *received += 1;
                (
                    *received,
                    self.unsubscribe(*received, channel, filter, wakes),
                )
            }
            ClientFrame::Snapshot { channel, filter } => {
                *received += 1;
                (*received, self.snapshot(*received, channel, filter, wakes))
            }
            ClientFrame::ChannelSet { channel, settings } => {
                *received += 1;
                let outcome = self
                    .channel(channel)
                    .and_then(|channel| channel.set(self.session.id, settings, now));
                (*received, self.done(*received, outcome, wakes))
            }
            ClientFrame::WillSet { channel, will } => {
                *received += 1;
                let outcome = self.set_will(channel, &will);
                (*received, self.done(*received, outcome, wakes))
            }
            ClientFrame::Cancel { request } => {
                *received += 1;
                let key = (self.session.id, request);
                self.hub.requests.cancel(key, now, wakes);
                (*received, Ok(()))
            }
            ClientFrame::Credit(credit) => {
                *received += 1;
                let requests = &self.hub.requests;
                (*received, requests.credit(self.session.id, credit, wakes))
            }
            ClientFrame::Serve {
                service,
                mode,
                description,
            } => {
                *received += 1;
                let offer = (service, mode, description);
                let requests = &self.hub.requests;
                let outcome = requests.serve(&self.session, *received, offer, wakes);
                (*received, outcome)
            }
            ClientFrame::Unserve { service } => {
                *received += 1;
                let requests = &self.hub.requests;
                let outcome = requests.unserve(&self.session, *received, service, wakes);
                (*received, outcome)
            }
            ClientFrame::Put { channel, put } => {
                *received += 1;
                (*received, self.put(*received, channel, &put, now, wakes))
            }
            ClientFrame::WillClear { channel, topic } => {
                *received += 1;
                let outcome = self
                    .channel(channel)
                    .and_then(|channel| channel.clear_will(self.session.id, topic));
                (*received, self.done(*received, outcome, wakes))
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(request, 1, refusal, wakes);
        }
        Ok(bytes)
    }

    /// Passes on a message and those behind it that go the same way; says how many bytes they are.
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where a run is put together"
    )]
    fn forward(
        &self,
        message: Message<'_>,
        bytes: usize,
        rest: &Bytes,
        received: &mut u64,
        now: Duration,
        turn: &mut Turn,
        wakes: &mut Wakes,
    ) -> usize {
        let max = self.hub.settings.limits.payload_bytes as usize;
        let first = *received + 1;
        let payload = message.payload().len();
        let (end, count) = if payload <= max {
            run(rest, &message, bytes, max)
        } else {
            (bytes, 1)
        };
        *received += count;
        let outcome = if payload > max {
            Err(Refusal::PayloadTooLarge {
                bytes: payload as u64,
                max: max as u64,
            })
        } else {
            match message {
                Message::Publish {
                    channel,
                    retain,
                    content,
                    topic,
                    ..
                } => {
                    let run = Run {
                        topic: Some(topic),
                        retain,
                        content,
                        payload_bytes: payload,
                        frames: keep(rest, end, self.pinned),
                        count,
                    };
                    self.channel(channel)
                        .and_then(|channel| channel.publish(&self.sender, run, now, wakes))
                }
                Message::Broadcast {
                    channel, content, ..
                } => {
                    let run = Run {
                        topic: None,
                        retain: Retain::No,
                        content,
                        payload_bytes: payload,
                        frames: keep(rest, end, self.pinned),
                        count,
                    };
                    self.channel(channel)
                        .and_then(|channel| channel.publish(&self.sender, run, now, wakes))
                }
                Message::Direct { to, .. } => {
                    self.direct(to, keep(rest, end, self.pinned), first, count, wakes)
                }
                Message::Request {
                    to: Target::Id(ClientId::HUB),
                    method,
                    payload,
                    ..
                } => {
                    self.administer(first, method, payload, now, turn, wakes);
                    Ok(())
                }
                Message::Request { to, .. } => {
                    let asked = Asked {
                        caller: &self.session,
                        sender: &self.sender,
                        message,
                        frames: keep(rest, end, self.pinned),
                        position: first,
                    };
                    let named = self.find(to);
                    self.hub.requests.ask(asked, named, now, wakes)
                }
                Message::Reply {
                    to,
                    request,
                    error,
                    more,
                    content,
                    payload,
                } => {
                    let reply = Replied {
                        handler: &self.session,
                        sender: &self.sender,
                        to: (to, request),
                        error,
                        more,
                        content,
                        payload,
                        frames: keep(rest, end, self.pinned),
                        position: first,
                    };
                    self.hub.requests.reply(reply, now, wakes)
                }
                Message::Feed { request, more, .. } => {
                    let origin = Origin::Direct {
                        sender: self.sender.clone(),
                        first,
                    };
                    let entry = Entry::new(origin, keep(rest, end, self.pinned), 1);
                    let key = (self.session.id, request);
                    self.hub.requests.feed(key, more, &entry, wakes)
                }
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(first, count, refusal, wakes);
        }
        end
    }

    fn direct(
        &self,
        to: Target<'_>,
        frames: Bytes,
        first: u64,
        count: u64,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let receiver = self.find(to).ok_or(Refusal::UnknownClient)?;
        let origin = Origin::Direct {
            sender: self.sender.clone(),
            first,
        };
        let entry = Entry::new(origin, frames, count);
        match receiver.outbox.offer(&entry, wakes) {
            Offer::Queued(_) | Offer::Over => Ok(()),
            Offer::Full => Err(Refusal::OutboxFull),
        }
    }

    /// The session of one client; a service is none.
    fn find(&self, to: Target<'_>) -> Option<Arc<Session>> {
        let directory = &self.hub.directory;
        match to {
            Target::Id(client) => directory.ids.get(&client).map(|found| Arc::clone(&found)),
            Target::Name(name) => directory.names.get(name).map(|found| Arc::clone(&found)),
            Target::Service(_) => None,
        }
    }

    fn administer(
        &self,
        request: u64,
        method: &str,
        arguments: &[u8],
        now: Duration,
        turn: &mut Turn,
        wakes: &mut Wakes,
    ) {
        let answer = self.hub.administer(method, arguments, now, wakes);
        let (error, content, payload) = match answer {
            Ok(answer) => {
                turn.stop |= answer.stop;
                (None, ContentType::CBOR, answer.payload)
            }
            Err(refusal) => (
                Some(refusal.code()),
                ContentType::TEXT,
                refusal.to_string().into_bytes(),
            ),
        };
        let mut frame = Vec::new();
        BrokerFrame::Message(Message::Reply {
            to: self.session.id,
            request,
            error,
            more: false,
            content,
            payload: &payload,
        })
        .encode(&mut frame);
        let sender = Arc::new(Sender {
            client: ClientId::HUB,
            name: ClientName::hub(),
        });
        let origin = Origin::Direct {
            sender,
            first: request,
        };
        let entry = Entry::new(origin, frame, 1);
        self.session.outbox.answer_entries([entry], wakes);
    }

    fn join(
        &mut self,
        request: u64,
        name: &str,
        hidden: bool,
        state: &[u8],
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        check_state(state)?;
        let name = name.parse().map_err(Refusal::BadChannelName)?;
        let enter = |channel: &Channel| channel.join(&self.session, request, hidden, state, wakes);
        let channel = self.hub.join(&self.session, name, enter)?;
        self.joined.insert(channel);
        Ok(())
    }

    fn leave(
        &mut self,
        request: u64,
        channel: ChannelId,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let channel = self.joined.remove(channel).ok_or(Refusal::NotAMember)?;
        let outcome = self.hub.leave(&self.session, &channel, now, wakes);
        self.done(request, outcome, wakes)
    }

    fn presence_set(
        &self,
        request: u64,
        channel: ChannelId,
        state: &[u8],
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        check_state(state)?;
        let outcome = self
            .channel(channel)?
            .set_presence(self.session.id, state, wakes);
        self.done(request, outcome, wakes)
    }

    fn subscribe(
        &self,
        request: u64,
        channel: ChannelId,
        (filter, start, policy): (&str, Start, Policy),
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let channel = self.channel(channel)?;
        let filter: TopicFilter = filter.parse().map_err(Refusal::BadFilter)?;
        let limit = self.hub.settings.limits.subscriptions;
        let client = self.session.id;
        channel.subscribe(client, request, filter, start, policy, limit, now, wakes)
    }

    fn set_will(&self, channel: ChannelId, will: &Will<'_>) -> Result<(), Refusal> {
        let (bytes, max) = (
            will.payload.len() as u64,
            self.hub.settings.limits.payload_bytes,
        );
        if bytes > max {
            return Err(Refusal::PayloadTooLarge { bytes, max });
        }
        self.channel(channel)?.set_will(self.session.id, will)
    }

    fn put(
        &self,
        request: u64,
        channel: ChannelId,
        put: &Put<'_>,
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let (bytes, max) = (
            put.payload.len() as u64,
            self.hub.settings.limits.payload_bytes,
        );
        if bytes > max {
            return Err(Refusal::PayloadTooLarge { bytes, max });
        }
        let channel = self.channel(channel)?;
        let offset = channel.put(&self.session, &self.sender, put, now, wakes)?;
        let stored = BrokerFrame::Stored { request, offset };
        self.session.outbox.answer(&stored, wakes);
        Ok(())
    }

    /// Says that a request was carried out, if it was.
    fn done(
        &self,
        request: u64,
        outcome: Result<(), Refusal>,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        outcome?;
        let outbox = &self.session.outbox;
        outbox.answer(&BrokerFrame::Done { request }, wakes);
        Ok(())
    }

    fn unsubscribe(
        &self,
        request: u64,
        channel: ChannelId,
        filter: &str,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let outcome = self.channel(channel)?.unsubscribe(self.session.id, filter);
        self.done(request, outcome, wakes)
    }

    fn snapshot(
        &self,
        request: u64,
        channel: ChannelId,
        filter: &str,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal> {
        let filter = filter.parse().map_err(Refusal::BadFilter)?;
        self.channel(channel)?
            .snapshot(self.session.id, request, &filter, wakes)
    }

    fn channel(&self, channel: ChannelId) -> Result<&Arc<Channel>, Refusal> {
        self.joined.get(channel).ok_or(Refusal::NotAMember)
    }

    fn refuse(&self, first: u64, count: u64, refusal: Refusal, wakes: &mut Wakes) {
        self.session.totals.refuse(refusal.code(), count);
        let detail = refusal.to_string();
        for request in first..first + count {
            let code = refusal.code();
            self.session.outbox.answer(
                &BrokerFrame::Refusal {
                    request,
                    code,
                    detail: &detail,
                },
                wakes,
            );
        }
    }

    fn confirm(&self, received: u64) -> Result<(), Close> {
        if self.session.outbox.ack(received) {
            Ok(())
        } else {
            Err(Code::BAD_POSITION.into())
        }
    }

    fn ping(&mut self, nonce: u64, received: u64) -> Result<(), Close> {
        let after = self.session.outbox.queued();
        self.pongs.push(Pong {
            nonce,
            after,
            received,
        });
        Ok(())
    }

    /// Whether this connection still speaks for its session.
    fn still_valid(&self) -> Result<(), Close> {
        if self.session.generation() == self.generation {
            return Ok(());
        }
        Err(self
            .session
            .outbox
            .closing()
            // That is about the newer connection.
            .filter(|code| *code != Code::SLOW_CONSUMER)
            .unwrap_or(Code::SUPERSEDED)
            .into())
    }

    /// Whether the client had better read what it asked for before it is read from again.
    pub fn is_owed(&self) -> bool {
        self.pongs.len() >= PONGS_MAX || self.session.outbox.is_owed()
    }

    /// Whether it may take a slow client a while to come to what is sent to it now.
    pub fn is_crowded(&self) -> bool {
        self.pongs.len() >= PONGS_MAX || self.session.outbox.is_crowded()
    }

    /// Whether the client has asked for more than its outbox holds: nothing more that it asks for is to be carried
    /// out before it has read some of that.
    pub fn is_flooded(&self) -> bool {
        self.session.outbox.is_flooded()
    }

    /// Moves what is to be written to `batch`: about `max` bytes at most.
    pub fn take(&mut self, batch: &mut Batch, max: usize) {
        batch.control(&mut self.control);
        if self.still_valid().is_err() {
            return;
        }
        let all = self.session.outbox.take(self.generation, batch, max);
        let passed = if self.pongs.is_empty() {
            0
        } else {
            self.session.outbox.passed()
        };
        let due = self
            .pongs
            .iter()
            .take_while(|pong| pong.after <= passed)
            .count();
        for Pong {
            nonce, received, ..
        } in self.pongs.drain(..due)
        {
            batch.frame(&BrokerFrame::Pong { nonce, received });
            self.confirmed = self.confirmed.max(received);
        }
        let due = if batch.is_empty() {
            CONFIRM_BYTES
        } else {
            CONFIRM_BESIDE_BYTES
        };
        if all && self.unconfirmed_bytes >= due && self.received > self.confirmed {
            self.confirmed = self.received;
            self.unconfirmed_bytes = 0;
            batch.frame(&BrokerFrame::Ack {
                received: self.received,
            });
        }
    }

    /// Tells others if the client has begun or ceased to read what it is sent, and to answer pings
    /// (`silent`: one is not answered). Says what has changed.
    pub fn note_pace(&mut self, silent: bool, wakes: &mut Wakes) -> Option<Pace> {
        if !self.has_new_pace(silent) {
            return None;
        }
        let holds = self.session.outbox.holds();
        let stalled = !self.stalled;
        self.stalled = stalled;
        let session = &self.session;
        self.hub
            .set_stalled(session, self.generation, stalled, wakes);
        Some(if stalled {
            Pace::Stalled {
                queued_bytes: holds.bytes,
            }
        } else {
            Pace::Recovered {
                lost: holds.totals.lost,
            }
        })
    }

    /// Whether [`Peer::note_pace`] has something to tell.
    pub fn has_new_pace(&self, silent: bool) -> bool {
        (silent || self.session.outbox.is_slow()) != self.stalled
    }

    /// The client has read nothing for a while: publishers need not wait for it, and others are told
    /// by [`Peer::note_pace`].
    pub fn stands_still(&mut self) {
        self.session.outbox.overstay(STALL_MAX);
    }

    /// Asks the client whether it is still there.
    pub fn probe(&mut self, nonce: u64) {
        let received = self.received;
        self.control(&BrokerFrame::Ping { nonce, received });
    }

    /// Tells the client that the broker will close soon, and when to come back.
    pub fn go_away(&mut self, code: Code, delay: Duration) {
        let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self.control(&BrokerFrame::GoAway { code, delay_ms });
    }

    /// Tells the client why its connection ends.
    pub fn say_goodbye(&mut self, close: &Close) {
        self.control(&BrokerFrame::Close {
            code: close.code,
            detail: &close.detail,
        });
    }

    /// Ready when there is something to write, or [`Peer::closing`] says why to end.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.control.is_empty() || self.still_valid().is_err() {
            return Poll::Ready(());
        }
        self.session.outbox.poll_ready(self.generation, cx.waker())
    }

    /// Ready when the connection is to end, whatever is still to be written: the session is over or has a
    /// newer connection, or the client is to be parked because it does not read.
    pub fn poll_fenced(&self, cx: &mut Context<'_>) -> Poll<()> {
        let outbox = &self.session.outbox;
        outbox.watch(self.generation, cx.waker());
        if self.still_valid().is_err() || outbox.closing() == Some(Code::SLOW_CONSUMER) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Why the connection must end, if the hub says so.
    pub fn closing(&self) -> Option<Code> {
        match self.still_valid() {
            Ok(()) => self.session.outbox.closing(),
            Err(close) => Some(close.code),
        }
    }

    pub(super) fn control(&mut self, frame: &BrokerFrame<'_>) {
        frame.encode(&mut self.control);
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Says why the connection ends, for operators to read: in one word, and in words.
    pub fn ends(&mut self, reason: &str, detail: &str) {
        self.end = Some((reason.into(), detail.into()));
    }

    /// The session, the connection's generation, and why it ended, for the hub to part them.
    pub(super) fn into_parts(self) -> (Arc<Session>, u64, Option<(String, String)>) {
        (self.session, self.generation, self.end)
    }
}

/// How many bytes of whole frames there are at the front, up to about a turn's worth.
fn whole_frames(buffer: &[u8], max: usize) -> Result<usize, Close> {
    let mut rest = buffer;
    while buffer.len() - rest.len() < TURN_BYTES_MAX {
        match RawFrame::split(rest, max) {
            Ok(Some((_, after))) => rest = after,
            Ok(None) => break,
            // What came before it is carried out first.
            Err(_) if rest.len() < buffer.len() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(buffer.len() - rest.len())
}

/// The frames at the front of `rest` that go the same way as `first`, which takes `bytes`: where they end, and
/// how many they are.
fn run(rest: &[u8], first: &Message<'_>, bytes: usize, max: usize) -> (usize, u64) {
    let way = Way::of(first);
    if way.is_none() {
        return (bytes, 1);
    }
    // A frame of the same length whose bytes before the payload are the same has the same header.
    let mut like = (bytes, bytes - first.payload().len());
    let mut like_at = 0;
    let mut end = bytes;
    let mut count = 1;
    while let Ok(Some((frame, _))) = RawFrame::split(&rest[end..], max + HEADER_BYTES_MAX) {
        let wire = frame.as_bytes();
        let (length, header) = like;
        if wire.len() != length || wire[..header] != rest[like_at..like_at + header] {
            let Ok(ClientFrame::Message(message)) = ClientFrame::decode(frame.body()) else {
                break;
            };
            if Way::of(&message) != way || message.payload().len() > max {
                break;
            }
            like = (wire.len(), wire.len() - message.payload().len());
            like_at = end;
        }
        end += wire.len();
        count += 1;
    }
    (end, count)
}

/// Where a message goes; messages with the same way can go together.
#[derive(Eq, PartialEq)]
enum Way<'a> {
    Channel(ChannelId),
    Client(Target<'a>),
    Topic(ChannelId, &'a str),
}

impl<'a> Way<'a> {
    fn of(message: &Message<'a>) -> Option<Self> {
        match *message {
            Message::Publish {
                channel,
                retain: Retain::No,
                topic,
                ..
            } => Some(Self::Topic(channel, topic)),
            Message::Broadcast { channel, .. } => Some(Self::Channel(channel)),
            Message::Direct { to, .. } => Some(Self::Client(to)),
            _ => None,
        }
    }
}

/// The first `end` bytes of what was read, to be kept: shared if they are a good part of what that keeps in use.
fn keep(rest: &Bytes, end: usize, pinned: usize) -> Bytes {
    if end >= SHARE_BYTES_MIN && end.saturating_mul(PIN_SHARE) >= pinned {
        rest.slice(..end)
    } else {
        Bytes::copy_from_slice(&rest[..end])
    }
}

fn check_state(state: &[u8]) -> Result<(), Refusal> {
    if state.len() <= PRESENCE_STATE_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::StateTooLarge {
        bytes: state.len() as u64,
        max: PRESENCE_STATE_BYTES_MAX as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_keeps_a_few_times_its_size_at_most() {
        let read = Bytes::from(vec![0; 128 * 1024]);
        for (end, pinned, shared) in [
            (SHARE_BYTES_MIN - 1, 0, false),
            (SHARE_BYTES_MIN, SHARE_BYTES_MIN * PIN_SHARE, true),
            (SHARE_BYTES_MIN, SHARE_BYTES_MIN * PIN_SHARE + 1, false),
            (read.len(), read.len(), true),
            (read.len(), 1 << 20, false),
        ] {
            let kept = keep(&read, end, pinned);
            assert_eq!(kept, read[..end]);
            let same = kept.as_ptr() == read.as_ptr();
            assert_eq!(same, shared, "{end} of {pinned} bytes");
        }
    }
}
