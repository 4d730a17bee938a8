//! Jobs with a key: by calls of their own, beside the batches of all others, and through the backlog.

use std::{collections::BTreeSet, sync::Arc};

use super::{Core, Enqueued, PipelineError, coalescer::Permit};
use crate::{
    clock::time_of_micros,
    domain::{NewJob, QueueId, ReadyIn, Start, UniqueVerdict},
    store::{self, UniqueRow},
};

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
        let ids: Vec<QueueId> = jobs.iter().map(|job| job.queue).collect();
        let work = async {
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
            let stored = store::enqueue_unique(&mut client, &rows).await?;
            let mut all: Vec<_> = places.iter().copied().zip(stored).collect();
            all.sort_unstable_by_key(|(place, _)| *place);
            Ok(all.into_iter().map(|(_, one)| one).collect::<Vec<_>>())
        };
        let stored = self.change("unique jobs could not be stored", work).await?;
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
}
