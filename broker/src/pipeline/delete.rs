use std::collections::HashMap;

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{DeleteVerdict, JobId},
    store::{self, StoreError},
};

impl Core {
    /// Deletes jobs that don't run and returns after the commit: a verdict for each, in order.
    pub async fn delete(
        &self,
        caller: &Caller,
        ids: &[JobId],
    ) -> Result<Vec<DeleteVerdict>, PipelineError> {
        self.note_action(caller, "delete", ids).await?;
        self.change("jobs could not be deleted", self.try_delete(caller, ids)).await
    }

    async fn try_delete(
        &self,
        caller: &Caller,
        ids: &[JobId],
    ) -> Result<Vec<DeleteVerdict>, StoreError> {
        let keys = self.keys_for(caller, ids).await?;
        let mut client = self.store.client().await?;
        let deleted = store::delete_jobs(&mut client, &keys).await?;
        metrics::counter!("currant_jobs_deleted_total").increment(deleted.len() as u64);
        // One that another call has deleted in between is said to run; the next try says better.
        let mut verdicts: HashMap<JobId, DeleteVerdict> =
            keys.into_iter().map(|key| (key.id, DeleteVerdict::Running)).collect();
        verdicts.extend(deleted.into_iter().map(|key| (key.id, DeleteVerdict::Deleted)));
        let verdict = |id| verdicts.get(id).copied().unwrap_or(DeleteVerdict::NotFound);
        Ok(ids.iter().map(verdict).collect())
    }
}
