use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::limits::PRESENCE_STATE_BYTES_MAX;
use localhub_protocol::{
    ChannelId, ChannelName, ChannelSettings, Epoch, Policy, Retain, Topic, TopicFilter,
};
use serde::Serialize;

use crate::core::{Answer, Outbound, Outcome, PutValue, RoomId, Takes};
use crate::shared::{Shared, Waiting};
use crate::{
    Client, Cursor, Error, LiveMap, Member, Message, Messages, Payload, Presence, Put, ValueVersion,
};

/// A channel that the client is a member of. Clones are handles to the same membership.
#[derive(Clone)]
pub struct Channel {
    name: ChannelName,
    room: RoomId,
    client: Client,
}

impl Channel {
    pub(crate) fn new(name: ChannelName, room: RoomId, client: Client) -> Self {
        Self { name, room, client }
    }

    /// The channel's name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// The client that is a member.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Publishes a message to the members whose filter matches the topic, this client too.
    ///
    /// Returns once the message is in the send buffer; messages leave in the order of these calls. A
    /// refusal shows up in [`Client::refusals`]. Waits while more than
    /// [`unconfirmed_bytes`](crate::Options::unconfirmed_bytes) are on their way.
    ///
    /// ```no_run
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), localhub_client::Error> {
    /// kiosk.publish("device/printer/state", "out of paper").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::BadTopic`], [`Error::PayloadTooLarge`], [`Error::Disconnected`] if there is no
    /// connection and no more room to wait for one, [`Error::Refused`] if the client left the
    /// channel, [`Error::Closed`].
    pub async fn publish(&self, topic: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        self.send(topic, Retain::No, &payload.into(), false).await
    }

    /// Publishes, and waits until the message is in the outbox of every member whose filter
    /// matches; that they have read it is another matter.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`Error::Refused`] with the broker's refusal. After
    /// [`Error::Disconnected`] the message may or may not have been delivered.
    pub async fn publish_confirmed(
        &self,
        topic: &str,
        payload: impl Into<Payload>,
    ) -> Result<(), Error> {
        self.send(topic, Retain::No, &payload.into(), true).await
    }

    /// Publishes, and has the channel keep the message as the last value of its topic: who subscribes
    /// later gets it first.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn retain(&self, topic: &str, payload: impl Into<Payload>) -> Result<(), Error> {
        self.send(topic, Retain::Set, &payload.into(), false).await
    }

    /// Has the channel forget the last value of a topic. Subscribers get an empty message that
    /// [`is_cleared`](Message::is_cleared).
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn clear(&self, topic: &str) -> Result<(), Error> {
        self.send(topic, Retain::Clear, &Payload::default(), false)
            .await
    }

    /// Sets the last value of a topic, under conditions: only if it has a version, for a time, or as
    /// long as this client is there. Gives the new version.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use localhub_client::{Code, Error, Put};
    ///
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), Error> {
    /// // Only one of those who try this gets it, until it ends.
    /// let mine = Put::new().expect_none().owned();
    /// match kiosk.put("job/17/worker", "worker-3", mine).await {
    ///     Ok(version) => println!("ours, version {version}"),
    ///     Err(Error::Refused { code: Code::VERSION_CONFLICT, .. }) => println!("taken"),
    ///     Err(error) => return Err(error),
    /// }
    /// let beat = Put::new().ttl(Duration::from_secs(5));
    /// kiosk.put("job/17/alive", "yes", beat).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::BadTopic`]; [`Error::PayloadTooLarge`]; [`Error::Refused`] with
    /// [`Code::VERSION_CONFLICT`](crate::Code::VERSION_CONFLICT) if the value has another version or is of another
    /// life of the channel, or another refusal; [`Error::Disconnected`] if the session ended before there was an
    /// answer: the value may or may not have been set; [`Error::Closed`]. Without a connection this waits for the next one; if as much waits for it already as
    /// [`Options::unconfirmed_bytes`](crate::Options::unconfirmed_bytes) says, it is [`Error::Disconnected`] at once.
    pub async fn put(
        &self,
        topic: &str,
        payload: impl Into<Payload>,
        put: Put,
    ) -> Result<ValueVersion, Error> {
        self.put_value(topic, Retain::Set, payload.into(), put)
            .await
    }

    /// Deletes the last value of a topic if it has that version. Gives the place of the message that
    /// subscribers get.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(
        &self,
        topic: &str,
        version: impl Into<ValueVersion>,
    ) -> Result<ValueVersion, Error> {
        let put = Put::new().expect_version(version);
        self.put_value(topic, Retain::Clear, Payload::default(), put)
            .await
    }

    async fn put_value(
        &self,
        topic: &str,
        retain: Retain,
        payload: Payload,
        put: Put,
    ) -> Result<ValueVersion, Error> {
        let topic = topic.parse().map_err(|source| Error::BadTopic {
            topic: topic.to_owned(),
            source,
        })?;
        let value = PutValue {
            topic,
            retain,
            payload,
            expect: put.expect,
            ttl_ms: put.ttl_ms,
            owned: put.owned,
        };
        let ticket = self.shared().with(|core| core.put(self.room, value))?;
        match self.shared().outcome(ticket).await? {
            Answer::Stored(version) => Ok(version),
            _ => unreachable!("a put is answered with where it is stored"),
        }
    }

    /// The last values of the topics that match a filter, as a map that follows every change.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn live_map(&self, filter: &str) -> Result<LiveMap, Error> {
        LiveMap::open(self.clone(), filter).await
    }

    /// Sends a message to every other member, whatever they are subscribed to.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn broadcast(&self, payload: impl Into<Payload>) -> Result<(), Error> {
        let payload = payload.into();
        let (content, payload) = (payload.content(), payload.bytes());
        let broadcast = Outbound::Broadcast {
            room: self.room,
            content,
            payload,
        };
        self.client.send_outbound(broadcast, false).await
    }

    /// Subscribes to the topics that match a filter (`+` is one level, a final `#` any number): first
    /// the last value of each topic that has one, then what is published, with no gap and no
    /// repeat between the two.
    ///
    /// ```no_run
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut states = kiosk.subscribe("device/+/state").await?;
    /// while let Some(state) = states.next().await {
    ///     let state = state?;
    ///     println!("{:?} is {:?}", state.topic(), state.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::BadTopic`], [`Error::Refused`], [`Error::Closed`]. Without a connection this waits
    /// for the next one.
    pub async fn subscribe(&self, filter: &str) -> Result<Messages, Error> {
        self.subscribe_with(filter, Subscribe::new()).await
    }

    /// Subscribes as [`subscribe`](Self::subscribe), with a say in where to begin and in what
    /// becomes of messages that are read too slowly.
    ///
    /// The streams of one filter share a subscription: the policy of the newest counts for all.
    ///
    /// ```no_run
    /// use localhub_client::{Policy, StartAt, Subscribe};
    ///
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), localhub_client::Error> {
    /// let jobs = Subscribe::new().start(StartAt::Last(100)).policy(Policy::Park);
    /// let mut jobs = kiosk.subscribe_with("job/#", jobs).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_with(
        &self,
        filter: &str,
        subscribe: Subscribe,
    ) -> Result<Messages, Error> {
        let filter = parse_filter(filter)?;
        self.take(Takes::Topics {
            filter,
            start: subscribe.start,
            policy: subscribe.policy,
            broadcasts: false,
        })
        .await
    }

    /// Subscribes to what is published from now on, without the last values.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_live(&self, filter: &str) -> Result<Messages, Error> {
        let now = Subscribe::new().start(StartAt::Now);
        self.subscribe_with(filter, now).await
    }

    /// The broadcasts of other members, from now on.
    pub fn broadcasts(&self) -> Messages {
        Messages::open(self.client.handle(), Some(self.room), Takes::Broadcasts).0
    }

    /// Everything that is published or broadcast from now on, in the order of the channel. Topics
    /// that start with `$` are left out, as the filter `#` does.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn everything(&self) -> Result<Messages, Error> {
        let filter = parse_filter("#")?;
        self.take(Takes::Topics {
            filter,
            start: StartAt::Now,
            policy: Policy::default(),
            broadcasts: true,
        })
        .await
    }

    /// The last value of each topic that matches the filter and has one, all as of one moment.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn snapshot(&self, filter: &str) -> Result<Snapshot, Error> {
        values(self.ask_for_values(filter)?.await)
    }

    /// Asks for a snapshot; [`values`] reads the answer.
    pub(crate) fn ask_for_values(&self, filter: &str) -> Result<Waiting, Error> {
        let filter = parse_filter(filter)?;
        let ticket = self
            .shared()
            .with(|core| core.snapshot(self.room, filter))?;
        Ok(self.shared().outcome(ticket))
    }

    /// Who is in the channel, and every change from now on.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`]. Without a connection this waits for the next one.
    pub async fn presence(&self) -> Result<Presence, Error> {
        Presence::open(self.client.handle(), self.room).await
    }

    /// Who is in the channel now, by ascending id. Hidden members are left out.
    ///
    /// # Errors
    /// As [`presence`](Self::presence).
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let (_, ticket) = self.shared().with(|core| core.members(self.room, false))?;
        match self.shared().outcome(ticket).await? {
            Answer::Members(members) => Ok(members),
            _ => unreachable!("a watch is answered with members"),
        }
    }

    /// Replaces this client's presence state in the channel: a struct or map, at most 4 KiB as CBOR.
    /// It also comes back by itself with a new session.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value is not a map or struct, [`Error::StateTooLarge`],
    /// [`Error::Refused`], [`Error::Closed`]. Without a connection this waits for the next one.
    pub async fn set_state<T: Serialize + ?Sized>(&self, state: &T) -> Result<(), Error> {
        let state = encode_state(state)?;
        let ticket = self
            .shared()
            .with(|core| core.set_state_of(self.room, state))?;
        self.shared().outcome(ticket).await?;
        Ok(())
    }

    /// Says what the channel keeps from now on, for all its members, and how it tells of them. The last
    /// call of any member counts. It also comes back by itself with a new session.
    ///
    /// ```no_run
    /// use localhub_client::ChannelSettings;
    ///
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), localhub_client::Error> {
    /// let settings = ChannelSettings {
    ///     history_messages: 1_000,
    ///     history_bytes: 1 << 20,
    ///     history_age_ms: 600_000,
    ///     debounce_ms: 2_000,
    /// };
    /// kiosk.configure(settings).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Code::LIMIT_REACHED`](crate::Code::LIMIT_REACHED) if the broker does not
    /// allow so much, [`Error::Closed`]. Without a connection this waits for the next one.
    pub async fn configure(&self, settings: ChannelSettings) -> Result<(), Error> {
        let ticket = self
            .shared()
            .with(|core| core.set_channel(self.room, settings))?;
        self.shared().outcome(ticket).await?;
        Ok(())
    }

    /// Leaves a message that the broker publishes if this client is lost: it crashes, is kicked, or loses
    /// its connection and does not come back within the will's delay. Not if the client is closed or
    /// leaves the channel. A topic has one will of a client; it comes back by itself with a new session.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use localhub_client::Will;
    ///
    /// # async fn example(kiosk: localhub_client::Channel) -> Result<(), localhub_client::Error> {
    /// let gone = Will::retain("gone").delay(Duration::from_secs(5));
    /// kiosk.set_will("device/printer/state", gone).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::BadTopic`], [`Error::PayloadTooLarge`], [`Error::Refused`], [`Error::Closed`]. Without a connection
    /// this waits for the next one.
    pub async fn set_will(&self, topic: &str, will: Will) -> Result<(), Error> {
        self.will(topic, Some(will)).await
    }

    /// Takes the will for a topic back, if there is one.
    ///
    /// # Errors
    /// As [`set_will`](Self::set_will).
    pub async fn clear_will(&self, topic: &str) -> Result<(), Error> {
        self.will(topic, None).await
    }

    async fn will(&self, topic: &str, will: Option<Will>) -> Result<(), Error> {
        Topic::check(topic).map_err(|source| Error::BadTopic {
            topic: topic.to_owned(),
            source,
        })?;
        let ticket = self
            .shared()
            .with(|core| core.set_will(self.room, topic, will))?;
        self.shared().outcome(ticket).await?;
        Ok(())
    }

    /// Leaves the channel, for all handles to it: their streams end, and whatever they do next
    /// is refused with [`Code::NOT_A_MEMBER`](crate::Code::NOT_A_MEMBER).
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`]. Without a connection this waits for the next one.
    pub async fn leave(&self) -> Result<(), Error> {
        let ticket = self.shared().with(|core| core.leave(self.room))?;
        self.shared().outcome(ticket).await?;
        Ok(())
    }

    async fn send(
        &self,
        topic: &str,
        retain: Retain,
        payload: &Payload,
        confirm: bool,
    ) -> Result<(), Error> {
        let (content, payload) = (payload.content(), payload.bytes());
        let publish = Outbound::Publish {
            room: self.room,
            retain,
            content,
            topic,
            payload,
        };
        self.client.send_outbound(publish, confirm).await
    }

    async fn take(&self, takes: Takes) -> Result<Messages, Error> {
        let (messages, ticket) = Messages::open(self.client.handle(), Some(self.room), takes);
        if let Some(ticket) = ticket? {
            self.shared().outcome(ticket).await?;
        }
        Ok(messages)
    }

    fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }
}

/// What was answered to [`Channel::ask_for_values`].
pub(crate) fn values(outcome: Outcome) -> Result<Snapshot, Error> {
    match outcome? {
        Answer::Values(snapshot) => Ok(snapshot),
        _ => unreachable!("a snapshot is answered with values"),
    }
}

fn parse_filter(filter: &str) -> Result<TopicFilter, Error> {
    filter.parse().map_err(|source| Error::BadTopic {
        topic: filter.to_owned(),
        source,
    })
}

/// A presence state as CBOR, which is a map.
fn encode_state<T: Serialize + ?Sized>(state: &T) -> Result<Bytes, Error> {
    let encoded = Payload::cbor(state)?;
    let bytes = encoded.bytes();
    // RFC 8949: major type 5 is a map.
    if bytes.first().is_none_or(|head| head >> 5 != 5) {
        let reason = "a presence state is a struct or a map".to_owned();
        return Err(Error::Encode { reason });
    }
    if bytes.len() > PRESENCE_STATE_BYTES_MAX {
        return Err(Error::StateTooLarge {
            bytes: bytes.len(),
            max: PRESENCE_STATE_BYTES_MAX,
        });
    }
    Ok(Bytes::copy_from_slice(bytes))
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How to enter a channel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "pass it to `Client::join_with`"]
pub struct Join {
    pub(crate) hidden: bool,
    pub(crate) state: Option<Bytes>,
}

impl Join {
    /// As an ordinary member, without a presence state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves this member out of presence: it hears the channel, and is not heard of.
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// What others see beside this member's name: a struct or map, at most 4 KiB as CBOR.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value is not a map or struct, [`Error::StateTooLarge`].
    pub fn state<T: Serialize + ?Sized>(mut self, state: &T) -> Result<Self, Error> {
        self.state = Some(encode_state(state)?);
        Ok(self)
    }
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StartAt {
    /// With what is published from now on.
    Now,
    /// With the last value of each topic that has one.
    #[default]
    Retained,
    /// With so many messages of the channel's history, at most; none if the channel keeps none, see
    /// [`Channel::configure`].
    Last(u64),
    /// With the messages of the history that came after this one. If the history does not reach
    /// so far back, a [`Gap`](crate::Gap) says so.
    After(Cursor),
}

/// How to subscribe.
///
/// A stream that begins with history goes on with it in a new session, too: if the history
/// reaches back to the last message that it gave, nothing is missing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "pass it to `Channel::subscribe_with`"]
pub struct Subscribe {
    start: StartAt,
    policy: Policy,
}

impl Subscribe {
    /// From the last values on; if they are read too slowly, the oldest messages are dropped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to begin.
    pub fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// What becomes of messages that are read too slowly.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }
}

/// A message to be published if its client is lost: see [`Channel::set_will`].
#[derive(Clone, Debug)]
#[must_use = "pass it to `Channel::set_will`"]
pub struct Will {
    pub(crate) delay_ms: u32,
    pub(crate) retain: Retain,
    pub(crate) payload: Payload,
}

impl Will {
    /// Publishes a message.
    pub fn publish(payload: impl Into<Payload>) -> Self {
        Self {
            delay_ms: 0,
            retain: Retain::No,
            payload: payload.into(),
        }
    }

    /// Publishes a message, which the channel keeps as the last value of the topic.
    pub fn retain(payload: impl Into<Payload>) -> Self {
        Self {
            retain: Retain::Set,
            ..Self::publish(payload)
        }
    }

    /// Has the channel forget the last value of the topic.
    pub fn clear() -> Self {
        Self {
            retain: Retain::Clear,
            ..Self::publish(Payload::default())
        }
    }

    /// How long the client has to come back before, at most 49 days; not at all if this is not set.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self
    }
}

/// The last values of a channel, as of one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The channel offset of that moment: later messages have a higher one.
    pub offset: u64,
    /// One message for each topic that has a last value.
    pub values: Vec<Message>,
    /// Which life of the channel it is of, as the broker knows it.
    pub(crate) place: Option<(Epoch, ChannelId)>,
}
