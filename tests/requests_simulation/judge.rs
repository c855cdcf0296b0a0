//! What must hold of all that was heard, whatever the model says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use localhub_protocol::{BrokerFrame, ClientId, Code, ContentType, LeaseState, Message};

use crate::model::{CommandKey, Key};

/// What was asked for, and what came of it, as the clients know it.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    asked: BTreeMap<Key, Asked>,
    answered: BTreeSet<Key>,
    /// To whom a command was handed, and as which request.
    handed: BTreeMap<CommandKey, (ClientId, Key)>,
    /// Commands that were ever written to a connection, and those that were read.
    written: BTreeSet<CommandKey>,
    read: BTreeSet<CommandKey>,
    /// Commands that somebody was told were not executed.
    not_executed: BTreeSet<CommandKey>,
    /// How many of these were handed over afterwards.
    pub(crate) after_not_executed: u64,
    /// The outcome of a command.
    outcomes: BTreeMap<CommandKey, Outcome>,
    leases: BTreeMap<u64, (ClientId, String)>,
    /// The newest lease that a client has heard of.
    newest: BTreeMap<(ClientId, String), u64>,
    /// Clients that have lost messages: nobody knows what these said.
    lossy: BTreeSet<ClientId>,
}

/// A request, as its caller knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) command: Option<CommandKey>,
    pub(crate) since: Duration,
    pub(crate) wait: Duration,
    pub(crate) streamed: bool,
    pub(crate) cancelled: bool,
}

/// Who has replied, at which position, the error, and what.
type Outcome = (ClientId, u64, Option<Code>, ContentType, Vec<u8>);

impl Judge {
    pub(crate) fn is_asked(&mut self, key: Key, asked: Asked) {
        self.asked.insert(key, asked);
    }

    pub(crate) fn is_cancelled(&mut self, key: Key) {
        if let Some(asked) = self.asked.get_mut(&key) {
            asked.cancelled = true;
        }
    }

    /// The requests of a client whose outcome it has not heard.
    pub(crate) fn open(&self, client: ClientId) -> impl Iterator<Item = u64> {
        let mine = self.asked.range((client, 0)..=(client, u64::MAX));
        let open = mine.filter(|(key, _)| !self.answered.contains(key));
        open.map(|(key, _)| key.1)
    }

    /// The hub has written a message to a client's connection.
    pub(crate) fn is_written(
        &mut self,
        client: ClientId,
        run: Option<(ClientId, u64)>,
        frame: &BrokerFrame<'_>,
    ) {
        let (BrokerFrame::Message(Message::Request { .. }), Some(key)) = (frame, run) else {
            return;
        };
        // I13. Written a second time it is only after a reconnect, with the same position.
        if let Some(command) = self.asked[&key].command {
            self.written.insert(command);
            let before = self.handed.len();
            let first = *self.handed.entry(command).or_insert((client, key));
            let again = self.handed.len() > before && self.not_executed.contains(&command);
            self.after_not_executed += u64::from(again);
            assert_eq!(first, (client, key), "I13: handed over twice: {command:?}");
            let over = self.outcomes.get(&command);
            assert!(
                over.is_none_or(|it| it.0 == client),
                "I13: it has an outcome"
            );
        }
    }

    /// A client comes back: what it has not read of an earlier connection is written again, or lost.
    pub(crate) fn is_back(&mut self, client: ClientId) {
        let read = &self.read;
        self.handed
            .retain(|command, (handler, _)| *handler != client || read.contains(command));
    }

    /// A client has read a message.
    pub(crate) fn is_heard(
        &mut self,
        client: ClientId,
        run: Option<(ClientId, u64)>,
        frame: &BrokerFrame<'_>,
        now: Duration,
    ) {
        match (frame, run) {
            (BrokerFrame::Refusal { request, .. }, _) => {
                let key = (client, *request);
                if self.asked.contains_key(&key) {
                    self.is_answered(key);
                }
            }
            (BrokerFrame::Message(Message::Reply { request, more, .. }), _) if *more => {
                let key = (client, *request);
                assert!(self.asked[&key].streamed, "12.16: {key:?} wants no parts");
                assert!(
                    !self.answered.contains(&key),
                    "I12: a part after the outcome"
                );
            }
            (BrokerFrame::Message(Message::Request { .. }), Some(key)) => {
                self.read.extend(self.asked[&key].command);
            }
            (BrokerFrame::Message(message @ Message::Reply { request, .. }), Some(run)) => {
                let key = (client, *request);
                self.is_answered(key);
                self.is_replied(key, run, *message, now);
            }
            (
                BrokerFrame::Lease {
                    service,
                    state,
                    fence,
                },
                _,
            ) => self.is_told_of_lease((client, (*service).to_owned()), *state, *fence),
            (BrokerFrame::Gap(_), _) => {
                self.lossy.insert(client);
            }
            _ => {}
        }
    }

    pub(crate) fn is_lossy(&self, client: ClientId) -> bool {
        self.lossy.contains(&client)
    }

    /// I12
    fn is_answered(&mut self, key: Key) {
        assert!(self.asked.contains_key(&key), "I12: nobody asked {key:?}");
        assert!(self.answered.insert(key), "I12: a second outcome: {key:?}");
    }

    fn is_replied(&mut self, key: Key, run: (ClientId, u64), message: Message<'_>, now: Duration) {
        let Message::Reply {
            error,
            content,
            payload,
            ..
        } = message
        else {
            return;
        };
        let asked = self.asked[&key];
        let by_hub = run.0 == ClientId::HUB;
        match error {
            None | Some(Code::FAILED) => assert!(!by_hub, "I12: only handlers reply: {key:?}"),
            Some(Code::DEADLINE) => assert!(now >= asked.since + asked.wait, "I12: {key:?}"),
            Some(Code::CANCELLED) => assert!(asked.cancelled, "I12: nobody cancelled {key:?}"),
            Some(Code::PEER_GONE) => assert!(asked.command.is_none(), "12.14: {key:?}"),
            Some(Code::NOT_EXECUTED) => {
                let command = asked.command.expect("12.5: only commands");
                let handed = self.handed.get(&command);
                // It may be handed over later, when it is sent again; but not as this request.
                assert!(handed.is_none_or(|it| it.1 != key), "I13: {command:?}");
                self.not_executed.insert(command);
            }
            Some(Code::OUTCOME_UNKNOWN) => {
                let command = asked.command.expect("12.5: only commands");
                assert!(self.written.contains(&command), "I13: {command:?}");
            }
            Some(Code::OUTBOX_FULL) => {}
            Some(other) => panic!("12.5: {key:?} ends with {other:?}"),
        }
        let of_command = !by_hub || error == Some(Code::OUTCOME_UNKNOWN);
        if let Some(command) = asked.command.filter(|_| of_command) {
            let at = if by_hub { 0 } else { run.1 };
            let outcome = (run.0, at, error, content, payload.to_vec());
            let known = self
                .outcomes
                .entry(command)
                .or_insert_with(|| outcome.clone());
            assert!(*known == outcome, "I13: two outcomes of {command:?}");
        }
    }

    /// I14
    fn is_told_of_lease(&mut self, place: (ClientId, String), state: LeaseState, fence: u64) {
        let lossy = self.lossy.contains(&place.0);
        let newest = self.newest.entry(place.clone()).or_default();
        match state {
            LeaseState::Queued => assert_eq!(fence, 0, "12.11"),
            LeaseState::Lost => assert!(
                fence == *newest || lossy && fence > *newest,
                "I14: {place:?} never had {fence}"
            ),
            LeaseState::Held => {
                assert!(fence >= *newest, "I14: an old lease: {place:?}");
                *newest = fence;
                let holder = self.leases.entry(fence).or_insert_with(|| place.clone());
                assert_eq!(*holder, place, "I14: one lease, two holders");
            }
        }
    }
}

/// Each check notices what it is there for.
mod tests {
    use super::*;

    const ANA: ClientId = ClientId(2);
    const BO: ClientId = ClientId(3);
    const CY: ClientId = ClientId(4);
    const COMMAND: CommandKey = (1_000, [1; 16]);

    /// Two requests of ana and one of cy, all the same command.
    fn asked() -> Judge {
        let mut judge = Judge::default();
        let asked = Asked {
            command: Some(COMMAND),
            since: Duration::ZERO,
            wait: Duration::from_secs(5),
            streamed: false,
            cancelled: false,
        };
        for key in [(ANA, 1), (ANA, 2), (CY, 1)] {
            judge.is_asked(key, asked);
        }
        judge
    }

    fn hand_over(judge: &mut Judge, key: Key) {
        let request = Message::Request {
            to: localhub_protocol::Target::Id(BO),
            deadline_ms: 0,
            command: Some(COMMAND.1),
            window: 0,
            method: "print",
            content: ContentType::TEXT,
            payload: b"",
        };
        judge.is_written(BO, Some(key), &BrokerFrame::Message(request));
    }

    fn reply(judge: &mut Judge, key: Key, by: ClientId, error: Option<Code>, payload: &str) {
        let reply = Message::Reply {
            to: key.0,
            request: key.1,
            error,
            more: false,
            content: ContentType::TEXT,
            payload: payload.as_bytes(),
        };
        let now = Duration::from_secs(4);
        judge.is_heard(key.0, Some((by, 7)), &BrokerFrame::Message(reply), now);
    }

    fn lease(judge: &mut Judge, client: ClientId, state: LeaseState, fence: u64) {
        let lease = BrokerFrame::Lease {
            service: "door",
            state,
            fence,
        };
        judge.is_heard(client, None, &lease, Duration::ZERO);
    }

    #[test]
    fn what_may_happen_passes() {
        let mut judge = asked();
        hand_over(&mut judge, (ANA, 1));
        hand_over(&mut judge, (ANA, 1));
        reply(&mut judge, (ANA, 1), BO, None, "done");
        reply(&mut judge, (CY, 1), BO, None, "done");
        assert_eq!(judge.open(ANA).collect::<Vec<_>>(), [2]);
        lease(&mut judge, ANA, LeaseState::Queued, 0);
        lease(&mut judge, ANA, LeaseState::Held, 1);
        lease(&mut judge, ANA, LeaseState::Lost, 1);
        lease(&mut judge, BO, LeaseState::Held, 2);
    }

    #[test]
    #[should_panic(expected = "I12: a second outcome")]
    fn two_outcomes() {
        let mut judge = asked();
        reply(&mut judge, (ANA, 1), BO, None, "done");
        reply(&mut judge, (ANA, 1), BO, None, "done");
    }

    #[test]
    #[should_panic(expected = "I12: nobody asked")]
    fn an_outcome_of_nothing() {
        reply(&mut asked(), (ANA, 3), BO, None, "done");
    }

    #[test]
    #[should_panic(expected = "I12")]
    fn a_deadline_too_early() {
        let error = Some(Code::DEADLINE);
        reply(&mut asked(), (ANA, 1), ClientId::HUB, error, "");
    }

    #[test]
    #[should_panic(expected = "I12: nobody cancelled")]
    fn a_cancel_of_nobody() {
        let error = Some(Code::CANCELLED);
        reply(&mut asked(), (ANA, 1), ClientId::HUB, error, "");
    }

    #[test]
    #[should_panic(expected = "I13: handed over twice")]
    fn a_command_that_is_handed_over_twice() {
        let mut judge = asked();
        hand_over(&mut judge, (ANA, 1));
        hand_over(&mut judge, (CY, 1));
    }

    #[test]
    #[should_panic(expected = "I13: two outcomes")]
    fn a_command_with_two_outcomes() {
        let mut judge = asked();
        reply(&mut judge, (ANA, 1), BO, None, "done");
        reply(&mut judge, (CY, 1), BO, None, "done again");
    }

    #[test]
    #[should_panic(expected = "I13")]
    fn not_executed_and_yet_handed_over() {
        let mut judge = asked();
        hand_over(&mut judge, (ANA, 1));
        let error = Some(Code::NOT_EXECUTED);
        reply(&mut judge, (ANA, 1), ClientId::HUB, error, "");
    }

    #[test]
    fn what_was_written_and_not_read_was_not_executed() {
        let mut judge = asked();
        hand_over(&mut judge, (ANA, 1));
        judge.is_back(BO);
        let error = Some(Code::NOT_EXECUTED);
        reply(&mut judge, (ANA, 1), ClientId::HUB, error, "");
        hand_over(&mut judge, (CY, 1));
    }

    #[test]
    #[should_panic(expected = "I13")]
    fn an_unknown_outcome_of_what_nobody_got() {
        let error = Some(Code::OUTCOME_UNKNOWN);
        reply(&mut asked(), (ANA, 1), ClientId::HUB, error, "");
    }

    #[test]
    #[should_panic(expected = "I14: one lease, two holders")]
    fn two_holders() {
        let mut judge = asked();
        lease(&mut judge, ANA, LeaseState::Held, 1);
        lease(&mut judge, BO, LeaseState::Held, 1);
    }

    #[test]
    #[should_panic(expected = "I14: an old lease")]
    fn a_number_that_goes_down() {
        let mut judge = asked();
        lease(&mut judge, ANA, LeaseState::Held, 2);
        lease(&mut judge, ANA, LeaseState::Held, 1);
    }
}
