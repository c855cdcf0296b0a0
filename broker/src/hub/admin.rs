use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::time::Duration;

use localhub_protocol::admin::{
    self, ChannelSummary, ChannelView, Channels, ClientView, Clients, Closed, HubView,
    MembershipView, Named, Page, Services, SessionView, Sessions,
};
use localhub_protocol::{ChannelName, ClientId, Code, Status};

use super::channel::status_word;
use super::{Hub, Place, Refusal, Wakes};

/// The answer to an admin request.
pub(super) struct Answer {
    /// CBOR, as [`admin`] says for the method.
    pub(super) payload: Vec<u8>,
    /// Whether the broker shall stop.
    pub(super) stop: bool,
}

/// One page has at most this many entries, so that a list never holds the hub's lock for long.
const PAGE_MAX: usize = 1_000;

impl Hub {
    /// Carries out what an operator asks for.
    pub(super) fn administer(
        &self,
        method: &str,
        arguments: &[u8],
        now: Duration,
        wakes: &mut Wakes,
    ) -> Result<Answer, Refusal> {
        let payload = match method {
            admin::STATUS | admin::STOP => admin::encode(&self.status(now)),
            admin::CLIENTS => admin::encode(&self.clients(&page(arguments)?, now)?),
            admin::CLIENT => admin::encode(&self.client(&read::<Named>(arguments)?.name, now)?),
            admin::SESSIONS => admin::encode(&self.sessions(&page(arguments)?, now)?),
            admin::CLOSED => admin::encode(&self.closed(&page(arguments)?, now)?),
            admin::CHANNELS => admin::encode(&self.channels(&page(arguments)?)?),
            admin::CHANNEL => admin::encode(&self.channel(&read::<Named>(arguments)?.name)?),
            admin::SERVICES => admin::encode(&self.services(&page(arguments)?, now)?),
            admin::KICK => {
                let client = self.client(&read::<Named>(arguments)?.name, now)?;
                self.end(client.id, Code::KICKED, now, wakes);
                admin::encode(&client)
            }
            _ => return Err(Refusal::BadRequest),
        };
        Ok(Answer {
            payload,
            stop: method == admin::STOP,
        })
    }

    /// The hub as a whole.
    pub fn status(&self, now: Duration) -> HubView {
        let registry = self.registry.lock();
        let about = &self.settings.about;
        let mut view = HubView {
            version: about.version.clone(),
            pid: about.pid,
            endpoint: about.endpoint.clone(),
            epoch: self.settings.epoch.to_string(),
            uptime_ms: millis(now),
            connected: (registry.sessions.len() - registry.parked.len()) as u64,
            parked: registry.parked.len() as u64,
            channels: registry.channels.len() as u64,
            messages_in: self.counters.messages_in.load(Ordering::Relaxed),
            messages_out: self.counters.messages_out.load(Ordering::Relaxed),
            messages_lost: self.counters.messages_lost.load(Ordering::Relaxed),
            memory_limit_bytes: self.budget.limit(),
            connections_refused: self.counters.connections_refused.load(Ordering::Relaxed),
            log_lines_lost: self.counters.log_lines_lost.count(),
            ..HubView::default()
        };
        [view.requests, view.commands, view.command_bytes] = self.requests.totals();
        for place in registry.sessions.values() {
            let holds = place.session.outbox.holds();
            view.messages_out += holds.totals.messages;
            view.messages_lost += holds.totals.lost;
            view.queued_bytes += holds.bytes;
        }
        for channel in registry.channels.values() {
            view.retained_bytes += channel.kept_bytes();
        }
        view
    }

    fn clients(&self, page: &Page, now: Duration) -> Result<Clients, Refusal> {
        let after = number_after(page)?.map_or(ClientId::HUB, ClientId);
        let registry = self.registry.lock();
        let mut rest = registry
            .sessions
            .range((Bound::Excluded(after), Bound::Unbounded));
        let clients = rest
            .by_ref()
            .take(entries(page))
            .map(|(_, place)| place.view(now))
            .collect();
        Ok(Clients {
            clients,
            more: rest.next().is_some(),
        })
    }

    /// One client, by its name or its id in decimal.
    ///
    /// # Errors
    /// There is none.
    pub fn client(&self, name: &str, now: Duration) -> Result<ClientView, Refusal> {
        let by_name = self.directory.names.get(name).map(|session| session.id);
        let id = by_name.or_else(|| name.parse().ok().map(ClientId));
        let registry = self.registry.lock();
        let place = id
            .and_then(|id| registry.sessions.get(&id))
            .ok_or(Refusal::UnknownClient)?;
        let mut view = place.view(now);
        view.memberships = place
            .joined
            .iter()
            .map(|channel| MembershipView {
                channel: channel.name.to_string(),
                filters: channel.subscriptions_of(place.session.id),
            })
            .collect();
        Ok(view)
    }

    fn sessions(&self, page: &Page, now: Duration) -> Result<Sessions, Refusal> {
        let after = number_after(page)?.map_or(ClientId::HUB, ClientId);
        let registry = self.registry.lock();
        let window = &self.settings.limits;
        let mut rest = registry
            .sessions
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter_map(|(_, place)| Some((place, place.parked.as_ref()?)))
            .map(|(place, parked)| SessionView {
                client: place.view(now),
                cause: parked.cause.name().into(),
                expires_ms: millis(parked.until.saturating_sub(now)),
                window_messages: window.outbox_messages,
                window_bytes: window.outbox_bytes,
            });
        let sessions = rest.by_ref().take(entries(page)).collect();
        Ok(Sessions {
            sessions,
            more: rest.next().is_some(),
        })
    }

    fn closed(&self, page: &Page, now: Duration) -> Result<Closed, Refusal> {
        let before = number_after(page)?;
        let log = self.closed.lock();
        let mut rest = log.before(before, now);
        let closed = rest.by_ref().take(entries(page)).collect();
        Ok(Closed {
            closed,
            more: rest.next().is_some(),
        })
    }

    fn channels(&self, page: &Page) -> Result<Channels, Refusal> {
        let after = match &page.after {
            Some(text) => Bound::Excluded(
                text.parse::<ChannelName>()
                    .map_err(Refusal::BadChannelName)?,
            ),
            None => Bound::Unbounded,
        };
        let registry = self.registry.lock();
        let mut rest = registry.channels.range((after, Bound::Unbounded));
        let channels: Vec<ChannelSummary> = rest
            .by_ref()
            .take(entries(page))
            .map(|(_, channel)| channel.summary())
            .collect();
        Ok(Channels {
            channels,
            more: rest.next().is_some(),
        })
    }

    fn services(&self, page: &Page, now: Duration) -> Result<Services, Refusal> {
        let after = match &page.after {
            Some(text) => Bound::Excluded(text.parse().map_err(Refusal::BadServiceName)?),
            None => Bound::Unbounded,
        };
        let (services, more) = self.requests.services(after, entries(page), now);
        Ok(Services { services, more })
    }

    /// One channel.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn channel(&self, name: &str) -> Result<ChannelView, Refusal> {
        let channel = {
            let registry = self.registry.lock();
            registry
                .channels
                .get(name)
                .cloned()
                .ok_or(Refusal::UnknownChannel)?
        };
        Ok(channel.view())
    }
}

impl Place {
    fn view(&self, now: Duration) -> ClientView {
        let session = &self.session;
        let identity = session.identity.lock().clone();
        let holds = session.outbox.holds();
        let totals = &session.totals;
        let status = match self.parked {
            Some(_) => Status::Away,
            None if holds.slow => Status::Stalled,
            None => Status::Online,
        };
        ClientView {
            id: session.id,
            name: session.name.to_string(),
            state: status_word(status).into(),
            pid: identity.pid,
            executable: identity.executable,
            user: identity.user.to_string(),
            age_ms: millis(now.saturating_sub(session.since)),
            away_ms: self
                .parked
                .as_ref()
                .map(|parked| millis(now.saturating_sub(parked.since))),
            channels: self
                .joined
                .iter()
                .map(|channel| channel.name.to_string())
                .collect(),
            subscriptions: session.subscriptions.load(Ordering::Relaxed),
            messages_in: totals.messages.load(Ordering::Relaxed),
            bytes_in: totals.bytes.load(Ordering::Relaxed),
            messages_out: holds.totals.messages,
            bytes_out: holds.totals.bytes,
            queued_messages: holds.messages,
            queued_bytes: holds.bytes,
            messages_lost: holds.totals.lost,
            messages_conflated: holds.totals.conflated,
            gaps: holds.totals.gaps,
            confirmed: holds.cursors[0],
            sent: holds.cursors[1],
            queued: holds.cursors[2],
            refused: totals.refused.load(Ordering::Relaxed),
            last_refusal: totals.last_refusal().map(|code| code.name().into()),
            memberships: Vec::new(),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(arguments: &[u8]) -> Result<T, Refusal> {
    admin::decode(arguments).map_err(|_| Refusal::BadRequest)
}

/// Which page is asked for; the first one if nothing is said.
fn page(arguments: &[u8]) -> Result<Page, Refusal> {
    Ok(read::<Option<Page>>(arguments)?.unwrap_or_default())
}

/// The key of the last entry of the page before, in lists whose keys are numbers.
fn number_after(page: &Page) -> Result<Option<u64>, Refusal> {
    page.after
        .as_ref()
        .map(|text| text.parse().map_err(|_| Refusal::BadRequest))
        .transpose()
}

fn entries(page: &Page) -> usize {
    page.limit
        .map_or(PAGE_MAX, |limit| (limit as usize).clamp(1, PAGE_MAX))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
