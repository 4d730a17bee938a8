//! At no time more of a limited queue is under way than it says.

use std::collections::BTreeMap;

use super::{
    Violation, Wrong,
    job::{FaultSpan, JobView, Run},
};
use crate::chaos::{
    fault::Kind,
    history::Touches,
    queues::{CONCURRENCY_MAX, LIMITED},
};

/// After the end of a fault, until what was lost by it doesn't count any more.
const AFTERMATH_MICROS: i64 = 4_000_000;

pub(super) fn check(
    jobs: &BTreeMap<i64, JobView<'_>>,
    faults: &[FaultSpan<'_>],
    found: &mut Vec<Violation>,
) {
    let of_queue = jobs.values().filter(|job| job.is_of(LIMITED));
    let kept = of_queue.flat_map(|job| kept_runs(job).filter(|run| !may_be_lost(run, faults)));
    if let Some(what) = crowd(kept.collect(), CONCURRENCY_MAX) {
        found.push(Violation::of_queue(Wrong::OverLimit, LIMITED, what));
    }
}

/// Runs of attempts that nobody took from their workers: they counted from begin to end.
pub(super) fn kept_runs<'a>(job: &'a JobView<'a>) -> impl Iterator<Item = &'a Run<'a>> {
    job.runs.iter().filter(|run| run.ended.is_some() && job.is_kept(run.attempt))
}

/// The first moment at which more than so many run.
pub(super) fn crowd(mut runs: Vec<&Run<'_>>, max: usize) -> Option<String> {
    runs.sort_by_key(|run| run.started_at);
    let mut under_way: Vec<&Run<'_>> = Vec::new();
    for run in runs {
        under_way.retain(|other| other.ended.is_some_and(|(at, _)| at > run.started_at));
        under_way.push(run);
        if under_way.len() > max {
            let all: Vec<String> = under_way.iter().map(|run| format!("{run:?}")).collect();
            return Some(format!("{} are under way, not {max}: {}", all.len(), all.join(", ")));
        }
    }
    None
}

/// An attempt whose worker was silent for long doesn't count any more, even if its completion comes in time
/// to be the outcome.
fn may_be_lost(run: &Run<'_>, faults: &[FaultSpan<'_>]) -> bool {
    let ended_at = run.ended.map_or(i64::MAX, |(at, _)| at);
    faults.iter().any(|fault| {
        let silences = match fault.kind {
            Kind::StopBroker | Kind::StopWorker => true,
            Kind::Latency | Kind::Resets | Kind::BlackHole | Kind::Drip => {
                matches!(fault.touches, Touches::Worker(_))
            }
            _ => false,
        };
        silences
            && fault.concerns(run.who)
            && fault.reaches(run.started_at, ended_at, AFTERMATH_MICROS)
    })
}
