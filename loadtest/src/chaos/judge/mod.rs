//! The checker: judges what producers were told and handlers saw against what the database says. It
//! knows the contract, the tables and the metrics, nothing of how the broker works.

mod attempts;
mod calls;
mod counters;
mod expiry;
mod job;
mod keys;
mod limits;
mod outcomes;
mod pauses;
mod quiet;
mod recovery;
mod room;
mod rows;
#[cfg(test)]
mod tests;
mod unique;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use self::job::JobView;
pub(super) use self::{
    counters::{Counters, Gauges},
    rows::{Row, open_jobs, read},
};
use super::history::{Event, Line, Phase};

/// What a promise can be broken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wrong {
    /// An acknowledged job isn't there.
    Lost,
    /// A job was stored twice for one place of one call.
    Doubled,
    /// Of a call some jobs are stored, some aren't.
    Torn,
    /// Not over within the bound, and no broker has taken it.
    StuckReady,
    /// Not over within the bound, though a broker says that it has it.
    StuckTaken,
    /// Not over within the bound, and waiting for its time.
    StuckScheduled,
    /// The completion of an attempt was applied though a later one had begun.
    StaleApplied,
    /// An applied completion isn't what is stored.
    Overwritten,
    /// Two completions of one job were applied.
    AppliedTwice,
    /// An outcome that nobody reported or asked for.
    Invented,
    /// A job that was cancelled isn't.
    CancelUndone,
    /// It is dead, and had not used up its attempts.
    DeadTooEarly,
    /// One attempt was run twice.
    RanTwice,
    /// A run under an attempt that the job never had.
    UnknownAttempt,
    /// Failures that don't fit attempts, reports or the bound.
    MiscountedFailures,
    /// A job was run again while a living worker that nothing had happened to was running it.
    RerunOfTheLiving,
    /// Without faults: it waited for long though workers had room, and its limit too.
    Late,
    /// Without faults: an attempt more than it needed.
    RerunInQuiet,
    /// One worker, one queue, no failures: not in order.
    OutOfOrder,
    /// More attempts of a limited queue were under way than it allows.
    OverLimit,
    /// The same of a key.
    OverKeyLimit,
    /// More attempts of a key began in a time than its rate allows.
    OverKeyRate,
    /// A job of an ordered key began before an older one was over.
    KeyOutOfOrder,
    /// A unique job was stored though another one was in its way.
    UniqueTwice,
    /// A job began after it had expired.
    BegunExpired,
    /// A job began while its queue was paused.
    BegunInPause,
    /// After a fault all was as before later than its bound.
    SlowRecovery,
    /// A client's call failed though brokers were only drained.
    FailedCall,
    /// A broker's metrics say something else than what was seen.
    MiscountedMetrics,
    /// A broker says at the end that it holds something.
    HeldAtTheEnd,
    /// A process ended in a way for which no fault is a reason.
    EndedByItself,
    /// A broker's log has a panic.
    Panicked,
}

/// One broken promise, with what shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Violation {
    pub(super) wrong: Wrong,
    pub(super) job: Option<i64>,
    pub(super) what: String,
    pub(super) evidence: Vec<String>,
}

/// All that there is to judge by.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) history: Vec<Line>,
    pub(super) rows: Vec<Row>,
    /// At the end of the quiet phase.
    pub(super) counters_in_quiet: Counters,
    /// At the end of all: of the brokers that run, and of those that were ended as far as they had said it.
    pub(super) counters_in_all: Counters,
    /// At the end of all, when nothing is left to do.
    pub(super) gauges: Gauges,
    /// Lines of brokers' logs.
    pub(super) panics: Vec<String>,
}

/// Lines of evidence for one violation.
const EVIDENCE_MAX: usize = 40;

pub(super) fn judge(case: &Case) -> Vec<Violation> {
    let jobs = job::views(&case.history, &case.rows);
    let faults = job::fault_spans(&case.history);
    let mut found = Vec::new();
    for job in jobs.values() {
        outcomes::check(job, &mut found);
        attempts::check(job, &faults, &mut found);
        expiry::check(job, &faults, &mut found);
    }
    limits::check(&jobs, &faults, &mut found);
    keys::check(&jobs, &mut found);
    unique::check(case, &mut found);
    pauses::check(case, &jobs, &faults, &mut found);
    recovery::check(case, &jobs, &faults, &mut found);
    calls::check(case, &mut found);
    quiet::check(case, &jobs, &mut found);
    counters::check(case, &mut found);
    processes(case, &mut found);
    found
}

/// How often each kind of violation was found.
pub(super) fn count(violations: &[Violation]) -> BTreeMap<Wrong, usize> {
    let mut counts = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.wrong).or_default() += 1;
    }
    counts
}

fn processes(case: &Case, found: &mut Vec<Violation>) {
    let quiet = phase_at(&case.history, Phase::Faults).unwrap_or(i64::MAX);
    for line in &case.history {
        let Event::EndedByItself { who, status } = &line.event else { continue };
        // A broker that others hold for dead ends with an error, as it should. That takes a fault.
        let held_for_dead = who.starts_with("broker") && status.ends_with(": 1");
        if line.at < quiet || !held_for_dead {
            let what = format!("{who} ended with {status}");
            found.push(Violation {
                wrong: Wrong::EndedByItself,
                job: None,
                what,
                evidence: vec![],
            });
        }
    }
    for line in &case.panics {
        let (wrong, what) = (Wrong::Panicked, line.clone());
        found.push(Violation { wrong, job: None, what, evidence: vec![] });
    }
}

/// When a phase began.
fn phase_at(history: &[Line], wanted: Phase) -> Option<i64> {
    let begins = |line: &&Line| line.event == Event::Phase { phase: wanted };
    history.iter().find(begins).map(|line| line.at)
}

impl Violation {
    fn of_queue(wrong: Wrong, queue: &str, what: String) -> Violation {
        Violation { wrong, job: None, what: format!("{queue}: {what}"), evidence: Vec::new() }
    }

    fn of(wrong: Wrong, job: &JobView<'_>, what: String) -> Violation {
        let mut evidence: Vec<String> =
            job.lines.iter().take(EVIDENCE_MAX).map(|line| line.to_string()).collect();
        evidence.push(job.row.map_or_else(|| "no row".to_owned(), |row| format!("{row:?}")));
        Violation { wrong, job: Some(job.id), what, evidence }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VIOLATION {}", self.wrong)?;
        if let Some(job) = self.job {
            write!(out, ", job {job}")?;
        }
        write!(out, ": {}", self.what)?;
        self.evidence.iter().try_for_each(|line| write!(out, "\n    {line}"))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        for (at, letter) in name.char_indices() {
            if letter.is_uppercase() && at > 0 {
                out.write_str("-")?;
            }
            write!(out, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}
