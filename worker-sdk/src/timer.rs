use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// The one timer of a task. It may go off early, never late: a deadline that moves away with
/// every message costs nothing, since the timer is only set again when it has gone off.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    set_to: Option<Instant>,
}

impl Timer {
    pub(crate) fn new(now: Instant) -> Timer {
        Timer { sleep: Box::pin(sleep_until(now)), set_to: None }
    }

    /// Goes off at `at`, or before.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if let Some(at) = at
            && self.set_to.is_none_or(|set_to| at < set_to)
        {
            self.sleep.as_mut().reset(at);
            self.set_to = Some(at);
        }
    }

    /// Waits until it goes off; for ever if it isn't set. Cancel safe.
    pub(crate) async fn elapsed(&mut self) {
        if self.set_to.is_none() {
            return std::future::pending().await;
        }
        self.sleep.as_mut().await;
        self.set_to = None;
    }
}
