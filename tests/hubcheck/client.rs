//! A client: it takes part until it is told to stop or killed, and writes down what it did and saw.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use localhub_client::admin::{self, HubView};
use localhub_client::{
    Channel, Client, ClientId, Code, Endpoint, Error, Gap, Message, Messages, Options, Service,
};
use localhub_tests::Rng;
use tokio::sync::watch;

use crate::asker::ask;
use crate::board::{self, Board};
use crate::handler::{serve, serve_itself};
use crate::holder::{compete, list};
use crate::plan::{
    AUDITOR, CHANNELS, EVERYTHING, FILTERS, FIRST_MIXED, LOBBY, TOPICS, channel_name, client_name,
    client_of, inbox_messages, is_competitor, is_watcher, session_ttl, topic_name,
};
use crate::record::{DIRECT, Event, NONE, Recorder, hash, now};
use crate::watcher::{at_once, watch};
use crate::workload::send;

/// What a client is told, a line each.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// It does as it likes.
    Run,
    /// It sends nothing more.
    Quiet,
    /// It reads what there is and says how things stand.
    Drain,
    /// It ends.
    End,
}

/// What a client was started with.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) sender: u64,
    pub(crate) endpoint: PathBuf,
    pub(crate) records: PathBuf,
    pub(crate) seed: u64,
}

/// So many orders may wait.
const ORDERS_MAX: usize = 1_024;

/// A client at work.
pub(crate) struct Actor {
    pub(crate) client: Client,
    pub(crate) sender: u64,
    pub(crate) recorder: Recorder,
    pub(crate) phase: watch::Receiver<Phase>,
    /// How often it was told to send a lot at once.
    pub(crate) floods: Rc<Cell<u64>>,
    pub(crate) channels: RefCell<BTreeMap<u64, Channel>>,
    /// Sessions it has heard from.
    pub(crate) peers: RefCell<Vec<ClientId>>,
    pub(crate) rng: RefCell<Rng>,
    pub(crate) number: Cell<u64>,
    /// The number of the next request.
    pub(crate) asked: Cell<u64>,
    /// How many requests of others it has begun to do.
    pub(crate) executions: Cell<u64>,
    /// The board, while it is in it.
    pub(crate) board: RefCell<Option<Board>>,
    /// How many changes of the board it has begun.
    pub(crate) changes: Cell<u64>,
    /// What it serves until it ends.
    pub(crate) served: RefCell<Vec<Service>>,
    /// Where the process writes its records.
    pub(crate) records: PathBuf,
    streams: Cell<u64>,
}

/// How a stream was left.
enum Left {
    /// The session is lost.
    Broken,
    /// It was listened to for long enough.
    Enough,
    /// It is time to say how things stand.
    Drain,
}

/// Plays the part until it is over.
pub(crate) fn play(part: Part) -> Result<(), Error> {
    let (phases, floods) = (watch::Sender::new(Phase::Run), Rc::new(Cell::new(0)));
    let (lines, orders) = tokio::sync::mpsc::channel(ORDERS_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, act(part, phases, orders, floods))
}

async fn act(
    part: Part,
    phases: watch::Sender<Phase>,
    mut orders: tokio::sync::mpsc::Receiver<String>,
    floods: Rc<Cell<u64>>,
) -> Result<(), Error> {
    let phase = phases.subscribe();
    let flooded = floods.clone();
    tokio::task::spawn_local(async move {
        loop {
            // Whoever started it may be gone.
            let order = orders.recv().await.unwrap_or_else(|| "end".to_owned());
            match order.as_str() {
                "quiet" => drop(phases.send_replace(Phase::Quiet)),
                "drain" => drop(phases.send_replace(Phase::Drain)),
                "end" => {
                    phases.send_replace(Phase::End);
                    return;
                }
                _ => flooded.set(flooded.get() + 1),
            }
        }
    });
    let recorder = Recorder::create(&part.records).expect("a file for the records");
    let client = connect(&part).await?;
    let actor = Rc::new(Actor {
        client,
        sender: part.sender,
        recorder,
        phase,
        floods,
        channels: RefCell::default(),
        peers: RefCell::default(),
        rng: RefCell::new(Rng::new(part.seed)),
        number: Cell::new(0),
        asked: Cell::new(0),
        executions: Cell::new(0),
        board: RefCell::default(),
        changes: Cell::new(0),
        served: RefCell::default(),
        records: part.records,
        streams: Cell::new(0),
    });
    actor.run().await
}

/// Connects; whoever had the name before may not be gone yet, and the broker may be about to return.
async fn connect(part: &Part) -> Result<Client, Error> {
    let client = client_of(part.sender);
    let options = Options::new()
        .name(client_name(client))
        .endpoint(Endpoint::new(&part.endpoint)?)
        .session_ttl(session_ttl(client))
        .inbox_messages(inbox_messages(client))
        .unconfirmed_bytes(4 << 20)
        .backoff(Duration::from_millis(5), Duration::from_millis(200));
    loop {
        match options.clone().connect().await {
            Err(Error::Closed {
                code: Some(Code::NAME_TAKEN | Code::SHUTTING_DOWN),
                ..
            })
            | Err(
                Error::Connect(_)
                | Error::NotRunning { .. }
                | Error::TimedOut { .. }
                | Error::Disconnected,
            ) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
}

impl Actor {
    async fn run(self: Rc<Self>) -> Result<(), Error> {
        let lobby = self.client.join(LOBBY).await?;
        let mut tasks = tokio::task::JoinSet::new();
        for channel in 0..CHANNELS {
            // Not everybody is everywhere, so that sessions differ.
            if self.is_auditor() || !self.draw(4) {
                tasks.spawn_local(self.clone().listen(channel));
            }
        }
        tasks.spawn_local(self.clone().listen_to_directs());
        if is_watcher(client_of(self.sender)) {
            tasks.spawn_local(watch(self.clone(), lobby.clone()));
        }
        tasks.spawn_local(board::follow(self.clone()));
        tasks.spawn_local(self.clone().count_refusals());
        let mut serving = tokio::task::JoinSet::new();
        if self.is_auditor() {
            tasks.spawn_local(list(self.clone()));
        } else {
            serving.spawn_local(serve(self.clone()));
            serving.spawn_local(serve_itself(self.clone()));
        }
        if is_competitor(client_of(self.sender)) {
            tasks.spawn_local(compete(self.clone()));
        }
        println!("ready");
        if !self.is_auditor() {
            tokio::join!(send(&self), ask(self.clone()), board::change(self.clone()));
        }
        self.reached(Phase::Quiet).await;
        // Whatever became of the session meanwhile: in the end everything is settled.
        while self.client.flush().await.is_err() && !self.is_closed() {}
        println!("quiet");
        self.reached(Phase::Drain).await;
        if let Some((epoch, session)) = self.identify().await {
            self.recorder.note(Event::Final { epoch, session });
        }
        while tasks.len() > 1 {
            let task = tasks.join_next().await.expect("it was just counted");
            task.expect("no part of a client panics");
        }
        println!("drained");
        self.reached(Phase::End).await;
        tasks.abort_all();
        serving.shutdown().await;
        self.served.borrow_mut().clear();
        // What it does not serve any more is answered: the broker may not hear the goodbye of a client that
        // goes while something is written to it.
        let _ = self.client.flush().await;
        self.client.clone().close().await
    }

    /// Is in a channel, with one stream, leaves it, and enters it again.
    async fn listen(self: Rc<Self>, channel: u64) {
        while !self.is_closed() {
            let Some((room, stream, mut messages)) = self.enter(channel).await else {
                continue;
            };
            self.channels.borrow_mut().insert(channel, room.clone());
            let left = self.hear(stream, &mut messages).await;
            if matches!(left, Left::Enough) {
                // The handle stays: what is sent over it from now on is refused.
                if self.draw(2) {
                    self.channels.borrow_mut().remove(&channel);
                }
            }
            let asked_at = now();
            let end = match left {
                Left::Broken => None,
                Left::Enough | Left::Drain => self.complete(&room, stream, &mut messages).await,
            };
            let offset = end.unwrap_or(NONE);
            self.recorder.note(Event::Closed {
                stream,
                offset,
                asked_at,
            });
            if matches!(left, Left::Drain) {
                return;
            }
            drop(messages);
            // It fails only if the client is over, which the loop sees.
            let _ = room.leave().await;
        }
    }

    /// Enters a channel: nothing may become of the session while the stream is opened.
    async fn enter(&self, channel: u64) -> Option<(Channel, u64, Messages)> {
        let before = self.identify().await?;
        let room = self.client.join(&channel_name(channel)).await.ok()?;
        let mixed = channel >= FIRST_MIXED;
        let filter = match mixed {
            true => EVERYTHING,
            false if self.is_auditor() || self.draw(2) => 0,
            false => self.below(FILTERS.len() as u64),
        };
        let messages = match mixed {
            true => room.everything().await.ok()?,
            false => room.subscribe_live(FILTERS[filter as usize]).await.ok()?,
        };
        let offset = room.snapshot("none").await.ok()?.offset;
        if self.identify().await? != before {
            // It fails only if the client is over.
            let _ = room.leave().await;
            return None;
        }
        let stream = self.next_stream();
        let (epoch, session) = before;
        self.recorder.note(Event::Opened {
            stream,
            channel,
            filter,
            offset,
            epoch,
            session,
        });
        Some((room, stream, messages))
    }

    async fn listen_to_directs(self: Rc<Self>) {
        while !self.is_closed() {
            let Some(before) = self.identify().await else {
                continue;
            };
            let mut messages = self.client.directs();
            if self.identify().await != Some(before) {
                continue;
            }
            let stream = self.next_stream();
            let (epoch, session) = before;
            self.recorder.note(Event::Opened {
                stream,
                channel: DIRECT,
                filter: NONE,
                offset: 0,
                epoch,
                session,
            });
            let left = loop {
                match self.hear(stream, &mut messages).await {
                    Left::Enough => {}
                    left => break left,
                }
            };
            // What is for it is in its outbox, before the answer to a question that is asked now.
            let asked_at = now();
            let asked = matches!(left, Left::Drain) && self.identify().await.is_some();
            let whole = asked && self.drain(stream, &mut messages).await;
            let offset = if whole { 0 } else { NONE };
            self.recorder.note(Event::Closed {
                stream,
                offset,
                asked_at,
            });
            if matches!(left, Left::Drain) {
                return;
            }
        }
    }

    /// Writes down what comes out of a stream, for a while.
    async fn hear(&self, stream: u64, messages: &mut Messages) -> Left {
        let mut rest = match self.is_auditor() {
            true => u64::MAX,
            false => 200 + self.below(3_000),
        };
        let mut phase = self.phase.clone();
        loop {
            tokio::select! {
                biased;
                item = messages.next() => match item {
                    Some(item) if self.note(stream, &item) => {}
                    _ => return Left::Broken,
                },
                _ = phase.wait_for(|phase| *phase >= Phase::Drain) => return Left::Drain,
            }
            rest -= 1;
            if rest == 0 && *self.phase.borrow() == Phase::Run {
                return Left::Enough;
            }
            rest = rest.max(1);
        }
    }

    /// Takes out of the stream all that belongs in it, and says up to which offset that is.
    async fn complete(&self, room: &Channel, stream: u64, messages: &mut Messages) -> Option<u64> {
        let end = room.snapshot("none").await.ok()?.offset;
        self.drain(stream, messages).await.then_some(end)
    }

    /// Takes out what is there; `false` if the session was lost.
    async fn drain(&self, stream: u64, messages: &mut Messages) -> bool {
        loop {
            match at_once(messages.next()).await {
                Some(Some(item)) if self.note(stream, &item) => {}
                Some(_) => return false,
                None => return true,
            }
        }
    }

    /// Writes down one message or gap; `false` if it is the end of a session.
    fn note(&self, stream: u64, item: &Result<Message, Gap>) -> bool {
        match item {
            Ok(message) => {
                let payload = message.payload();
                let word = |at: usize| {
                    let bytes = payload.get(at..at + 8)?;
                    Some(u64::from_le_bytes(bytes.try_into().ok()?))
                };
                let topic = message.topic().map_or(NONE, |topic| {
                    let topic = (0..TOPICS).find(|number| topic_name(*number) == topic);
                    topic.unwrap_or(NONE - 1)
                });
                // Who wrote the payload must be who the hub says it is.
                let sender = word(0).filter(|sender| {
                    message.sender().name.as_str() == client_name(client_of(*sender))
                });
                self.recorder.note(Event::Heard {
                    stream,
                    offset: message.offset(),
                    session: message.sender().id.0,
                    sender: sender.unwrap_or(NONE),
                    number: word(8).unwrap_or(NONE),
                    hash: hash(payload),
                    topic,
                    bytes: payload.len() as u64,
                });
                self.remember(message.sender().id);
                true
            }
            Err(gap) => {
                let lost = gap.lost.unwrap_or(NONE);
                let scoped = u64::from(gap.channel.is_some());
                self.recorder.note(Event::Gap {
                    stream,
                    lost,
                    scoped,
                });
                gap.lost.is_some()
            }
        }
    }

    fn remember(&self, peer: ClientId) {
        let mut peers = self.peers.borrow_mut();
        if !peers.contains(&peer) {
            peers.push(peer);
            // Those that are long gone make room.
            let older = peers.len().saturating_sub(16);
            peers.drain(..older);
        }
    }

    async fn count_refusals(self: Rc<Self>) {
        let mut refusals = self.client.refusals();
        while let Some(refused) = refusals.next().await {
            let messages = refused.messages;
            self.recorder.note(Event::Refusals { messages });
        }
    }

    /// The epoch and the session, if they are the same before and after asking.
    pub(crate) async fn identify(&self) -> Option<(u64, u64)> {
        let before = self.client.id().0;
        let hub: HubView = self.client.admin(admin::STATUS, &()).await.ok()?;
        let session = self.client.id().0;
        if before != session {
            return None;
        }
        // The first half is unlike enough.
        let epoch = u64::from_str_radix(hub.epoch.get(..16)?, 16).ok()?;
        self.recorder.note(Event::Session { epoch, session });
        Some((epoch, session))
    }

    /// Waits until the phase has come.
    pub(crate) async fn reached(&self, phase: Phase) {
        // Without whoever says so, the process ends.
        let _ = self.phase.clone().wait_for(|now| *now >= phase).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(
            self.client.connection().current(),
            localhub_client::ConnectionState::Closed { .. }
        )
    }

    pub(crate) fn is_auditor(&self) -> bool {
        client_of(self.sender) == AUDITOR
    }

    pub(crate) fn next_stream(&self) -> u64 {
        self.streams.replace(self.streams.get() + 1)
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        self.rng.borrow_mut().below(n)
    }

    /// True once in `n` times.
    pub(crate) fn draw(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}
