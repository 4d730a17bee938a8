use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered, listen::Listening};
use crate::{
    causes::causes,
    clock::Stopwatch,
    domain::ReadyIn,
    engine::Hungry,
    pipeline::Core,
    store::{self, StoreError},
};

/// A look that took t is followed by the next after REST * t at the earliest.
const REST: u32 = 20;

/// The slow poll beside LISTEN, and the fallback without: one statement for all queues whose sessions
/// wait, none while nobody does. Where jobs are known to wait it isn't asked whether there are any, which reads all
/// that Postgres couldn't remove yet of those that were there: the next claim begins at the front.
pub(super) async fn poll(core: Arc<Core>, settings: TimerSettings, listening: Listening) {
    let mut waited = Duration::ZERO;
    let mut rest = Duration::ZERO;
    loop {
        let step = jittered(settings.poll_interval.min(settings.sweep_interval));
        tokio::time::sleep(step).await;
        waited += step;
        if waited < rest || listening.works() && waited < settings.sweep_interval {
            continue;
        }
        let hungry = core.hungry();
        if hungry.is_empty() {
            continue;
        }
        waited = Duration::ZERO;
        let Hungry { known, unknown } = hungry;
        for ready in known {
            core.notified(ready);
        }
        if unknown.is_empty() {
            continue;
        }
        let watch = Stopwatch::start();
        match look(&core, &unknown).await {
            Ok(found) => {
                rest = (watch.elapsed() * REST).min(settings.sweep_interval);
                for ready in found {
                    core.notified(ready);
                }
            }
            Err(error) => tracing::debug!(
                error = %causes(&error),
                "the backlog could not be looked at; it is tried again"
            ),
        }
    }
}

async fn look(core: &Core, places: &[ReadyIn]) -> Result<Vec<ReadyIn>, StoreError> {
    let client = core.store.client().await?;
    store::ready_queues(&client, places).await
}
