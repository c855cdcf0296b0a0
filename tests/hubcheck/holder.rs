//! A service that one client has at a time: some compete for it, and the auditor looks on.

use std::rc::Rc;
use std::time::Duration;

use localhub_client::admin::{self, Page, Services};
use localhub_client::{Lease, Serve, Service};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Actor, Phase};
use crate::handler::execute;
use crate::plan::{SOLE, service_name};
use crate::record::{Event, NONE, lease, now};

/// How often the broker is asked who has the lease.
const LOOK: Duration = Duration::from_millis(100);

/// Serves the service while it may, gives it up, waits for it and takes it over, until all is quiet.
pub(crate) async fn compete(actor: Rc<Actor>) {
    let mut phase = actor.phase.clone();
    while !actor.is_closed() {
        let asked_at = now();
        let serve = match actor.draw(3) {
            true => Serve::new().takeover(),
            false => Serve::new().exclusive(),
        };
        let serving = actor.client.serve_with(&service_name(SOLE), serve).await;
        let Ok(mut service) = serving else {
            continue;
        };
        let number = actor.next_stream();
        let mut changes = service.lease_changes();
        let mut told = true;
        look(&actor, &service, number, asked_at).await;
        let (mut desk, mut fence) = (JoinSet::new(), NONE);
        let leaves = Instant::now() + Duration::from_millis(300 + actor.below(3_000));
        let drained = loop {
            let may_leave = *actor.phase.borrow() == Phase::Run;
            tokio::select! {
                biased;
                incoming = service.next() => {
                    let Some(incoming) = incoming else {
                        look(&actor, &service, number, asked_at).await;
                        break false;
                    };
                    // What arrives after the loss is from before it.
                    if let Some(Lease::Held { fence: held }) = service.lease() {
                        fence = held;
                    }
                    desk.spawn_local(execute(actor.clone(), incoming, SOLE, fence));
                    while desk.try_join_next().is_some() {}
                }
                change = changes.next(), if told => {
                    told = change.is_some();
                    look(&actor, &service, number, asked_at).await;
                }
                () = sleep_until(leaves), if may_leave => break false,
                _ = phase.wait_for(|phase| *phase >= Phase::Drain) => break true,
            }
        };
        if drained {
            if let Some((epoch, session)) = actor.identify().await {
                let (state, fence) = words(&service);
                actor.recorder.note(Event::Leased {
                    state,
                    fence,
                    epoch,
                    session,
                });
            }
            // Nobody else is to have it while others look.
            actor.served.borrow_mut().push(service);
            return;
        }
        drop(service);
        if *actor.phase.borrow() == Phase::Run {
            sleep(Duration::from_millis(actor.below(500))).await;
        }
    }
}

/// Writes down the lease, and in which session it is that.
async fn look(actor: &Actor, service: &Service, number: u64, asked_at: u64) {
    let mut before = actor.identify().await;
    while !actor.is_closed() {
        let (state, fence) = words(service);
        let after = actor.identify().await;
        if let (Some((epoch, session)), true) = (after, before == after) {
            let service = number;
            return actor.recorder.note(Event::Lease {
                service,
                state,
                fence,
                epoch,
                session,
                asked_at,
            });
        }
        before = after;
    }
}

fn words(service: &Service) -> (u64, u64) {
    match service.lease() {
        Some(Lease::Held { fence }) => (lease::HELD, fence),
        Some(Lease::Queued) => (lease::QUEUED, NONE),
        _ => (lease::LOST, NONE),
    }
}

/// Asks the broker who has the service, until all is quiet.
pub(crate) async fn list(actor: Rc<Actor>) {
    while *actor.phase.borrow() < Phase::Drain {
        sleep(LOOK).await;
        let before = actor.identify().await;
        let asked_at = now();
        let Ok(listed) = actor.client.admin(admin::SERVICES, &Page::default()).await else {
            continue;
        };
        let services: Services = listed;
        let after = actor.identify().await;
        let (Some((epoch, _)), true) = (after, before == after) else {
            continue;
        };
        let sole = service_name(SOLE);
        let servers = services.services.iter().filter(|it| it.name == sole);
        let held = servers.flat_map(|service| &service.servers);
        let held: Vec<_> = held.filter(|server| server.fence > 0).collect();
        let newest = held.iter().max_by_key(|server| server.fence);
        actor.recorder.note(Event::Listed {
            holders: held.len() as u64,
            fence: newest.map_or(NONE, |server| server.fence),
            epoch,
            session: newest.map_or(NONE, |server| server.id.0),
            asked_at,
        });
    }
}
