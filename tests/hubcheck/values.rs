//! What was set and seen on the board, put together so that questions can be asked of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::plan::COUNTERS;
use crate::record::{Event, NONE, Record, outcome};

/// A change of the board, by who made it and its own number for it.
pub(crate) type Key = (u64, u64);

/// All changes of the board, and what was seen of them.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) put: BTreeMap<Key, Put>,
    /// What came out of maps, by process and map.
    pub(crate) maps: BTreeMap<(u64, u64), Vec<Seen>>,
    /// When a process was asked to leave the board.
    pub(crate) left: HashMap<u64, Vec<u64>>,
    /// What each process says there is in the end.
    pub(crate) kept: Vec<Kept>,
    /// Where what was set was seen: its epoch and version.
    pub(crate) places: HashMap<Key, (u64, u64)>,
}

/// Something that was to become of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(crate) at: u64,
    pub(crate) topic: u64,
    pub(crate) line: u64,
    pub(crate) count: u64,
    pub(crate) expect: Option<u64>,
    pub(crate) deletes: bool,
    pub(crate) ttl_ms: Option<u64>,
    /// `None` if the process ended before it was over.
    pub(crate) over: Option<Over>,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub(crate) at: u64,
    pub(crate) outcome: u64,
    pub(crate) code: u64,
    pub(crate) version: u64,
    /// In which session it was done, if that was asked for and is certain.
    pub(crate) session: Option<(u64, u64)>,
}

/// Something that came out of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) at: u64,
    pub(crate) topic: u64,
    /// What is there now; `None` if nothing is.
    pub(crate) value: Option<Value>,
}

/// A value, as a map has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    pub(crate) key: Key,
    pub(crate) version: u64,
    pub(crate) epoch: u64,
}

/// What there is in the end, as one process says.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) sender: u64,
    /// 0 for what the hub lists, 1 for a map.
    pub(crate) source: u64,
    pub(crate) values: u64,
    /// The topics, and who set them.
    pub(crate) topics: BTreeSet<(u64, Key)>,
}

impl Put {
    pub(crate) fn is_ok(&self) -> bool {
        self.over.is_some_and(|over| over.outcome == outcome::OK)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.over
            .is_some_and(|over| over.outcome == outcome::REFUSED)
    }

    pub(crate) fn is_counter(&self) -> bool {
        self.topic < COUNTERS
    }
}

impl Values {
    /// Takes in what one process told.
    pub(crate) fn add(&mut self, sender: u64, records: &[Record]) {
        for record in records {
            let at = record.at;
            match record.event {
                Event::Put {
                    number,
                    topic,
                    line,
                    count,
                    expect,
                    deletes,
                    ttl_ms,
                    ..
                } => {
                    let put = Put {
                        key: (sender, number),
                        at,
                        topic,
                        line,
                        count,
                        expect: known(expect),
                        deletes: deletes == 1,
                        ttl_ms: known(ttl_ms),
                        over: None,
                    };
                    self.put.insert(put.key, put);
                }
                Event::PutOver {
                    number,
                    outcome,
                    code,
                    version,
                    epoch,
                    session,
                } => {
                    if let Some(put) = self.put.get_mut(&(sender, number)) {
                        put.over = Some(Over {
                            at,
                            outcome,
                            code,
                            version,
                            session: known(session).map(|session| (epoch, session)),
                        });
                    }
                }
                Event::Set {
                    map,
                    topic,
                    sender: by,
                    number,
                    version,
                    epoch,
                } => {
                    let key = (by, number);
                    let value = Some(Value {
                        key,
                        version,
                        epoch,
                    });
                    let seen = self.maps.entry((sender, map)).or_default();
                    seen.push(Seen { at, topic, value });
                    // That it has two is for a check to find.
                    self.places.entry(key).or_insert((epoch, version));
                }
                Event::Unset { map, topic } => {
                    let (seen, value) = (self.maps.entry((sender, map)).or_default(), None);
                    seen.push(Seen { at, topic, value });
                }
                Event::LeftBoard { asked_at } => {
                    self.left.entry(sender).or_default().push(asked_at)
                }
                Event::Board { source, values } => self.kept.push(Kept {
                    sender,
                    source,
                    values,
                    topics: BTreeSet::new(),
                }),
                Event::Kept {
                    topic,
                    sender: by,
                    number,
                    ..
                } => {
                    if let Some(kept) = self.kept.last_mut() {
                        kept.topics.insert((topic, (by, number)));
                    }
                }
                _ => {}
            }
        }
    }

    /// All that was seen, with who saw it.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (u64, &Seen)> {
        let maps = self.maps.iter();
        maps.flat_map(|((sender, _), seen)| seen.iter().map(|seen| (*sender, seen)))
    }

    /// What certainly was done.
    pub(crate) fn done(&self) -> impl Iterator<Item = &Put> {
        let puts = self.put.values();
        puts.filter(|put| put.is_ok() || self.places.contains_key(&put.key))
    }

    /// The version that a change made, if anybody knows it.
    pub(crate) fn version(&self, put: &Put) -> Option<u64> {
        let told = put.over.and_then(|over| known(over.version));
        told.or_else(|| self.places.get(&put.key).map(|(_, version)| *version))
    }

    /// What there is in the end.
    pub(crate) fn last(&self) -> Option<&Kept> {
        self.kept.iter().find(|kept| kept.source == 0)
    }
}

fn known(number: u64) -> Option<u64> {
    (number != NONE).then_some(number)
}
