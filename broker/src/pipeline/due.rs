use std::time::Duration;

use super::sync::{AtomicI64, Notify, Ordering, timeout};
use crate::clock::Clock;

/// When something is due next, as far as is known, in microseconds since 1970.
pub struct Due {
    at: AtomicI64,
    earlier: Notify,
}

impl Default for Due {
    fn default() -> Self {
        Self { at: AtomicI64::new(i64::MAX), earlier: Notify::new() }
    }
}

impl Due {
    /// Something will be due at this time; whoever waits for a later one waits anew.
    pub fn will_be(&self, at: i64) {
        if at < self.at.fetch_min(at, Ordering::AcqRel) {
            self.earlier.notify_one();
        }
    }

    /// Somebody else changed what is due: look at once.
    pub fn may_be(&self) {
        self.will_be(i64::MIN);
    }

    /// When to look next; forgets it.
    pub fn take(&self) -> i64 {
        self.at.swap(i64::MAX, Ordering::AcqRel)
    }

    /// The database says that something is due then, to whoever is about to wait.
    pub fn set(&self, at: i64) {
        self.at.fetch_min(at, Ordering::AcqRel);
    }

    /// Waits until something is due, at most for `most`.
    pub async fn wait(&self, clock: &Clock, most: Duration) {
        let wait = async {
            loop {
                let earlier = self.earlier.notified();
                let at = self.at.load(Ordering::Acquire);
                let micros = at.saturating_sub(clock.database_micros());
                let Ok(micros) = u64::try_from(micros) else { return };
                if micros == 0 {
                    return;
                }
                let _ = timeout(Duration::from_micros(micros), earlier).await;
            }
        };
        let _ = timeout(most, wait).await;
    }
}
