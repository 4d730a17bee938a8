use std::collections::HashSet;

use super::{Core, PipelineError, error::log};
use crate::{
    domain::{JobId, JobKey, QueueId},
    store::{self, StoreError},
};

/// Of the pool's connections: a flood of such calls is not to hold up what is stored and completed.
pub(super) const CHANGES_AT_A_TIME: usize = 2;

impl Core {
    /// Those that are there, in the order in which all writes of jobs lock them. Where the queue is given
    /// all are taken to be there.
    pub(super) async fn locate_sorted(
        &self,
        ids: &[JobId],
        queue: Option<QueueId>,
    ) -> Result<Vec<JobKey>, StoreError> {
        let ids: HashSet<JobId> = ids.iter().copied().collect();
        let mut keys: Vec<JobKey> = match queue {
            Some(queue) => ids.into_iter().map(|id| JobKey { queue, id }).collect(),
            None => {
                let ids: Vec<JobId> = ids.into_iter().collect();
                let client = self.store.client().await?;
                store::locate_jobs(&client, &ids).await?
            }
        };
        keys.sort_unstable();
        Ok(keys)
    }

    /// Runs the work of a call that changes or lists jobs when its turn comes. How many wait is bounded
    /// by the number of requests that the broker admits.
    pub(super) async fn change<T>(
        &self,
        failure: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, PipelineError> {
        let _turn = self.changes.acquire().await.map_err(|_| PipelineError::Internal)?;
        work.await.map_err(|error| {
            log(&error, failure);
            PipelineError::from(&error)
        })
    }
}
