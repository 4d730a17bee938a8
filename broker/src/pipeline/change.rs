use std::collections::HashSet;

use tokio::sync::Semaphore;

use super::{Core, PipelineError, error::log};
use crate::{
    domain::{JobId, JobKey, QueueId},
    store::{self, StoreError},
};

/// Of the pool's connections: a flood of such calls is not to hold up what is stored and completed.
const CHANGES_AT_A_TIME: usize = 2;
const UNIQUE_AT_A_TIME: usize = 2;

/// How many calls beside the batches have a connection at a time.
pub(super) struct Turns {
    /// Those that change or list jobs.
    changes: Semaphore,
    /// Those that store unique jobs.
    pub(super) unique: Semaphore,
    /// Those of them that wait for what another transaction has locked: the others are left a turn.
    pub(super) locked: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            changes: Semaphore::new(CHANGES_AT_A_TIME),
            unique: Semaphore::new(UNIQUE_AT_A_TIME),
            locked: Semaphore::new(UNIQUE_AT_A_TIME - 1),
        }
    }
}

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
        let _turn = self.turns.changes.acquire().await.map_err(|_| PipelineError::Internal)?;
        work.await.map_err(|error| {
            log(&error, failure);
            PipelineError::from(&error)
        })
    }
}
