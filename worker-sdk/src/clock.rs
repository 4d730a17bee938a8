//! The one place that reads a clock; everything else is told the time.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
