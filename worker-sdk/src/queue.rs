//! Calls that look at queues and change them.

use std::time::{Duration, SystemTime};

use currant_proto::v1;

use crate::{
    client::Client,
    clock,
    error::Error,
    queue_settings::QueueSettings,
    retry::with_retry,
    time::{from_proto, from_timestamp, to_proto},
};

const PAGE_SIZE: u32 = 1000;

/// How long one call of a drain waits.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

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

    /// Changes settings of a queue, which is created if it isn't there: reads them, lets `change` have them
    /// and writes them all. Not atomic: of two at the same moment the later one holds.
    pub async fn update_queue(
        &self,
        name: impl Into<String>,
        change: impl FnOnce(&mut QueueSettings),
    ) -> Result<Queue, Error> {
        let name = name.into();
        let mut settings = match self.queue(&name).await {
            Ok(queue) => queue.settings,
            Err(Error::NotFound { .. }) => QueueSettings::default(),
            Err(error) => return Err(error),
        };
        change(&mut settings);
        self.configure_queue(name, settings).await
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
