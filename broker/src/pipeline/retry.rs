use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{JobId, JobKey, QueueId, RetryVerdict},
    store::{self, StoreError},
};

impl Core {
    /// Makes dead and cancelled jobs ready again and returns after the commit: a verdict for each, in
    /// order.
    pub async fn retry(
        self: &Arc<Self>,
        caller: &Caller,
        ids: &[JobId],
        queue: Option<QueueId>,
    ) -> Result<Vec<RetryVerdict>, PipelineError> {
        self.note_action(caller, "retry", ids).await?;
        let work = async { self.retry_keys(self.keys_for(caller, ids, queue).await?).await };
        let verdicts = self.change("jobs could not be retried", work).await?;
        let verdict = |id| verdicts.get(id).copied().unwrap_or(RetryVerdict::NotFound);
        Ok(ids.iter().map(verdict).collect())
    }

    /// `keys` sorted. Those that aren't there have no verdict.
    pub(super) async fn retry_keys(
        self: &Arc<Self>,
        keys: Vec<JobKey>,
    ) -> Result<HashMap<JobId, RetryVerdict>, StoreError> {
        let mut client = self.store.client().await?;
        let retried = store::retry_jobs(&mut client, &keys).await?;
        metrics::counter!("currant_jobs_retried_total").increment(retried.len() as u64);
        self.are_ready(&retried);
        let written: HashSet<JobKey> = retried.iter().map(|job| job.key).collect();
        let others: Vec<JobKey> = keys.into_iter().filter(|key| !written.contains(key)).collect();
        let mut verdicts: HashMap<JobId, RetryVerdict> =
            written.into_iter().map(|key| (key.id, RetryVerdict::Ready)).collect();
        if !others.is_empty() {
            for state in store::job_states(&client, &others).await? {
                // What has ended since waited or ran when it was to be retried.
                let verdict = match state.outcome {
                    Some(store::OUTCOME_SUCCEEDED) => RetryVerdict::Succeeded,
                    _ => RetryVerdict::Open,
                };
                verdicts.insert(state.key.id, verdict);
            }
        }
        Ok(verdicts)
    }
}
