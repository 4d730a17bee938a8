//! Attempts are run once, failures are counted, and what a living worker runs isn't run again.

use std::collections::BTreeMap;

use super::{
    Violation, Wrong,
    job::{FaultSpan, JobView, Run},
};
use crate::chaos::fault::Kind;

/// After the end of a fault its consequences for leases may go on for so long: silence is noticed,
/// a grace goes by, and the same again at the other side.
const AFTERMATH_MICROS: i64 = 12_000_000;
const SECOND_MICROS: i64 = 1_000_000;

pub(super) fn check(job: &JobView<'_>, faults: &[FaultSpan<'_>], found: &mut Vec<Violation>) {
    let mut say = |wrong, what: String| found.push(Violation::of(wrong, job, what));
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for run in &job.runs {
        *counts.entry(run.attempt).or_default() += 1;
    }
    for (attempt, runs) in counts {
        if runs > 1 {
            say(Wrong::RanTwice, format!("attempt {attempt} was run {runs} times"));
        }
    }
    for (earlier, later) in reruns(job) {
        if !excused(earlier, later, faults) {
            say(
                Wrong::RerunOfTheLiving,
                format!(
                    "attempt {} began at {} while {} was running attempt {}",
                    later.attempt, later.who, earlier.who, earlier.attempt
                ),
            );
        }
    }
    let Some(row) = job.row else { return };
    if let Some(run) = job.runs.iter().find(|run| run.attempt > row.attempt) {
        say(Wrong::UnknownAttempt, format!("attempt {} was run", run.attempt));
    }
    let reported = job.applied_failures().len();
    let failures = row.failures as usize;
    if failures < reported {
        say(Wrong::MiscountedFailures, format!("{reported} failures were applied"));
    }
    if row.failures > row.attempt || row.max_attempts.is_some_and(|max| row.failures > max) {
        say(Wrong::MiscountedFailures, format!("{failures} failures are too many"));
    }
}

/// Runs that began while an earlier attempt was running.
fn reruns<'a>(job: &'a JobView<'_>) -> Vec<(&'a Run<'a>, &'a Run<'a>)> {
    let mut pairs = Vec::new();
    for earlier in &job.runs {
        // It was told to stop, unless its worker was killed, which is excused.
        let ended_at = earlier.ended.map_or(i64::MAX, |(at, _)| at);
        let within = |run: &&Run<'_>| {
            run.attempt > earlier.attempt
                && (earlier.started_at..ended_at).contains(&run.started_at)
        };
        pairs.extend(job.runs.iter().filter(within).map(|later| (earlier, later)));
    }
    pairs
}

/// Whether something had happened for which the earlier worker could be held for lost.
fn excused(earlier: &Run<'_>, later: &Run<'_>, faults: &[FaultSpan<'_>]) -> bool {
    faults.iter().any(|fault| {
        fault.reaches(earlier.started_at, later.started_at + SECOND_MICROS, AFTERMATH_MICROS)
            && fault.concerns(earlier.who)
            && may_end_leases(fault.kind)
    })
}

/// Leases of living workers outlive a broker's drain, a broker that comes back at once, and whatever
/// happens to Postgres alone as long as it is the same for all brokers.
fn may_end_leases(kind: Kind) -> bool {
    match kind {
        Kind::KillBroker
        | Kind::DrainBroker
        | Kind::PostgresFast
        | Kind::PostgresImmediate
        | Kind::CutConnections
        | Kind::SlowDisk
        | Kind::JumpClock
        | Kind::Latency => false,
        Kind::KillWorker
        | Kind::ExhaustConnections
        | Kind::StopBroker
        | Kind::StopWorker
        | Kind::LockTable
        | Kind::TinyTimeout
        | Kind::Resets
        | Kind::BlackHole
        | Kind::Drip => true,
    }
}
