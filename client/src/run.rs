use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;

use crate::core::{PANICKED, Said};
use crate::incoming::Handling;
use crate::service::Post;
use crate::{Failure, Incoming, Payload};

/// Handles requests in tasks until no more come, be it because of `stop`, and all tasks are done.
pub(crate) async fn run<H, F>(
    post: &Post,
    concurrency: usize,
    stop: impl Future<Output = ()>,
    handler: H,
) where
    H: Fn(Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Payload, Failure>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut tasks = JoinSet::new();
    let (mut stop, mut stopped) = (pin!(stop), false);
    loop {
        let room = tasks.len() < concurrency.max(1);
        let next = tokio::select! {
            () = &mut stop, if !stopped => {
                stopped = true;
                post.stop();
                continue;
            }
            next = post.next(), if room => next,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(incoming) = next else {
            break;
        };
        let handler = handler.clone();
        let handling = incoming.handling.clone();
        // Made inside of what catches panics, and so is the future.
        let work = async move { handler(incoming).await };
        tasks.spawn(handle(handling, work));
    }
    while tasks.join_next().await.is_some() {}
}

/// Answers a request with what comes of the work, unless it is cancelled before.
async fn handle(handling: Arc<Handling>, work: impl Future<Output = Result<Payload, Failure>>) {
    let shared = handling.handle.shared.clone();
    let cancelled = poll_fn(|cx| shared.with(|core| core.poll_cancelled(handling.id, cx)));
    let answer = tokio::select! {
        biased;
        answer = caught(work) => answer,
        () = cancelled => return,
    };
    if shared.with(|core| core.is_bytes(handling.id)) {
        return;
    }
    let answer = answer.unwrap_or_else(|Panicked| {
        let (code, message) = PANICKED;
        Err(Failure::new(code, message))
    });
    let answered = match &answer {
        Ok(payload) => handling.answer(&Said::Reply(payload)).await,
        Err(failure) => handling.answer(&Said::Fail(failure)).await,
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "a reply was not sent");
    }
}

/// A task panicked; the panic hook has said so.
struct Panicked;

/// Does the work, which may panic without taking anything with it.
async fn caught<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let mut work = Box::pin(work);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
    .await
}
