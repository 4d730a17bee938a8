//! Acknowledged: one outcome in the end. Applied: that is what is stored.

use super::{
    Row, Violation, Wrong,
    job::JobView,
    rows::{CANCELLED, DEAD, READY, SUCCEEDED, TAKEN},
};
use crate::chaos::payload::result;

pub(super) fn check(job: &JobView<'_>, found: &mut Vec<Violation>) {
    let mut say = |wrong, what: String| found.push(Violation::of(wrong, job, what));
    let Some(row) = job.row else {
        if job.acknowledged_at.is_some() {
            say(Wrong::Lost, "it was acknowledged and isn't in the database".to_owned());
        }
        return;
    };
    match row.outcome {
        None => {
            let wrong = match row.phase {
                READY => Wrong::StuckReady,
                TAKEN => Wrong::StuckTaken,
                _ => Wrong::StuckScheduled,
            };
            say(wrong, "it isn't over within the bound".to_owned());
        }
        Some(SUCCEEDED) => succeeded(job, row, &mut say),
        Some(DEAD) => dead(row, &mut say),
        Some(CANCELLED) if !job.cancel_asked && row.expires_at.is_none() => {
            say(Wrong::Invented, "it is cancelled and nobody asked for that".to_owned());
        }
        Some(CANCELLED) => {}
        Some(other) => say(Wrong::Invented, format!("there is no outcome {other}")),
    }
    if row.outcome.is_some() != row.finished_at.is_some() {
        say(Wrong::Invented, "outcome and time of the end don't go together".to_owned());
    }
    if job.cancelled && row.outcome != Some(CANCELLED) {
        say(Wrong::CancelUndone, "a cancel was answered and isn't the outcome".to_owned());
    }
    applied(job, row, &mut say);
}

fn succeeded(job: &JobView<'_>, row: &Row, say: &mut impl FnMut(Wrong, String)) {
    let returned = |attempt| {
        let ended = job.run_of(attempt).and_then(|run| run.ended);
        ended.is_some_and(|(_, success)| success)
    };
    let of = |attempt| row.result.as_deref() == Some(&result(job.id, attempt));
    match (1..=row.attempt).find(|attempt| of(*attempt)) {
        None => say(Wrong::Invented, "its result is of no attempt that it had".to_owned()),
        Some(attempt) if attempt != row.attempt => say(
            Wrong::StaleApplied,
            format!("the result of attempt {attempt} is stored, the job is at {}", row.attempt),
        ),
        Some(attempt) if !returned(attempt) => {
            say(Wrong::Invented, format!("no handler returned from attempt {attempt}"));
        }
        Some(_) => {}
    }
}

fn dead(row: &Row, say: &mut impl FnMut(Wrong, String)) {
    if row.max_attempts.is_some_and(|max| row.failures < max) {
        say(Wrong::DeadTooEarly, format!("it is dead after {} failures", row.failures));
    }
}

fn applied(job: &JobView<'_>, row: &Row, say: &mut impl FnMut(Wrong, String)) {
    let successes = job.applied_successes();
    if successes.len() > 1 {
        say(Wrong::AppliedTwice, format!("successes of attempts {successes:?} were applied"));
    }
    for attempt in successes {
        let later = job.runs.iter().find(|run| run.attempt > attempt);
        if let Some(later) = later {
            say(
                Wrong::StaleApplied,
                format!("attempt {attempt} was applied, and {} had begun", later.attempt),
            );
        } else if row.outcome != Some(SUCCEEDED)
            || row.result.as_deref() != Some(&result(job.id, attempt))
        {
            say(Wrong::Overwritten, format!("attempt {attempt} was applied and isn't stored"));
        }
    }
}
