use std::sync::Arc;

use crate::causes::causes;
use crate::pipeline::Core;

/// Reads what has changed of queues when somebody says that something has. What fails is done at the
/// next heartbeat, which says so again.
pub(super) async fn queues(core: Arc<Core>) {
    loop {
        core.queues.change_noted().await;
        if let Err(error) = core.refresh_queues().await {
            tracing::warn!(
                error = %causes(&error),
                "changes of queues could not be read; it is tried again"
            );
        }
    }
}
