//! Nouns and rules of a job queue: no I/O, no clock, no randomness.

mod access;
mod change;
mod cron;
mod explain;
mod id;
mod job;
mod listing;
mod name;
mod outcome;
mod progress;
mod queue;
mod retention;
mod retry;
mod schedule;
mod secret;
mod settle;
mod stats;
mod unique;

pub use access::{Grant, NewToken, QueuePattern, Scope, Token, TokenId};
pub use change::{CancelVerdict, DeleteVerdict, RetryVerdict};
pub use cron::CronRule;
pub use explain::{BrokerFacts, Facts, Here, KeyFacts, KeyStanding, Reason, explain};
pub use id::{IdMaker, JobId, first_id_at_ms, shown_session};
pub use job::{
    Adopted, Attempt, JobKey, JobOptions, NewJob, PRIORITY_MAX, PRIORITY_MIN, Start, State,
    StoredJob, TakenJob,
};
pub use listing::Listing;
pub use name::{NAME_CHARS_MAX, is_name};
pub use outcome::{Completion, FailedAttempt, Failure, Outcome, Verdict};
pub use progress::{Progress, ProgressReport};
pub use queue::{
    KEY_WEIGHT_MAX, KEY_WEIGHTS_MAX, KeyLimits, KeyWeights, Queue, QueueId, QueueLimits,
    QueueRules, QueueSettings, RateLimit, ReadyIn,
};
pub use retention::{Pruned, Retention, Slice};
pub use retry::{RETRY_BASE_MS, RETRY_FACTOR, RETRY_JITTER, RETRY_MAX_MS, RetryPolicy, Waits};
pub use schedule::{
    CatchUp, Firing, JobTemplate, NewSchedule, Overlap, Schedule, ScheduleRules, Standing, fire,
};
pub use secret::{TokenHash, TokenSecret};
pub use settle::{Budget, Next, settle};
pub use stats::{BrokerState, Count, QueueStats, Sampled};
pub use unique::{Unique, UniqueConflict, UniqueScope, UniqueVerdict};
