//! No attempt begins after a job has expired, and none is cancelled for it before, unless an attempt has failed
//! and the next one would begin too late.

use super::{
    Violation, Wrong,
    job::{FaultSpan, JobView, Run},
    rows::CANCELLED,
};
use crate::chaos::{fault::Kind, history::Touches};

/// What was sent in time may take so long to its handler: the way, and its turn in the worker.
const SLACK_MICROS: i64 = 2_000_000;

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
    let early = row.finished_at.is_some_and(|at| at < expires_at);
    let delayed = |fault: &FaultSpan<'_>| {
        let finished_at = row.finished_at.unwrap_or_default();
        fault.reaches(finished_at, expires_at, SLACK_MICROS) && delays(fault)
    };
    let succeeded = |run: &Run<'_>| run.ended.is_some_and(|(_, succeeded)| succeeded);
    let last_failed = job.runs.iter().any(|run| run.attempt == row.attempt && !succeeded(run));
    if row.outcome == Some(CANCELLED)
        && !job.cancel_asked
        && early
        && !last_failed
        && !faults.iter().any(delayed)
    {
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
        | Kind::ExhaustConnections => false,
    }
}
