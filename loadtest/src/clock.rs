//! The load's clock: monotonic, one for all threads of a run.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// 64 bits of nanoseconds last 584 years.
    pub(crate) fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// The instant that `now_ns` will call `ns`.
    pub(crate) fn at(&self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns)
    }
}
