//! What programs are told of the requests that they make.

use localhub_client::{Code, Error, Failure, Reply};

use super::{Answer, Fate, Judge, Known, Who};
use crate::words;

/// How the SDK begins to say that it does not know an outcome; the broker says it in other words.
const LOST_TRACK: &str = "the connection was lost";

impl Judge {
    /// A program is told what became of its request.
    pub(crate) fn ends(&mut self, id: usize, by: Who, outcome: &Result<Reply, Error>) {
        let words = match outcome {
            Ok(reply) => format!(
                "{} says {}",
                reply.sender().id,
                words::short(reply.payload())
            ),
            Err(error) => error.to_string(),
        };
        self.tell(format_args!("{} is told of c{id}: {words}", by.name));
        let call = &self.calls[id];
        assert_eq!(call.fate, Fate::Open, "I12: a second outcome of c{id}");
        let of = call.of(id);
        self.calls[id].fate = Fate::Over;
        match outcome {
            Ok(reply) => self.succeeded(id, by, reply, words),
            Err(Error::Failed(failure)) => self.failed(id, by, failure, words),
            Err(Error::NoReply { code, detail }) => self.has_no_reply(id, by, *code, detail),
            Err(Error::Refused { code, .. }) => {
                let may = match *code {
                    Code::NO_SUCH_SERVICE | Code::UNKNOWN_CLIENT => true,
                    Code::OUTBOX_FULL => self.tight,
                    _ => false,
                };
                assert!(may, "c{id} is refused with {code:?}");
                self.count("refused", code.name());
                self.is_void(id);
            }
            Err(Error::Disconnected) => {
                self.count("outcome", "never queued");
                assert!(!self.calls[id].prompt, "c{id} was queued");
                self.is_void(id);
            }
            Err(Error::Closed { .. }) => self.count("outcome", "closed"),
            Err(other) => panic!("c{id} ends with {other:?}"),
        }
        self.check(of);
    }

    fn succeeded(&mut self, id: usize, by: Who, reply: &Reply, words: String) {
        self.count("outcome", "success");
        let n = words::number(reply.payload(), 'e').expect("a handler said it");
        let said = Answer::Replied(reply.payload().to_vec());
        self.is_answered(id, by, n, &said);
        let (call, handling) = (&self.calls[id], &self.handlings[n]);
        let sender = reply.sender().id;
        assert_eq!(handling.handler.client, sender, "c{id}: who replied");
        let (read, sent) = (call.parts, handling.parts.len());
        let whole = call.window == 0 || read == sent;
        assert!(whole, "c{id} ended after {read} parts of {sent}");
        self.is_known(id, by, Known::Said(words));
    }

    /// There is no reply, and the broker or the SDK says why.
    fn has_no_reply(&mut self, id: usize, by: Who, code: Code, detail: &str) {
        let call = &self.calls[id];
        let is_command = call.command.is_some();
        match code {
            Code::DEADLINE => {
                let due = call.since + call.timeout;
                assert!(self.now >= due, "c{id} ended before its time");
                assert_eq!(call.parts, 0, "12.19: c{id} had begun");
                self.count("outcome", "deadline");
            }
            Code::PEER_GONE => {
                assert!(!is_command, "12.14: c{id}");
                self.count("outcome", "peer_gone");
            }
            Code::OUTBOX_FULL => {
                assert!(self.tight, "c{id}: there is room");
                self.count("outcome", "outbox_full");
            }
            Code::NOT_EXECUTED => {
                assert!(is_command, "12.5: c{id} is no command");
                self.count("outcome", "not_executed");
                self.is_void(id);
            }
            Code::OUTCOME_UNKNOWN if detail.starts_with(LOST_TRACK) => {
                let (then, now) = (call.caller, by);
                let restarted = then.epoch != now.epoch;
                let anew = restarted || then.client != now.client;
                let torn = call.window > 0 && self.is_lossy(id);
                // 12.15
                let may = if is_command { restarted } else { anew || torn };
                assert!(may, "c{id} is not lost");
                self.count("outcome", "lost track");
            }
            Code::OUTCOME_UNKNOWN => {
                assert!(is_command, "12.5: c{id} is no command");
                self.count("outcome", "outcome_unknown");
                self.is_known(id, by, Known::Unknown);
            }
            other => panic!("c{id} ends with {other:?}"),
        }
    }

    /// The handler says that it went wrong, or its SDK.
    fn failed(&mut self, id: usize, by: Who, failure: &Failure, words: String) {
        let call = &self.calls[id];
        let (of, command, streamed) = (call.of(id), call.command, call.window > 0);
        match failure.code() {
            "jam" => {
                self.count("outcome", "failed");
                let n = words::number(failure.message().as_bytes(), 'e').expect("a handler");
                self.is_answered(id, by, n, &Answer::Failed);
            }
            "dropped" => {
                self.count("outcome", "dropped");
                // The end of a reply in parts may be read later.
                let epoch = (!streamed).then_some(by.epoch);
                let mut handlings = self.handlings_of(of, epoch);
                let dropped = handlings.any(|it| it.answer == Some(Answer::Dropped));
                assert!(dropped, "c{id}: nobody let go of it");
            }
            "cancelled" => {
                self.count("outcome", "handler stopped");
                let command = command.expect("others have an outcome when cancelled");
                let mut calls = self.commands[command].calls.iter();
                let dropped = |id: &usize| matches!(self.calls[*id].fate, Fate::Dropped(..));
                assert!(calls.any(dropped), "c{id}: nobody cancelled it");
            }
            "not_served" => {
                self.count("outcome", "not served");
                self.is_void(id);
            }
            "incomplete" => {
                self.count("outcome", "incomplete");
                assert!(streamed && self.tight, "c{id}: no part is lost");
            }
            other => panic!("c{id} fails with {other}"),
        }
        self.is_known(id, by, Known::Said(words));
    }

    /// The handling `n` is the one that the call's outcome is of.
    fn is_answered(&self, id: usize, by: Who, n: usize, said: &Answer) {
        let (call, handling) = (&self.calls[id], &self.handlings[n]);
        let of = call.of(id);
        assert_eq!(handling.of, of, "c{id} gets the outcome of another request");
        assert_eq!(
            handling.answer.as_ref(),
            Some(said),
            "c{id}: e{n} never said that"
        );
        // The end of a reply in parts may be read later.
        let now = call.window > 0 || handling.handler.epoch == by.epoch;
        assert!(now, "c{id}: e{n} is of another epoch");
    }

    /// I13: one outcome for all in an epoch.
    fn is_known(&mut self, id: usize, by: Who, known: Known) {
        if let Some(command) = self.calls[id].command {
            let known_before = self.commands[command].outcomes.get(&by.epoch);
            if let Some(before) = known_before {
                assert_eq!(*before, known, "I13: two outcomes of o{command}");
                return self.count("command", "answered again");
            }
            self.commands[command].outcomes.insert(by.epoch, known);
        }
    }

    /// A program was told that its request was handed to nobody.
    fn is_void(&mut self, id: usize) {
        self.calls[id].fate = Fate::Void;
    }
}
