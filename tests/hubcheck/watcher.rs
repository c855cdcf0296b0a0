//! A client that looks at who is in the lobby.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use localhub_client::{Change, Channel, Member, Presence, PresenceEvent, Status};

use crate::client::{Actor, Phase};
use crate::record::Event;

/// Looks at who is in the lobby.
pub(crate) async fn watch(actor: Rc<Actor>, lobby: Channel) {
    let Ok(mut presence) = lobby.presence().await else {
        return;
    };
    let mut phase = actor.phase.clone();
    loop {
        tokio::select! {
            biased;
            event = presence.next() => match event {
                Some(event) => changed(&actor, &event),
                None => return,
            },
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => break,
        }
    }
    // All changes so far are in the outbox, before the answer to this.
    let Ok(listed) = lobby.members().await else {
        return;
    };
    catch_up(&actor, &mut presence).await;
    viewed(&actor, 0, &listed);
    viewed(&actor, 1, &presence.members());
}

async fn catch_up(actor: &Actor, presence: &mut Presence) {
    while let Some(Some(event)) = at_once(presence.next()).await {
        changed(actor, &event);
    }
}

fn changed(actor: &Actor, event: &PresenceEvent) {
    let change = match event.change {
        Change::Joined => 0,
        Change::Left => 1,
        Change::Updated => 2,
        Change::Away => 3,
        Change::Back => 4,
        Change::Stalled => 5,
    };
    actor.recorder.note(Event::Change {
        change,
        session: event.member.id.0,
        revision: event.revision,
        status: u64::from(event.member.status == Status::Away),
    });
}

fn viewed(actor: &Actor, source: u64, members: &[Member]) {
    for member in members {
        actor.recorder.note(Event::Viewed {
            source,
            session: member.id.0,
            status: u64::from(member.status == Status::Away),
        });
    }
}

/// What a future gives without waiting; `None` if it would wait.
pub(crate) async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    // That the task has done enough for now is no reason to say that there is nothing.
    let mut future = pin!(tokio::task::unconstrained(future));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
