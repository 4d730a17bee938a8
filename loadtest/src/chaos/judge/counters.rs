//! What brokers say of themselves must be what was seen.

use std::collections::HashSet;

use super::{Case, Row, Violation, Wrong, phase_at};
use crate::chaos::{
    history::{Event, Phase, Producer, Verdict},
    metrics::sum,
    queues::UNIQUE,
};

/// Since the brokers' start: only comparable as long as none was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::chaos) struct Counters {
    pub(super) enqueued: f64,
    pub(super) applied: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::chaos) struct Gauges {
    pub(super) held: f64,
    pub(super) buffered: f64,
}

impl Counters {
    /// From the `/metrics` of all brokers.
    pub(in crate::chaos) fn of(texts: &[String]) -> Counters {
        // Who stored a unique job that another one replaced isn't known.
        let unique =
            format!("currant_jobs_enqueued_total{{messaging_destination_name=\"{UNIQUE}\"}}");
        Counters {
            enqueued: sum(texts, "currant_jobs_enqueued_total") - sum(texts, &unique),
            applied: sum(texts, "currant_completions_total{verdict=\"applied\"}"),
        }
    }
}

impl Gauges {
    pub(in crate::chaos) fn of(texts: &[String]) -> Gauges {
        Gauges {
            held: sum(texts, "currant_attempts_held"),
            buffered: sum(texts, "currant_jobs_buffered"),
        }
    }

    pub(in crate::chaos) fn is_nothing(self) -> bool {
        self == Gauges::default()
    }
}

pub(super) fn check(case: &Case, found: &mut Vec<Violation>) {
    let ends = phase_at(&case.history, Phase::QuietOver).unwrap_or_default();
    let (mut enqueued, mut applied) = (0, 0);
    let mut certain = true;
    let is_unique = |row: &&Row| row.payload.unique.is_some();
    let unique: HashSet<i64> = case.rows.iter().filter(is_unique).map(Row::id).collect();
    for line in case.history.iter().take_while(|line| line.at < ends) {
        match &line.event {
            Event::Acknowledged { by: Producer::Grpc, jobs, .. } => {
                enqueued += jobs.iter().filter(|id| !unique.contains(id)).count();
            }
            Event::Answered { verdict: Verdict::Applied, .. } => applied += 1,
            Event::Unknown { .. } => certain = false,
            _ => {}
        }
    }
    let mut compare = |name: &str, metric: f64, seen: usize| {
        if certain && metric != seen as f64 {
            let what = format!("the brokers count {metric} {name}, {seen} were seen");
            let wrong = Wrong::MiscountedMetrics;
            found.push(Violation { wrong, job: None, what, evidence: vec![] });
        }
    };
    compare("jobs enqueued", case.counters.enqueued, enqueued);
    compare("completions applied", case.counters.applied, applied);
    let Gauges { held, buffered } = case.gauges;
    if !case.gauges.is_nothing() {
        let what = format!("brokers hold {held} attempts and {buffered} jobs, and nothing is left");
        found.push(Violation { wrong: Wrong::HeldAtTheEnd, job: None, what, evidence: vec![] });
    }
}
