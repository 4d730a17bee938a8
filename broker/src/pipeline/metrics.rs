use metrics::{Counter, counter};

use crate::domain::Verdict;

/// What is counted for each call or delivery. To look up a metric by its name takes some time and up to
/// three allocations, so these are kept.
pub(super) struct Metrics {
    pub(super) assignments: Counter,
    pub(super) complete_calls: Counter,
    pub(super) completions: [(Verdict, Counter); 4],
}

impl Metrics {
    /// After `telemetry::metrics`, which begins to collect.
    pub(super) fn new() -> Self {
        let completions =
            |verdict, name| (verdict, counter!("currant_completions_total", "verdict" => name));
        Self {
            assignments: counter!("currant_assignments_total"),
            complete_calls: counter!("currant_complete_calls_total"),
            completions: [
                completions(Verdict::Applied, "applied"),
                completions(Verdict::Duplicate, "duplicate"),
                completions(Verdict::Stale, "stale"),
                completions(Verdict::NotFound, "not_found"),
            ],
        }
    }
}
