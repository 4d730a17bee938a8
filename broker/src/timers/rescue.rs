use std::{sync::Arc, time::Duration};

use super::TimerSettings;
use crate::{
    causes::causes,
    mutation::{self, Mutation},
    pipeline::Core,
    store::{self, StoreError},
};

/// Marks brokers that show no life as dead. `answering`: for how long the database has answered us; before
/// that, silence of others tells nothing.
pub(super) async fn bury(core: &Core, settings: &TimerSettings, answering: Duration) {
    if answering <= settings.dead_after {
        return;
    }
    match try_bury(core, settings).await {
        Ok(names) => {
            for name in names {
                metrics::counter!("currant_brokers_dead_total").increment(1);
                tracing::warn!(broker = name, "a broker shows no life; its jobs will be rescued");
            }
        }
        Err(error) => failed(&error),
    }
}

/// Makes the jobs of dead brokers ready again, once the workers have had the grace to present what they hold.
pub(super) async fn rescue(core: Arc<Core>, settings: TimerSettings) {
    if let Err(error) = try_rescue(&core, &settings).await {
        failed(&error);
    }
}

fn failed(error: &StoreError) {
    tracing::warn!(
        error = %causes(error),
        "dead brokers could not be looked after; it is tried again"
    );
}

async fn try_bury(core: &Core, settings: &TimerSettings) -> Result<Vec<String>, StoreError> {
    let client = core.store.client().await?;
    store::bury_brokers(&client, millis(settings.dead_after), core.broker.id).await
}

async fn try_rescue(core: &Arc<Core>, settings: &TimerSettings) -> Result<(), StoreError> {
    let mut client = core.store.client().await?;
    let early = mutation::on(Mutation::RescueOfTheLiving);
    let grace = if early { 0 } else { millis(settings.adoption_grace) };
    while let Some(rescued) =
        store::rescue_jobs(&mut client, grace, millis(settings.straggler_age)).await?
    {
        metrics::counter!("currant_jobs_rescued_total").increment(rescued.jobs);
        tracing::info!(
            broker = rescued.broker,
            jobs = rescued.jobs,
            "a dead broker's jobs are ready"
        );
        for queue in rescued.queues {
            core.rescued(queue);
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
