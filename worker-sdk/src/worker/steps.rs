//! The steps of one handler, with its panics caught.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attempts::Attempt;
use crate::{
    handler::{HandlerFuture, HandlerService},
    handler_error::HandlerError,
    job::Job,
    output::Output,
};

/// What a handler came to.
pub(super) struct Finished {
    pub(super) attempt: Attempt,
    pub(super) result: Result<Output, HandlerError>,
}

/// Calls a handler. Its first step is yet to be taken.
pub(super) fn call(handler: &HandlerService, job: Job<Bytes>) -> HandlerFuture {
    catch_unwind(AssertUnwindSafe(|| handler.handle(job)))
        .unwrap_or_else(|panic| Box::pin(std::future::ready(Err(panicked(panic)))))
}

/// The rest of a handler's life, in a task of its own.
pub(super) async fn drive(
    attempt: Attempt,
    mut future: HandlerFuture,
    cancellation: CancellationToken,
    limit: Option<(Instant, Duration)>,
) -> Finished {
    let steps = poll_fn(|cx| poll_caught(&mut future, cx));
    let result = match limit {
        None => steps.await,
        Some((deadline, timeout)) => timeout_at(deadline, steps).await.unwrap_or_else(|_| {
            cancellation.cancel();
            let message = format_args!("it ran longer than its timeout of {timeout:?}");
            Err(HandlerError::new(message).class("timeout"))
        }),
    };
    Finished { attempt, result }
}

/// One step of a handler. After a panic the future is never polled again.
pub(super) fn poll_caught(
    future: &mut HandlerFuture,
    cx: &mut Context<'_>,
) -> Poll<Result<Output, HandlerError>> {
    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
        .unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
}

fn panicked(panic: Box<dyn Any + Send>) -> HandlerError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::new(format_args!("the handler panicked: {}", text.unwrap_or("no message")))
        .class("panic")
}
