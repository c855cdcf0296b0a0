//! What is written down: records of one size, appended with one write each.
//!
//! A process that is killed leaves whole records behind it, and at most a torn one at the end. The
//! time is the machine's monotonic clock, which all its processes share.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// A record is ten numbers: what happened, when, and up to eight particulars.
const WORDS: usize = 10;

/// The bytes of one record.
pub(crate) const RECORD_BYTES: usize = WORDS * 8;

/// A number that is not known, or not there.
pub(crate) const NONE: u64 = u64::MAX;

/// In place of a channel: messages to one client.
pub(crate) const DIRECT: u64 = 1 << 32;

/// Set in the receiver of a direct message that goes to the name of a client, not to a session.
pub(crate) const BY_NAME: u64 = 1 << 63;

/// What became of a call.
pub(crate) mod outcome {
    /// It was confirmed.
    pub(crate) const OK: u64 = 0;
    /// It was refused: nobody may ever see the message.
    pub(crate) const REFUSED: u64 = 1;
    /// It may have happened.
    pub(crate) const UNKNOWN: u64 = 2;
}

/// How a connection began, as the broker said in its welcome.
pub(crate) mod welcome {
    /// A new session was asked for.
    pub(crate) const FRESH: u64 = 0;
    /// The session goes on, and nothing is lost.
    pub(crate) const RECOVERED: u64 = 1;
    /// The session goes on, and a number of messages is lost.
    pub(crate) const LOST: u64 = 2;
    /// The session was gone, and this is a new one.
    pub(crate) const ANEW: u64 = 3;
}

/// How a connection that was replaced ended.
pub(crate) mod ended {
    /// It did not.
    pub(crate) const NOT: u64 = 0;
    /// All that the broker wrote was read.
    pub(crate) const WHOLE: u64 = 1;
    /// The system says that it was reset: what the broker wrote last may be lost with it. That
    /// happens when it closes a connection over which something came that it did not read.
    pub(crate) const RESET: u64 = 2;
}

/// What became of a request, or what its handler said.
pub(crate) mod how {
    /// The handler replied.
    pub(crate) const REPLIED: u64 = 0;
    /// The handler said that it went wrong.
    pub(crate) const FAILED: u64 = 1;
    /// The SDK of the handler answered in its place: the code is one of [`super::left`].
    pub(crate) const LEFT: u64 = 2;
    /// It was refused, with a code.
    pub(crate) const REFUSED: u64 = 3;
    /// There is no reply, with a code.
    pub(crate) const NO_REPLY: u64 = 4;
    /// Nothing was sent.
    pub(crate) const UNSENT: u64 = 5;
    /// The caller did not wait for the outcome.
    pub(crate) const GIVEN_UP: u64 = 6;
    /// The client is over, which none should be.
    pub(crate) const CLOSED: u64 = 7;
}

/// Why the SDK answered in place of a handler.
pub(crate) mod left {
    /// The texts of the codes, in the order of their numbers.
    pub(crate) const CODES: [&str; 4] = ["overloaded", "not_served", "cancelled", "dropped"];
    /// Those up to this one never came to the handler.
    pub(crate) const NOT_SERVED: u64 = 1;
    /// It came to the handler, which let go of it.
    pub(crate) const DROPPED: u64 = 3;
}

/// Whether a client has an exclusive service.
pub(crate) mod lease {
    /// It waits for it.
    pub(crate) const QUEUED: u64 = 0;
    /// It has it.
    pub(crate) const HELD: u64 = 1;
    /// Another one took it over.
    pub(crate) const LOST: u64 = 2;
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// Nanoseconds of the monotonic clock.
    pub(crate) at: u64,
    pub(crate) event: Event,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $number:literal $Name:ident { $($field:ident),* })+) => {
        /// What happened. The first half is told by the clients, the second by the runner.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Event {
            $($(#[doc = $doc])+ $Name { $($field: u64),* },)+
        }

        impl Event {
            fn words(self) -> (u64, Vec<u64>) {
                match self {
                    $(Self::$Name { $($field),* } => ($number, vec![$($field),*]),)+
                }
            }

            fn from_words(number: u64, words: &[u64]) -> Option<Self> {
                let mut words = words.iter().copied();
                match number {
                    $($number => Some(Self::$Name { $($field: words.next()?),* }),)+
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// The client has this session.
    1 Session { epoch, session }
    /// A stream of messages is open: everything of the channel behind `offset` belongs in it.
    2 Opened { stream, channel, filter, offset, epoch, session }
    /// A message came out of a stream. `session` is the sender as the hub shows it; `sender` and
    /// `number` are what the payload says.
    3 Heard { stream, offset, session, sender, number, hash, topic, bytes }
    /// A gap came out of a stream; `scoped` is 1 if it is of the stream's own channel.
    4 Gap { stream, lost, scoped }
    /// The stream is over; if `offset` is known, everything up to it has come out, and everything
    /// that was confirmed before `asked_at`.
    5 Closed { stream, offset, asked_at }
    /// A call begins.
    6 Invoke { number, channel, to, topic, hash, bytes }
    /// A call is over, with an `outcome`.
    7 Done { number, outcome }
    /// A presence event of the lobby.
    8 Change { change, session, revision, status }
    /// At the end, a member of the lobby; `source` is 0 for what the hub lists, 1 for the view that
    /// was built from events.
    9 Viewed { source, session, status }
    /// The session at the end.
    10 Final { epoch, session }
    /// An unconfirmed message was refused.
    11 Refusals { messages }
    /// A request is made; a command if it has an `id`, of which `high` is the first half. Its payload
    /// is that of number `of_number` of the process `of_sender`: another request than this one, if
    /// the command is sent again.
    12 Asked { number, high, id, to, hash, timeout_ms, of_sender, of_number }
    /// A request has its outcome, which is one of [`how`]. The hash is that of what the handler
    /// said, or else of the words in which the hub or the SDK said that there is no reply.
    13 Outcome { number, how, code, hash, by }
    /// A handler begins to do what was asked for, at one of the places of the plan. `sender` and
    /// `number` are what the payload says; `fence` is that of its lease, if it has one.
    14 Executing { execution, sender, number, id, hash, place, fence }
    /// It is done, and about to answer.
    15 Answered { execution, how, hash }
    /// The client looked at its lease; `service` is the how manieth time it serves, since `asked_at`.
    16 Lease { service, state, fence, epoch, session, asked_at }
    /// The broker was asked who has the lease; `holders` is how many it says there are.
    17 Listed { holders, fence, epoch, session, asked_at }
    /// The lease at the end.
    18 Leased { state, fence, epoch, session }
    /// A value of the board is to be set, or deleted, and for a time if `ttl_ms` is known. If `expect` is known, it
    /// is the version that the value is to have. Counters have a `line` and a `count`, of which there is
    /// one: what sets or deletes the value with the count before.
    19 Put { number, topic, line, count, expect, deletes, ttl_ms, owned }
    /// That is over, with an `outcome`, and with a code if it was refused. The session is told of what is
    /// owned, if it was the same one before and after.
    20 PutOver { number, outcome, code, version, epoch, session }
    /// A map of the board has another value. `sender` and `number` are what the payload says.
    21 Set { map, topic, sender, number, version, epoch }
    /// A map of the board has a value no more.
    22 Unset { map, topic }
    /// The client is not in the board any more; it was asked to leave at `asked_at`.
    23 LeftBoard { asked_at }
    /// At the end, how many values the board has; `source` is 0 for what the hub lists, 1 for the map.
    24 Board { source, values }
    /// One of these.
    25 Kept { source, topic, sender, number, version }

    /// A client's process was started.
    32 Started { sender, ttl_ms, proxied }
    /// It was killed.
    33 Killed { sender }
    /// It was stopped as by ctrl-z.
    34 Stopped { sender }
    /// It was made to go on.
    35 Continued { sender }
    /// Its connection was cut; `zombie` is 1 if the hub was left to believe that it stands.
    36 Cut { client, zombie }
    /// Its connection was hindered: slowed down, or held.
    37 Hindered { client, held }
    /// Everything was sent at once.
    38 Flooded { client }
    /// The broker is ready.
    39 BrokerUp { pid }
    /// The broker was killed.
    40 BrokerKilled { pid }
    /// A client was welcomed. `messages` and `bytes` were sent to it since the welcome before, which
    /// was `before`; that is unknown if it was of another epoch or may not have reached the client.
    41 Welcomed { client, how, away_ns, lost, replayed, messages, bytes, before }
    /// A connection that another one had replaced ended; `told` is the code of its close, or 0.
    42 Fenced { client, told, ended }
    /// How large the broker is.
    43 Sample { rss, descriptors, connections }
    /// Everything stopped going wrong.
    44 Calm { }
    /// A client did not do in time what was asked of it; 1 to go quiet, 2 to drain, 3 to end.
    45 Overdue { client, step }
    /// The broker at the end, when all clients are gone.
    46 Idle { connected, parked, queued_bytes, requests, descriptors, descriptors_before }
    /// How the broker ended when it was told to.
    47 Ended { code, socket_left }
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let (number, fields) = self.event.words();
        let mut bytes = [0; RECORD_BYTES];
        let words = [number, self.at].into_iter().chain(fields);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(place.try_into().ok()?);
        }
        let event = Event::from_words(words[0], &words[2..])?;
        Some(Self {
            at: words[1],
            event,
        })
    }
}

/// Appends records to a file.
#[derive(Debug)]
pub(crate) struct Recorder(File);

impl Recorder {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.append(true).create_new(true);
        Ok(Self(options.open(path)?))
    }

    /// Writes down what happens now.
    ///
    /// # Panics
    /// It cannot be written: then the run is worth nothing.
    pub(crate) fn note(&self, event: Event) {
        let record = Record { at: now(), event };
        let written = (&self.0).write(&record.to_bytes());
        assert!(
            matches!(written, Ok(RECORD_BYTES)),
            "a record is written whole: {written:?}"
        );
    }
}

/// The records of a file, and whether a torn one follows them.
pub(crate) fn read(path: &Path) -> io::Result<(Vec<Record>, bool)> {
    let bytes = std::fs::read(path)?;
    let whole = bytes.chunks_exact(RECORD_BYTES);
    let torn = !whole.remainder().is_empty();
    let records = whole.map(|bytes| {
        Record::from_bytes(bytes).ok_or_else(|| {
            let problem = format!("{} has a record of no kind", path.display());
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })
    });
    Ok((records.collect::<io::Result<_>>()?, torn))
}

/// The monotonic clock, which is the same for all processes of the machine.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("the clock began at zero")
}

/// FNV-1a, over eight bytes at a time where there are eight: payloads are random anyway.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let words = bytes.chunks_exact(8);
    let tail = words.remainder().iter().map(|byte| u64::from(*byte));
    words
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
        .chain(tail)
        .chain([bytes.len() as u64])
        .fold(0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ word).wrapping_mul(PRIME).rotate_left(29)
        })
}
