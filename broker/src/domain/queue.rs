use super::{Retention, RetryPolicy};

/// A queue's number in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub i32);

/// A queue with its defaults, the broker's filled in where it has none of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub id: QueueId,
    pub name: String,
    /// Of its last change: greater is newer.
    pub version: i64,
    /// Since when its jobs are given to no worker, in microseconds since 1970; `None`: they are.
    pub paused_at: Option<i64>,
    /// What it says itself.
    pub own: QueueSettings,
    pub priority: i16,
    pub max_attempts: u16,
    pub retry: RetryPolicy,
    /// How long an attempt may run; `None`: no limit.
    pub timeout_ms: Option<u64>,
    pub retention: Retention,
}

/// What a queue may say for its jobs; `None`: what the broker says for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSettings {
    pub priority: Option<i16>,
    pub max_attempts: Option<u16>,
    pub retry: Option<RetryPolicy>,
    pub timeout_ms: Option<u64>,
    /// 0: for ever, as with the others.
    pub succeeded_ms: Option<u64>,
    pub cancelled_ms: Option<u64>,
    pub dead_ms: Option<u64>,
}

/// What of a queue decides about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRules {
    pub version: i64,
    pub paused: bool,
    pub timeout_ms: Option<u64>,
}

impl Queue {
    pub fn rules(&self) -> QueueRules {
        let paused = self.paused_at.is_some();
        QueueRules { version: self.version, paused, timeout_ms: self.timeout_ms }
    }
}

impl QueueSettings {
    /// How long finished jobs are kept, `defaults` where this says nothing.
    pub fn retention(&self, defaults: Retention) -> Retention {
        let kept = |own: Option<u64>, default: Option<i64>| match own {
            None => default,
            Some(ms) => i64::try_from(ms).ok().filter(|ms| *ms > 0),
        };
        Retention {
            succeeded_ms: kept(self.succeeded_ms, defaults.succeeded_ms),
            cancelled_ms: kept(self.cancelled_ms, defaults.cancelled_ms),
            dead_ms: kept(self.dead_ms, defaults.dead_ms),
        }
    }
}
