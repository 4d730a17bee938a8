//! The one place that reads a clock; everything else is told the time.

use std::time::SystemTime;

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock of this machine, right or wrong.
#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
