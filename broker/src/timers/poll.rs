use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered, listen::Listening};
use crate::{
    clock::Stopwatch,
    domain::{QueueId, ReadyIn},
    pipeline::Core,
    store::{self, StoreError},
};

/// A look that took t is followed by the next after REST * t at the earliest.
const REST: u32 = 20;

/// The slow poll beside LISTEN, and the fallback without: one statement for all queues whose sessions
/// wait, none while nobody does.
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
        let queues = core.hungry_queues();
        if queues.is_empty() {
            continue;
        }
        waited = Duration::ZERO;
        let watch = Stopwatch::start();
        match look(&core, &queues).await {
            Ok(found) => {
                rest = (watch.elapsed() * REST).min(settings.sweep_interval);
                for ready in found {
                    core.notified(ready);
                }
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the backlog could not be looked at; it is tried again"
            ),
        }
    }
}

async fn look(core: &Core, queues: &[QueueId]) -> Result<Vec<ReadyIn>, StoreError> {
    let client = core.store.client().await?;
    store::ready_queues(&client, queues).await
}
