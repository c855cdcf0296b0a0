use std::collections::BTreeMap;

use localhub_client::Error;

use super::app::{App, Done, Told, is_full};
use super::heard::Seen;
use super::ledger::{Fate, Ledger};
use super::model::Model;
use super::stream::Takes;

/// What the program is told, against what it has to be told.
impl App {
    /// Something that the program waited for has come to an end. It began when there had been so
    /// many `upsets`.
    pub(super) fn done(&mut self, done: Done, upsets: u64, ledger: &Ledger) {
        let upset = self.is_upset(upsets);
        match done {
            Done::Flushed(before, outcome) => {
                self.succeeds_unless("flush", outcome, upset);
                if !upset {
                    let unseen = (self.firm..before)
                        .filter(|n| self.fates[*n as usize] == Told::Queued)
                        .find(|n| ledger.fate(self.author, *n) == Fate::Unseen);
                    assert_eq!(unseen, None, "flushed, and the hub has not seen it");
                }
            }
            Done::Joined(name, outcome) => {
                let channel = outcome.expect("nobody is refused to join");
                self.room(&name).expect("it is being joined").channel = Some(channel);
            }
            Done::Left(name, outcome) => {
                outcome.expect("everybody may leave");
                assert!(self.room(&name).is_some_and(|room| room.left));
            }
            Done::Sent(number, confirmed, outcome) => {
                self.sent(number, confirmed, outcome, upset, ledger);
            }
            Done::Snapshot(outcome) => match outcome {
                Ok(snapshot) => {
                    let right = snapshot.values.len() == self.snapshot.len()
                        && snapshot.values.iter().zip(&self.snapshot).all(|(a, b)| {
                            a.payload()[..] == *b.payload() && a.offset() == b.offset
                        });
                    assert!(
                        right,
                        "a snapshot of {:?} was given as {snapshot:?}",
                        self.snapshot
                    );
                }
                Err(error) => self.may_fail("snapshot", &error),
            },
            Done::Set(outcome) => {
                if let Err(error) = outcome {
                    self.may_fail("set", &error);
                }
            }
            Done::Subscribed(name, takes, outcome) => self.subscribed(&name, &takes, outcome),
            Done::Watched(name, outcome) => {
                let room = self.room(&name).expect("it is kept while it is waited for");
                match outcome {
                    Ok(presence) if !room.left => room.watched(presence),
                    Ok(_) => room.unwatched(),
                    Err(error) => {
                        assert!(room.left, "presence: {error}");
                        room.unwatched();
                    }
                }
            }
        }
    }

    fn subscribed(
        &mut self,
        name: &str,
        takes: &Takes,
        outcome: Result<localhub_client::Messages, Error>,
    ) {
        let id = self.client.id();
        let Some(room) = self.room(name) else {
            return;
        };
        let left = room.left;
        let mut streams = room.streams.iter_mut();
        let stream = streams.find(|known| known.messages.is_none() && known.takes.is_alike(takes));
        let stream = stream.expect("it is kept while it is waited for");
        match outcome {
            Ok(messages) => {
                stream.messages = Some(messages);
                // Another stream has the subscription already, or else the hub has answered.
                stream.live |= !stream.ended;
            }
            Err(error) => {
                let refused = matches!(&error, Error::Refused { code, .. } if is_full(*code));
                assert!(left || refused && stream.ended, "{id}: subscribe: {error}");
                room.streams
                    .retain(|known| known.messages.is_some() || !known.takes.is_alike(takes));
            }
        }
    }

    fn sent(
        &mut self,
        number: u32,
        confirmed: bool,
        outcome: Result<(), Error>,
        upset: bool,
        ledger: &Ledger,
    ) {
        let fate = ledger.fate(self.author, number);
        let told = match outcome {
            Ok(()) if confirmed => {
                assert_eq!(
                    fate,
                    Fate::Accepted,
                    "message {number} is said to be accepted"
                );
                Told::Accepted
            }
            Ok(()) => Told::Queued,
            Err(Error::Refused { code, .. }) => {
                assert!(
                    fate == Fate::Refused || self.leaves > 0,
                    "message {number} is said to be refused with {code:?}, and is {fate:?}"
                );
                if fate == Fate::Refused {
                    Told::Refused
                } else {
                    Told::Unknown
                }
            }
            Err(Error::Disconnected) if upset && confirmed => Told::Unknown,
            Err(Error::Disconnected) => {
                assert_eq!(
                    fate,
                    Fate::Unseen,
                    "message {number} is said not to be on its way"
                );
                Told::Failed
            }
            Err(error) => panic!("message {number} came to {error}"),
        };
        self.fates[number as usize] = told;
    }

    fn succeeds_unless(&self, what: &str, outcome: Result<(), Error>, upset: bool) {
        match outcome {
            Ok(()) => {}
            Err(Error::Disconnected) if upset => {}
            Err(error) => panic!("{}: {what}: {error}", self.client.id()),
        }
    }

    /// Who leaves a channel is not told what it did there, and an outbox may be full.
    fn may_fail(&self, what: &str, error: &Error) {
        match error {
            Error::Refused { code, .. } if is_full(*code) || self.leaves > 0 => {}
            Error::Disconnected if self.upsets > 0 => {}
            error => panic!("{}: {what}: {error}", self.client.id()),
        }
    }

    /// Everything has been delivered and said: whatever the program was told must be so.
    pub(super) fn finish(&self, model: &Model) {
        let id = self.client.id();
        let waits = self.waits_for();
        assert!(waits.is_empty(), "{id} waits for ever for {waits:?}");
        let streams = self.rooms.iter().flat_map(|room| &room.streams);
        for stream in streams.chain([&self.directs]) {
            assert!(stream.is_drained(), "{id} never got {}", stream.rest());
            if let Some(messages) = &stream.messages {
                let (told, takes) = (messages.conflated(), &stream.takes);
                assert_eq!(told, stream.conflated, "{id}: {takes:?}: what made way");
            }
        }
        self.tally(&model.ledger);
        self.holds_what_it_wants(model);
    }

    /// No message went missing untold.
    fn tally(&self, ledger: &Ledger) {
        let id = self.client.id();
        let (mut missing, mut refused) = (0, 0);
        for (number, told) in self.fates.iter().enumerate() {
            let fate = ledger.fate(self.author, number as u32);
            match (told, fate) {
                (Told::Queued, Fate::Unseen) => {
                    let handed = self.handed.contains(&(number as u32));
                    assert!(
                        handed || self.leaves > 0,
                        "{id}: message {number} was never written, and is lost with a session"
                    );
                    missing += 1;
                }
                (Told::Queued, Fate::Refused) => refused += 1,
                (Told::Queued, Fate::Accepted) | (Told::Unknown, _) => {}
                (Told::Accepted, Fate::Accepted) | (Told::Refused, Fate::Refused) => {}
                (Told::Failed, Fate::Unseen) => {}
                _ => panic!("{id}: message {number} was told to be {told:?}, and is {fate:?}"),
            }
        }
        assert!(
            missing <= self.told_lost,
            "{id}: {missing} messages never reached the hub, and {} were told",
            self.told_lost
        );
        if self.upsets == 0 {
            assert_eq!(self.told_refused, refused, "{id}: refusals that were told");
        }
    }

    /// The session is in every channel that the program wants, with every subscription.
    fn holds_what_it_wants(&self, model: &Model) {
        let id = self.client.id();
        let held = model.memberships(id);
        let rooms = self.rooms.iter().filter(|room| !room.left);
        let wanted: std::collections::BTreeSet<&str> =
            rooms.clone().map(|room| room.name.as_str()).collect();
        let have: std::collections::BTreeSet<&str> = held.keys().copied().collect();
        assert_eq!(have, wanted, "{id}: the channels it is in");
        for room in rooms {
            let there = held[room.name.as_str()];
            let member = &there.members[&id];
            let mut filters = super::filters::FilterSet::default();
            for stream in room.streams.iter().filter(|stream| !stream.ended) {
                assert!(stream.live, "{id}: {:?} is not subscribed", stream.takes);
                if let Takes::Topics { number, .. } = stream.takes {
                    filters.insert(number);
                }
            }
            assert_eq!(member.filters, filters, "{id}: filters in {}", room.name);
            assert_eq!(member.hidden, room.hidden, "{id}: hidden in {}", room.name);
            let state = member.seen(id).state;
            assert_eq!(*state, room.state[..], "{id}: state in {}", room.name);
            let wills = member.wills.iter();
            let wills: BTreeMap<&str, _> = wills
                .map(|will| (&*will.topic, (will.delay, will.payload.to_vec())))
                .collect();
            assert_eq!(wills, room.wills, "{id}: wills in {}", room.name);
            let watches = room.presence.is_some();
            assert_eq!(member.watching, watches, "{id}: watches {}", room.name);
            if let Some(watched) = &room.presence {
                let members = watched.presence.members();
                let view: Vec<Seen> = members
                    .iter()
                    .map(|member| Seen {
                        client: member.id,
                        status: member.status,
                        state: member.state[..].into(),
                    })
                    .collect();
                assert_eq!(view, there.seen(), "{id}: who is in {}", room.name);
            }
        }
    }
}
