//! What is stored while its queue is paused doesn't begin before that ends.

use std::collections::BTreeMap;

use super::{
    Case, Violation, Wrong,
    job::{FaultSpan, JobView},
};
use crate::chaos::{
    fault::Kind,
    history::{Event, Touches},
};

/// Until every broker that reaches the database has heard of a pause: its heartbeat's interval and a tenth,
/// and room for a busy machine.
const HEARD_MICROS: i64 = 2_000_000;

pub(super) fn check(
    case: &Case,
    jobs: &BTreeMap<i64, JobView<'_>>,
    faults: &[FaultSpan<'_>],
    found: &mut Vec<Violation>,
) {
    for (queue, from, until) in pauses(case) {
        for job in jobs.values().filter(|job| job.is_of(queue)) {
            let Some(row) = job.row else { continue };
            let created_at = row.created_at();
            let within = |at| from + HEARD_MICROS < at && at < until;
            let begun = job.runs.iter().find(|run| within(created_at) && within(run.started_at));
            let Some(run) = begun else { continue };
            let cut_off = |fault: &FaultSpan<'_>| {
                fault.reaches(created_at, run.started_at, HEARD_MICROS) && keeps_apart(fault)
            };
            if !faults.iter().any(cut_off) {
                let ms = (run.started_at - from) / 1000;
                let what = format!("it began {ms} ms after its queue was paused");
                found.push(Violation::of(Wrong::BegunInPause, job, what));
            }
        }
    }
}

/// Queue, when the pause was answered, and when its end was asked for.
fn pauses(case: &Case) -> Vec<(&str, i64, i64)> {
    let mut pauses: Vec<(&str, i64, i64)> = Vec::new();
    for line in &case.history {
        match &line.event {
            Event::Paused { queue } => pauses.push((queue, line.at, i64::MAX)),
            Event::ResumeAsked { queue } => {
                let open = |pause: &&mut (&str, i64, i64)| pause.0 == queue && pause.2 == i64::MAX;
                if let Some(pause) = pauses.iter_mut().rev().find(open) {
                    pause.2 = line.at;
                }
            }
            _ => {}
        }
    }
    pauses
}

/// Whether a broker may not hear what the database says meanwhile.
fn keeps_apart(fault: &FaultSpan<'_>) -> bool {
    match fault.kind {
        Kind::KillBroker
        | Kind::DrainBroker
        | Kind::KillWorker
        | Kind::StopWorker
        | Kind::SlowDisk
        | Kind::JumpClock => false,
        _ => *fault.touches == Touches::All,
    }
}
