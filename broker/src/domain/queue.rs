use std::collections::BTreeMap;

use super::{Retention, RetryPolicy};

/// A queue's number in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub i32);

/// Where ready jobs wait in a queue: among those with keys, or those without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyIn {
    pub queue: QueueId,
    pub keyed: bool,
}

impl ReadyIn {
    pub fn plain(queue: QueueId) -> Self {
        Self { queue, keyed: false }
    }

    /// Nobody knows where.
    pub fn either(queue: QueueId) -> [Self; 2] {
        [false, true].map(|keyed| Self { queue, keyed })
    }
}

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
    /// So many lost workers make a job dead, whatever attempts are left.
    pub worker_losses_max: u16,
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
    /// Come before `retry` for jobs of these kinds.
    pub retry_by_kind: BTreeMap<String, RetryPolicy>,
    pub timeout_ms: Option<u64>,
    /// 0: for ever, as with the others.
    pub succeeded_ms: Option<u64>,
    pub cancelled_ms: Option<u64>,
    pub dead_ms: Option<u64>,
    pub limits: QueueLimits,
}

/// How many jobs of a queue may be under way, over all brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Attempts that workers have at a time; `None`: as many as they can.
    pub concurrency: Option<u32>,
    /// Attempts that go to workers in a time; `None`: as fast as they can.
    pub rate: Option<RateLimit>,
    pub key: KeyLimits,
}

/// The same of each key of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    pub concurrency: Option<u32>,
    pub rate: Option<RateLimit>,
    /// One at a time, in the order of their ids.
    pub ordered: bool,
}

impl KeyLimits {
    pub const NONE: Self = Self { concurrency: None, rate: None, ordered: false };

    pub fn are_any(self) -> bool {
        self != Self::NONE
    }
}

/// So many jobs in each period in the long run, and at most a burst at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub jobs: u32,
    pub period_ms: u64,
    pub burst: u32,
}

impl QueueLimits {
    pub const NONE: Self = Self { concurrency: None, rate: None, key: KeyLimits::NONE };

    pub fn are_any(self) -> bool {
        self != Self::NONE
    }
}

/// What of a queue decides about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRules {
    pub version: i64,
    pub paused: bool,
    pub timeout_ms: Option<u64>,
    pub limits: QueueLimits,
}

impl Queue {
    pub fn rules(&self) -> QueueRules {
        let paused = self.paused_at.is_some();
        let limits = self.own.limits;
        QueueRules { version: self.version, paused, timeout_ms: self.timeout_ms, limits }
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
