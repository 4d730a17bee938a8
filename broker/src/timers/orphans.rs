use std::{sync::Arc, time::Duration};

use crate::causes::causes;
use crate::pipeline::Core;

const LOOK: Duration = Duration::from_millis(500);

/// Looks at writes whose fate is unknown. Asks the database nothing while there are none.
pub(super) async fn orphans(core: Arc<Core>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = core.find_orphans().await {
            tracing::debug!(
                error = %causes(&error),
                "orphans could not be looked for; it is tried again"
            );
        }
    }
}
