//! What became of commands: so that each is carried out once at most, and answered the same for ever after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{Code, ContentType, Message};
use sha2::{Digest, Sha256};

use super::User;
use super::budget::Budget;
use super::outbox::Sender;
use super::requests::Key;

/// The commands of all users, by user and id (`docs/protocol.md` 12.13 to 12.15).
#[derive(Debug)]
pub(super) struct Commands {
    budget: Arc<Budget>,
    windows: BTreeMap<User, Window>,
}

/// What the hub knows of one user's commands.
#[derive(Debug, Default)]
struct Window {
    commands: BTreeMap<CommandId, Command>,
    /// Those with an outcome, in the order in which they got it, and when that was.
    over: VecDeque<(Duration, CommandId)>,
    /// What they are charged.
    bytes: u64,
    /// The highest id that is not kept any more: nobody knows whether those up to it were carried out.
    forgotten: Option<CommandId>,
}

#[derive(Debug)]
struct Command {
    asks: Fingerprint,
    state: CommandState,
}

#[derive(Debug)]
enum CommandState {
    /// It is with its handler, under the key of the request that came first.
    Running {
        first: Key,
        waiters: Vec<Key>,
    },
    Over(Outcome),
}

/// A command's id: higher for later ones.
pub(super) type CommandId = [u8; 16];

/// Where one command is kept.
pub(super) type CommandKey = (User, CommandId);

/// SHA-256 of all that a command asks for, and of whom.
pub(super) type Fingerprint = [u8; 32];

/// How a request ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// A handler has replied.
    Replied {
        sender: Arc<Sender>,
        /// The position of the reply among its messages.
        first: u64,
        error: Option<Code>,
        content: ContentType,
        payload: Bytes,
    },
    /// The hub says why there is no reply.
    Failed(Code),
}

/// What is to be done with a request that is a command.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nobody has sent it before.
    New,
    /// It is with its handler; the caller waits for the outcome with others.
    Running,
    /// It has an outcome.
    Over(Outcome),
    /// The id was used for something else.
    Reused,
    /// It may have been carried out, and nobody knows any more.
    Stale,
    /// There may be no more commands.
    Full,
}

/// The commands of one user that are kept, with or without outcome.
pub(super) const COMMANDS_MAX: usize = 65_536;

/// What the payloads of the outcomes that are kept for one user may take, in bytes.
pub(super) const COMMAND_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long an outcome is kept.
pub(super) const COMMAND_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// So many users may have sent commands. What is forgotten of them must be known as long as the hub lives.
const USERS_MAX: usize = 256;

/// What a command costs beside the payload of its outcome.
const COMMAND_BYTES: u64 = 320;

impl Commands {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            windows: BTreeMap::new(),
        }
    }

    /// How it stands with a command.
    pub(super) fn look(&mut self, key: &CommandKey, asks: &Fingerprint, now: Duration) -> Standing {
        self.forget_old(&key.0, now);
        let Some(window) = self.windows.get(&key.0) else {
            return match self.windows.len() >= USERS_MAX {
                true => Standing::Full,
                false => Standing::New,
            };
        };
        match window.commands.get(&key.1) {
            Some(known) if known.asks != *asks => Standing::Reused,
            Some(Command { state, .. }) => match state {
                CommandState::Running { .. } => Standing::Running,
                CommandState::Over(outcome) => Standing::Over(outcome.clone()),
            },
            None if window.forgotten.is_some_and(|mark| key.1 <= mark) => Standing::Stale,
            None if window.over.is_empty() && window.commands.len() >= COMMANDS_MAX => {
                Standing::Full
            }
            None => Standing::New,
        }
    }

    /// A command was sent to its handler.
    pub(super) fn begin(&mut self, key: &CommandKey, asks: Fingerprint, first: Key) {
        let window = self.windows.entry(key.0.clone()).or_default();
        let state = CommandState::Running {
            first,
            waiters: Vec::new(),
        };
        window.commands.insert(key.1, Command { asks, state });
        window.bytes += COMMAND_BYTES;
        self.budget.charge(COMMAND_BYTES);
        if window.commands.len() > COMMANDS_MAX {
            forget_first(window, &self.budget);
        }
    }

    /// One more waits for the outcome.
    pub(super) fn wait(&mut self, key: &CommandKey, waiter: Key) {
        if let Some(CommandState::Running { waiters, .. }) = self.state(key) {
            waiters.push(waiter);
        }
    }

    /// One of those who wait does so no more.
    pub(super) fn give_up(&mut self, key: &CommandKey, waiter: Key) {
        if let Some(CommandState::Running { waiters, .. }) = self.state(key) {
            waiters.retain(|known| *known != waiter);
        }
    }

    /// The request under which a command is with its handler, if nobody waits for it any more beside that.
    pub(super) fn alone(&mut self, key: &CommandKey) -> Option<Key> {
        match self.state(key)? {
            CommandState::Running { first, waiters } if waiters.is_empty() => Some(*first),
            _ => None,
        }
    }

    /// A command has an outcome; gives those who wait for it.
    pub(super) fn end(&mut self, key: &CommandKey, outcome: &Outcome, now: Duration) -> Vec<Key> {
        let Some(window) = self.windows.get_mut(&key.0) else {
            return Vec::new();
        };
        let Some(command) = window.commands.get_mut(&key.1) else {
            return Vec::new();
        };
        let over = CommandState::Over(outcome.clone());
        let CommandState::Running { waiters, .. } = std::mem::replace(&mut command.state, over)
        else {
            return Vec::new();
        };
        let bytes = outcome.bytes();
        window.bytes += bytes;
        self.budget.charge(bytes);
        window.over.push_back((now, key.1));
        while window.outcome_bytes() > COMMAND_BYTES_MAX && window.over.len() > 1 {
            forget_first(window, &self.budget);
        }
        waiters
    }

    /// A command never came to its handler: it is as if it had not been sent. Gives those who wait for it.
    pub(super) fn undo(&mut self, key: &CommandKey) -> Vec<Key> {
        let Some(window) = self.windows.get_mut(&key.0) else {
            return Vec::new();
        };
        let Some(command) = window.commands.remove(&key.1) else {
            return Vec::new();
        };
        window.bytes -= COMMAND_BYTES;
        self.budget.refund(COMMAND_BYTES);
        match command.state {
            CommandState::Running { waiters, .. } => waiters,
            CommandState::Over(_) => Vec::new(),
        }
    }

    /// The commands that are kept, and their charges.
    pub(super) fn held(&self) -> (u64, u64) {
        let windows = self.windows.values();
        windows.fold((0, 0), |(count, bytes), window| {
            (count + window.commands.len() as u64, bytes + window.bytes)
        })
    }

    /// Forgets the outcomes that are too old; also those of users who send no more. When to do so next.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Duration> {
        let users: Vec<_> = self.windows.keys().cloned().collect();
        for user in users {
            self.forget_old(&user, now);
        }
        let oldest = |window: &Window| window.over.front().map(|(since, _)| *since);
        let next = self.windows.values().filter_map(oldest).min();
        next.map(|since| since + COMMAND_AGE_MAX)
    }

    fn forget_old(&mut self, user: &User, now: Duration) {
        if let Some(window) = self.windows.get_mut(user) {
            while let Some((since, _)) = window.over.front()
                && now.saturating_sub(*since) >= COMMAND_AGE_MAX
            {
                forget_first(window, &self.budget);
            }
        }
    }

    fn state(&mut self, key: &CommandKey) -> Option<&mut CommandState> {
        let command = self.windows.get_mut(&key.0)?.commands.get_mut(&key.1)?;
        Some(&mut command.state)
    }
}

impl Window {
    /// What the payloads of all outcomes take.
    fn outcome_bytes(&self) -> u64 {
        self.bytes - COMMAND_BYTES * self.commands.len() as u64
    }
}

/// Forgets the command that has had its outcome for the longest time.
fn forget_first(window: &mut Window, budget: &Budget) {
    let Some((_, id)) = window.over.pop_front() else {
        return;
    };
    window.forgotten = window.forgotten.max(Some(id));
    if let Some(Command {
        state: CommandState::Over(outcome),
        ..
    }) = window.commands.remove(&id)
    {
        let charge = COMMAND_BYTES + outcome.bytes();
        window.bytes -= charge;
        budget.refund(charge);
    }
}

impl Outcome {
    /// What its payload takes.
    fn bytes(&self) -> u64 {
        match self {
            Self::Replied { payload, .. } => payload.len() as u64,
            Self::Failed(_) => 0,
        }
    }
}

/// What a command asks for: everything in it but how long its caller waits.
pub(super) fn fingerprint(request: &Message<'_>) -> Fingerprint {
    use localhub_protocol::Target;
    let Message::Request {
        to,
        method,
        content,
        payload,
        ..
    } = request
    else {
        unreachable!("only requests are commands");
    };
    let mut hash = Sha256::new();
    let id;
    let (kind, name) = match to {
        Target::Id(client) => {
            id = client.0.to_string();
            (0_u8, id.as_str())
        }
        Target::Name(name) => (1, *name),
        Target::Service(name) => (2, *name),
    };
    hash.update([kind, name.len().min(255) as u8]);
    hash.update(name);
    hash.update((method.len() as u64).to_be_bytes());
    hash.update(method);
    hash.update(content.0.to_be_bytes());
    hash.update(payload);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommandId {
        let mut id = [0; 16];
        id[15] = n;
        id
    }

    fn key(n: u8) -> CommandKey {
        (User::Uid(1_000), id(n))
    }

    fn request(n: u64) -> Key {
        (localhub_protocol::ClientId(1), n)
    }

    const ASKS: Fingerprint = [7; 32];
    const UNKNOWN: Outcome = Outcome::Failed(Code::OUTCOME_UNKNOWN);

    fn commands() -> Commands {
        Commands::new(Arc::new(Budget::new(u64::MAX)))
    }

    #[test]
    fn an_outcome_is_kept_for_its_time_and_then_the_command_is_stale() {
        let mut commands = commands();
        let look =
            |commands: &mut Commands, n, at| commands.look(&key(n), &ASKS, Duration::from_secs(at));
        commands.begin(&key(5), ASKS, request(1));
        assert!(matches!(look(&mut commands, 5, 0), Standing::Running));
        commands.wait(&key(5), request(2));
        let waited = commands.end(&key(5), &UNKNOWN, Duration::from_secs(10));
        assert_eq!(waited, [request(2)]);
        assert!(matches!(
            look(&mut commands, 5, 3_609),
            Standing::Over(Outcome::Failed(Code::OUTCOME_UNKNOWN))
        ));
        let other = commands.look(&key(5), &[8; 32], Duration::ZERO);
        assert!(matches!(other, Standing::Reused));
        assert!(matches!(look(&mut commands, 5, 3_610), Standing::Stale));
        assert!(matches!(look(&mut commands, 4, 3_610), Standing::Stale));
        assert!(matches!(look(&mut commands, 6, 3_610), Standing::New));
        assert_eq!(commands.held(), (0, 0));
    }

    #[test]
    fn users_do_not_know_of_each_other() {
        let mut commands = commands();
        commands.begin(&key(5), ASKS, request(1));
        let theirs = (User::Uid(1_001), id(5));
        assert!(matches!(
            commands.look(&theirs, &ASKS, Duration::ZERO),
            Standing::New
        ));
    }

    #[test]
    fn what_was_never_sent_to_a_handler_may_be_sent_again() {
        let mut commands = commands();
        commands.begin(&key(5), ASKS, request(1));
        commands.wait(&key(5), request(2));
        assert_eq!(commands.alone(&key(5)), None);
        commands.give_up(&key(5), request(2));
        assert_eq!(commands.alone(&key(5)), Some(request(1)));
        assert_eq!(commands.undo(&key(5)), []);
        assert!(matches!(
            commands.look(&key(5), &ASKS, Duration::ZERO),
            Standing::New
        ));
        assert_eq!(commands.held(), (0, 0));
    }

    #[test]
    fn the_oldest_outcomes_make_room() {
        let mut commands = commands();
        let large = Outcome::Replied {
            sender: Arc::new(Sender {
                client: localhub_protocol::ClientId(9),
                name: localhub_protocol::ClientName::hub(),
            }),
            first: 1,
            error: None,
            content: ContentType::BYTES,
            payload: vec![0; 6 << 20].into(),
        };
        for n in 1..=3 {
            commands.begin(&key(n), ASKS, request(n.into()));
            commands.end(&key(n), &large, Duration::ZERO);
        }
        let look = |commands: &mut Commands, n| commands.look(&key(n), &ASKS, Duration::ZERO);
        assert!(matches!(look(&mut commands, 1), Standing::Stale));
        assert!(matches!(look(&mut commands, 2), Standing::Over(_)));
        assert_eq!(commands.held(), (2, 2 * (COMMAND_BYTES + (6 << 20))));
    }
}
