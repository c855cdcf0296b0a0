//! Who serves what, and who of them is asked.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use localhub_protocol::{ClientId, LeaseState, ServeMode, ServiceName};

use super::Refusal;

/// The services by name (`docs/protocol.md` 12.8 to 12.11).
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: BTreeMap<ServiceName, Service>,
    /// How many there have been so far.
    count: u64,
    /// The number of the newest lease.
    fence: u64,
}

/// What one or more clients serve.
#[derive(Debug)]
pub(super) struct Service {
    /// The how manieth service it is: one that ends and begins anew is another.
    pub(super) number: u64,
    /// Whether any number of clients serve it at one time, or only the first in line.
    pub(super) shared: bool,
    pub(super) servers: Vec<Server>,
    /// Who is looked at first for the next request, so that equals take turns.
    turn: usize,
    pub(super) tally: Tally,
}

/// A client that serves, or waits to.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: ClientId,
    pub(super) description: Bytes,
    /// The number of its lease; 0 if it has none.
    pub(super) fence: u64,
}

/// What a client is told of an exclusive service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lease {
    pub(super) client: ClientId,
    pub(super) state: LeaseState,
    pub(super) fence: u64,
}

/// How a service has done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests that have no outcome yet.
    pub(super) in_flight: u64,
    pub(super) requests: u64,
    /// Requests that ended otherwise than with a success.
    pub(super) failed: u64,
    /// How long they took, by [`bucket`].
    took: Option<Box<[u32; BUCKETS]>>,
    /// When the count of `recent` began, what it is, and what the one before was.
    recent: (Duration, u32, u32),
}

/// Requests per second are those of the last whole one of these.
const RECENT: Duration = Duration::from_secs(10);

/// Two for each power of two of microseconds, up to more than an hour.
const BUCKETS: usize = 66;

/// A client serves at most so many services.
pub(super) const SERVICES_MAX: usize = 256;

/// What a server of a service costs beside its description.
const SERVER_BYTES: u64 = 256;

impl Services {
    pub(super) fn get(&self, name: &str) -> Option<&Service> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Service> {
        self.by_name.get_mut(name)
    }

    pub(super) fn range_mut(
        &mut self,
        after: Bound<ServiceName>,
    ) -> impl Iterator<Item = (&ServiceName, &mut Service)> {
        self.by_name.range_mut((after, Bound::Unbounded))
    }

    /// A client serves from now on, or waits to. Gives what it and another are to be told of leases, and how
    /// many bytes more than before are held.
    pub(super) fn serve(
        &mut self,
        client: ClientId,
        name: ServiceName,
        mode: ServeMode,
        description: Bytes,
    ) -> Result<(Vec<Lease>, i64), Refusal> {
        let shared = mode == ServeMode::Shared;
        let service = self.by_name.entry(name).or_insert_with(|| {
            self.count += 1;
            Service {
                number: self.count,
                shared,
                servers: Vec::new(),
                turn: 0,
                tally: Tally::default(),
            }
        });
        if service.shared != shared {
            return Err(Refusal::Impossible {
                what: "the service is served in another way (shared, or by one client at a time)",
            });
        }
        let server = Server {
            client,
            description,
            fence: 0,
        };
        let mut more = server.held();
        let known = service.servers.iter().position(|it| it.client == client);
        match known {
            Some(at) => {
                more -= service.servers[at].held();
                service.servers[at].description = server.description;
            }
            None => service.servers.push(server),
        }
        if shared {
            return Ok((Vec::new(), more));
        }
        let mut told = Vec::new();
        let at = known.unwrap_or(service.servers.len() - 1);
        if mode == ServeMode::Takeover && at > 0 {
            let taker = service.servers.remove(at);
            let ousted = std::mem::replace(&mut service.servers[0], taker);
            more -= ousted.held();
            told.push(ousted.lease(LeaseState::Lost));
        }
        service.grant(&mut self.fence);
        let server = service.servers.iter().find(|it| it.client == client);
        told.extend(server.map(|server| match server.fence {
            0 => server.lease(LeaseState::Queued),
            _ => server.lease(LeaseState::Held),
        }));
        Ok((told, more))
    }

    /// A client does not serve any more. Gives what another is to be told, and how many bytes are not held any
    /// more; `None` if it did not serve.
    pub(super) fn unserve(&mut self, client: ClientId, name: &str) -> Option<(Option<Lease>, i64)> {
        let service = self.by_name.get_mut(name)?;
        let at = service.servers.iter().position(|it| it.client == client)?;
        let less = service.servers.remove(at).held();
        if service.servers.is_empty() {
            self.by_name.remove(name);
            return Some((None, less));
        }
        Some((service.grant(&mut self.fence), less))
    }
}

impl Service {
    /// Gives the first in line the lease, unless it has it.
    fn grant(&mut self, fence: &mut u64) -> Option<Lease> {
        let first = self.servers.first_mut()?;
        if self.shared || first.fence > 0 {
            return None;
        }
        *fence += 1;
        first.fence = *fence;
        Some(first.lease(LeaseState::Held))
    }

    /// Who gets the next request: of those who may, one with the least load; `load` is `None` for who is away.
    pub(super) fn pick(&mut self, load: impl Fn(ClientId) -> Option<usize>) -> Option<ClientId> {
        if !self.shared {
            let holder = self.servers.first()?.client;
            return load(holder).map(|_| holder);
        }
        let count = self.servers.len();
        let in_turn = (0..count).map(|n| (self.turn + n) % count);
        let loads = in_turn.filter_map(|at| Some((load(self.servers[at].client)?, at)));
        // Of equals the first, which is the one whose turn it is.
        let (_, at) = loads.min_by_key(|(load, _)| *load)?;
        self.turn = (at + 1) % count;
        Some(self.servers[at].client)
    }
}

impl Server {
    fn held(&self) -> i64 {
        (SERVER_BYTES + self.description.len() as u64) as i64
    }

    const fn lease(&self, state: LeaseState) -> Lease {
        Lease {
            client: self.client,
            state,
            fence: self.fence,
        }
    }
}

impl Tally {
    pub(super) fn begin(&mut self, now: Duration) {
        self.requests += 1;
        self.in_flight += 1;
        self.turn_over(now);
        self.recent.1 = self.recent.1.saturating_add(1);
    }

    pub(super) fn end(&mut self, took: Duration, failed: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failed += u64::from(failed);
        let took_by = self.took.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let count = &mut took_by[bucket(took)];
        *count = count.saturating_add(1);
    }

    /// Requests per second.
    pub(super) fn rate(&mut self, now: Duration) -> u64 {
        self.turn_over(now);
        u64::from(self.recent.2) / RECENT.as_secs()
    }

    /// In microseconds, by what share of the requests took no longer; `None` before the first.
    pub(super) fn quantile_us(&self, share: f64) -> Option<u64> {
        let took = self.took.as_ref()?;
        let all = took.iter().map(|count| u64::from(*count)).sum::<u64>();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut so_far = 0;
        let at = took.iter().position(|count| {
            so_far += u64::from(*count);
            so_far >= rank
        })?;
        Some(bucket_end_us(at))
    }

    fn turn_over(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.recent.0);
        if passed >= RECENT {
            let before = if passed < RECENT * 2 {
                self.recent.1
            } else {
                0
            };
            self.recent = (now, 0, before);
        }
    }
}

/// Where a time is counted.
fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = us.ilog2() as usize;
    let upper_half = us >= (1 << power) + (1 << power) / 2 && power > 0;
    (power * 2 + usize::from(upper_half)).min(BUCKETS - 1)
}

/// The longest time that is counted there, in microseconds.
const fn bucket_end_us(at: usize) -> u64 {
    let start = 1_u64 << (at / 2);
    if at.is_multiple_of(2) {
        start + start / 2
    } else {
        start * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);
    const C: ClientId = ClientId(3);

    fn serve(services: &mut Services, client: ClientId, mode: ServeMode) -> Vec<Lease> {
        let name = "printer".parse().unwrap();
        services.serve(client, name, mode, Bytes::new()).unwrap().0
    }

    fn lease(client: ClientId, state: LeaseState, fence: u64) -> Lease {
        Lease {
            client,
            state,
            fence,
        }
    }

    #[test]
    fn equals_take_turns_and_the_busy_are_spared() {
        let mut services = Services::default();
        for client in [A, B, C] {
            assert_eq!(serve(&mut services, client, ServeMode::Shared), []);
        }
        let printer = services.get_mut("printer").unwrap();
        let mut picks = |load: fn(ClientId) -> Option<usize>| {
            [0; 4].map(|_| printer.pick(load).map_or(0, |client| client.0))
        };
        assert_eq!(picks(|_| Some(5)), [1, 2, 3, 1]);
        assert_eq!(picks(|client| Some((client == B).into())), [3, 1, 3, 1]);
        assert_eq!(picks(|client| (client == B).then_some(9)), [2, 2, 2, 2]);
        assert_eq!(picks(|_| None), [0, 0, 0, 0]);
    }

    #[test]
    fn a_lease_goes_from_one_to_the_next_and_its_number_grows() {
        let mut services = Services::default();
        let held = |client, fence| lease(client, LeaseState::Held, fence);
        assert_eq!(serve(&mut services, A, ServeMode::Exclusive), [held(A, 1)]);
        let queued = lease(B, LeaseState::Queued, 0);
        assert_eq!(serve(&mut services, B, ServeMode::Exclusive), [queued]);
        assert_eq!(serve(&mut services, A, ServeMode::Exclusive), [held(A, 1)]);
        let lost = lease(A, LeaseState::Lost, 1);
        assert_eq!(
            serve(&mut services, C, ServeMode::Takeover),
            [lost, held(C, 2)]
        );
        assert!(services.unserve(A, "printer").is_none(), "it was taken");
        let (told, _) = services.unserve(C, "printer").unwrap();
        assert_eq!(told, Some(held(B, 3)));
        assert_eq!(services.unserve(B, "printer"), Some((None, 256)));
        assert!(services.get("printer").is_none());
    }

    #[test]
    fn times_are_counted_within_half() {
        let mut tally = Tally::default();
        for us in [1, 2, 3, 100, 1_000_000] {
            tally.begin(Duration::ZERO);
            tally.end(Duration::from_micros(us), false);
            let end = bucket_end_us(bucket(Duration::from_micros(us)));
            assert!(us <= end && end <= us * 2, "{us} us: up to {end}");
        }
        assert_eq!(tally.quantile_us(0.5), Some(4));
        assert_eq!(tally.quantile_us(1.0), Some(1_048_576));
        bucket_end_us(bucket(Duration::MAX));
        assert_eq!((tally.requests, tally.in_flight), (5, 0));
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut tally = Tally::default();
        for second in 0..30 {
            for _ in 0..7 {
                tally.begin(Duration::from_secs(second));
            }
        }
        assert_eq!(tally.rate(Duration::from_secs(31)), 7);
        assert_eq!(tally.rate(Duration::from_secs(60)), 0);
    }
}
