use std::{sync::Arc, time::Duration};

use super::{TimerSettings, jittered};
use crate::{causes::causes, pipeline::Core, store::StoreError};

const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Between two looks, however many tokens are created and revoked.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks which tokens are valid when somebody says that they changed, and at an interval; notes when they
/// were used. Asks nothing while nobody needs a token.
pub(super) async fn tokens(core: Arc<Core>, settings: TimerSettings) {
    let mut prune_at = core.clock.now();
    while core.access.is_required() {
        core.access.wait_to_look(jittered(settings.tokens_interval)).await;
        if let Err(error) = look(&core, &settings, &mut prune_at).await {
            tracing::warn!(
                error = %causes(&error),
                "tokens could not be looked at; those of the last look are believed meanwhile"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(
    core: &Core,
    settings: &TimerSettings,
    prune_at: &mut Duration,
) -> Result<(), StoreError> {
    core.look_for_tokens().await?;
    core.note_use_of_tokens().await?;
    if core.clock.now() >= *prune_at {
        *prune_at = core.clock.now() + jittered(PRUNE_INTERVAL);
        core.prune_access(settings.audit_age).await?;
    }
    Ok(())
}
