use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered};
use crate::causes::causes;
use crate::pipeline::Core;

/// Makes the fires of schedules when they're due. The heartbeat says when that is, should a notification
/// get lost.
pub(super) async fn schedules(core: Arc<Core>, settings: TimerSettings) {
    loop {
        core.schedules.wait(&core.clock, Duration::MAX).await;
        core.schedules.take();
        // Other brokers make them, or this one when it starts again.
        if core.is_draining() {
            return;
        }
        if let Err(error) = core.fire_schedules().await {
            tracing::warn!(
                error = %causes(&error),
                "schedules could not fire; it is tried again"
            );
            tokio::time::sleep(jittered(settings.poll_interval)).await;
            core.schedules.may_be();
        }
    }
}
