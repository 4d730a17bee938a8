use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{DeleteVerdict, JobId, JobKey, QueueId},
    store::{self, StoreError},
};

impl Core {
    /// Deletes jobs that don't run and returns after the commit: a verdict for each, in order.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        ids: &[JobId],
        queue: Option<QueueId>,
    ) -> Result<Vec<DeleteVerdict>, PipelineError> {
        self.note_action(caller, "delete", ids).await?;
        let work = async { self.delete_keys(self.keys_for(caller, ids, queue).await?).await };
        let verdicts = self.change("jobs could not be deleted", work).await?;
        let verdict = |id| verdicts.get(id).copied().unwrap_or(DeleteVerdict::NotFound);
        Ok(ids.iter().map(verdict).collect())
    }

    /// `keys` sorted. Those that aren't there have no verdict.
    pub(super) async fn delete_keys(
        self: &Arc<Self>,
        keys: Vec<JobKey>,
    ) -> Result<HashMap<JobId, DeleteVerdict>, StoreError> {
        let mut client = self.store.client().await?;
        let deleted = store::delete_jobs(&mut client, &keys).await?;
        self.changed(deleted.iter().map(|one| one.key));
        self.keys_freed(deleted.iter().filter(|one| one.frees_key).map(|one| one.key.queue));
        metrics::counter!("currant_jobs_deleted_total").increment(deleted.len() as u64);
        let gone: HashSet<JobKey> = deleted.iter().map(|one| one.key).collect();
        let others: Vec<JobKey> = keys.into_iter().filter(|key| !gone.contains(key)).collect();
        let mut verdicts: HashMap<JobId, DeleteVerdict> =
            gone.into_iter().map(|key| (key.id, DeleteVerdict::Deleted)).collect();
        if !others.is_empty() {
            let there = store::job_states(&client, &others).await?;
            verdicts.extend(there.iter().map(|state| (state.key.id, DeleteVerdict::Running)));
        }
        Ok(verdicts)
    }
}
