use std::{sync::Arc, time::Duration};

use crate::causes::causes;
use crate::pipeline::{Core, Owned};

/// Between two looks whether a limited queue can be owned, and what became of attempts elsewhere.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after the limited queues: every second, and when one is wanted.
pub(super) async fn limits(core: Arc<Core>) {
    let mut owned = Owned::default();
    loop {
        if let Err(error) = core.look_after_limits(&mut owned).await {
            tracing::warn!(
                error = %causes(&error),
                "limited queues could not be looked after; it is tried again"
            );
        }
        let _ = tokio::time::timeout(LOOK, core.owner_wanted()).await;
    }
}
