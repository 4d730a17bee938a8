//! Calls that look at queues and change them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use currant_proto::v1;

use crate::{
    client::Client,
    clock,
    error::Error,
    retry::with_retry,
    retry_policy::RetryPolicy,
    time::{from_proto, from_timestamp, to_proto},
};

const PAGE_SIZE: u32 = 1000;

/// How long one call of a drain waits.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

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

/// A queue as the broker has it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Since when it is paused.
    pub paused_at: Option<SystemTime>,
    /// What it says itself.
    pub settings: QueueSettings,
    /// What holds for its jobs, the broker's settings among it. Without a timeout there is no limit.
    pub effective: QueueSettings,
}

/// How many jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobCount {
    /// The number, or an estimate of it.
    pub jobs: u64,
    /// False: an estimate from a random sample of the table.
    pub exact: bool,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Exact up to 10,000, and while all queues together have fewer.
    pub scheduled: JobCount,
    /// Exact up to 10,000.
    pub ready: JobCount,
    /// With workers or in the memory of brokers, as these said a second or two ago.
    pub running: u64,
    /// Those that are still kept, as with the next two.
    pub succeeded: JobCount,
    /// See `succeeded`.
    pub dead: JobCount,
    /// See `succeeded`.
    pub cancelled: JobCount,
    /// For how long the first job of a priority has been ready, the longest of all priorities. None: none
    /// is ready.
    pub oldest_ready: Option<Duration>,
    /// In the mean of the last 10 seconds, without those stored by SQL.
    pub enqueued_per_second: f64,
    /// Attempts that workers have reported, in the mean of the last 10 seconds.
    pub completed_per_second: f64,
    /// Open sessions of workers.
    pub sessions: u64,
}

impl Client {
    /// A queue. [`Error::NotFound`] if there is none of that name.
    pub async fn queue(&self, name: impl Into<String>) -> Result<Queue, Error> {
        let request = v1::GetQueueRequest { queue: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut queues, request) = (self.queues.clone(), request.clone());
            async move { queues.get(request).await }
        });
        read(answer.await?.into_inner().queue)
    }

    /// All queues, in the order of their names.
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListQueuesRequest { page_size: PAGE_SIZE, page_token };
            let answer = with_retry(self.deadline, || {
                let (mut queues, request) = (self.queues.clone(), request.clone());
                async move { queues.list(request).await }
            });
            let page = answer.await?.into_inner();
            for queue in page.queues {
                all.push(read(Some(queue))?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Replaces all settings of a queue, which is created if it isn't there.
    pub async fn configure_queue(
        &self,
        name: impl Into<String>,
        settings: QueueSettings,
    ) -> Result<Queue, Error> {
        let settings = Some(settings.into_proto());
        let request = v1::ConfigureQueueRequest { queue: name.into(), settings };
        let answer = with_retry(self.deadline, || {
            let (mut queues, request) = (self.queues.clone(), request.clone());
            async move { queues.configure(request).await }
        });
        read(answer.await?.into_inner().queue)
    }

    /// Gives no further job of a queue to workers; what they hold goes on. Other brokers follow within
    /// milliseconds, at the latest with their next heartbeat (3 s by default).
    pub async fn pause_queue(&self, name: impl Into<String>) -> Result<Queue, Error> {
        let request = v1::PauseQueueRequest { queue: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut queues, request) = (self.queues.clone(), request.clone());
            async move { queues.pause(request).await }
        });
        read(answer.await?.into_inner().queue)
    }

    /// Ends a pause.
    pub async fn resume_queue(&self, name: impl Into<String>) -> Result<Queue, Error> {
        let request = v1::ResumeQueueRequest { queue: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut queues, request) = (self.queues.clone(), request.clone());
            async move { queues.resume(request).await }
        });
        read(answer.await?.into_inner().queue)
    }

    /// Pauses a queue and waits until no worker has a job of it any more, at most for so long. Returns
    /// whether that is so; it stays paused.
    pub async fn drain_queue(
        &self,
        name: impl Into<String>,
        wait: Duration,
    ) -> Result<bool, Error> {
        let name = name.into();
        let give_up_at = clock::now() + wait;
        loop {
            let left = give_up_at.saturating_duration_since(clock::now());
            let wait = Some(to_proto(left.min(DRAIN_WAIT)));
            let request = v1::DrainQueueRequest { queue: name.clone(), wait };
            let answer = with_retry(self.deadline.max(2 * DRAIN_WAIT), || {
                let (mut queues, request) = (self.queues.clone(), request.clone());
                async move { queues.drain(request).await }
            });
            if answer.await?.into_inner().drained {
                return Ok(true);
            }
            if clock::now() >= give_up_at {
                return Ok(false);
            }
        }
    }

    /// How a queue stands. Cheap: it never counts all jobs.
    pub async fn queue_stats(&self, name: impl Into<String>) -> Result<QueueStats, Error> {
        let request = v1::QueueStatsRequest { queue: name.into() };
        let answer = with_retry(self.deadline, || {
            let (mut queues, request) = (self.queues.clone(), request.clone());
            async move { queues.stats(request).await }
        });
        Ok(QueueStats::from_proto(answer.await?.into_inner()))
    }
}

impl QueueStats {
    fn from_proto(stats: v1::QueueStatsResponse) -> QueueStats {
        let v1::QueueStatsResponse {
            scheduled,
            ready,
            running,
            succeeded,
            dead,
            cancelled,
            oldest_ready,
            enqueued_per_second,
            completed_per_second,
            sessions,
        } = stats;
        let count = |count: Option<v1::JobCount>| {
            let v1::JobCount { jobs, exact } = count.unwrap_or_default();
            JobCount { jobs, exact }
        };
        QueueStats {
            scheduled: count(scheduled),
            ready: count(ready),
            running,
            succeeded: count(succeeded),
            dead: count(dead),
            cancelled: count(cancelled),
            oldest_ready: from_proto(oldest_ready),
            enqueued_per_second,
            completed_per_second,
            sessions,
        }
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
    fn into_proto(self) -> v1::QueueSettings {
        let QueueSettings { priority, max_attempts, timeout, retry, retry_by_kind, .. } = self;
        let QueueSettings { keep_succeeded, keep_cancelled, keep_dead, .. } = self;
        let QueueSettings { concurrency_max, rate, .. } = self;
        let QueueSettings { key_concurrency_max, key_rate, key_ordered, .. } = self;
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
        }
    }

    fn from_proto(settings: v1::QueueSettings) -> QueueSettings {
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
        }
    }
}

fn read(queue: Option<v1::Queue>) -> Result<Queue, Error> {
    let v1::Queue { name, paused_at, settings, effective } =
        queue.ok_or(Error::Protocol("no queue in the answer"))?;
    Ok(Queue {
        name,
        paused_at: from_timestamp(paused_at)?,
        settings: QueueSettings::from_proto(settings.unwrap_or_default()),
        effective: QueueSettings::from_proto(effective.unwrap_or_default()),
    })
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
        };
        assert_eq!(QueueSettings::from_proto(settings.clone().into_proto()), settings);
        let none = QueueSettings::default();
        assert_eq!(QueueSettings::from_proto(none.clone().into_proto()), none);
    }
}
