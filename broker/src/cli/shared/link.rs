//! The way to the broker: which one, and what it is asked.

use std::time::Duration;

use anyhow::anyhow;
use localhub::config::{Environment, Flags, Loaded};
use localhub_client::admin::{
    self, ChannelSummary, ChannelView, Channels, ClientView, Clients, Closed, ClosedView, Named,
    Page, ServiceView, Services, SessionView, Sessions,
};
use localhub_client::{
    ChannelName, Client, Code, ConnectionState, ConnectionStates, Endpoint, Error, Options,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::exit::note;
use crate::cli::Globals;

/// How long a goodbye may take before it is left unsaid.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the session of a verb that goes on outlives its connection: enough for a pause with
/// ctrl-z, and soon over after a kill.
const STREAM_TTL: Duration = Duration::from_secs(10);

/// How many messages may wait for the terminal or pipe: small ones take no more memory than their
/// bytes are limited to anyway.
const INBOX_MESSAGES: usize = 1_000_000;

impl Globals {
    /// The configuration that these flags, the environment and the file make.
    pub(crate) fn load(&self, log: Option<&str>) -> anyhow::Result<Loaded> {
        let flags = Flags {
            config: self.config.clone(),
            endpoint: self.endpoint.clone(),
            log: log.map(Into::into),
        };
        Ok(Loaded::new(&flags, &Environment::of_process())?)
    }

    /// Where the broker listens. A mistake in a configuration file that would say nothing of it does
    /// not matter.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        match &self.endpoint {
            Some(endpoint) => Ok(Endpoint::new(endpoint)?),
            None => Ok(self.load(None)?.config.resolve_endpoint()?),
        }
    }

    /// Connects for one question.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let options = Options::new()
            .reconnect(false)
            .resume(false)
            .session_ttl(Duration::ZERO);
        Ok(options.endpoint(self.endpoint()?).connect().await?)
    }

    /// Connects for as long as it takes, through restarts of the broker.
    pub(crate) async fn connect_stream(&self) -> anyhow::Result<Client> {
        let options = Options::new()
            .session_ttl(STREAM_TTL)
            .inbox_messages(INBOX_MESSAGES);
        Ok(options.endpoint(self.endpoint()?).connect().await?)
    }
}

/// Says goodbye, if the broker listens.
pub(crate) async fn close(client: Client) {
    let _ = timeout(GOODBYE_PATIENCE, client.close()).await;
}

/// Asks about one client, by name or id.
pub(crate) async fn client_named(
    client: &Client,
    method: &str,
    name: &str,
) -> anyhow::Result<ClientView> {
    let asked = client.admin(method, &Named { name: name.into() }).await;
    asked.map_err(|error| match error {
        Error::Refused {
            code: Code::UNKNOWN_CLIENT,
            ..
        } => {
            anyhow!("there is no client {name} (`localhub clients` lists them)")
        }
        error => error.into(),
    })
}

/// Asks about one channel.
pub(crate) async fn channel_named(
    client: &Client,
    channel: &ChannelName,
) -> anyhow::Result<ChannelView> {
    let name = channel.to_string();
    let asked = client.admin(admin::CHANNEL, &Named { name }).await;
    asked.map_err(|error| match error {
        Error::Refused {
            code: Code::UNKNOWN_CHANNEL,
            ..
        } => {
            anyhow!("there is no channel {channel} (`localhub channels` lists them)")
        }
        error => error.into(),
    })
}

/// All clients, by ascending id. Those that come and go meanwhile may be missing.
pub(crate) async fn clients(client: &Client) -> Result<Vec<ClientView>, Error> {
    let split = |page: Clients| (page.clients, page.more);
    pages(client, admin::CLIENTS, split, |last| last.id.to_string()).await
}

/// All channels, by name.
pub(crate) async fn channels(client: &Client) -> Result<Vec<ChannelSummary>, Error> {
    let split = |page: Channels| (page.channels, page.more);
    pages(client, admin::CHANNELS, split, |last| last.name.clone()).await
}

/// All sessions that wait for their client, by ascending id.
pub(crate) async fn sessions(client: &Client) -> Result<Vec<SessionView>, Error> {
    let split = |page: Sessions| (page.sessions, page.more);
    pages(client, admin::SESSIONS, split, |last| {
        last.client.id.to_string()
    })
    .await
}

/// All services, by name.
pub(crate) async fn services(client: &Client) -> Result<Vec<ServiceView>, Error> {
    let split = |page: Services| (page.services, page.more);
    pages(client, admin::SERVICES, split, |last| last.name.clone()).await
}

/// The last ends of connections and sessions that are `wanted`, at most `most` of them, the newest
/// first.
pub(crate) async fn closed(
    client: &Client,
    most: usize,
    wanted: impl Fn(&ClosedView) -> bool,
) -> Result<Vec<ClosedView>, Error> {
    let mut found: Vec<ClosedView> = Vec::new();
    let mut after = None;
    loop {
        let page: Closed = client
            .admin(admin::CLOSED, &Page { after, limit: None })
            .await?;
        after = page.closed.last().map(|last| last.number.to_string());
        found.extend(page.closed.into_iter().filter(&wanted));
        if !page.more || after.is_none() || found.len() >= most {
            found.truncate(most);
            return Ok(found);
        }
    }
}

/// All pages of a list: what one has, whether there are more, and where the next begins.
async fn pages<P: DeserializeOwned, T>(
    client: &Client,
    method: &str,
    split: impl Fn(P) -> (Vec<T>, bool),
    key: impl Fn(&T) -> String,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(&key);
        let page = client.admin(method, &Page { after, limit: None }).await?;
        let (page, more) = split(page);
        let more = more && !page.is_empty();
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}

/// Tells whoever watches a stream what becomes of its connection.
pub(crate) struct Connection {
    states: ConnectionStates,
    lost: bool,
}

impl Connection {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            states: client.connection(),
            lost: false,
        }
    }

    /// Tells of losses and returns. Ends with an error when the client does.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        while let Some(state) = self.states.next().await {
            match state {
                ConnectionState::Disconnected { reason, .. } if !self.lost => {
                    self.lost = true;
                    note(&format!("the connection is lost ({reason}); trying again"));
                }
                ConnectionState::Connected { .. } if self.lost => {
                    self.lost = false;
                    note("connected again");
                }
                ConnectionState::Closed { reason, .. } => {
                    return anyhow!("the broker closed the connection: {reason}");
                }
                _ => {}
            }
        }
        anyhow!("the client is closed")
    }
}
