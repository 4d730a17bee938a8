use std::sync::Arc;

use super::{Core, PipelineError, error::log};
use crate::{
    domain::{FailedAttempt, JobId, Queue, QueueId, StoredJob},
    store::{self, StoreError},
};

impl Core {
    /// A job as stored, with its queue, which may be known.
    pub async fn get(
        self: &Arc<Self>,
        id: JobId,
        queue: Option<QueueId>,
    ) -> Result<Option<(StoredJob, Arc<Queue>)>, PipelineError> {
        self.try_get(id, queue).await.map_err(|error| {
            log(&error, "a job could not be read");
            PipelineError::from(&error)
        })
    }

    /// The failed attempts of a job that are remembered, in order.
    pub async fn failed_attempts(
        &self,
        job: &StoredJob,
    ) -> Result<Vec<FailedAttempt>, PipelineError> {
        // Each of them has left an error.
        if job.error.is_none() {
            return Ok(Vec::new());
        }
        let look = async {
            let client = self.store.client().await?;
            store::failed_attempts(&client, job.key).await
        };
        look.await.map_err(|error| {
            log(&error, "failed attempts could not be read");
            PipelineError::from(&error)
        })
    }

    async fn try_get(
        self: &Arc<Self>,
        id: JobId,
        queue: Option<QueueId>,
    ) -> Result<Option<(StoredJob, Arc<Queue>)>, StoreError> {
        let job = {
            let client = self.store.client().await?;
            store::get_job(&client, id, queue).await?
        };
        let Some(job) = job else { return Ok(None) };
        let queue = job.key.queue;
        let queues = self.queues_by_id(&[queue]).await?;
        let queue = queues.get(&queue).cloned().ok_or_else(|| StoreError::Corrupt {
            table: "job",
            column: "queue_id",
            key: id.to_string(),
            problem: "there is no such queue".to_owned(),
        })?;
        Ok(Some((job, queue)))
    }
}
