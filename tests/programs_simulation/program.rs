//! A program that uses the SDK, over a connection that the simulation makes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use localhub_client::simulation::{Driver, Received};
use localhub_client::{
    Client, Code, Error, Incoming, Lease, Options, PartSender, Parts, Reply, Requests, Service,
};
use localhub_protocol::{BrokerFrame, ClientId};
use localhub_tests::{Flag, Task, frame_end, nowhere};

use crate::connection::Connection;
use crate::judge::{Answer, Judge, Who};

pub(crate) struct Program {
    pub(crate) who: Who,
    pub(crate) client: Client,
    driver: Driver,
    /// When it was made.
    born: Duration,
    pub(crate) connection: Option<Connection>,
    /// Is up when the core woke its link.
    flag: Arc<Flag>,
    /// Whether there may be something to write.
    may_write: bool,
    /// The broker has let it in.
    pub(crate) connected: bool,
    /// It says goodbye, or the broker has ended it.
    pub(crate) closes: bool,
    /// Until when it waits for what it said before.
    closes_until: Duration,
    pub(crate) waits: Vec<Waits>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) services: Vec<Served>,
    /// Where requests to the program itself arrive.
    pub(crate) own: Option<Own>,
    /// The requests that it has taken and not replied to.
    pub(crate) desk: Vec<Job>,
}

/// Something that a program waits for.
pub(crate) struct Waits {
    pub(crate) what: What,
    task: Task<Done>,
}

/// What a program waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    Answer(usize),
    Call(usize),
    Close,
    Greet,
    Part(usize),
    Serve(&'static str),
}

/// What that came to.
pub(crate) enum Done {
    Answered(usize, Result<(), Error>),
    Closed,
    Ended(usize, Result<Reply, Error>),
    /// A request whose outcome nobody waits for was queued.
    Forgotten(Result<(), Error>),
    Greeted,
    Opened(usize, Result<Parts, Error>),
    Sent(usize, usize, PartSender, Result<(), Error>),
    Served(&'static str, Result<Service, Error>),
}

/// A reply that comes in parts.
pub(crate) struct Reader {
    pub(crate) call: usize,
    parts: Parts,
    flag: Arc<Flag>,
}

pub(crate) struct Served {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    flag: Arc<Flag>,
}

pub(crate) struct Own {
    requests: Requests,
    flag: Arc<Flag>,
}

/// A request on the desk of its handler.
pub(crate) struct Job {
    pub(crate) handling: usize,
    pub(crate) incoming: Incoming,
    /// For the parts of the reply, unless one is being sent.
    pub(crate) parts: Option<PartSender>,
}

/// Small enough that requests wait for room now and then.
const UNCONFIRMED_BYTES: usize = 2 * 1024;

/// How long a goodbye takes at most.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What the core hands out at a time.
const TAKE_BYTES: usize = 700;

/// What a connection holds for a hub that does not read.
const UP_BYTES_MAX: usize = 4 * 1024;

impl Program {
    pub(crate) fn new(name: &'static str, seat: usize, life: u32, now: Duration) -> Self {
        let options = Options::new()
            .name(name)
            .unconfirmed_bytes(UNCONFIRMED_BYTES);
        let (driver, client) = Driver::new(options, nowhere()).expect("a name");
        let who = Who {
            name,
            seat,
            life,
            client: ClientId::HUB,
            epoch: 0,
        };
        let mut program = Self {
            who,
            client,
            driver,
            born: now,
            connection: None,
            flag: Flag::new(),
            may_write: false,
            connected: false,
            closes: false,
            closes_until: Duration::MAX,
            waits: Vec::new(),
            readers: Vec::new(),
            services: Vec::new(),
            own: None,
            desk: Vec::new(),
        };
        program.take_own();
        program
    }

    /// Takes requests to itself.
    pub(crate) fn take_own(&mut self) {
        self.own = Some(Own {
            requests: self.client.requests(),
            flag: Flag::new(),
        });
    }

    // Its connection.

    pub(crate) fn hello(&self) -> Vec<u8> {
        self.driver.hello()
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self, judge: &mut Judge) {
        self.connected = false;
        if self.closes {
            self.driver.finish(None);
        } else {
            self.driver.lost("cut");
            // It keeps the deadlines itself now.
            let _ = self.driver.elapse(judge.now - self.born);
        }
        self.go_on(judge);
    }

    /// It is over, and does not connect any more.
    pub(crate) fn finish(&mut self, code: Code, judge: &mut Judge) {
        self.connected = false;
        self.closes = true;
        self.driver.finish(Some(code));
        self.go_on(judge);
    }

    /// Writes what the core wants to be written, if it asked to be asked; how many bytes.
    pub(crate) fn write(&mut self, now: Duration) -> usize {
        let now = now - self.born;
        let Some(connection) = &mut self.connection else {
            return 0;
        };
        if connection.up.len() >= UP_BYTES_MAX || !self.connected {
            return 0;
        }
        self.may_write |= self.flag.lower();
        if !self.may_write {
            return 0;
        }
        let mut batch = VecDeque::new();
        self.driver.take(&mut batch, TAKE_BYTES, now);
        self.may_write = !batch.is_empty();
        let up = connection.up.end();
        batch.iter().for_each(|piece| up.extend_from_slice(piece));
        self.driver.register(&self.flag.waker());
        batch.iter().map(Bytes::len).sum()
    }

    /// Reads so many bytes more, and goes on; `false` if the connection is over.
    pub(crate) fn read(&mut self, bytes: usize, judge: &mut Judge) -> bool {
        let now = judge.now - self.born;
        let Some(connection) = &mut self.connection else {
            return true;
        };
        connection.down.deliver(bytes);
        if !self.connected {
            let arrived = connection.down.arrived();
            let Some(end) = frame_end(arrived) else {
                return !connection.is_over();
            };
            let frame = BrokerFrame::decode(&arrived[4..end]).expect("a frame");
            let BrokerFrame::Welcome(welcome) = frame else {
                panic!("{frame:?} before a welcome");
            };
            self.driver.welcome(&welcome, now).expect("a good welcome");
            self.connected = true;
            let before = (self.who.client, self.who.epoch);
            (self.who.client, self.who.epoch) = (welcome.client, welcome.epoch.0[0]);
            let how = match welcome.resumed {
                _ if before != (self.who.client, self.who.epoch) => "anew",
                Some(resumed) if resumed.recovered => "resumed",
                _ => "resumed with loss",
            };
            judge.count("welcomes", how);
            judge.tell(format_args!(
                "{} is {}, {how}",
                self.who.name, welcome.client
            ));
            if how == "resumed with loss" {
                judge.is_lost(self.who);
            }
            connection.down.forget(end);
            self.may_write = true;
            self.driver.register(&self.flag.waker());
            // What it learns from the welcome alone.
            self.go_on(judge);
            self.look_at_leases(judge);
        }
        let Some(connection) = &mut self.connection else {
            return true;
        };
        let arrived = connection.down.arrived();
        let mut whole = 0;
        while let Some(end) = frame_end(&arrived[whole..]) {
            whole += end;
        }
        let mut open = true;
        if whole > 0 {
            let mut chunk = Bytes::copy_from_slice(&arrived[..whole]);
            connection.down.forget(whole);
            let progress = self.driver.receive(&mut chunk, now).expect("good frames");
            self.driver.register(&self.flag.waker());
            self.may_write = true;
            match progress {
                Received::All => assert!(chunk.is_empty(), "all was taken in"),
                Received::Blocked { .. } => panic!("no inbox is full"),
                Received::Closed { code } => {
                    open = false;
                    self.go_on(judge);
                    if code == Code::KICKED {
                        judge.tell(format_args!("{} is told that it is kicked", self.who.name));
                        self.finish(code, judge);
                    }
                }
            }
        }
        self.go_on(judge);
        self.look_at_leases(judge);
        let connection = self.connection.as_ref();
        open && !connection.is_some_and(Connection::is_over)
    }

    /// Ends in an orderly way.
    pub(crate) fn say_goodbye(&mut self, judge: &mut Judge) {
        self.closes = true;
        self.closes_until = judge.now + CLOSE_PATIENCE;
        let client = self.client.clone();
        self.begin(What::Close, judge, async move {
            let _ = client.close().await;
            Done::Closed
        });
    }

    /// Does what is due; `false` if the broker is silent for too long, or the goodbye takes too long.
    pub(crate) fn elapse(&mut self, judge: &mut Judge) -> bool {
        let now = judge.now - self.born;
        self.may_write |= self.driver.deadline().is_some_and(|at| at <= now);
        let alive = self.driver.elapse(now);
        self.go_on(judge);
        alive && judge.now < self.closes_until
    }

    /// When it has something to do next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.driver.deadline().map(|at| at + self.born)
    }

    /// What the core remembers of requests and should not.
    pub(crate) fn holds(&self) -> Vec<(&'static str, usize)> {
        let mut holds = self.driver.holds();
        holds.retain(|(_, count)| *count > 0);
        holds
    }

    // What it waits for.

    /// Starts something, and sees whether it is done at once.
    pub(crate) fn begin(
        &mut self,
        what: What,
        judge: &mut Judge,
        future: impl Future<Output = Done> + 'static,
    ) {
        let task = Task::new(future);
        self.waits.push(Waits { what, task });
        self.go_on(judge);
    }

    /// Lets everything go on that was woken.
    pub(crate) fn go_on(&mut self, judge: &mut Judge) {
        let mut at = 0;
        while at < self.waits.len() {
            if let Poll::Ready(done) = self.waits[at].task.go_on() {
                self.waits.remove(at);
                self.is_done(done, judge);
            } else {
                at += 1;
            }
        }
    }

    fn is_done(&mut self, done: Done, judge: &mut Judge) {
        match done {
            Done::Answered(_, Ok(())) => {}
            Done::Answered(handling, Err(error)) => {
                assert!(matches!(error, Error::Closed { .. }), "an answer: {error}");
                judge.handlings[handling].answer = Some(Answer::Dropped);
                self.may_be_closed(Some(&error));
            }
            // What becomes of it is for others to judge.
            Done::Closed | Done::Greeted => {}
            Done::Ended(call, outcome) => {
                judge.ends(call, self.who, &outcome);
                self.may_be_closed(outcome.err().as_ref());
            }
            Done::Forgotten(forgotten) => {
                let may = [None, Some("closed"), Some("disconnected")];
                let how = forgotten.as_ref().err().map(|error| match error {
                    Error::Closed { .. } => "closed",
                    Error::Disconnected => "disconnected",
                    _ => "other",
                });
                assert!(may.contains(&how), "{forgotten:?}");
            }
            Done::Opened(call, Err(error)) => {
                self.may_be_closed(Some(&error));
                judge.ends(call, self.who, &Err(error));
            }
            Done::Opened(call, Ok(parts)) => self.readers.push(Reader {
                call,
                parts,
                flag: Flag::new(),
            }),
            Done::Sent(handling, bytes, parts, sent) => {
                let Some(job) = self.desk.iter_mut().find(|it| it.handling == handling) else {
                    return;
                };
                job.parts = Some(parts);
                match sent {
                    Ok(()) => judge.sends(handling, bytes),
                    Err(error) => {
                        let over = job.incoming.is_cancelled() || self.closes;
                        assert!(over, "e{handling} cannot send: {error}");
                    }
                }
            }
            Done::Served(name, Ok(service)) => {
                judge.count("served", name);
                let flag = Flag::new();
                self.services.push(Served {
                    name,
                    service,
                    flag,
                });
            }
            // Others serve it in another way.
            Done::Served(_, Err(Error::Refused { code, .. })) => {
                assert_eq!(code, Code::BAD_REQUEST);
            }
            Done::Served(_, Err(error)) => self.may_be_closed(Some(&error)),
        }
    }

    /// A program is not told that it is closed before it is.
    fn may_be_closed(&self, error: Option<&Error>) {
        let told = matches!(error, Some(Error::Closed { .. }));
        assert!(!told || self.closes, "{} is closed", self.who.name);
    }

    /// Reads what has come of the reply to a streamed request: so many parts at most.
    pub(crate) fn read_parts(&mut self, at: usize, most: usize, judge: &mut Judge) {
        let reader = &mut self.readers[at];
        let waker = reader.flag.waker();
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..most {
            if !reader.flag.lower() {
                return;
            }
            let parts = Pin::new(&mut reader.parts);
            let outcome = match tokio_stream::Stream::poll_next(parts, cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(part))) => {
                    // There may be another one.
                    waker.wake_by_ref();
                    judge.hears(reader.call, &part);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => Ok(reader.parts.reply().expect("a good end").clone()),
            };
            let call = reader.call;
            let mut parts = self.readers.remove(at).parts;
            let next = tokio_stream::Stream::poll_next(Pin::new(&mut parts), cx);
            assert!(matches!(next, Poll::Ready(None)), "c{call} has one end");
            self.may_be_closed(outcome.as_ref().err());
            return judge.ends(call, self.who, &outcome);
        }
    }

    /// Takes the requests that have arrived to the desk: so many at most.
    pub(crate) fn take_requests(&mut self, most: usize, judge: &mut Judge) {
        let mut taken = Vec::new();
        if let Some(Own { requests, flag }) = &mut self.own {
            take(requests, flag, most, &mut taken);
        }
        self.services.retain_mut(|served| {
            let (service, flag) = (&mut served.service, &served.flag);
            take(service, flag, most - taken.len(), &mut taken)
        });
        for incoming in taken {
            let handling = judge.takes(self.who, &incoming);
            let parts = (incoming.window() > 0).then(|| incoming.parts());
            self.desk.push(Job {
                handling,
                incoming,
                parts,
            });
        }
    }

    fn look_at_leases(&self, judge: &mut Judge) {
        for served in &self.services {
            if let Some(Lease::Held { fence }) = served.service.lease() {
                judge.holds(self.who, served.name, fence);
            }
        }
    }
}

/// Takes what has arrived there; `false` at the end.
fn take<S>(post: &mut S, flag: &Arc<Flag>, most: usize, taken: &mut Vec<Incoming>) -> bool
where
    S: tokio_stream::Stream<Item = Incoming> + Unpin,
{
    let waker = flag.waker();
    let cx = &mut Context::from_waker(&waker);
    let room = taken.len() + most;
    while taken.len() < room && flag.lower() {
        match Pin::new(&mut *post).poll_next(cx) {
            Poll::Pending => {}
            Poll::Ready(None) => return false,
            Poll::Ready(Some(incoming)) => {
                taken.push(incoming);
                // There may be another one.
                waker.wake_by_ref();
            }
        }
    }
    true
}
