use std::{sync::Arc, time::Duration};

use super::TimerSettings;
use crate::{
    mutation::{self, Mutation},
    pipeline::Core,
    store::{self, StoreError},
};

/// Marks brokers that show no life as dead and makes their jobs ready again, once the workers have
/// had the grace to present what they hold. `answering`: for how long the database has answered us;
/// before that, silence of others tells nothing.
pub(super) async fn rescue(
    core: &Arc<Core>,
    settings: &TimerSettings,
    answering: Duration,
) -> Result<(), StoreError> {
    let mut client = core.store.client().await?;
    if answering > settings.dead_after {
        let dead_after = millis(settings.dead_after);
        for name in store::bury_brokers(&client, dead_after, core.broker.id).await? {
            metrics::counter!("currant_brokers_dead_total").increment(1);
            tracing::warn!(broker = name, "a broker shows no life; its jobs will be rescued");
        }
    }
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
