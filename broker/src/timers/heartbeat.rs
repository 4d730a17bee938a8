use std::{collections::HashSet, sync::Arc};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{TimerSettings, jittered, rescue};
use crate::{
    causes::causes,
    domain::{JobKey, first_id_at_ms},
    pipeline::Core,
    store::{self, Heartbeat, StoreError},
};

/// Of the time after which others hold this broker for dead, what it counts on: clocks don't run alike.
const SURELY: f64 = 0.9;

/// Shows that this broker lives, keeps the watermark, and looks after dead brokers. Cancels `dead`
/// when the others hold this one for dead: then its jobs aren't its own any more.
pub(super) async fn heartbeat(core: Arc<Core>, settings: TimerSettings, dead: CancellationToken) {
    let mut stragglers = HashSet::new();
    // Since when the database answers, to tell a dead broker from a database that was away.
    let mut answering_since = core.clock.now();
    // It may take long, and this one must not look dead meanwhile.
    let mut rescuing: Option<AbortOnDropHandle<()>> = None;
    loop {
        let untold = core.untold();
        let began = core.clock.now();
        match beat(&core, &settings, &mut stragglers).await {
            Ok(Heartbeat { alive: false, .. }) => {
                tracing::error!("other brokers hold this one for dead; it stops");
                dead.cancel();
                return;
            }
            Ok(beat) => {
                core.set_database_time(beat.database_time);
                core.set_others(beat.others > 0, untold);
                core.lives_until(began + settings.dead_after.mul_f64(SURELY));
                if beat.cancels {
                    core.note_cancels();
                }
                if let Some(at) = beat.next_fire {
                    core.schedules.will_be(at.timestamp_micros());
                }
                if beat.queue_version > core.queues.version() {
                    core.queues.note_change();
                }
                if beat.others > 0 {
                    let answering = core.clock.now().saturating_sub(answering_since);
                    rescue::bury(&core, &settings, answering).await;
                    if rescuing.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
                        let rescue = rescue::rescue(Arc::clone(&core), settings.clone());
                        rescuing = Some(AbortOnDropHandle::new(tokio::spawn(rescue)));
                    }
                }
            }
            Err(error) => {
                metrics::counter!("currant_heartbeat_failures_total").increment(1);
                tracing::warn!(
                    error = %causes(&error),
                    "the heartbeat could not be written"
                );
                answering_since = core.clock.now();
                core.tell_others(untold);
            }
        }
        tokio::time::sleep(jittered(settings.heartbeat_interval)).await;
    }
}

async fn beat(
    core: &Arc<Core>,
    settings: &TimerSettings,
    stragglers: &mut HashSet<JobKey>,
) -> Result<Heartbeat, StoreError> {
    // A claim that takes its time doesn't make this broker look dead: the watermark waits instead.
    let no_claims = tokio::time::timeout(settings.heartbeat_interval, core.pause_claims()).await;
    let client = core.store.client().await?;
    let age_ms = i64::try_from(settings.straggler_age.as_millis()).unwrap_or(i64::MAX);
    let low = first_id_at_ms(core.clock.database_micros() / 1000 - age_ms);
    // The pause lasts until this is written.
    let held = no_claims.as_ref().ok().and_then(|_pause| core.held_before(low));
    let Some(held) = held else {
        return store::heartbeat_broker(&client, core.broker.id, None, &[], &[]).await;
    };
    let gone: Vec<JobKey> = stragglers.difference(&held).copied().collect();
    let come: Vec<JobKey> = held.difference(stragglers).copied().collect();
    let beat = store::heartbeat_broker(&client, core.broker.id, Some(low), &gone, &come).await?;
    *stragglers = held;
    Ok(beat)
}
