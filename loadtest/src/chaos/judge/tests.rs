//! A history that keeps every promise, and one change for each promise that breaks it.

#![allow(clippy::unwrap_used)]

use super::{
    rows::{CANCELLED, DEAD, READY, SUCCEEDED, TAKEN},
    *,
};
use crate::chaos::{
    fault::Kind,
    history::{Producer, Touches, Verdict},
    payload::{Payload, result},
    queues::ORDER,
};

mod counters;
mod load;
mod queues;

const JOB: i64 = 7;

fn line(ms: i64, who: &str, event: Event) -> Line {
    Line { at: ms * 1000, who: who.into(), event }
}

fn row(id: i64, attempt: u32) -> Row {
    Row {
        id,
        queue: "q".to_owned(),
        priority: 0,
        phase: TAKEN,
        outcome: Some(SUCCEEDED),
        attempt,
        failures: 0,
        max_attempts: Some(3),
        payload: Payload {
            call: format!("call-{id}"),
            index: 0,
            jobs: 1,
            ms: 0,
            fail: 0,
            unique: None,
        },
        result: Some(result(id, attempt)),
        error: None,
        finished_at: Some(125_000),
        claimed_at: None,
        key: None,
        expires_at: None,
    }
}

fn acknowledged(ms: i64) -> Line {
    let event =
        Event::Acknowledged { call: format!("call-{JOB}"), by: Producer::Grpc, jobs: vec![JOB] };
    line(ms, "producers", event)
}

fn started(ms: i64, who: &str, attempt: u32) -> Line {
    line(ms, who, Event::Started { job: JOB, attempt })
}

fn ended(ms: i64, who: &str, attempt: u32, succeeded: bool) -> Line {
    line(ms, who, Event::Ended { job: JOB, attempt, succeeded })
}

fn answered(ms: i64, who: &str, attempt: u32) -> Line {
    line(ms, who, Event::Answered { job: JOB, attempt, verdict: Verdict::Applied })
}

fn fault(kind: Kind, touches: Touches, begins_ms: i64, ends_ms: i64) -> [Line; 2] {
    let fault = Event::Fault { kind, name: String::new(), touches };
    [line(begins_ms, "control", fault), line(ends_ms, "control", Event::Healed)]
}

fn phase(ms: i64, phase: Phase) -> Line {
    line(ms, "control", Event::Phase { phase })
}

/// One job that is acknowledged, run and done.
fn good() -> Case {
    let history = vec![
        acknowledged(100),
        started(110, "a", 1),
        ended(120, "a", 1, true),
        answered(130, "a", 1),
    ];
    Case { history, rows: vec![row(JOB, 1)], ..Case::default() }
}

/// The same job, whose first attempt failed.
fn second_try() -> Case {
    let mut case = good();
    case.history = vec![
        acknowledged(100),
        started(110, "a", 1),
        ended(120, "a", 1, false),
        answered(130, "a", 1),
        started(200, "b", 2),
        ended(210, "b", 2, true),
        answered(220, "b", 2),
    ];
    case.rows[0] = Row { failures: 1, ..row(JOB, 2) };
    case
}

/// What is wrong after this change.
fn wrong(mut case: Case, change: impl FnOnce(&mut Case)) -> Vec<Wrong> {
    change(&mut case);
    case.history.sort_by_key(|line| line.at);
    count(&judge(&case)).into_keys().collect()
}

#[test]
fn kept_promises_are_no_violation() {
    assert_eq!(wrong(good(), |_| {}), []);
    assert_eq!(wrong(second_try(), |_| {}), []);
}

#[test]
fn a_job_that_is_gone_or_not_over_is_found() {
    assert_eq!(wrong(good(), |case| case.rows.clear()), [Wrong::Lost]);
    for (phase, kind) in
        [(0, Wrong::StuckScheduled), (READY, Wrong::StuckReady), (TAKEN, Wrong::StuckTaken)]
    {
        let found = wrong(good(), |case| {
            case.history.truncate(1);
            let row = &mut case.rows[0];
            (row.phase, row.outcome, row.result, row.finished_at) = (phase, None, None, None);
        });
        assert_eq!(found, [kind]);
    }
}

#[test]
fn a_call_that_is_stored_twice_or_in_part_is_found() {
    let twice = |case: &mut Case| {
        case.rows.push(Row { payload: case.rows[0].payload.clone(), ..row(8, 0) });
        case.rows[1].result = None;
        (case.rows[1].outcome, case.rows[1].finished_at, case.rows[1].phase) = (None, None, READY);
    };
    assert!(wrong(good(), twice).contains(&Wrong::Doubled));
    assert_eq!(wrong(good(), |case| case.rows[0].payload.jobs = 2), [Wrong::Torn]);
}

#[test]
fn an_applied_completion_that_is_not_the_outcome_is_found() {
    let found = wrong(good(), |case| case.rows[0].outcome = Some(CANCELLED));
    assert!(found.contains(&Wrong::Overwritten) && found.contains(&Wrong::Invented), "{found:?}");
    let found = wrong(second_try(), |case| {
        case.rows[0].result = Some(result(JOB, 1));
    });
    assert!(found.contains(&Wrong::StaleApplied), "{found:?}");
    let found = wrong(good(), |case| {
        case.history.push(answered(140, "a", 1));
    });
    assert_eq!(found, [Wrong::AppliedTwice]);
}

#[test]
fn a_completion_that_was_applied_after_a_later_attempt_had_begun_is_found() {
    let found = wrong(good(), |case| {
        case.history.push(started(125, "b", 2));
        case.rows[0].attempt = 2;
    });
    assert_eq!(found, [Wrong::StaleApplied]);
}

#[test]
fn an_outcome_out_of_nowhere_is_found() {
    assert_eq!(wrong(good(), |case| case.history.truncate(2)), [Wrong::Invented]);
    assert_eq!(
        wrong(good(), |case| {
            case.history.truncate(1);
            (case.rows[0].outcome, case.rows[0].result) = (Some(DEAD), None);
        }),
        [Wrong::DeadTooEarly]
    );
    let cancelled = line(105, "producers", Event::Cancelled { job: JOB });
    assert_eq!(wrong(good(), |case| case.history.push(cancelled)), [Wrong::CancelUndone]);
}

#[test]
fn attempts_and_failures_that_do_not_fit_are_found() {
    let again = started(115, "b", 1);
    assert_eq!(wrong(good(), |case| case.history.push(again)), [Wrong::RanTwice]);
    let found = wrong(good(), |case| case.history.push(started(99, "b", 2)));
    assert!(found.contains(&Wrong::UnknownAttempt), "{found:?}");
    for failures in [0, 3] {
        let found = wrong(second_try(), |case| case.rows[0].failures = failures);
        assert_eq!(found, [Wrong::MiscountedFailures]);
    }
}

/// Attempt 1 runs for long at a; attempt 2 begins at b meanwhile.
fn rerun() -> Case {
    let history = vec![
        acknowledged(100_000),
        started(100_100, "a", 1),
        started(101_000, "b", 2),
        ended(101_500, "b", 2, true),
        answered(101_600, "b", 2),
        ended(102_000, "a", 1, true),
    ];
    Case { history, rows: vec![row(JOB, 2)], ..Case::default() }
}

#[test]
fn a_rerun_of_what_a_living_worker_runs_needs_a_reason_of_that_worker() {
    assert_eq!(wrong(rerun(), |_| {}), [Wrong::RerunOfTheLiving]);
    let found = |kind, touches| {
        wrong(rerun(), |case| case.history.extend(fault(kind, touches, 100_200, 100_900)))
    };
    let worker = |name: &str| Touches::Worker(name.to_owned());
    assert_eq!(found(Kind::StopWorker, worker("a")), []);
    assert_eq!(found(Kind::StopBroker, Touches::All), []);
    assert_eq!(found(Kind::StopWorker, worker("b")), [Wrong::RerunOfTheLiving]);
    assert_eq!(found(Kind::BlackHole, Touches::Clients), [Wrong::RerunOfTheLiving]);
    for kind in [Kind::KillBroker, Kind::DrainBroker] {
        assert_eq!(found(kind, Touches::All), [Wrong::RerunOfTheLiving]);
    }
}

#[test]
fn a_handler_that_was_stopped_counts_as_running() {
    let stopped = |case: &mut Case| {
        case.history.retain(|line| !matches!(line.event, Event::Ended { attempt: 1, .. }));
    };
    assert_eq!(wrong(rerun(), stopped), [Wrong::RerunOfTheLiving]);
    let killed = wrong(rerun(), |case| {
        stopped(case);
        let touches = Touches::Worker("a".to_owned());
        case.history.extend(fault(Kind::KillWorker, touches, 100_200, 100_900));
    });
    assert_eq!(killed, []);
}

/// The case between the beginning and the end of the quiet phase.
fn in_quiet(case: Case, change: impl FnOnce(&mut Case)) -> Vec<Wrong> {
    wrong(case, |case| {
        change(case);
        make_quiet(case, 10_000);
    })
}

/// Without faults until then.
fn make_quiet(case: &mut Case, until_ms: i64) {
    case.history.extend([phase(0, Phase::Quiet), phase(until_ms, Phase::QuietOver)]);
    case.history.sort_by_key(|line| line.at);
    case.counters_in_quiet = counters::fitting(case);
}

#[test]
fn without_faults_jobs_begin_at_once_and_once() {
    assert_eq!(in_quiet(good(), |_| {}), []);
    let late = in_quiet(good(), |case| {
        case.history.iter_mut().skip(1).for_each(|line| line.at += 5_000_000);
    });
    assert_eq!(late, [Wrong::Late]);
    let rerun = in_quiet(second_try(), |case| case.history.retain(|line| line.at != 130_000));
    assert_eq!(rerun, [Wrong::RerunInQuiet]);
}

#[test]
fn another_order_than_promised_is_found() {
    let ordered = |first: i64, second: i64| {
        in_quiet(good(), |case| {
            for (id, priority) in [(11, 0), (12, 5)] {
                let queue = ORDER.to_owned();
                case.rows.push(Row { queue, priority, ..row(id, 1) });
            }
            for (ms, job) in [(20_000, first), (21_000, second)] {
                case.history.push(line(ms, "w", Event::Started { job, attempt: 1 }));
                let ended = Event::Ended { job, attempt: 1, succeeded: true };
                case.history.push(line(ms + 1, "w", ended));
            }
        })
    };
    assert_eq!(ordered(12, 11), []);
    assert_eq!(ordered(11, 12), [Wrong::OutOfOrder]);
}

#[test]
fn a_process_that_ends_without_a_reason_is_found() {
    let ends_as = |who: &str, ms, status: &str| {
        let (who, status) = (who.to_owned(), status.to_owned());
        let event = Event::EndedByItself { who, status };
        wrong(good(), |case| {
            case.history.extend([phase(500, Phase::Faults), line(ms, "control", event)]);
        })
    };
    let ends = |ms, status| ends_as("broker-0", ms, status);
    assert_eq!(ends(600, "exit status: 1"), []);
    assert_eq!(ends_as("worker-0", 600, "exit status: 1"), [Wrong::EndedByItself]);
    assert_eq!(ends(400, "exit status: 1"), [Wrong::EndedByItself]);
    assert_eq!(ends(600, "signal: 6 (SIGABRT)"), [Wrong::EndedByItself]);
    assert_eq!(wrong(good(), |case| case.panics.push("x".to_owned())), [Wrong::Panicked]);
}

#[test]
fn a_kind_of_violation_has_one_name_everywhere() {
    let name = serde_json::to_value(Wrong::RerunOfTheLiving).unwrap();
    assert_eq!(name.as_str().unwrap(), Wrong::RerunOfTheLiving.to_string());
}
