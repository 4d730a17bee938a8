//! Cancel: the outcome is written at once, whoever holds the job. A broker that holds one finds a note
//! in the database: it is told by a NOTIFY, and by its own heartbeat should that get lost.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Caller, Core, PipelineError};
use crate::{
    domain::{CancelVerdict, JobId, JobKey, QueueId},
    store::{self, OUTCOME_CANCELLED, StoreError},
};

/// Notes that are looked at together.
const NOTES: usize = 1000;
/// Longer than it takes from a commit until its jobs are in memory, beyond the time of a statement.
const ON_THE_WAY: Duration = Duration::from_secs(1);

impl Core {
    /// Cancels jobs and returns after the commit: a verdict for each, in order.
    pub async fn cancel(
        self: &Arc<Self>,
        caller: &Caller,
        ids: &[JobId],
        queue: Option<QueueId>,
    ) -> Result<Vec<CancelVerdict>, PipelineError> {
        self.note_action(caller, "cancel", ids).await?;
        let work = async { self.cancel_keys(self.keys_for(caller, ids, queue).await?).await };
        let verdicts = self.change("jobs could not be cancelled", work).await?;
        let verdict = |id| {
            verdicts.get(id).copied().unwrap_or_else(|| {
                count(CancelVerdict::NotFound);
                CancelVerdict::NotFound
            })
        };
        Ok(ids.iter().map(verdict).collect())
    }

    /// `keys` sorted. Those that aren't there have no verdict.
    pub(super) async fn cancel_keys(
        self: &Arc<Self>,
        keys: Vec<JobKey>,
    ) -> Result<HashMap<JobId, CancelVerdict>, StoreError> {
        let client = self.store.client().await?;
        let cancelled = store::cancel_jobs(&client, &keys, self.unique_time()).await?;
        let written: HashSet<JobKey> = cancelled.iter().map(|one| one.key).collect();
        self.changed(written.iter().copied());
        self.keys_freed(cancelled.iter().filter(|one| one.frees_key).map(|one| one.key.queue));
        let others: Vec<JobKey> = keys.into_iter().filter(|key| !written.contains(key)).collect();
        let mut verdicts: HashMap<JobId, CancelVerdict> = HashMap::new();
        if !others.is_empty() {
            for state in store::job_states(&client, &others).await? {
                let before = state.outcome == Some(OUTCOME_CANCELLED);
                let verdict =
                    if before { CancelVerdict::Cancelled } else { CancelVerdict::Finished };
                verdicts.insert(state.key.id, verdict);
            }
        }
        drop(client);
        let mut ours = Vec::new();
        for one in &cancelled {
            let verdict = match one.held {
                None => CancelVerdict::Cancelled,
                Some((owner, attempt)) => {
                    if owner == self.broker.id {
                        ours.push((one.key, attempt));
                    }
                    CancelVerdict::Requested
                }
            };
            verdicts.insert(one.key.id, verdict);
        }
        for key in self.heard_of_cancels(&ours) {
            verdicts.insert(key.id, CancelVerdict::Cancelled);
        }
        let held = cancelled.iter().filter(|one| one.held.is_some()).count();
        if held > ours.len() {
            self.tell_others_of_cancels();
        }
        verdicts.values().copied().for_each(count);
        Ok(verdicts)
    }

    /// Tells the engine. Returns what no worker had.
    fn heard_of_cancels(self: &Arc<Self>, attempts: &[(JobKey, i32)]) -> Vec<JobKey> {
        if attempts.is_empty() {
            return Vec::new();
        }
        let expect = self.limits.statement_timeout + ON_THE_WAY;
        self.with_engine(|engine, now, actions| engine.cancelled(now, attempts, expect, actions))
    }

    /// Looks for notes of what this broker holds, those of its own calls too: hearing twice does no
    /// harm. They are forgotten only when the engine has been told.
    pub async fn look_for_cancels(self: &Arc<Self>) -> Result<(), StoreError> {
        let client = self.store.client().await?;
        loop {
            let noted = store::find_cancels(&client, self.broker.id, NOTES).await?;
            if noted.is_empty() {
                return Ok(());
            }
            self.heard_of_cancels(&noted);
            store::forget_cancels(&client, self.broker.id, &noted).await?;
        }
    }
}

fn count(verdict: CancelVerdict) {
    let label = match verdict {
        CancelVerdict::Cancelled => "cancelled",
        CancelVerdict::Requested => "requested",
        CancelVerdict::Finished => "finished",
        CancelVerdict::NotFound => "not_found",
    };
    metrics::counter!("currant_cancels_total", "verdict" => label).increment(1);
}
