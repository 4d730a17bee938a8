use std::{sync::Arc, time::Duration};

use crate::{causes::causes, clock::Stopwatch, pipeline::Core};

/// Between looks at all that is watched here: soon after something has changed, more seldom while nothing
/// does.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);
/// A look that took t is followed by the next after REST * t at the earliest.
const REST: u32 = 20;

/// Tells those who watch jobs what becomes of them. Asks the database nothing while nobody does.
pub(super) async fn watch(core: Arc<Core>) {
    let mut interval = SOON;
    let mut next_at = core.clock.now();
    loop {
        let most = next_at.saturating_sub(core.clock.now());
        let all = !core.watched_changed(most).await || core.clock.now() >= next_at;
        let watch = Stopwatch::start();
        let rest = match core.look_at_watched(all).await {
            Ok(goes_on) => {
                if goes_on {
                    interval = SOON;
                } else if all {
                    interval = (2 * interval).min(LATE);
                }
                watch.elapsed() * REST
            }
            Err(error) => {
                tracing::debug!(
                    error = %causes(&error),
                    "watched jobs could not be looked at; it is tried again"
                );
                tokio::time::sleep(LATE).await;
                LATE
            }
        };
        if all {
            next_at = core.clock.now() + interval.max(rest);
        }
    }
}
