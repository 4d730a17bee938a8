use super::{JobId, QueueId};

/// How long finished jobs are kept after their end, in milliseconds; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub succeeded_ms: Option<i64>,
    pub cancelled_ms: Option<i64>,
    pub dead_ms: Option<i64>,
}

impl Retention {
    /// A job that was stored less than this ago can't be over its retention, whatever became of it.
    /// `None`: all are kept for ever.
    pub fn shortest_ms(&self) -> Option<i64> {
        [self.succeeded_ms, self.cancelled_ms, self.dead_ms].into_iter().flatten().min()
    }
}

/// A part of a queue, in the order of ids: the first `rows_max` jobs between two ids, both left out.
/// Those are pruned that finished before the time for their outcome, in milliseconds since 1970; `None`:
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub queue: QueueId,
    pub after: JobId,
    pub before: JobId,
    pub rows_max: usize,
    pub succeeded_before_ms: Option<i64>,
    pub cancelled_before_ms: Option<i64>,
    pub dead_before_ms: Option<i64>,
}

/// What was in a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Jobs that were there, pruned or not.
    pub rows: usize,
    /// Of these, pruned.
    pub jobs: u64,
    /// The last that was there.
    pub last: Option<JobId>,
    /// The first of those that stay and may be pruned some day.
    pub kept: Option<JobId>,
    /// Until the first of those that have finished is over its retention.
    pub kept_ms: Option<i64>,
    /// Whether one hasn't finished.
    pub open: bool,
    /// For how long the first of all has been over its retention.
    pub overdue_ms: Option<i64>,
}
