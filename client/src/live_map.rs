use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use crate::channel::values;
use crate::shared::Waiting;
use crate::{Channel, Error, Message, Messages, Snapshot, ValueVersion};

/// The last values of a channel's topics, as a map that follows every change.
///
/// It begins with the values of one moment and changes only in [`changed`](Self::changed), so an
/// application sees each state once. If changes were lost, or the session, the map asks for the values anew and gives
/// what is different as changes.
///
/// ```no_run
/// use localhub_client::MapChange;
///
/// # async fn example(kiosk: localhub_client::Channel) -> Result<(), localhub_client::Error> {
/// let mut states = kiosk.live_map("device/+/state").await?;
/// for (topic, state) in states.iter() {
///     println!("{topic} is {:?}", state.text());
/// }
/// loop {
///     match states.changed().await? {
///         MapChange::Set(state) => println!("{:?} is {:?}", state.topic(), state.text()),
///         MapChange::Deleted { topic } => println!("{topic} is gone"),
///     }
/// }
/// # }
/// ```
pub struct LiveMap {
    channel: Channel,
    filter: String,
    messages: Messages,
    values: BTreeMap<String, Message>,
    /// The moment of the last snapshot: what has a lower offset is in it.
    snapshot: Snapshot,
    /// How many messages have made way for newer ones, because another stream of the filter has that policy. What a
    /// message did that is not kept may have come in the place of a value.
    conflated: u64,
    /// Whether changes were lost, so that the values are to be asked for.
    stale: bool,
    /// The answer to that question. It stays when the future that waits for it is dropped: else each turn of a
    /// `select!` would be one more question.
    asked: Option<Waiting>,
    changes: VecDeque<MapChange>,
}

/// What has changed in a [`LiveMap`].
#[derive(Clone, Debug)]
pub enum MapChange {
    /// A topic has a value, or another one.
    Set(Message),
    /// A topic has no value any more.
    Deleted {
        /// The topic.
        topic: String,
    },
}

impl LiveMap {
    pub(crate) async fn open(channel: Channel, filter: &str) -> Result<Self, Error> {
        // What comes between the two is in both, and known by its offset.
        let messages = channel.subscribe_live(filter).await?;
        messages.tell_restarts();
        let snapshot = channel.snapshot(filter).await?;
        let mut map = Self {
            channel,
            filter: filter.to_owned(),
            messages,
            values: BTreeMap::new(),
            snapshot: Snapshot {
                values: Vec::new(),
                ..snapshot
            },
            conflated: 0,
            stale: false,
            asked: None,
            changes: VecDeque::new(),
        };
        map.take_over(snapshot.values);
        map.changes.clear();
        Ok(map)
    }

    /// The value of a topic.
    pub fn get(&self, topic: &str) -> Option<&Message> {
        self.values.get(topic)
    }

    /// Which value a topic has, or that it has none: what [`Put::expect_version`](crate::Put::expect_version) takes
    /// to change that value and no other.
    pub fn version(&self, topic: &str) -> ValueVersion {
        self.get(topic)
            .map_or(ValueVersion::NONE, ValueVersion::from)
    }

    /// All values, by topic.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Message)> {
        let values = self.values.iter();
        values.map(|(topic, value)| (topic.as_str(), value))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The channel that has the values.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Waits for the next change, and makes it. Without a connection this waits for the next one.
    ///
    /// Nothing is lost if the future is dropped, so this can stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Closed`] if the client is closed; [`Error::Refused`] if the client left the channel, or the values had to
    /// be asked for and the broker refused that: then the next call tries again.
    pub async fn changed(&mut self) -> Result<MapChange, Error> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            if self.stale {
                let snapshot = self.ask().await?;
                self.stale = false;
                let values = snapshot.values;
                self.snapshot = Snapshot {
                    values: Vec::new(),
                    ..snapshot
                };
                self.take_over(values);
                continue;
            }
            match self.messages.next().await {
                Some(Ok(message)) => {
                    let conflated = self.messages.made_way();
                    self.stale |= std::mem::replace(&mut self.conflated, conflated) != conflated;
                    self.apply(message);
                }
                Some(Err(_)) => self.stale = true,
                // The stream says only that it is over; whoever asks is told why.
                None => {
                    self.ask().await?;
                    self.messages = self.channel.subscribe_live(&self.filter).await?;
                    self.messages.tell_restarts();
                    self.conflated = 0;
                    self.stale = true;
                }
            }
        }
    }

    /// Asks for the values, once until there is an answer.
    async fn ask(&mut self) -> Result<Snapshot, Error> {
        if self.asked.is_none() {
            self.asked = Some(self.channel.ask_for_values(&self.filter)?);
        }
        let answer = poll_fn(|cx| match &mut self.asked {
            Some(asked) => Pin::new(asked).poll(cx),
            None => unreachable!("it was asked above"),
        });
        let answer = answer.await;
        self.asked = None;
        values(answer)
    }

    /// Makes the values those of a snapshot.
    fn take_over(&mut self, values: Vec<Message>) {
        let mut there = BTreeSet::new();
        for value in values {
            there.extend(value.topic().map(str::to_owned));
            self.set(value);
        }
        let gone: Vec<_> = self
            .values
            .keys()
            .filter(|topic| !there.contains(*topic))
            .cloned()
            .collect();
        gone.iter().for_each(|topic| self.delete(topic));
    }

    /// Does what a message did in the channel, unless the last snapshot has it.
    fn apply(&mut self, message: Message) {
        let cursor = message.cursor();
        let place = cursor.map(|cursor| (cursor.epoch, cursor.channel));
        // What is of another life of the channel is followed or preceded by a gap.
        if place != self.snapshot.place || message.offset() <= self.snapshot.offset {
            return;
        }
        if message.is_value() {
            self.set(message);
        } else if message.is_cleared()
            && let Some(topic) = message.topic()
        {
            self.delete(topic);
        }
    }

    fn set(&mut self, value: Message) {
        let Some(topic) = value.topic() else {
            return;
        };
        match self.values.entry(topic.to_owned()) {
            Entry::Occupied(known) if known.get().is_same_as(&value) => {}
            Entry::Occupied(mut known) => {
                known.insert(value.clone());
                self.changes.push_back(MapChange::Set(value));
            }
            Entry::Vacant(place) => {
                place.insert(value.clone());
                self.changes.push_back(MapChange::Set(value));
            }
        }
    }

    fn delete(&mut self, topic: &str) {
        if let Some((topic, _)) = self.values.remove_entry(topic) {
            self.changes.push_back(MapChange::Deleted { topic });
        }
    }
}

impl fmt::Debug for LiveMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveMap")
            .field("channel", self.channel.name())
            .field("filter", &self.filter)
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}
