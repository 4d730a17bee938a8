//! Without faults: at once, once, and in order.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Case, Violation, Wrong, job::JobView, phase_at, room::Rooms, rows::CANCELLED};
use crate::chaos::{
    history::{Event, Phase},
    queues::{ORDER, is_limited},
};

/// From the acknowledgement to the start, with workers that have room: far below the pauses between
/// the looks that would find a job of which nobody was told, and far above what a busy machine takes.
const LATE_MICROS: i64 = 3_000_000;
/// The same where there are limits: a broker has to come to own the queue before.
const LATE_LIMITED_MICROS: i64 = 5_000_000;

pub(super) fn check(case: &Case, jobs: &BTreeMap<i64, JobView<'_>>, found: &mut Vec<Violation>) {
    let Some(begins) = phase_at(&case.history, Phase::Quiet) else { return };
    let Some(ends) = phase_at(&case.history, Phase::QuietOver) else { return };
    let rooms = Rooms::of(jobs);
    for job in jobs.values() {
        if job.acknowledged_at.is_some_and(|at| (begins..ends).contains(&at)) {
            check_job(job, &rooms, found);
        }
    }
    check_order(case, found);
}

fn check_job(job: &JobView<'_>, rooms: &Rooms<'_>, found: &mut Vec<Violation>) {
    let (Some(acknowledged), Some(row)) = (job.acknowledged_at, job.row) else { return };
    let begins_at = job.runs.first().map(|run| run.started_at);
    let idle = rooms.idle(job, acknowledged, begins_at.unwrap_or(i64::MAX));
    let cancelled = row.outcome == Some(CANCELLED);
    let most = if is_limited(&row.queue) { LATE_LIMITED_MICROS } else { LATE_MICROS };
    if !cancelled && idle > most {
        let what = match begins_at {
            Some(at) => format!(
                "it began {} ms after it was stored, {} of which it might have begun in",
                (at - acknowledged) / 1000,
                idle / 1000
            ),
            None => "it never began".to_owned(),
        };
        found.push(Violation::of(Wrong::Late, job, what));
    }
    let needed = row.payload.fail.min(row.max_attempts.unwrap_or(1).saturating_sub(1)) + 1;
    if !cancelled && row.attempt > needed {
        let what = format!("it has had {} attempts and needed {needed}", row.attempt);
        found.push(Violation::of(Wrong::RerunInQuiet, job, what));
    }
}

fn check_order(case: &Case, found: &mut Vec<Violation>) {
    let mut rows: Vec<_> = case.rows.iter().filter(|row| row.queue == ORDER).collect();
    rows.sort_by_key(|row| (Reverse(row.priority), row.id));
    let promised: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let started: Vec<i64> = case
        .history
        .iter()
        .filter_map(|line| match line.event {
            Event::Started { job, .. } => Some(job).filter(|job| promised.contains(job)),
            _ => None,
        })
        .collect();
    if let Some(at) = (0..promised.len()).find(|at| started.get(*at) != Some(&promised[*at])) {
        let what =
            format!("number {at} in order is job {}, {:?} began", promised[at], started.get(at));
        let evidence = rows.iter().map(|row| format!("{} priority {}", row.id, row.priority));
        let evidence = evidence.chain([format!("began: {started:?}")]).collect();
        found.push(Violation { wrong: Wrong::OutOfOrder, job: None, what, evidence });
    }
}
