use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::OwnedSemaphorePermit;

use super::{Caller, Core, PipelineError, error::log};
use crate::{
    domain::{Count, Queue, QueueId, QueueStats, ReadyIn, Sampled},
    store::{self, Load, Standing, StoreError},
};

/// Jobs that are counted one by one: more are estimated.
const COUNTED_MAX: u64 = 10_000;
/// Pages of the table of jobs that a sample reads, about.
const SAMPLED_PAGES: f64 = 2000.0;
/// How long a sample is good for: all queues share it.
const SAMPLE_TIME: Duration = Duration::from_secs(5);
/// What metrics say of queues is read when somebody asks for them, this long after the last time or later.
const METERED_TIME: Duration = Duration::from_secs(15);
/// Whoever asks for metrics waits so long for it.
const METERED_TIME_MAX: Duration = Duration::from_secs(2);
/// As `COUNTED_MAX`, of each queue that is measured.
const METERED_COUNTED_MAX: u64 = 1000;

/// What a look at the table says of all queues.
pub(super) struct Depths {
    at: Duration,
    share: f64,
    sampled: HashMap<QueueId, Sampled>,
    /// Of the next jobs that are due; `all`: there are no others.
    scheduled: HashMap<QueueId, u64>,
    all: bool,
}

/// How the queues stand that are measured each.
pub(super) type MeteredDepths = Arc<HashMap<QueueId, QueueStats>>;

/// Calls of `watch_stats` that may be under way.
pub(super) const STATS_WATCHERS_MAX: usize = 16;

/// A call that is told how queues stand, again and again.
pub struct WatchStats {
    core: Arc<Core>,
    caller: Caller,
    after: String,
    limit: usize,
    interval: Duration,
    next_at: Duration,
    _permit: OwnedSemaphorePermit,
}

impl WatchStats {
    /// Waits until it is time, and returns how the queues stand and whether there are more of them.
    pub async fn next(&mut self) -> Result<(Vec<(Queue, QueueStats)>, bool), PipelineError> {
        let core = Arc::clone(&self.core);
        tokio::time::sleep(self.next_at.saturating_sub(core.clock.now())).await;
        if core.is_draining() {
            return Err(PipelineError::Draining);
        }
        self.next_at = core.clock.now() + self.interval;
        // One more than is wanted, to know whether there is one.
        let mut queues = core.list_queues(&self.caller, &self.after, self.limit + 1).await?;
        let more = queues.len() > self.limit;
        queues.truncate(self.limit);
        let ids: Vec<QueueId> = queues.iter().map(|queue| queue.id).collect();
        let stats = core.read_stats(&ids);
        let stats = core.change("the statistics of queues could not be read", stats).await?;
        Ok((queues.into_iter().zip(stats).collect(), more))
    }
}

impl Core {
    /// Tells how the first queues behind a name stand that the caller may use.
    pub fn watch_stats(
        self: &Arc<Self>,
        caller: Caller,
        after: String,
        limit: usize,
        interval: Duration,
    ) -> Result<WatchStats, PipelineError> {
        let permit = Arc::clone(&self.stats_watchers).try_acquire_owned();
        let permit = permit.map_err(|_| PipelineError::Full {
            what: "the number of watchers of statistics",
            limit: format!("at most {STATS_WATCHERS_MAX} at a time"),
            retry_after: Duration::from_secs(5),
        })?;
        let (core, next_at) = (Arc::clone(self), Duration::ZERO);
        Ok(WatchStats { core, caller, after, limit, interval, next_at, _permit: permit })
    }

    /// How a queue stands. `None`: there is none of that name.
    pub async fn queue_stats(&self, name: &str) -> Result<Option<QueueStats>, PipelineError> {
        self.change("a queue's statistics could not be read", async {
            let client = self.store.client().await?;
            let found = store::find_queues(&client, &[name], &self.queues.defaults).await?;
            drop(client);
            match found.first() {
                Some(queue) => Ok(self.read_stats(&[queue.id]).await?.pop()),
                None => Ok(None),
            }
        })
        .await
    }

    /// As many, in order.
    async fn read_stats(&self, queues: &[QueueId]) -> Result<Vec<QueueStats>, StoreError> {
        let depths = self.depths().await?;
        let client = self.store.client().await?;
        let standings = store::queue_standings(&client, queues, COUNTED_MAX).await?;
        let loads = store::queue_loads(&client, queues).await?;
        let stats = |queue: &QueueId| {
            let standing = standings.get(queue).copied().unwrap_or_default();
            let load = loads.get(queue).copied().unwrap_or_default();
            self.stats_of(*queue, &depths, standing, COUNTED_MAX, load)
        };
        Ok(queues.iter().map(stats).collect())
    }

    /// `counted_max`: up to how many jobs were counted.
    fn stats_of(
        &self,
        queue: QueueId,
        depths: &Depths,
        standing: Standing,
        counted_max: u64,
        load: Load,
    ) -> QueueStats {
        let Standing { ready, dead, oldest_ready } = standing;
        let sampled = depths.sampled.get(&queue).copied().unwrap_or_default();
        let estimate = |jobs| Count::sampled(jobs, depths.share);
        let scheduled = depths.scheduled.get(&queue).copied().unwrap_or(0);
        let scheduled = if depths.all {
            Count::exact(scheduled)
        } else {
            Count::bounded(scheduled, scheduled, estimate(sampled.scheduled))
        };
        let now = self.clock.database_micros();
        let age_ms = |at: chrono::DateTime<chrono::Utc>| {
            u64::try_from((now - at.timestamp_micros()) / 1000).unwrap_or(0)
        };
        QueueStats {
            scheduled,
            ready: Count::bounded(ready, counted_max, estimate(sampled.ready)),
            running: load.held,
            succeeded: estimate(sampled.succeeded),
            dead: Count::bounded(dead, counted_max, estimate(sampled.dead)),
            cancelled: estimate(sampled.cancelled),
            oldest_ready_ms: oldest_ready.map(age_ms),
            enqueued_per_s: load.enqueued_per_s,
            completed_per_s: load.completed_per_s,
            sessions: load.sessions,
        }
    }

    /// How the queues stand that are measured each: a look that is some seconds old, or a new one. `None`: it
    /// failed or took too long, and is tried again as late as it would have been made anew.
    pub(super) async fn depths_for_metrics(self: &Arc<Self>) -> Option<MeteredDepths> {
        let mut last = self.metered_depths.lock().await;
        if let Some((at, stats)) = last.as_ref()
            && self.clock.now() < *at + METERED_TIME
        {
            return stats.clone();
        }
        let look = tokio::time::timeout(METERED_TIME_MAX, self.look_for_metrics()).await;
        let stats = match look {
            Ok(Ok(stats)) => Some(Arc::new(stats)),
            Ok(Err(error)) => {
                log(&error, "the depths of queues could not be read for the metrics");
                None
            }
            Err(_) => {
                tracing::warn!("to read the depths of queues for the metrics takes too long");
                None
            }
        };
        *last = Some((self.clock.now(), stats.clone()));
        stats
    }

    async fn look_for_metrics(
        self: &Arc<Self>,
    ) -> Result<HashMap<QueueId, QueueStats>, StoreError> {
        let queues = self.measured_queues().await?;
        if queues.is_empty() {
            return Ok(HashMap::new());
        }
        let depths = self.depths().await?;
        let client = self.store.client().await?;
        let standings = store::queue_standings(&client, &queues, METERED_COUNTED_MAX).await?;
        let stats = |(queue, standing)| {
            let load = Load::default();
            (queue, self.stats_of(queue, &depths, standing, METERED_COUNTED_MAX, load))
        };
        Ok(standings.into_iter().map(stats).collect())
    }

    /// The queues that have figures of their own; from now on also those in which jobs are ready that others
    /// have stored and no worker here has asked for, as far as there is room.
    async fn measured_queues(self: &Arc<Self>) -> Result<Vec<QueueId>, StoreError> {
        let (mut measured, room) = {
            let meters = &self.dispatch.lock().meters;
            (meters.queues(), meters.room())
        };
        if room == 0 {
            return Ok(measured);
        }
        let client = self.store.client().await?;
        let mut others = store::all_queues(&client).await?;
        let known: HashSet<QueueId> = measured.iter().copied().collect();
        others.retain(|queue| !known.contains(queue));
        let places: Vec<ReadyIn> = others.into_iter().flat_map(ReadyIn::either).collect();
        let ready = store::ready_queues(&client, &places).await?;
        drop(client);
        let new: BTreeSet<QueueId> = ready.iter().map(|place| place.queue).collect();
        let new: Vec<QueueId> = new.into_iter().take(room).collect();
        // They are shown by their names.
        self.queues_by_id(&new).await?;
        let meters = &mut self.dispatch.lock().meters;
        for queue in &new {
            meters.queue(*queue);
        }
        measured.extend(new);
        Ok(measured)
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
