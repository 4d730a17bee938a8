//! No attempt begins after a job has expired, and none is cancelled for it before.

use super::{
    Violation, Wrong,
    job::{FaultSpan, JobView},
    rows::CANCELLED,
};
use crate::chaos::{bounds::RETRY_MAX_MS, fault::Kind, history::Touches};

/// What was sent in time may take so long to its handler: the way, and its turn in the worker, whose other
/// handlers take up to 3 s.
const SLACK_MICROS: i64 = 3_000_000;
/// With its jitter.
const RETRY_MAX_MICROS: i64 = RETRY_MAX_MS.cast_signed() * 1100;

pub(super) fn check(job: &JobView<'_>, faults: &[FaultSpan<'_>], found: &mut Vec<Violation>) {
    let Some(row) = job.row else { return };
    let Some(expires_at) = row.expires_at else { return };
    for run in &job.runs {
        let late = run.started_at > expires_at + SLACK_MICROS;
        let held_up = |fault: &FaultSpan<'_>| {
            fault.reaches(expires_at, run.started_at, SLACK_MICROS)
                && fault.concerns(run.who)
                && delays(fault)
        };
        if late && !faults.iter().any(held_up) {
            let ms = (run.started_at - expires_at) / 1000;
            let what = format!("attempt {} began {ms} ms after it had expired", run.attempt);
            found.push(Violation::of(Wrong::BegunExpired, job, what));
        }
    }
    // A failure whose retry would come too late ends it at once.
    let retry = if row.failures > 0 { RETRY_MAX_MICROS } else { 0 };
    let early = row.finished_at.is_some_and(|at| at + retry < expires_at);
    let delayed = |fault: &FaultSpan<'_>| {
        let finished_at = row.finished_at.unwrap_or_default();
        // A failure that could be written only later would be tried again later.
        fault.reaches(finished_at, expires_at, SLACK_MICROS)
            && (delays(fault) || row.failures > 0 && *fault.touches == Touches::All)
    };
    if row.outcome == Some(CANCELLED) && !job.cancel_asked && early && !faults.iter().any(delayed) {
        found.push(Violation::of(Wrong::Invented, job, "it expired before its time".to_owned()));
    }
}

/// Whether it holds up what was sent, or what a broker hears of the database's time.
fn delays(fault: &FaultSpan<'_>) -> bool {
    match fault.kind {
        Kind::StopBroker | Kind::StopWorker | Kind::LockTable | Kind::TinyTimeout => true,
        Kind::Latency | Kind::Resets | Kind::BlackHole | Kind::Drip => {
            *fault.touches != Touches::Clients
        }
        Kind::KillBroker
        | Kind::DrainBroker
        | Kind::KillWorker
        | Kind::PostgresFast
        | Kind::PostgresImmediate
        | Kind::CutConnections
        | Kind::ExhaustConnections
        | Kind::SlowDisk
        | Kind::JumpClock => false,
    }
}
