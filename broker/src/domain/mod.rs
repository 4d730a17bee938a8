//! Nouns and rules of a job queue: no I/O, no clock, no randomness.

mod access;
mod change;
mod id;
mod job;
mod listing;
mod outcome;
mod queue;
mod retention;
mod retry;
mod secret;
mod settle;
mod stats;

pub use access::{Grant, NewToken, QueuePattern, Scope, Token, TokenId};
pub use change::{CancelVerdict, DeleteVerdict, RetryVerdict};
pub use id::{IdMaker, JobId, first_id_at_ms};
pub use job::{
    Attempt, JobKey, JobOptions, NewJob, PRIORITY_MAX, PRIORITY_MIN, Start, State, StoredJob,
    TakenJob,
};
pub use listing::Listing;
pub use outcome::{Completion, FailedAttempt, Failure, Outcome, Verdict};
pub use queue::{Queue, QueueId, QueueRules, QueueSettings};
pub use retention::{Pruned, Retention, Slice};
pub use retry::RetryPolicy;
pub use secret::{TokenHash, TokenSecret};
pub use settle::{Budget, Next, settle};
pub use stats::{Count, QueueStats, Sampled};
