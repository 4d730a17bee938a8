//! Jobs with a key: by calls of their own, beside the batches of all others, and through the backlog.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Core, Enqueued, PipelineError, coalescer::Permit, error::log};
use crate::{
    clock::time_of_micros,
    domain::{JobId, NewJob, QueueId, ReadyIn, Start, UniqueVerdict},
    store::{self, StoreError, UniqueRow},
};

/// Longer than another broker's call has a key, mostly.
const AT_ONCE: Duration = Duration::from_millis(20);

/// How long a call waits for others that wait, and then for what is locked.
const LOCKED_MAX: Duration = Duration::from_secs(1);

type Stored = (JobId, UniqueVerdict);

impl Core {
    /// Stores jobs some of which have a key, all or none, and returns after the commit.
    pub(super) async fn enqueue_unique(
        self: &Arc<Self>,
        jobs: Vec<NewJob>,
        _permit: Permit,
    ) -> Result<Enqueued, PipelineError> {
        // The database makes their ids. What was stored here before comes first.
        let ahead = self.ids.lock().ahead(self.clock.database_micros() / 1000);
        if !ahead.is_zero() {
            tokio::time::sleep(ahead).await;
        }
        let stored = self.store_unique(&jobs).await.map_err(|error| {
            log(&error, "unique jobs could not be stored");
            PipelineError::from(&error)
        })?;
        if let Some(last) = stored.iter().map(|(id, _)| *id).max() {
            self.ids.lock().follow(last, self.clock.database_micros() / 1000);
        }
        {
            let mut dispatch = self.dispatch.lock();
            for (job, _) in
                jobs.iter().zip(&stored).filter(|(_, (_, it))| *it == UniqueVerdict::Stored)
            {
                dispatch.meters.queue(job.queue).enqueued += 1;
            }
        }
        // Others hear of it from the database, and this broker where it listens.
        let ready = jobs.iter().zip(&stored).flat_map(|(job, (_, verdict))| {
            // What was replaced may have held up others of the key that it had.
            let replaced = *verdict == UniqueVerdict::Replaced;
            let noted = move |ready: &ReadyIn| replaced || ready.keyed == job.key.is_some();
            ReadyIn::either(job.queue).into_iter().filter(noted)
        });
        for ready in ready.collect::<BTreeSet<_>>() {
            self.notified(ready);
        }
        self.due().may_be();
        let (ids, verdicts) = stored.into_iter().unzip();
        Ok(Enqueued { ids, duplicate: false, verdicts })
    }

    /// A call that meets what another transaction has locked begins anew, and waits for it where it keeps up no
    /// other. An application's transaction may be open for any time.
    async fn store_unique(self: &Arc<Self>, jobs: &[NewJob]) -> Result<Vec<Stored>, StoreError> {
        let locked = match self.try_unique(jobs, AT_ONCE).await {
            Err(error) if error.is_locked() => error,
            result => return result,
        };
        let Ok(turn) = timeout(LOCKED_MAX, self.turns.locked.acquire()).await else {
            return Err(locked);
        };
        let stored = self.try_unique(jobs, LOCKED_MAX).await;
        drop(turn);
        stored
    }

    async fn try_unique(
        self: &Arc<Self>,
        jobs: &[NewJob],
        lock_timeout: Duration,
    ) -> Result<Vec<Stored>, StoreError> {
        // Nobody closes it.
        let _turn = self.turns.unique.acquire().await;
        let ids: Vec<QueueId> = jobs.iter().map(|job| job.queue).collect();
        let queues = self.queues_by_id(&ids).await?;
        let now = self.clock.database_micros();
        let mut places: Vec<usize> = (0..jobs.len()).collect();
        let key = |job: &NewJob| job.unique.as_ref().map(|unique| unique.key.clone());
        places.sort_by_cached_key(|place| (jobs[*place].queue, key(&jobs[*place])));
        let row = |place: &usize| {
            let job = &jobs[*place];
            let queue = queues.get(&job.queue).map_or("", |queue| &*queue.name);
            let start = match job.start {
                Start::Now => None,
                Start::AtMicros(at) => Some(at),
                Start::AfterMicros(delay) => Some(now.saturating_add(delay)),
            };
            let expires_at = job.options.as_ref().and_then(|options| options.expires_at);
            // It was checked by an earlier look at the clock.
            let start = start.map(|at| expires_at.map_or(at, |expires_at| at.min(expires_at)));
            let [run_at, expire_at] = [start, expires_at].map(|at| at.map(time_of_micros));
            UniqueRow { job, queue, run_at, expire_at }
        };
        let rows: Vec<_> = places.iter().map(row).collect();
        let mut client = self.store.client().await?;
        let stored = store::enqueue_unique(&mut client, &rows, lock_timeout).await?;
        let mut all: Vec<_> = places.iter().copied().zip(stored).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, one)| one).collect())
    }
}
