use super::RetryPolicy;

/// A queue's number in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub i32);

/// A queue with its defaults, the broker's filled in where it has none of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub id: QueueId,
    pub name: String,
    pub max_attempts: u16,
    pub retry: RetryPolicy,
    /// How long an attempt may run; `None`: no limit.
    pub timeout_ms: Option<u64>,
}
