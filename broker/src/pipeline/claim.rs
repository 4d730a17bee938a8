use std::sync::Arc;

use super::{Core, Suspect, error::log};
use crate::{
    clock::Stopwatch,
    domain::{JobId, QueueId, TakenJob},
    engine::ClaimFrom,
    store::{self, Claim, StoreError},
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

    async fn run_claim(
        &self,
        queue: QueueId,
        from: ClaimFrom,
        limit: usize,
    ) -> Result<Vec<TakenJob>, StoreError> {
        let client = self.store.client().await?;
        let claim =
            Claim { queue, owner: self.broker.id, claimed_at: self.clock.database_time(), limit };
        match from {
            ClaimFrom::Sweep => store::claim_sweep(&client, claim).await,
            ClaimFrom::Cursor { priority, after } => {
                store::claim_cursor(&client, claim, priority, after).await
            }
        }
    }
}
