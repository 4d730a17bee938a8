//! The one place that reads a clock.

use std::time::SystemTime;

/// The wall clock of this machine, right or wrong: for times that people say as "so long ago".
#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
