use std::{collections::HashMap, sync::Arc};

use super::{TimerSettings, jittered, listen::Listening};
use crate::{
    domain::{JobId, QueueId},
    pipeline::Core,
    store::{self, StoreError},
};

/// Jobs that one statement makes ready.
const BATCH: usize = 1000;

/// Makes scheduled jobs ready, timed to the next that is due; the slow poll finds what other brokers
/// scheduled and didn't promote.
pub(super) async fn promote(core: Arc<Core>, settings: TimerSettings, listening: Listening) {
    core.something_scheduled();
    loop {
        let most = if listening.works() { settings.sweep_interval } else { settings.poll_interval };
        core.wait_until_due(jittered(most)).await;
        let expected = core.take_next_due();
        if let Err(error) = promote_due(&core).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "due jobs could not be promoted; it is tried again"
            );
            core.set_next_due(expected);
            tokio::time::sleep(settings.poll_interval).await;
        }
    }
}

async fn promote_due(core: &Arc<Core>) -> Result<(), StoreError> {
    let client = core.store.client().await?;
    loop {
        let promoted = store::promote_jobs(&client, core.clock.database_time(), BATCH).await?;
        metrics::counter!("currant_jobs_promoted_total").increment(promoted.len() as u64);
        let count = promoted.len();
        let mut ready: HashMap<QueueId, Vec<(i16, JobId)>> = HashMap::new();
        for job in promoted {
            ready.entry(job.key.queue).or_default().push((job.priority, job.key.id));
        }
        for (queue, rows) in ready {
            core.became_ready(queue, rows);
        }
        if count < BATCH {
            break;
        }
    }
    if let Some(at) = store::next_due(&client).await? {
        core.set_next_due(at.timestamp_micros());
    }
    Ok(())
}
