use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Core, PipelineError};
use crate::{
    domain::{Count, Queue, QueueId, QueueStats, Sampled},
    store::{self, StoreError},
};

/// Jobs that are counted one by one: more are estimated.
const COUNTED_MAX: u64 = 10_000;
/// Pages of the table of jobs that a sample reads, about.
const SAMPLED_PAGES: f64 = 2000.0;
/// How long a sample is good for: all queues share it.
const SAMPLE_TIME: Duration = Duration::from_secs(5);

/// What a look at the table says of all queues.
pub(super) struct Depths {
    at: Duration,
    share: f64,
    sampled: HashMap<QueueId, Sampled>,
    /// Of the next jobs that are due; `all`: there are no others.
    scheduled: HashMap<QueueId, u64>,
    all: bool,
}

impl Core {
    /// How a queue stands. `None`: there is none of that name.
    pub async fn queue_stats(&self, name: &str) -> Result<Option<QueueStats>, PipelineError> {
        self.change("a queue's statistics could not be read", async {
            let client = self.store.client().await?;
            let found = store::find_queues(&client, &[name], &self.queues.defaults).await?;
            drop(client);
            match found.first() {
                Some(queue) => self.read_stats(queue).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn read_stats(&self, queue: &Queue) -> Result<QueueStats, StoreError> {
        let depths = self.depths().await?;
        let client = self.store.client().await?;
        let ready = store::count_ready(&client, queue.id, COUNTED_MAX).await?;
        let dead = store::count_dead(&client, queue.id, COUNTED_MAX).await?;
        let oldest = store::oldest_ready(&client, queue.id).await?;
        let load = store::queue_load(&client, queue.id).await?;
        let sampled = depths.sampled.get(&queue.id).copied().unwrap_or_default();
        let estimate = |jobs| Count::sampled(jobs, depths.share);
        let scheduled = depths.scheduled.get(&queue.id).copied().unwrap_or(0);
        let scheduled = if depths.all {
            Count::exact(scheduled)
        } else {
            Count::bounded(scheduled, scheduled, estimate(sampled.scheduled))
        };
        let now = self.clock.database_micros();
        let age_ms = |at: chrono::DateTime<chrono::Utc>| {
            u64::try_from((now - at.timestamp_micros()) / 1000).unwrap_or(0)
        };
        Ok(QueueStats {
            scheduled,
            ready: Count::bounded(ready, COUNTED_MAX, estimate(sampled.ready)),
            running: load.held,
            succeeded: estimate(sampled.succeeded),
            dead: Count::bounded(dead, COUNTED_MAX, estimate(sampled.dead)),
            cancelled: estimate(sampled.cancelled),
            oldest_ready_ms: oldest.map(age_ms),
            enqueued_per_s: load.enqueued_per_s,
            completed_per_s: load.completed_per_s,
            sessions: load.sessions,
        })
    }

    /// One look at a time, good for some seconds.
    async fn depths(&self) -> Result<Arc<Depths>, StoreError> {
        let mut last = self.depths.lock().await;
        if let Some(depths) =
            last.as_ref().filter(|depths| self.clock.now() < depths.at + SAMPLE_TIME)
        {
            return Ok(Arc::clone(depths));
        }
        let client = self.store.client().await?;
        let pages = store::job_pages(&client).await?;
        let share = (SAMPLED_PAGES / pages.max(1) as f64).min(1.0);
        let sampled = store::sample_jobs(&client, share).await?;
        let next = store::next_scheduled(&client, COUNTED_MAX).await?;
        let all = (next.len() as u64) < COUNTED_MAX;
        let mut scheduled: HashMap<QueueId, u64> = HashMap::new();
        for queue in next {
            *scheduled.entry(queue).or_default() += 1;
        }
        let depths = Arc::new(Depths { at: self.clock.now(), share, sampled, scheduled, all });
        *last = Some(Arc::clone(&depths));
        Ok(depths)
    }
}
