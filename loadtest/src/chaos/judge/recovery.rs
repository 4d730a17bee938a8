//! After a fault that is followed by calm all is as before within its bound; and a drain costs nobody
//! anything.

use std::collections::BTreeMap;

use super::{
    Case, Violation, Wrong,
    job::{FaultSpan, JobView},
    phase_at,
    rows::{CANCELLED, DEAD},
};
use crate::chaos::{
    bounds,
    fault::Kind,
    history::{Event, Phase, Producer},
    queues::{BURST, PLAIN},
    recovery::{Load, recoveries},
};

/// What is stored so late within the calm needn't have begun at its end.
const LATE_MICROS: i64 = 3_000_000;
/// After the end of a fault, or of a broker that others held for dead: until it serves again and clients have
/// found that out.
const SERVES_AGAIN_MICROS: i64 = 6_000_000;

pub(super) fn check(
    case: &Case,
    jobs: &BTreeMap<i64, JobView<'_>>,
    faults: &[FaultSpan<'_>],
    found: &mut Vec<Violation>,
) {
    let over = phase_at(&case.history, Phase::Settling).unwrap_or_default();
    let mut bound = i64::MIN;
    let mut costs = recoveries(&case.history, &Load::of(&case.rows));
    for (number, fault) in faults.iter().enumerate() {
        let cost = costs.get_mut(&fault.kind).filter(|costs| !costs.is_empty());
        let cost = cost.map(|costs| costs.remove(0));
        let until = faults.get(number + 1).map_or(over, |next| next.begins);
        // What the ones before have done may still last.
        let own = fault.ends.saturating_add(bounds::recovery(fault.kind).as_micros() as i64);
        bound = bound.max(own);
        if bound > until {
            continue;
        }
        let late = jobs.values().filter_map(|job| Some((job, slow(job, fault, bound)?)));
        found.extend(late.map(|(job, what)| {
            Violation::of(Wrong::SlowRecovery, job, format!("{what}, after {}", fault.kind))
        }));
        let full_rate_at = cost.and_then(|cost| cost.full_rate_ms);
        if full_rate_at.is_none_or(|ms| fault.begins + ms * 1000 > bound) {
            let what = format!("the rate wasn't back in time after {}: {cost:?}", fault.kind);
            found.push(Violation { wrong: Wrong::SlowRecovery, job: None, what, evidence: vec![] });
        }
    }
    failed_calls(case, faults, found);
}

/// What of a job took longer than the bound.
fn slow(job: &JobView<'_>, fault: &FaultSpan<'_>, bound: i64) -> Option<&'static str> {
    let row = job.row?;
    let watched = PLAIN.contains(&&*row.queue) || row.queue == BURST;
    // Of these some never begin, and some are stopped.
    if !watched || row.outcome == Some(CANCELLED) {
        return None;
    }
    let waits = job.acknowledged_at.is_some_and(|at| at < bound - LATE_MICROS);
    let begins_at = job.runs.first().map_or(i64::MAX, |run| run.started_at);
    if waits && begins_at > bound {
        return Some("it didn't begin in time");
    }
    let lost = job.runs.iter().find(|run| run.ended.is_none() && run.started_at < fault.ends)?;
    if row.outcome == Some(DEAD) && row.attempt == lost.attempt {
        // It was lost by its last attempt.
        return None;
    }
    let again = job.runs.iter().filter(|run| run.attempt > lost.attempt);
    let again_at = again.map(|run| run.started_at).min().unwrap_or(i64::MAX);
    (again_at > bound).then_some("it didn't run again in time")
}

/// Calls over gRPC that failed though nothing had happened but brokers that were drained.
fn failed_calls(case: &Case, faults: &[FaultSpan<'_>], found: &mut Vec<Violation>) {
    let restarts: Vec<i64> = case
        .history
        .iter()
        .filter(|line| matches!(line.event, Event::EndedByItself { .. }))
        .map(|line| line.at)
        .collect();
    for line in &case.history {
        let Event::Unknown { by: Producer::Grpc, began, call, .. } = &line.event else { continue };
        let hard = faults.iter().filter(|fault| fault.kind != Kind::DrainBroker);
        let excused =
            hard.into_iter().any(|fault| fault.reaches(*began, line.at, SERVES_AGAIN_MICROS))
                || restarts.iter().any(|at| (*began - SERVES_AGAIN_MICROS..line.at).contains(at));
        if !excused {
            let what = format!("call {call} failed after {} ms", (line.at - began) / 1000);
            let wrong = Wrong::FailedCall;
            found.push(Violation { wrong, job: None, what, evidence: vec![line.to_string()] });
        }
    }
}
