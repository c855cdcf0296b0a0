use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use localhub_protocol::limits::PRESENCE_STATE_BYTES_MAX;
use localhub_protocol::{ChannelName, Retain, TopicFilter};
use serde::Serialize;

use crate::core::{Answer, Outbound, RoomId, Takes};
use crate::shared::Shared;
use crate::{Client, Error, Member, Message, Messages, Payload, Presence};

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
        let filter = parse_filter(filter)?;
        self.take(Takes::Topics {
            filter,
            retained: true,
            broadcasts: false,
        })
        .await
    }

    /// Subscribes to what is published from now on, without the last values.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_live(&self, filter: &str) -> Result<Messages, Error> {
        let filter = parse_filter(filter)?;
        self.take(Takes::Topics {
            filter,
            retained: false,
            broadcasts: false,
        })
        .await
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
            retained: false,
            broadcasts: true,
        })
        .await
    }

    /// The last value of each topic that matches the filter and has one, all as of one moment.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn snapshot(&self, filter: &str) -> Result<Snapshot, Error> {
        let filter = parse_filter(filter)?;
        let ticket = self
            .shared()
            .with(|core| core.snapshot(self.room, filter))?;
        match self.shared().outcome(ticket).await? {
            Answer::Values(snapshot) => Ok(snapshot),
            _ => unreachable!("a snapshot is answered with values"),
        }
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

/// The last values of a channel, as of one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The channel offset of that moment: later messages have a higher one.
    pub offset: u64,
    /// One message for each topic that has a last value.
    pub values: Vec<Message>,
}
