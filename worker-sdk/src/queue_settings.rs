//! What queues say for their jobs.

use std::{collections::BTreeMap, time::Duration};

use currant_proto::v1;

use crate::{
    retry_policy::RetryPolicy,
    time::{from_proto, to_proto},
};

/// How long finished jobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This long after their end: 1 minute to 10 years.
    For(Duration),
    /// They aren't deleted.
    ForEver,
}

/// What a queue says for its jobs; what is `None` is the broker's setting for all queues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSettings {
    /// -100 to 100, for jobs that are enqueued from now on with no priority of their own.
    pub priority: Option<i32>,
    /// 1 to 1000, for jobs without a number of their own, those that are there already too.
    pub max_attempts: Option<u32>,
    /// How long one attempt may run: 1 ms to 30 days.
    pub timeout: Option<Duration>,
    /// How long to wait after a failure.
    pub retry: Option<RetryPolicy>,
    /// The same for jobs of these kinds, at most 100.
    pub retry_by_kind: BTreeMap<String, RetryPolicy>,
    /// Of jobs that succeeded.
    pub keep_succeeded: Option<Keep>,
    /// Of cancelled jobs.
    pub keep_cancelled: Option<Keep>,
    /// Of dead jobs.
    pub keep_dead: Option<Keep>,
    /// How many attempts workers may have at a time, over all brokers: 1 to 1,000,000. None: no limit.
    pub concurrency_max: Option<u32>,
    /// How many attempts may go to workers in a time, over all brokers. None: no limit.
    pub rate: Option<RateLimit>,
    /// How many attempts of each key workers may have at a time. None: no limit.
    pub key_concurrency_max: Option<u32>,
    /// How many attempts of each key may go to workers in a time. None: no limit.
    pub key_rate: Option<RateLimit>,
    /// Jobs of one key run one at a time, in the order of their ids.
    pub key_ordered: bool,
    /// How many times as many jobs of these keys go to workers as of others, while both wait: 1 to 100, for at most
    /// 100 keys.
    pub key_weights: BTreeMap<String, u32>,
}

/// In any span of time, at most a burst and as many jobs as the rate gives in that span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// 1 to 1,000,000 in each period.
    pub jobs: u32,
    /// 1 ms to 1 day.
    pub period: Duration,
    /// How many may go at once after a while without any: 1 to 1,000,000.
    pub burst: u32,
}

impl RateLimit {
    /// So many a second, and as many at once.
    pub fn per_second(jobs: u32) -> RateLimit {
        RateLimit { jobs, period: Duration::from_secs(1), burst: jobs }
    }

    fn into_proto(self) -> v1::RateLimit {
        let RateLimit { jobs, period, burst } = self;
        v1::RateLimit { jobs, period: Some(to_proto(period)), burst }
    }

    fn from_proto(rate: v1::RateLimit) -> RateLimit {
        let v1::RateLimit { jobs, period, burst } = rate;
        RateLimit { jobs, period: from_proto(period).unwrap_or_default(), burst }
    }
}

impl Keep {
    fn into_proto(self) -> prost_types::Duration {
        match self {
            Keep::For(time) => to_proto(time),
            Keep::ForEver => prost_types::Duration::default(),
        }
    }

    fn from_proto(time: Option<prost_types::Duration>) -> Option<Keep> {
        from_proto(time).map(|time| if time.is_zero() { Keep::ForEver } else { Keep::For(time) })
    }
}

impl QueueSettings {
    pub(crate) fn into_proto(self) -> v1::QueueSettings {
        let QueueSettings { priority, max_attempts, timeout, retry, retry_by_kind, .. } = self;
        let QueueSettings { keep_succeeded, keep_cancelled, keep_dead, .. } = self;
        let QueueSettings { concurrency_max, rate, .. } = self;
        let QueueSettings { key_concurrency_max, key_rate, key_ordered, key_weights, .. } = self;
        v1::QueueSettings {
            priority,
            max_attempts: max_attempts.unwrap_or(0),
            timeout: timeout.map(to_proto),
            retry: retry.map(RetryPolicy::into_proto),
            retry_by_kind: retry_by_kind
                .into_iter()
                .map(|(kind, policy)| (kind, policy.into_proto()))
                .collect(),
            keep_succeeded: keep_succeeded.map(Keep::into_proto),
            keep_cancelled: keep_cancelled.map(Keep::into_proto),
            keep_dead: keep_dead.map(Keep::into_proto),
            concurrency_max: concurrency_max.unwrap_or(0),
            rate: rate.map(RateLimit::into_proto),
            key_concurrency_max: key_concurrency_max.unwrap_or(0),
            key_rate: key_rate.map(RateLimit::into_proto),
            key_ordered,
            key_weights,
        }
    }

    pub(crate) fn from_proto(settings: v1::QueueSettings) -> QueueSettings {
        let v1::QueueSettings {
            priority,
            max_attempts,
            timeout,
            retry,
            retry_by_kind,
            keep_succeeded,
            keep_cancelled,
            keep_dead,
            concurrency_max,
            rate,
            key_concurrency_max,
            key_rate,
            key_ordered,
            key_weights,
        } = settings;
        QueueSettings {
            priority,
            max_attempts: Some(max_attempts).filter(|max| *max > 0),
            timeout: from_proto(timeout),
            retry: retry.and_then(RetryPolicy::from_proto),
            retry_by_kind: retry_by_kind
                .into_iter()
                .filter_map(|(kind, policy)| Some((kind, RetryPolicy::from_proto(policy)?)))
                .collect(),
            keep_succeeded: Keep::from_proto(keep_succeeded),
            keep_cancelled: Keep::from_proto(keep_cancelled),
            keep_dead: Keep::from_proto(keep_dead),
            concurrency_max: Some(concurrency_max).filter(|max| *max > 0),
            rate: rate.map(RateLimit::from_proto),
            key_concurrency_max: Some(key_concurrency_max).filter(|max| *max > 0),
            key_rate: key_rate.map(RateLimit::from_proto),
            key_ordered,
            key_weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_wire() {
        let settings = QueueSettings {
            priority: Some(-3),
            max_attempts: Some(4),
            timeout: Some(Duration::from_secs(5)),
            retry: Some(RetryPolicy::exponential(Duration::from_secs(6)).jitter(0.0)),
            retry_by_kind: BTreeMap::from([(
                "k".to_owned(),
                RetryPolicy::fixed(Duration::from_secs(7)),
            )]),
            keep_succeeded: Some(Keep::ForEver),
            keep_cancelled: None,
            keep_dead: Some(Keep::For(Duration::from_secs(60))),
            concurrency_max: Some(7),
            rate: Some(RateLimit { burst: 3, ..RateLimit::per_second(5) }),
            key_concurrency_max: Some(2),
            key_rate: Some(RateLimit::per_second(9)),
            key_ordered: true,
            key_weights: BTreeMap::from([("acme".to_owned(), 3)]),
        };
        assert_eq!(QueueSettings::from_proto(settings.clone().into_proto()), settings);
        let none = QueueSettings::default();
        assert_eq!(QueueSettings::from_proto(none.clone().into_proto()), none);
    }
}
