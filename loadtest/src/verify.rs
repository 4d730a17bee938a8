//! The check, exact and by job: every acknowledged job is finished, once.

use serde::Serialize;

use crate::recorder::Recorder;

/// Numbers of jobs. All but `acknowledged`, `finished` and `redelivered` should be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verification {
    /// Jobs whose Enqueue was answered with an id.
    pub(crate) acknowledged: u64,
    /// Acknowledged jobs whose completion was answered APPLIED or DUPLICATE.
    pub(crate) finished: u64,
    /// Acknowledged jobs that are not finished, by the answers to the workers or by the database.
    pub(crate) lost: u64,
    /// Jobs with more than one completion answered APPLIED.
    pub(crate) finished_twice: u64,
    /// Handler starts beyond the first of each job.
    pub(crate) redelivered: u64,
    /// Acknowledged jobs for which no handler started.
    pub(crate) never_started: u64,
    /// Ids that were returned for more than one job.
    pub(crate) ids_repeated: u64,
    /// Finished jobs whose Enqueue was not acknowledged.
    pub(crate) finished_unacknowledged: u64,
    /// Deliveries that are none of this run's jobs.
    pub(crate) foreign: u64,
    /// Enqueue calls that failed for good.
    pub(crate) failed_calls: u64,
    /// The error of the first of these.
    pub(crate) first_failure: Option<String>,
    /// Completions answered STALE.
    pub(crate) stale: u64,
    /// Completions answered NOT_FOUND.
    pub(crate) not_found: u64,
    /// Nobody made progress for so long that the run was given up.
    pub(crate) stalled: bool,
    /// A worker ended with this.
    pub(crate) worker_error: Option<String>,
    /// What the job table says; None without access to it.
    pub(crate) database: Option<DatabaseCheck>,
}

/// Numbers of jobs by the job table. All but `succeeded` should be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DatabaseCheck {
    /// Acknowledged jobs whose outcome is succeeded.
    pub(crate) succeeded: u64,
    /// Acknowledged jobs that are not in the table.
    pub(crate) missing: u64,
    /// Acknowledged jobs without an outcome.
    pub(crate) unfinished: u64,
    /// Acknowledged jobs that are dead or cancelled.
    pub(crate) not_succeeded: u64,
    /// Jobs of this run's queues that were never acknowledged.
    pub(crate) unacknowledged: u64,
}

/// A job as the table has it: its id and its outcome (None open, 1 succeeded).
pub(crate) type StoredJob = (i64, Option<i16>);

impl Verification {
    /// True if the contract was kept: nothing lost, nothing finished twice, every handler run
    /// accounted for. Redelivery is allowed: delivery is at least once.
    pub(crate) fn passed(&self) -> bool {
        let database = self.database.as_ref().is_none_or(|d| {
            d.missing + d.unfinished + d.not_succeeded == 0
                // A call that failed may have stored its jobs all the same.
                && (d.unacknowledged == 0 || self.failed_calls > 0)
        });
        let unexplained = if self.failed_calls > 0 { 0 } else { self.finished_unacknowledged };
        let counts = [self.lost, self.finished_twice, self.never_started, self.ids_repeated];
        let orderly = !self.stalled && self.worker_error.is_none();
        database && orderly && counts.iter().sum::<u64>() + unexplained + self.foreign == 0
    }
}

/// Takes what the recorder holds; `stored` are the rows of this run's queues.
pub(crate) fn verify(
    recorder: &Recorder,
    stored: Option<Vec<StoredJob>>,
    stalled: bool,
) -> Verification {
    let calls = recorder.take_calls();
    let completions = recorder.take_completions();
    let failures = recorder.take_failures();
    let mut found = Verification {
        foreign: recorder.foreign_count(),
        failed_calls: failures.calls,
        first_failure: failures.first,
        stale: completions.stale,
        not_found: completions.not_found,
        stalled,
        ..Verification::default()
    };

    let mut acknowledged = Vec::with_capacity(calls.iter().map(|call| call.ids.len()).sum());
    for call in calls {
        for index in call.first..call.first + call.ids.len() as u64 {
            match recorder.starts(index) {
                0 => found.never_started += 1,
                starts => found.redelivered += u64::from(starts) - 1,
            }
        }
        acknowledged.extend(call.ids);
    }
    found.ids_repeated = sort_distinct(&mut acknowledged);
    found.acknowledged = acknowledged.len() as u64;

    let mut finished = completions.applied;
    found.finished_twice = sort_distinct(&mut finished);
    finished.extend(completions.duplicate);
    sort_distinct(&mut finished);
    found.finished_unacknowledged = count_missing(&finished, &acknowledged);
    found.finished = finished.len() as u64 - found.finished_unacknowledged;

    let mut stored = stored;
    found.database = stored.as_mut().map(|rows| check_rows(&acknowledged, rows));
    found.lost = lost(&acknowledged, &finished, stored.as_deref());
    found
}

/// Sorts, removes repetitions, and returns how many values occurred more than once.
fn sort_distinct(ids: &mut Vec<i64>) -> u64 {
    ids.sort_unstable();
    let repeated = ids.chunk_by(|a, b| a == b).filter(|run| run.len() > 1).count();
    ids.dedup();
    repeated as u64
}

/// How many of `ids` are not in `others`; both sorted.
fn count_missing(ids: &[i64], others: &[i64]) -> u64 {
    let mut others = others.iter().peekable();
    let missing = ids.iter().filter(|id| {
        while others.next_if(|other| other < id).is_some() {}
        others.peek() != Some(id)
    });
    missing.count() as u64
}

/// Acknowledged jobs whose completion nobody confirmed, or which the database doesn't show as
/// succeeded. `stored` is sorted.
fn lost(acknowledged: &[i64], finished: &[i64], stored: Option<&[StoredJob]>) -> u64 {
    let lost = acknowledged.iter().filter(|id| {
        let confirmed = finished.binary_search(id).is_ok();
        let kept = stored.is_none_or(|rows| rows.binary_search(&(**id, Some(SUCCEEDED))).is_ok());
        !(confirmed && kept)
    });
    lost.count() as u64
}

/// `job.outcome` of a job that succeeded.
const SUCCEEDED: i16 = 1;

/// Sorts the rows and compares them with the sorted ids that were acknowledged.
fn check_rows(acknowledged: &[i64], rows: &mut [StoredJob]) -> DatabaseCheck {
    rows.sort_unstable();
    let mut check = DatabaseCheck::default();
    let mut expected = acknowledged.iter().peekable();
    for (id, outcome) in rows.iter() {
        while expected.next_if(|e| *e < id).is_some() {
            check.missing += 1;
        }
        if expected.next_if(|e| *e == id).is_none() {
            check.unacknowledged += 1;
            continue;
        }
        match outcome {
            None => check.unfinished += 1,
            Some(SUCCEEDED) => check.succeeded += 1,
            Some(_) => check.not_succeeded += 1,
        }
    }
    check.missing += expected.count() as u64;
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        jobs::{Layout, binary_batch},
        recorder::Answer,
    };

    /// Jobs 0 to 3 with the ids 100 to 103, each started and acknowledged.
    fn recorder() -> Recorder {
        let recorder = Recorder::new(Layout::Binary, 4, 1, 1, 0);
        for payload in binary_batch(0, 4, 0, 16) {
            recorder.started(0, &payload);
        }
        recorder.acknowledged(2, 0, vec![102, 103]);
        recorder.acknowledged(0, 0, vec![100, 101]);
        recorder
    }

    fn applied(recorder: &Recorder, ids: &[i64]) {
        recorder.completed(ids.iter().map(|id| (*id, Answer::Applied)));
    }

    fn rows(ids: &[i64]) -> Vec<StoredJob> {
        ids.iter().map(|id| (*id, Some(SUCCEEDED))).collect()
    }

    #[test]
    fn a_clean_run_passes() {
        let recorder = recorder();
        applied(&recorder, &[103, 100, 101, 102]);
        let found = verify(&recorder, Some(rows(&[102, 103, 100, 101])), false);
        assert!(found.passed(), "{found:?}");
        assert_eq!((found.acknowledged, found.finished, found.lost), (4, 4, 0));
        assert_eq!(found.database.map(|d| d.succeeded), Some(4));
    }

    #[test]
    fn a_lost_job_is_found() {
        let recorder = recorder();
        applied(&recorder, &[100, 102, 103]);
        let found = verify(&recorder, None, true);
        assert_eq!((found.lost, found.finished_twice, found.passed()), (1, 0, false));
    }

    #[test]
    fn a_job_that_only_the_database_lost_is_found() {
        let recorder = recorder();
        applied(&recorder, &[100, 101, 102, 103]);
        let mut stored = rows(&[100, 101, 102]);
        stored[1].1 = None;
        let found = verify(&recorder, Some(stored), false);
        assert_eq!((found.lost, found.passed()), (2, false));
        let expected =
            DatabaseCheck { succeeded: 2, missing: 1, unfinished: 1, ..Default::default() };
        assert_eq!(found.database, Some(expected));
    }

    #[test]
    fn a_job_finished_twice_is_found() {
        let recorder = recorder();
        applied(&recorder, &[100, 101, 102, 103, 101]);
        let found = verify(&recorder, None, false);
        assert_eq!((found.lost, found.finished_twice, found.passed()), (0, 1, false));
    }

    #[test]
    fn a_completion_sent_again_is_no_second_finish() {
        let recorder = recorder();
        applied(&recorder, &[100, 101, 102]);
        recorder.completed([(102, Answer::Duplicate), (103, Answer::Duplicate)].into_iter());
        let found = verify(&recorder, None, false);
        assert_eq!((found.lost, found.finished_twice, found.passed()), (0, 0, true));
    }

    #[test]
    fn redelivery_is_counted_and_allowed() {
        let recorder = recorder();
        for payload in binary_batch(1, 1, 0, 16) {
            recorder.started(0, &payload);
        }
        applied(&recorder, &[100, 101, 102, 103]);
        let found = verify(&recorder, None, false);
        assert_eq!((found.redelivered, found.passed()), (1, true));
    }

    #[test]
    fn a_job_that_no_handler_saw_fails_the_run() {
        let recorder = Recorder::new(Layout::Binary, 1, 1, 1, 0);
        recorder.acknowledged(0, 0, vec![100]);
        applied(&recorder, &[100]);
        let found = verify(&recorder, None, false);
        assert_eq!((found.never_started, found.passed()), (1, false));
    }

    #[test]
    fn an_id_given_twice_and_a_job_from_nowhere_fail_the_run() {
        let recorder = recorder();
        recorder.acknowledged(0, 0, vec![100]);
        applied(&recorder, &[100, 101, 102, 103, 999]);
        let found = verify(&recorder, Some(rows(&[100, 101, 102, 103, 999])), false);
        assert_eq!((found.ids_repeated, found.finished_unacknowledged), (1, 1));
        assert!(!found.passed());
    }
}
