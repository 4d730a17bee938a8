use std::sync::Arc;

use super::{Core, Suspect, error::log};
use crate::{
    clock::Stopwatch,
    domain::{JobId, QueueId, TakenJob},
    engine::{ClaimFrom, KeyClaim, LimitedClaim, Walked},
    store::{self, Claim, ClaimedKeys, KeyWalk, StoreError},
};

impl Core {
    /// Carries out a claim that the engine asked for.
    pub(super) async fn claim(self: Arc<Self>, queue: QueueId, from: ClaimFrom, limit: usize) {
        let watermark = self.watermark.read().await;
        let watch = Stopwatch::start();
        let result = self.run_claim(queue, from, limit).await;
        match result {
            Ok(jobs) => {
                metrics::counter!("currant_jobs_claimed_total", "by" => from.name())
                    .increment(jobs.len() as u64);
                self.with_engine(|engine, now, actions| {
                    engine.claimed(now, watch.elapsed(), queue, limit, jobs, actions);
                });
            }
            Err(error) => {
                log(&error, "ready jobs could not be claimed");
                if error.may_have_committed() {
                    // It may have committed.
                    let low = match from {
                        ClaimFrom::Sweep => JobId(0),
                        ClaimFrom::Cursor { after, .. } => after,
                    };
                    self.suspect(Suspect { queue, low });
                }
                self.with_engine(|engine, now, _| engine.claim_failed(now, queue, limit));
            }
        }
        drop(watermark);
    }

    /// Carries out a claim of jobs with keys.
    pub(super) async fn claim_keys(self: Arc<Self>, queue: QueueId, claim: KeyClaim) {
        let watermark = self.watermark.read().await;
        let watch = Stopwatch::start();
        match self.run_claim_keys(queue, &claim).await {
            Ok(ClaimedKeys { jobs, keys, last }) => {
                metrics::counter!("currant_jobs_claimed_total", "by" => "keys")
                    .increment(jobs.len() as u64);
                let walked = Walked { keys, last };
                self.with_engine(|engine, now, actions| {
                    let took = watch.elapsed();
                    engine.claimed_keys(now, took, queue, &walked, jobs, actions);
                });
            }
            Err(error) => {
                log(&error, "ready jobs with keys could not be claimed");
                if error.may_have_committed() {
                    self.suspect(Suspect { queue, low: JobId(0) });
                }
                self.with_engine(|engine, now, actions| {
                    engine.claim_keys_failed(now, queue, actions);
                });
            }
        }
        drop(watermark);
    }

    async fn run_claim_keys(
        &self,
        queue: QueueId,
        claim: &KeyClaim,
    ) -> Result<ClaimedKeys, StoreError> {
        let KeyClaim { after, until, keys_max, each, shares, turns: _, limited, limit } = claim;
        let client = self.store.client().await?;
        let walk = KeyWalk {
            after,
            until: until.as_deref(),
            keys_max: *keys_max,
            each: *each,
            shares: shares.iter().map(|(key, share)| (&**key, *share)).collect(),
        };
        let limited = limited.map(|LimitedClaim { term, ordered }| (term, ordered));
        store::claim_keys(&client, self.claim_of(queue, *limit), &walk, limited).await
    }

    fn claim_of(&self, queue: QueueId, limit: usize) -> Claim {
        Claim { queue, owner: self.broker.id, claimed_at: self.clock.database_time(), limit }
    }

    async fn run_claim(
        &self,
        queue: QueueId,
        from: ClaimFrom,
        limit: usize,
    ) -> Result<Vec<TakenJob>, StoreError> {
        let client = self.store.client().await?;
        let claim = self.claim_of(queue, limit);
        match from {
            ClaimFrom::Sweep => store::claim_sweep(&client, claim).await,
            ClaimFrom::Cursor { priority, after } => {
                store::claim_cursor(&client, claim, priority, after).await
            }
        }
    }
}
