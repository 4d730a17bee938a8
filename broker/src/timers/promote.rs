use std::sync::Arc;

use super::{TimerSettings, jittered, listen::Listening};
use crate::{
    causes::causes,
    pipeline::Core,
    store::{self, StoreError},
};

/// Jobs that one statement makes ready.
const BATCH: usize = 1000;

/// Makes scheduled jobs ready, timed to the next that is due; the slow poll finds what other brokers
/// scheduled and didn't promote.
pub(super) async fn promote(core: Arc<Core>, settings: TimerSettings, listening: Listening) {
    core.due().may_be();
    loop {
        let most = if listening.works() { settings.sweep_interval } else { settings.poll_interval };
        core.due().wait(&core.clock, jittered(most)).await;
        let expected = core.due().take();
        if let Err(error) = promote_due(&core).await {
            tracing::warn!(
                error = %causes(&error),
                "due jobs could not be promoted; it is tried again"
            );
            core.due().set(expected);
            tokio::time::sleep(settings.poll_interval).await;
        }
    }
}

async fn promote_due(core: &Arc<Core>) -> Result<(), StoreError> {
    let client = core.store.client().await?;
    loop {
        let promoted = store::promote_jobs(&client, core.clock.database_time(), BATCH).await?;
        metrics::counter!("currant_jobs_promoted_total").increment(promoted.len() as u64);
        core.are_ready(&promoted);
        if promoted.len() < BATCH {
            break;
        }
    }
    if let Some(at) = store::next_due(&client).await? {
        core.due().set(at.timestamp_micros());
    }
    Ok(())
}
