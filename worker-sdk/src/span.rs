//! The spans of attempts, by `tracing`: what handlers log belongs to one. With the feature `otel` they are
//! OpenTelemetry's too, and so are those of enqueues: see `otel.rs`.

use std::{
    future::{Future, poll_fn},
    task::{Context, Poll},
};

use tracing::{Instrument, Span};

use crate::{
    handler::HandlerFuture,
    handler_error::{HandlerError, Verdict},
    output::Output,
};

#[cfg(feature = "otel")]
pub(crate) use crate::otel::{of_attempt, of_enqueue, traceparent};
#[cfg(not(feature = "otel"))]
pub(crate) use plain::{of_attempt, of_enqueue, traceparent};

#[cfg(feature = "otel")]
use crate::otel::failed;
#[cfg(not(feature = "otel"))]
use plain::failed;

/// The same handler within its span, which it ends. `poll` takes its steps: no panic leaves it.
pub(crate) fn around(
    span: Span,
    mut future: HandlerFuture,
    poll: fn(&mut HandlerFuture, &mut Context<'_>) -> Poll<Result<Output, HandlerError>>,
) -> HandlerFuture {
    if span.is_disabled() {
        return future;
    }
    let mut ending = Ending { span: span.clone(), outcome: "stopped", failed: true };
    let ended = async move {
        let result = poll_fn(|cx| poll(&mut future, cx)).await;
        ending.with(&result);
        result
    };
    Box::pin(ended.instrument(span))
}

/// Says at the end what became of the attempt: the handler may also be dropped before it has ended.
struct Ending {
    span: Span,
    outcome: &'static str,
    failed: bool,
}

impl Ending {
    fn with(&mut self, result: &Result<Output, HandlerError>) {
        (self.outcome, self.failed) = match result.as_ref().map_err(HandlerError::verdict) {
            Ok(Output::Result(_)) => ("succeeded", false),
            Ok(Output::Committed(_)) => ("committed", false),
            Err(Verdict::Fail { .. }) => ("failed", true),
            Err(Verdict::Discard) => ("discarded", true),
            Err(Verdict::Snooze(_)) => ("snoozed", false),
            Err(Verdict::Release) => ("released", false),
        };
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.span.record("outcome", self.outcome);
        if self.failed {
            failed(&self.span);
        }
    }
}

/// Makes the call within its span, which it ends.
pub(crate) async fn during<T, E>(
    span: Span,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let answer = call.instrument(span.clone()).await;
    if answer.is_err() {
        failed(&span);
    }
    answer
}

#[cfg(not(feature = "otel"))]
mod plain {
    use bytes::Bytes;
    use tracing::Span;

    use crate::{job::Job, new_job::NewJob};

    /// Around one attempt. Nothing where nobody listens.
    pub(crate) fn of_attempt(job: &Job<Bytes>) -> Span {
        tracing::info_span!(
            parent: None,
            "currant.job",
            queue = &*job.queue,
            kind = job.kind,
            job = job.id.0,
            attempt = job.attempt,
            outcome = tracing::field::Empty,
        )
    }

    /// Only traces have a use for it.
    pub(crate) fn of_enqueue(_: &[NewJob]) -> Span {
        Span::none()
    }

    pub(crate) fn traceparent() -> String {
        String::new()
    }

    pub(super) fn failed(_: &Span) {}
}
