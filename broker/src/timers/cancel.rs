use std::sync::Arc;

use crate::causes::causes;
use crate::pipeline::Core;

/// Looks for cancelled attempts of this broker when somebody says that there are some. What fails is
/// done at the next heartbeat, which says so again.
pub(super) async fn cancel(core: Arc<Core>) {
    loop {
        core.cancels_noted().await;
        if let Err(error) = core.look_for_cancels().await {
            tracing::warn!(
                error = %causes(&error),
                "cancelled attempts could not be looked for; it is tried again"
            );
        }
    }
}
