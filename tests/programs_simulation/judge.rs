//! What must hold of all that programs were told, whatever went over the wire.

mod outcomes;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use localhub_client::{Incoming, Reply};
use localhub_protocol::ClientId;
use localhub_tests::Counts;

use crate::story::Story;
use crate::words;

/// What was asked for and done, as the programs know it.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) now: Duration,
    /// Whether outboxes hold so little that messages are refused and lost.
    tight: bool,
    pub(crate) story: Story,
    pub(crate) counts: Counts,
    pub(crate) calls: Vec<Call>,
    pub(crate) commands: Vec<Command>,
    pub(crate) handlings: Vec<Handling>,
    /// Who has had which lease: by epoch, service and number.
    leases: BTreeMap<(u8, &'static str, u64), Who>,
    /// The highest lease that a program was told of.
    newest: BTreeMap<(u8, &'static str, usize), u64>,
    /// When each seat last lost messages: nobody knows what these said.
    losses: BTreeMap<usize, Duration>,
}

/// A program as it was at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Who {
    pub(crate) name: &'static str,
    pub(crate) seat: usize,
    /// Which of the programs that had the seat.
    pub(crate) life: u32,
    /// Its session, and which of the broker's lives that belongs to. 0 before there is one.
    pub(crate) client: ClientId,
    pub(crate) epoch: u8,
}

/// A request that a program makes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Who,
    /// Which command it is, if it is one.
    pub(crate) command: Option<usize>,
    /// What the handler may send without being told to go on; 0 for a single reply.
    pub(crate) window: u32,
    pub(crate) since: Duration,
    pub(crate) timeout: Duration,
    /// It was queued as soon as it was made: its time runs since then.
    pub(crate) prompt: bool,
    pub(crate) fate: Fate,
    /// Who handles it, if it is no command.
    pub(crate) handling: Option<usize>,
    /// How many parts were read, and their bytes.
    parts: usize,
    bytes: usize,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Open,
    /// The program does not want it any more, since then, when it was who it was.
    Dropped(Duration, Who),
    /// The program is gone that waited for it.
    Gone,
    /// Nobody waits for an outcome, from the beginning on.
    Nobody,
    /// It ended, and was never handed to anybody.
    Void,
    /// It has its outcome.
    Over,
}

/// A command that programs send, some of them more than once.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) calls: Vec<usize>,
    pub(crate) handlings: Vec<usize>,
    /// Its outcome in each epoch.
    outcomes: BTreeMap<u8, Known>,
}

#[derive(Debug, Eq, PartialEq)]
enum Known {
    /// Nobody knows, and the broker said so.
    Unknown,
    /// Who said what.
    Said(String),
}

/// A request that was handed to a program.
#[derive(Debug)]
pub(crate) struct Handling {
    pub(crate) of: Of,
    pub(crate) handler: Who,
    pub(crate) answer: Option<Answer>,
    /// How long the parts are that were sent, in order.
    pub(crate) parts: Vec<usize>,
}

/// What a handling is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Of {
    Call(usize),
    Command(usize),
}

/// What a handler has said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Replied(Vec<u8>),
    Failed,
    Dropped,
}

/// How long the SDK waits for the broker to say that a request's time is over.
const GRACE: Duration = Duration::from_secs(5);

impl Judge {
    pub(crate) fn new(tight: bool) -> Self {
        Self {
            tight,
            ..Self::default()
        }
    }

    pub(crate) fn tell(&mut self, line: impl fmt::Display) {
        self.story.tell(self.now, line);
    }

    pub(crate) fn count(&mut self, kind: &'static str, what: &'static str) {
        *self.counts.entry((kind, what)).or_default() += 1;
    }

    // Callers.

    /// A program makes a request.
    pub(crate) fn begins(
        &mut self,
        caller: Who,
        command: Option<usize>,
        window: u32,
        timeout: Duration,
    ) -> usize {
        let id = self.calls.len();
        if let Some(command) = command {
            self.commands[command].calls.push(id);
        }
        self.calls.push(Call {
            caller,
            command,
            window,
            since: self.now,
            timeout,
            prompt: false,
            fate: Fate::Open,
            handling: None,
            parts: 0,
            bytes: 0,
        });
        id
    }

    /// There is a new command.
    pub(crate) fn new_command(&mut self) -> usize {
        self.commands.push(Command {
            calls: Vec::new(),
            handlings: Vec::new(),
            outcomes: BTreeMap::new(),
        });
        self.commands.len() - 1
    }

    pub(crate) fn is_dropped(&mut self, call: usize, by: Who) {
        self.calls[call].fate = Fate::Dropped(self.now, by);
    }

    /// A part came.
    pub(crate) fn hears(&mut self, id: usize, part: &Reply) {
        self.tell(format_args!("c{id} gets {}", words::short(part.payload())));
        self.count("parts", "heard");
        let call = &mut self.calls[id];
        assert_eq!(call.fate, Fate::Open, "12.16: c{id}: a part behind the end");
        let n = words::number(part.payload(), 'e').expect("a handler sent it");
        let (at, handling) = (call.parts, &self.handlings[n]);
        call.parts += 1;
        call.bytes += part.payload().len();
        assert_eq!(handling.of, Of::Call(id), "a part of another request");
        assert_eq!(
            handling.handler.client,
            part.sender().id,
            "c{id}: who sent it"
        );
        let sent = handling.parts.get(at).expect("a part that was sent");
        let sent = words::part(n, at, *sent);
        assert_eq!(part.payload()[..], sent[..], "c{id}: the part {at}");
    }

    // Handlers.

    /// A request was handed to a program.
    pub(crate) fn takes(&mut self, handler: Who, incoming: &Incoming) -> usize {
        let n = self.handlings.len();
        let payload = incoming.payload();
        let of = match words::number(payload, 'c') {
            Some(call) => Of::Call(call),
            None => Of::Command(words::number(payload, 'o').expect("a program asked for it")),
        };
        self.tell(format_args!("{} takes {of} as e{n}", handler.name));
        self.count(
            "handled",
            if matches!(of, Of::Call(_)) {
                "request"
            } else {
                "command"
            },
        );
        self.handlings.push(Handling {
            of,
            handler,
            answer: None,
            parts: Vec::new(),
        });
        match of {
            Of::Call(id) => {
                assert_eq!(incoming.command_id(), None, "c{id} is no command");
                let call = &mut self.calls[id];
                assert_eq!(incoming.window(), call.window, "c{id}");
                assert_eq!(call.handling, None, "c{id} is handed out twice");
                call.handling = Some(n);
            }
            Of::Command(id) => {
                let command = incoming.command_id().map(|id| id.0);
                assert_eq!(command, Some(words::command_id(id)), "o{id}");
                let again = self.handlings_of(of, Some(handler.epoch)).count() > 0;
                assert!(!again, "I13: o{id} is handed out again");
                self.commands[id].handlings.push(n);
            }
        }
        self.check(of);
        n
    }

    /// A handler has sent a part.
    pub(crate) fn sends(&mut self, n: usize, bytes: usize) {
        let handling = &mut self.handlings[n];
        handling.parts.push(bytes);
        let sent: usize = handling.parts.iter().sum();
        let Of::Call(id) = handling.of else {
            panic!("a command has a single reply");
        };
        let call = &self.calls[id];
        let most = call.bytes + call.window as usize;
        assert!(sent <= most, "12.17: e{n} sent {sent} bytes of {most}");
    }

    /// What was never handed to anybody is so for ever, and each call is carried out once at most.
    fn check(&self, of: Of) {
        match of {
            Of::Call(id) => {
                let call = &self.calls[id];
                let void = call.fate == Fate::Void;
                assert!(!void || call.handling.is_none(), "c{id} was not executed");
            }
            Of::Command(id) => {
                let command = &self.commands[id];
                let may = |id: &&usize| self.calls[**id].fate != Fate::Void;
                let may = command.calls.iter().filter(may).count();
                let done = command.handlings.len();
                assert!(
                    done <= may,
                    "I13: o{id} was executed {done} times, not {may}"
                );
            }
        }
    }

    /// What was handed out, in that epoch or any.
    fn handlings_of(&self, of: Of, epoch: Option<u8>) -> impl Iterator<Item = &Handling> {
        let these: &[usize] = match of {
            Of::Call(id) => self.calls[id].handling.as_slice(),
            Of::Command(id) => &self.commands[id].handlings,
        };
        let these = these.iter().map(|n| &self.handlings[*n]);
        these.filter(move |it| epoch.is_none_or(|epoch| it.handler.epoch == epoch))
    }

    // Leases.

    /// A program says that it has a lease.
    pub(crate) fn holds(&mut self, who: Who, service: &'static str, fence: u64) {
        let key = (who.epoch, service, fence);
        let holder = *self.leases.entry(key).or_insert(who);
        assert_eq!(holder, who, "I14: the lease {fence} of {service}");
        let newest = self
            .newest
            .entry((who.epoch, service, who.seat))
            .or_default();
        assert!(fence >= *newest, "I14: {service}: {fence} after {newest}");
        if fence > *newest {
            *newest = fence;
            self.tell(format_args!("{} has {service}, lease {fence}", who.name));
            self.count("lease", "held");
        }
    }

    /// The highest lease of a service in an epoch.
    pub(crate) fn newest_lease(&self, epoch: u8, service: &'static str) -> u64 {
        let all = self
            .leases
            .range((epoch, service, 0)..=(epoch, service, u64::MAX));
        all.last().map_or(0, |((_, _, fence), _)| *fence)
    }

    // Losses.

    /// A program lost messages.
    pub(crate) fn is_lost(&mut self, who: Who) {
        self.losses.insert(who.seat, self.now);
        self.count("resumes", "with loss");
    }

    /// Whether something may be lost that belongs to a call, or to what others sent of the same command.
    pub(crate) fn is_lossy(&self, call: usize) -> bool {
        let since = self.since(self.calls[call].of(call));
        self.losses.values().any(|at| *at >= since)
    }

    /// Whether a handler may have missed that its caller does not wait any more.
    pub(crate) fn may_be_untold(&self, handling: &Handling) -> bool {
        let lost = self.losses.get(&handling.handler.seat);
        lost.is_some_and(|at| *at >= self.since(handling.of))
    }

    /// When something was first asked for.
    fn since(&self, of: Of) -> Duration {
        let first = match of {
            Of::Call(id) => id,
            Of::Command(id) => self.commands[id].calls[0],
        };
        self.calls[first].since
    }

    /// Whether a command has an outcome, and the broker knows it.
    pub(crate) fn is_answered_by(&self, command: usize, present: impl Fn(Who) -> bool) -> bool {
        let mut handlings = self.commands[command].handlings.iter();
        handlings.any(|n| {
            let handling = &self.handlings[*n];
            handling.answer.is_some() && present(handling.handler)
        })
    }

    // Time.

    /// When a call must be over, for a program that has a connection or not.
    pub(crate) fn due(&self, call: usize, connected: bool) -> Option<Duration> {
        let call = &self.calls[call];
        let streams = call
            .handling
            .is_some_and(|n| !self.handlings[n].parts.is_empty());
        let grace = if connected { GRACE } else { Duration::ZERO };
        let due = call.since + call.timeout + grace;
        (call.prompt && !streams).then_some(due)
    }
}

impl Call {
    pub(crate) fn of(&self, id: usize) -> Of {
        self.command.map_or(Of::Call(id), Of::Command)
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(id) => write!(f, "c{id}"),
            Self::Command(id) => write!(f, "o{id}"),
        }
    }
}
