//! A core and a model of a broker, over a connection that is cut anywhere, from a seed.

use fastrand::Rng;

use super::*;

/// A broker with one client, which gets back what it publishes. It is a list of what was said.
#[derive(Default)]
struct Model {
    session: u64,
    /// Messages of the client in this session.
    received: u64,
    /// Messages to the client in this session, with their headers.
    outbox: Vec<Vec<u8>>,
    sent: usize,
    confirmed: u64,
    /// Pongs, each with what has to be sent before.
    pongs: Vec<(usize, u64)>,
    subscribed: bool,
    /// Everything published, over all sessions.
    log: Vec<String>,
    in_session: u64,
}

impl Model {
    fn welcomes(&mut self, hello: &Hello<'_>, world: &mut World) {
        let resumed = match &hello.resume {
            Some(resume) if resume.client == ClientId(self.session) => {
                assert!(
                    resume.received >= self.confirmed,
                    "what was confirmed was received"
                );
                assert!(
                    resume.received <= self.outbox.len() as u64,
                    "nobody sent that much"
                );
                self.sent = resume.received as usize;
                Resumed {
                    recovered: true,
                    replayed: 0,
                    lost: Some(0),
                }
            }
            _ => {
                let (log, session) = (std::mem::take(&mut self.log), self.session + 1);
                *self = Self {
                    log,
                    session,
                    ..Self::default()
                };
                Resumed {
                    recovered: false,
                    replayed: 0,
                    lost: None,
                }
            }
        };
        self.pongs.clear();
        world.welcome(
            self.session,
            hello.resume.as_ref().map(|_| resumed),
            self.received,
        );
    }

    fn answer(&mut self, frames: &[BrokerFrame<'_>]) {
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        self.outbox.push(wire);
    }

    fn carries_out(&mut self, body: &[u8]) {
        let frame = ClientFrame::decode(body).unwrap();
        match frame {
            ClientFrame::Ack { received } => self.confirmed = received,
            ClientFrame::Ping { nonce, received } => {
                self.confirmed = received;
                self.pongs.push((self.outbox.len(), nonce));
            }
            ClientFrame::Join { .. } => {
                self.received += 1;
                let (request, channel) = (self.received, ChannelId(self.session * 10));
                self.answer(&[BrokerFrame::Joined {
                    request,
                    channel,
                    offset: 0,
                }]);
            }
            ClientFrame::Subscribe { channel, .. } => {
                self.received += 1;
                self.subscribed = true;
                let (request, offset, count) = (self.received, self.in_session, 0);
                self.answer(&[BrokerFrame::Values {
                    request,
                    channel,
                    offset,
                    count,
                    since: 0,
                }]);
            }
            ClientFrame::Message(Message::Publish {
                channel,
                topic,
                payload,
                ..
            }) => {
                assert_eq!(
                    channel,
                    ChannelId(self.session * 10),
                    "an id of another session"
                );
                self.received += 1;
                self.in_session += 1;
                let text = std::str::from_utf8(payload).unwrap();
                self.log.push(text.to_owned());
                if self.subscribed {
                    self.answer(&run_in(channel, self.in_session, topic, &[text], false));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is written next, if anything.
    fn says(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut wire = Vec::new();
        if let Some(next) = self.outbox.get(self.sent) {
            self.sent += 1;
            wire.extend(next);
        }
        let due = self
            .pongs
            .iter()
            .take_while(|(after, _)| *after <= self.sent)
            .count();
        let received = self.received;
        for (_, nonce) in self.pongs.drain(..due) {
            BrokerFrame::Pong { nonce, received }.encode(&mut wire);
        }
        if rng.u8(..) < 40 {
            BrokerFrame::Ack { received }.encode(&mut wire);
        }
        wire
    }
}

/// One direction of a connection: bytes that were written and not yet read.
#[derive(Default)]
struct Pipe {
    on_the_way: VecDeque<u8>,
    arrived: Vec<u8>,
}

impl Pipe {
    /// Lets some bytes arrive; gives the whole frames among them.
    fn deliver(&mut self, bytes: usize) -> Vec<u8> {
        let bytes = bytes.min(self.on_the_way.len());
        self.arrived.extend(self.on_the_way.drain(..bytes));
        let mut rest = &self.arrived[..];
        while let Some((_, after)) = RawFrame::split(rest, usize::MAX).unwrap() {
            rest = after;
        }
        let whole = self.arrived.len() - rest.len();
        self.arrived.drain(..whole).collect()
    }
}

struct Cuts {
    world: World,
    model: Model,
    up: Pipe,
    down: Pipe,
    rng: Rng,
}

impl Cuts {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let inbox = InboxLimits {
            messages: 10_000,
            bytes: usize::MAX,
        };
        let settings = Settings {
            inbox,
            unconfirmed_bytes: usize::MAX,
            ..settings()
        };
        let world = World {
            core: Core::new(settings, now),
            now,
            position: 0,
        };
        let (model, rng) = (Model::default(), Rng::with_seed(seed));
        let mut cuts = Self {
            world,
            model,
            up: Pipe::default(),
            down: Pipe::default(),
            rng,
        };
        cuts.connects();
        cuts
    }

    fn connects(&mut self) {
        (self.up, self.down) = (Pipe::default(), Pipe::default());
        let hello = self.world.hello();
        self.model.welcomes(&hello, &mut self.world);
    }

    fn is_cut(&mut self) {
        self.world.core.lost("cut".to_owned(), Duration::ZERO);
    }

    /// Moves at most so many bytes in both directions.
    fn moves(&mut self, bytes: usize) {
        self.world.passes(self.rng.u64(..60));
        let mut batch = VecDeque::new();
        let max = self.rng.usize(1..200);
        self.world.core.take(&mut batch, max, self.world.now);
        batch
            .iter()
            .for_each(|segment| self.up.on_the_way.extend(segment));
        let wire = self.up.deliver(bytes);
        let mut rest = &wire[..];
        while let Some((frame, after)) = RawFrame::split(rest, usize::MAX).unwrap() {
            self.model.carries_out(frame.body());
            rest = after;
        }
        self.down.on_the_way.extend(self.model.says(&mut self.rng));
        let mut chunk = self.down.deliver(bytes).into();
        assert!(matches!(self.world.reads(&mut chunk), Progress::All));
        self.world.core.outgoing.check();
    }

    fn settles(&mut self) {
        for _ in 0..2_000 {
            self.moves(1_000);
        }
    }
}

#[test]
fn cuts_lose_and_double_nothing_while_the_session_lives() {
    for seed in 0..30 {
        let mut cuts = Cuts::new(seed);
        let (room, _) = cuts
            .world
            .core
            .join("kiosk".parse().unwrap(), false, None)
            .unwrap();
        let (stream, _) = cuts
            .world
            .core
            .open_stream(Some(room), topics("#", false))
            .unwrap();
        cuts.settles();
        let mut expected = Vec::new();
        let mut confirmed = Vec::new();
        for n in 0..300 {
            let text = format!("{seed}/{n}");
            if cuts.rng.u8(..) < 30 {
                confirmed.push(cuts.world.publishes_confirmed(room, "a", &text));
            } else {
                cuts.world.publishes(room, "a", &text);
            }
            expected.push(text);
            let bytes = cuts.rng.usize(..90);
            cuts.moves(bytes);
            if cuts.rng.u8(..) < 25 {
                cuts.is_cut();
                if cuts.rng.bool() {
                    cuts.world.publishes(room, "a", "meanwhile");
                    expected.push("meanwhile".to_owned());
                }
                cuts.connects();
            }
        }
        cuts.settles();
        assert_eq!(cuts.model.log, expected, "seed {seed}");
        let offsets = expected
            .iter()
            .zip(1..)
            .map(|(text, n)| format!("{text}@{n}"));
        assert_eq!(
            cuts.world.got(stream),
            offsets.collect::<Vec<_>>(),
            "seed {seed}"
        );
        for ticket in confirmed {
            assert!(
                matches!(cuts.world.outcome(ticket), Some(Ok(Answer::Done))),
                "seed {seed}"
            );
        }
        assert_eq!(cuts.model.session, 1, "seed {seed}: the session was lost");
    }
}

#[test]
fn lost_sessions_double_nothing_and_lose_nothing_untold() {
    for seed in 0..30 {
        let mut cuts = Cuts::new(seed);
        let listener = cuts.world.core.listen_to_refusals();
        let (room, _) = cuts
            .world
            .core
            .join("kiosk".parse().unwrap(), false, None)
            .unwrap();
        cuts.settles();
        let mut published = Vec::new();
        let mut confirmed = Vec::new();
        for n in 0..300 {
            let text = format!("{seed}/{n}");
            if cuts.rng.u8(..) < 30 {
                let ticket = cuts.world.publishes_confirmed(room, "a", &text);
                confirmed.push((text.clone(), ticket));
            } else {
                cuts.world.publishes(room, "a", &text);
            }
            published.push(text);
            let bytes = cuts.rng.usize(..90);
            cuts.moves(bytes);
            if cuts.rng.u8(..) < 10 {
                cuts.is_cut();
                if cuts.rng.bool() {
                    // The broker is started anew and knows nobody.
                    cuts.model.session += 1;
                }
                cuts.connects();
            }
        }
        cuts.settles();

        let mut rest = published.iter();
        for text in &cuts.model.log {
            assert!(
                rest.any(|next| next == text),
                "seed {seed}: {text} is doubled or out of order"
            );
        }
        let cx = &Context::from_waker(Waker::noop());
        let mut told = 0;
        while let Poll::Ready(Some(refused)) = cuts.world.core.poll_refusals(listener, cx) {
            told += refused.messages;
        }
        for (text, ticket) in confirmed {
            match cuts.world.outcome(ticket) {
                Some(Ok(_)) => assert!(cuts.model.log.contains(&text), "seed {seed}: {text}"),
                Some(Err(Failure::Disconnected)) => told += 1,
                other => panic!("seed {seed}: {text} came to {other:?}"),
            }
        }
        let missing = (published.len() - cuts.model.log.len()) as u64;
        assert!(
            missing <= told,
            "seed {seed}: {missing} are missing, {told} were told"
        );
    }
}
