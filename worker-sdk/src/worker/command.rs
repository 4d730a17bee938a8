use std::sync::Arc;

use currant_proto::v1::Assignment;
use tokio::time::Instant;

use super::attempts::Attempt;

/// What the session tells the runner.
#[derive(Debug)]
pub(super) enum Command {
    /// Run these, in this order.
    Run { queue: Arc<str>, received_at: Instant, jobs: Vec<Assignment> },
    /// These should stop.
    Cancel(Vec<Attempt>),
    /// These aren't the worker's any more: nobody wants their outcome.
    Lose(Vec<Attempt>),
    /// Start nothing any more.
    Pause,
    /// The same, and give back what waits and what comes.
    Release,
    /// The same, and stop what runs and give it back.
    Abort,
}
