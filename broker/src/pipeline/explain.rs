use std::sync::Arc;

use super::{Core, PipelineError};
use crate::{
    domain::{
        Facts, JobId, JobKey, KeyFacts, KeyLimits, Queue, QueueId, Reason, State, StoredJob,
        explain,
    },
    store::{self, Client, StoreError},
};

/// Why a job isn't running.
pub struct Explained {
    pub job: StoredJob,
    pub queue: Arc<Queue>,
    pub reason: Reason,
    /// Ready jobs before it.
    pub ahead: u64,
}

impl Core {
    /// Why a job isn't running, whose queue may be known.
    pub async fn explain(
        self: &Arc<Self>,
        id: JobId,
        queue: Option<QueueId>,
    ) -> Result<Option<Explained>, PipelineError> {
        let Some((job, queue)) = self.get(id, queue).await? else { return Ok(None) };
        let facts = self.facts(&job, &queue);
        let facts = self.change("a job could not be explained", facts).await?;
        Ok(Some(Explained { job, queue, reason: explain(&facts), ahead: facts.ahead }))
    }

    async fn facts(&self, job: &StoredJob, queue: &Queue) -> Result<Facts, StoreError> {
        let (mut owner, mut ahead, mut brokers, mut key) = (None, 0, Vec::new(), None);
        if matches!(job.state, State::Running | State::Ready) {
            let client = self.store.client().await?;
            brokers = store::brokers_of_queue(&client, job.key).await?;
            if job.state == State::Running {
                owner = store::job_owner(&client, job.key).await?;
            } else {
                ahead = store::jobs_ahead(&client, job).await?;
                key = self.key_facts(&client, job, queue.own.limits.key).await?;
            }
        }
        let dead_after = self.limits.dead_after.as_micros();
        Ok(Facts {
            now: self.clock.database_micros(),
            state: job.state,
            run_at: job.run_at,
            failures: job.failures,
            owner,
            here: self.engine(|engine| engine.place_of(job.key, job.attempt)),
            ahead,
            paused_at: queue.paused_at,
            key,
            limits: queue.own.limits,
            brokers,
            dead_after_micros: i64::try_from(dead_after).unwrap_or(i64::MAX),
        })
    }

    async fn key_facts(
        &self,
        client: &Client,
        job: &StoredJob,
        limits: KeyLimits,
    ) -> Result<Option<KeyFacts>, StoreError> {
        let Some(key) = job.job_key.as_ref().filter(|_| limits.are_any()) else { return Ok(None) };
        let JobKey { queue, id } = job.key;
        let now = self.clock.now();
        let standing = self.dispatch.lock().engine.key_standing(now, queue, key);
        let mut earlier = None;
        if limits.ordered {
            earlier = store::first_of_key(client, queue, key).await?.filter(|first| *first < id);
        }
        Ok(Some(KeyFacts { earlier, standing }))
    }
}
