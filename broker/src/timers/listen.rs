use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::StreamExt;

use super::TimerSettings;
use crate::{
    causes::causes,
    mutation::{self, Mutation},
    pipeline::Core,
    store::{Address, Listener, Notice, StoreError},
};

/// Whether the listener hears.
#[derive(Clone, Default)]
pub(super) struct Listening(Arc<AtomicBool>);

impl Listening {
    pub(super) fn works(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection listens for all queues. It reconnects with backoff, and after each connect it looks
/// at what it may have missed.
pub(super) async fn listen(core: Arc<Core>, settings: TimerSettings, listening: Listening) {
    let Some(address) = settings.listen_address.clone() else { return };
    let policy = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    let mut waits = policy.build();
    loop {
        let Err(error) = hear(&core, &address, settings.connect_timeout, &listening).await else {
            continue;
        };
        if listening.0.swap(false, Ordering::Relaxed) {
            // It worked until now: from the start.
            waits = policy.build();
        }
        metrics::gauge!("currant_listening").set(0.0);
        metrics::counter!("currant_listener_failures_total").increment(1);
        tracing::warn!(
            error = %causes(&error),
            "the listener has no connection; the backlog is polled meanwhile"
        );
        tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(5))).await;
    }
}

async fn hear(
    core: &Arc<Core>,
    address: &Address,
    connect_timeout: Duration,
    listening: &Listening,
) -> Result<(), StoreError> {
    let mut notices = Listener::listen(address, core.broker.id, connect_timeout).await?;
    while let Some(notice) = notices.next().await {
        metrics::counter!("currant_notices_total").increment(1);
        match notice? {
            Notice::Listening => {
                listening.0.store(true, Ordering::Relaxed);
                metrics::gauge!("currant_listening").set(1.0);
                core.missed_notices();
                core.due().may_be();
                core.note_cancels();
                core.access.look();
                core.queues.note_change();
                core.schedules.may_be();
            }
            Notice::Ready(_) if mutation::on(Mutation::LostWakeup) => {}
            Notice::Ready(ready) => core.notified(ready),
            Notice::Scheduled => core.due().may_be(),
            Notice::Cancelled => core.note_cancels(),
            Notice::Tokens => core.access.look(),
            Notice::Queues => core.queues.note_change(),
            Notice::Schedules => core.schedules.may_be(),
        }
    }
    Ok(())
}
