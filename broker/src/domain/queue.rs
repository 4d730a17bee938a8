use std::{collections::BTreeMap, ops::Bound, sync::Arc};

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
    pub key_weights: KeyWeights,
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

/// Keys whose turns are longer than those of others: so many times as long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyWeights(Option<Arc<BTreeMap<Arc<str>, u16>>>);

/// What a key may weigh, and how many may have a weight.
pub const KEY_WEIGHT_MAX: u16 = 100;
pub const KEY_WEIGHTS_MAX: usize = 100;

impl KeyWeights {
    pub const NONE: Self = Self(None);

    pub fn are_none(&self) -> bool {
        self.0.is_none()
    }

    /// Of a key: 1 unless it was said.
    pub fn of(&self, key: &str) -> usize {
        self.0.as_ref().and_then(|weights| weights.get(key)).map_or(1, |weight| (*weight).into())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u16)> {
        self.0.iter().flat_map(|weights| weights.iter()).map(|(key, weight)| (key, *weight))
    }

    /// The keys behind this one that have a weight.
    pub fn behind(&self, after: &str) -> impl Iterator<Item = &Arc<str>> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.0.iter().flat_map(move |weights| weights.range::<str, _>(behind)).map(|(key, _)| key)
    }
}

impl FromIterator<(Arc<str>, u16)> for KeyWeights {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, u16)>>(weights: T) -> Self {
        let weights: BTreeMap<Arc<str>, u16> = weights.into_iter().collect();
        Self((!weights.is_empty()).then(|| Arc::new(weights)))
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRules {
    pub version: i64,
    pub paused: bool,
    pub timeout_ms: Option<u64>,
    pub limits: QueueLimits,
    pub key_weights: KeyWeights,
}

impl QueueRules {
    /// Of a queue of which nobody has said anything yet.
    pub const UNTOLD: Self = Self {
        version: -1,
        paused: false,
        timeout_ms: None,
        limits: QueueLimits::NONE,
        key_weights: KeyWeights::NONE,
    };
}

impl Queue {
    pub fn rules(&self) -> QueueRules {
        QueueRules {
            version: self.version,
            paused: self.paused_at.is_some(),
            timeout_ms: self.timeout_ms,
            limits: self.own.limits,
            key_weights: self.own.key_weights.clone(),
        }
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
