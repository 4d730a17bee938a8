//! One attempt without a worker around it, for tests.

use bytes::Bytes;
use currant_proto::v1::completion::Outcome;
use tokio_util::sync::CancellationToken;

use super::{outcome, steps};
use crate::{clock, handler::HandlerService, job::Job, span};

/// Runs it as a runner does. It is cancelled when this token fires, of which the job's is a child.
pub(crate) async fn run_inline(
    handler: &HandlerService,
    job: Job<Bytes>,
    cancelled: &CancellationToken,
) -> Outcome {
    let attempt = job.attempt();
    let (cancellation, timeout) = (job.cancellation.clone(), job.timeout);
    let deadline = timeout.and_then(|timeout| clock::now().checked_add(timeout));
    let span = span::of_attempt(&job);
    let future = span.in_scope(|| steps::call(handler, job));
    let future = span::around(span, future, steps::poll_caught);
    let ended = steps::drive(attempt, future, cancellation, deadline.zip(timeout)).await;
    outcome::of(ended.result, cancelled.is_cancelled())
}
