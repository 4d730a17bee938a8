use std::{sync::Arc, time::Duration};

use crate::pipeline::Core;

/// How late a session's end, a keep-alive or a take-back may be noticed.
const TICK: Duration = Duration::from_millis(250);

/// Lets time pass in the engine: several times a second, and at the timeout of an attempt.
pub(super) async fn tick(core: Arc<Core>) {
    loop {
        core.next_tick(TICK).await;
        core.tick();
    }
}
