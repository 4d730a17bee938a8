use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::error::log;
use crate::store::StoreError;

const WAIT_MIN: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Tries until the database answers: with backoff, for as long as it takes.
pub(super) struct Persistence {
    what: &'static str,
    waits: ExponentialBackoff,
}

impl Persistence {
    /// `what` waits meanwhile, for the log.
    pub(super) fn new(what: &'static str) -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(WAIT_MIN)
            .with_max_delay(WAIT_MAX)
            .with_jitter()
            .without_max_times()
            .build();
        Self { what, waits }
    }

    /// Whether to try again: after a wait, if the database may answer then.
    pub(super) async fn again<T>(&mut self, result: &Result<T, StoreError>) -> bool {
        let Err(error) = result else { return false };
        if !error.is_passing() {
            return false;
        }
        log(error, self.what);
        tokio::time::sleep(self.waits.next().unwrap_or(WAIT_MAX)).await;
        true
    }
}
