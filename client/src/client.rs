use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use localhub_protocol::{ChannelName, ClientId, ClientName, Limits, ServiceName, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Answer, Core, Failure, Outbound, Takes};
use crate::shared::{Handle, Shared, now};
use crate::{
    ByteStream, Channel, ConnectionStates, Endpoint, Error, Join, METHOD_STREAM, Messages, Options,
    Payload, Refusals, Request, Requests, Sender, Serve, Service, To,
};
use crate::{message, service};

/// A client of the broker: one session, over as many connections as it takes.
///
/// Clones are handles to the same client. When the last of them is dropped, and all channels and
/// streams that came from it, the client says goodbye to the broker and its session ends; what was
/// published just before may not have left yet, so [`close`](Self::close) is the better end.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    /// Connects under a name, with the defaults of [`Options`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), localhub_client::Error> {
    /// let client = localhub_client::Client::connect("sysmon").await?;
    /// println!("connected as {} ({})", client.name(), client.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Options::connect`].
    pub async fn connect(name: impl Into<String>) -> Result<Self, Error> {
        Options::new().name(name).connect().await
    }

    /// The session. It changes when a session is lost and the client starts a new one.
    pub fn id(&self) -> ClientId {
        self.shared().with(|core| core.id())
    }

    /// The client's name. One that the broker gave changes with the session.
    pub fn name(&self) -> ClientName {
        let name = self.shared().with(|core| core.name().cloned());
        name.expect("a client exists from its first connection on")
    }

    /// What the broker allows.
    pub fn limits(&self) -> Limits {
        self.shared().with(|core| core.limits())
    }

    /// Where the broker listens.
    pub fn endpoint(&self) -> &Endpoint {
        self.shared().endpoint()
    }

    /// How the connection is: the present state first, then every change.
    pub fn connection(&self) -> ConnectionStates {
        ConnectionStates::new(self.shared().clone())
    }

    /// Enters a channel, which exists from its first member on.
    ///
    /// Joining a channel again gives another handle to the same membership. A dropped [`Channel`]
    /// does not leave; [`Channel::leave`] does, and the end of the session.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Refused`], [`Error::Closed`]. Without a connection this waits
    /// for the next one.
    pub async fn join(&self, channel: &str) -> Result<Channel, Error> {
        self.join_with(channel, Join::new()).await
    }

    /// Enters a channel in a particular way.
    ///
    /// If the client is a member already, a state given here replaces the one it had, and whether
    /// it is hidden stays as it was.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_with(&self, channel: &str, join: Join) -> Result<Channel, Error> {
        let name: ChannelName = channel.parse().map_err(|source| Error::BadName {
            name: channel.to_owned(),
            source,
        })?;
        let Join { hidden, state } = join;
        let (room, ticket) = self
            .shared()
            .with(|core| core.join(name.clone(), hidden, state))?;
        self.shared().outcome(ticket).await?;
        Ok(Channel::new(name, room, self.clone()))
    }

    /// The messages that are sent to this client itself, from now on. Each of these streams gets
    /// all of them.
    pub fn directs(&self) -> Messages {
        Messages::open(&self.handle, None, Takes::Directs).0
    }

    /// Sends a message to one client, and waits until it is in that client's outbox.
    ///
    /// ```no_run
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// client.send("printer-7", "status?").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Code::UNKNOWN_CLIENT`](crate::Code::UNKNOWN_CLIENT) if nobody goes
    /// by that id or name, with [`Code::OUTBOX_FULL`](crate::Code::OUTBOX_FULL) if the receiver has
    /// too much waiting; [`Error::PayloadTooLarge`], [`Error::BadName`], [`Error::Disconnected`],
    /// [`Error::Closed`].
    pub async fn send(
        &self,
        to: impl Into<Recipient>,
        payload: impl Into<Payload>,
    ) -> Result<(), Error> {
        let (to, payload) = (to.into(), payload.into());
        let to = match &to {
            Recipient::Id(id) => Target::Id(*id),
            Recipient::Name(name) => match name.parse::<ClientName>() {
                Ok(_) => Target::Name(name),
                Err(source) => {
                    return Err(Error::BadName {
                        name: name.clone(),
                        source,
                    });
                }
            },
        };
        let (content, payload) = (payload.content(), payload.bytes());
        self.send_outbound(
            Outbound::Direct {
                to,
                content,
                payload,
            },
            true,
        )
        .await
    }

    /// Asks one of those who serve a service, or one client, for something: see [`Request`].
    ///
    /// Text is the name of a service; [`To::client`] names a client. Every request has exactly one
    /// outcome.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use localhub_client::{Error, To};
    ///
    /// # async fn example(client: localhub_client::Client) -> Result<(), Error> {
    /// let printed = client
    ///     .request("printer", "print")
    ///     .payload("two pages")
    ///     .timeout(Duration::from_secs(5))
    ///     .command()
    ///     .send()
    ///     .await;
    /// match printed {
    ///     Ok(reply) => println!("{} says {:?}", reply.sender().name, reply.text()),
    ///     Err(Error::Failed(failure)) => println!("it went wrong: {failure}"),
    ///     Err(error) => println!("{error} ({:?})", error.code()),
    /// }
    /// let pages: u32 = client.request(To::client("printer-7"), "pages").send().await?.decode()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Lost sessions
    /// A connection that is lost and resumed costs a request nothing. If the session is gone, a
    /// request that was sent ends with [`Code::OUTCOME_UNKNOWN`](crate::Code::OUTCOME_UNKNOWN), and
    /// one that was not is sent in the new session. A [command](Request::command) is sent again; it
    /// ends with that code only if the broker was started anew.
    pub fn request(&self, to: impl Into<To>, method: impl Into<String>) -> Request {
        Request::new(&self.handle, to.into(), method.into())
    }

    /// Serves a service, together with others who do: the requests to it come out of the
    /// [`Service`].
    ///
    /// ```no_run
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// let mut printer = client.serve("printer").await?;
    /// while let Some(request) = printer.next().await {
    ///     let pages: u32 = request.decode()?;
    ///     request.reply(format!("{pages} pages printed")).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// In a new session it is served again by itself.
    ///
    /// # Errors
    /// [`Error::BadName`]: a service is named as a client is. [`Error::Refused`] with
    /// [`Code::BAD_REQUEST`](crate::Code::BAD_REQUEST) if this client serves it already, or others
    /// do in another way (shared or exclusive), with
    /// [`Code::LIMIT_REACHED`](crate::Code::LIMIT_REACHED), with
    /// [`Code::PAYLOAD_TOO_LARGE`](crate::Code::PAYLOAD_TOO_LARGE) for the description;
    /// [`Error::Closed`]. Without a connection this waits for the next one.
    pub async fn serve(&self, name: &str) -> Result<Service, Error> {
        self.serve_with(name, Serve::new()).await
    }

    /// Serves a service in a particular way.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_with(&self, name: &str, serve: Serve) -> Result<Service, Error> {
        let service: ServiceName = name.parse().map_err(|source| Error::BadName {
            name: name.to_owned(),
            source,
        })?;
        let (mode, description) = (serve.mode, service::description(&serve));
        let (post, ticket) = self
            .shared()
            .with(|core| core.serve(service, mode, description))?;
        // Does not serve it if the future is dropped.
        let service = Service::new(&self.handle, post, name);
        self.shared().outcome(ticket).await?;
        Ok(service)
    }

    /// The requests to this client itself, by its id or name. While nobody takes them they fail
    /// with the code `not_served`. Several of these streams share the requests.
    pub fn requests(&self) -> Requests {
        let post = self.shared().with(Core::take_own_requests);
        Requests::new(&self.handle, post.ok())
    }

    /// Opens a stream of bytes to one of those who serve a service, or to one client, who accepts
    /// it with [`Incoming::accept_stream`](crate::Incoming::accept_stream): see [`ByteStream`].
    ///
    /// ```no_run
    /// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    ///
    /// # async fn example(client: localhub_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut stream = client.open_stream("uppercase").await?;
    /// stream.write_all(b"hello").await?;
    /// stream.shutdown().await?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Request::open`], which has more options; who is asked has 30 seconds to accept.
    pub async fn open_stream(&self, to: impl Into<To>) -> Result<ByteStream, Error> {
        self.request(to, METHOD_STREAM).open().await
    }

    /// Waits until the broker has carried out, or refused, everything that was sent before.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if some of it was lost with its session, [`Error::Closed`].
    pub async fn flush(&self) -> Result<(), Error> {
        let ticket = self.shared().with(Core::flush)?;
        self.shared().outcome(ticket).await?;
        Ok(())
    }

    /// The unconfirmed messages that the broker refuses from now on, such as those to a channel
    /// that does not let this client publish.
    pub fn refusals(&self) -> Refusals {
        Refusals::open(&self.handle)
    }

    /// Asks the broker itself: one of the methods of [`admin`](crate::admin).
    ///
    /// ```no_run
    /// use localhub_client::admin::{self, HubView};
    ///
    /// # async fn example(client: localhub_client::Client) -> Result<(), localhub_client::Error> {
    /// let hub: HubView = client.admin(admin::STATUS, &()).await?;
    /// println!("{} clients are connected", hub.connected);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Decode`] if the answer is not an `R`, [`Error::Encode`],
    /// [`Error::Disconnected`], [`Error::Closed`].
    pub async fn admin<A, R>(&self, method: &str, arguments: &A) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let arguments = Payload::cbor(arguments)?;
        let ticket = self
            .shared()
            .with(|core| core.admin(method, arguments.bytes()))?;
        match self.shared().outcome(ticket).await? {
            Answer::Reply { content, payload } => message::decode(content, &payload),
            _ => unreachable!("an operator is answered with a reply"),
        }
    }

    /// Ends the session in an orderly way: everything sent before is carried out, then the client
    /// says goodbye. All clones, channels and streams end. This takes at most five seconds.
    ///
    /// Without a connection there is nobody to say it to: the broker ends the session when its time
    /// is over.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if some of what was sent may not have been carried out,
    /// [`Error::Closed`] if it was closed before. The client is closed in any case.
    pub async fn close(self) -> Result<(), Error> {
        let shared = self.shared().clone();
        let ticket = shared.with(|core| core.close(now()))?;
        let outcome = shared.outcome(ticket).await;
        let mut seen = 0;
        while poll_fn(|cx| shared.with(|core| core.poll_state(&mut seen, cx)))
            .await
            .is_some()
        {}
        match outcome {
            Ok(_) => Ok(()),
            // There was no connection any more, or it ended before the flush did.
            Err(Failure::Closed { code: None, .. }) => Err(Error::Disconnected),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Queues a message, and waits for what becomes of it if `confirm`.
    pub(crate) async fn send_outbound(
        &self,
        outbound: Outbound<'_>,
        confirm: bool,
    ) -> Result<(), Error> {
        // A loop that only publishes must leave the link a chance to run.
        tokio::task::consume_budget().await;
        let shared = self.shared();
        let sent = poll_fn(|cx| shared.with(|core| core.poll_send(&outbound, confirm, cx))).await?;
        if let Some(ticket) = sent {
            shared.outcome(ticket).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, name) = self.shared().with(|core| (core.id(), core.name().cloned()));
        let name = name.as_ref().map(ClientName::as_str);
        f.debug_struct("Client")
            .field("id", &id.0)
            .field("name", &name)
            .finish_non_exhaustive()
    }
}

/// Whom a direct message is for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Recipient {
    /// The client with that id.
    Id(ClientId),
    /// The client that has that name when the message arrives at the broker.
    Name(String),
}

impl From<ClientId> for Recipient {
    fn from(id: ClientId) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for Recipient {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<&ClientName> for Recipient {
    fn from(name: &ClientName) -> Self {
        Self::Name(name.as_str().into())
    }
}

impl From<&Sender> for Recipient {
    fn from(sender: &Sender) -> Self {
        Self::Id(sender.id)
    }
}
