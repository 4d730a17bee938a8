use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered, listen::Listening};
use crate::{
    causes::causes,
    pipeline::Core,
    store::{self, NextDue, StoreError},
};

/// Jobs that one statement makes ready.
const BATCH: usize = 1000;

/// After it a due job whose row was locked is looked at again: nothing tells when the lock goes.
const LOCKED: Duration = Duration::from_millis(250);

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
    let now = loop {
        let now = core.clock.database_time();
        let promoted = store::promote_jobs(&client, now, BATCH).await?;
        metrics::counter!("currant_jobs_promoted_total").increment(promoted.len() as u64);
        core.are_ready(&promoted);
        if promoted.len() < BATCH {
            break now;
        }
    };
    let NextDue { left, at } = store::next_due(&client, now).await?;
    let again = left.then(|| now + LOCKED);
    if let Some(at) = at.into_iter().chain(again).min() {
        core.due().set(at.timestamp_micros());
    }
    Ok(())
}
