use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered};
use crate::{
    causes::causes,
    clock::Stopwatch,
    engine::Pruner,
    pipeline::Core,
    store::{self, StoreError},
};

/// Which duty this is to the other brokers.
const DUTY: &str = "prune";

/// For how long a broker has it, and after how long it says that it goes on.
const DUTY_TIME: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);

/// Queues of which one statement asks what is next.
const QUEUES: usize = 1000;

/// Deletes finished jobs that are over their retention, at a pace, one broker at a time. Asks for the
/// duty only when something is due.
pub(super) async fn prune(core: Arc<Core>, settings: TimerSettings) {
    let mut pruner = Pruner::new(settings.pruner, core.queues.defaults.retention);
    loop {
        if let Err(error) = round(&core, &mut pruner).await {
            tracing::warn!(
                error = %causes(&error),
                "finished jobs could not be pruned; it is tried again"
            );
        }
        tokio::time::sleep(jittered(pruner.look_interval())).await;
    }
}

async fn round(core: &Core, pruner: &mut Pruner) -> Result<(), StoreError> {
    look(core, pruner).await?;
    let lag = metrics::gauge!("currant_prune_lag_seconds");
    lag.set(0.0);
    let mut renew_at = Duration::ZERO;
    while !core.is_draining()
        && let Some(slice) = pruner.next_slice(now_ms(core))
    {
        if core.clock.now() >= renew_at {
            if !take_duty(core).await? {
                break;
            }
            renew_at = core.clock.now() + RENEW;
        }
        let watch = Stopwatch::start();
        let client = core.store.client().await?;
        let pruned = store::prune_jobs(&client, &slice).await?;
        drop(client);
        pruner.pruned(now_ms(core), &slice, &pruned);
        metrics::counter!("currant_jobs_pruned_total").increment(pruned.jobs);
        if let Some(ms) = pruned.overdue_ms {
            lag.set(ms as f64 / 1000.0);
        }
        tokio::time::sleep(pruner.rest(pruned.rows, watch.elapsed())).await;
    }
    lag.set(0.0);
    Ok(())
}

/// Asks what is next in the queues of which that isn't known.
async fn look(core: &Core, pruner: &mut Pruner) -> Result<(), StoreError> {
    let client = core.store.client().await?;
    let defaults = core.queues.defaults.retention;
    let queues = store::queue_retentions(&client, defaults).await?;
    pruner.set_queues(now_ms(core), &queues);
    for asked in pruner.unknown(now_ms(core)).chunks(QUEUES) {
        let found = store::next_jobs(&client, asked).await?;
        pruner.set_next(now_ms(core), asked, &found);
    }
    Ok(())
}

async fn take_duty(core: &Core) -> Result<bool, StoreError> {
    let client = core.store.client().await?;
    let for_ms = i64::try_from(DUTY_TIME.as_millis()).unwrap_or(i64::MAX);
    store::take_duty(&client, DUTY, core.broker.id, for_ms).await
}

fn now_ms(core: &Core) -> i64 {
    core.clock.database_micros() / 1000
}
