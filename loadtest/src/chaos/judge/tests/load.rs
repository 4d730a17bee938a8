//! How soon after a fault all is as before.

use super::*;
use crate::chaos::{bounds, queues::PLAIN};

/// Load at a steady rate until `over_ms`, but for a time in which nothing ends.
fn load(fault: [Line; 2], silent_ms: std::ops::Range<i64>, over_ms: i64) -> Case {
    let mut case = Case::default();
    case.history.extend([phase(0, Phase::Faults), phase(over_ms, Phase::Settling)]);
    case.history.extend(fault);
    for (job, ms) in (1000..).zip((0..over_ms).step_by(20)) {
        // What would have begun meanwhile begins when that is over.
        let at = if silent_ms.contains(&ms) { silent_ms.end } else { ms };
        let call = format!("call-{job}");
        let (attempt, jobs) = (1, vec![job]);
        case.history.extend([
            line(ms, "p", Event::Acknowledged { call, by: Producer::Sql, jobs }),
            line(at, "w", Event::Started { job, attempt }),
            line(at + 1, "w", Event::Ended { job, attempt, succeeded: true }),
        ]);
        case.rows.push(Row { queue: PLAIN[0].to_owned(), ..row(job, 1) });
    }
    case
}

fn kill() -> ([Line; 2], i64) {
    let bound = bounds::recovery(Kind::KillBroker).as_millis() as i64;
    (fault(Kind::KillBroker, Touches::All, 2000, 3000), 3000 + bound)
}

#[test]
fn a_start_that_comes_later_than_the_bound_is_found() {
    let (kill, bound) = kill();
    let after = |ms| wrong(load(kill.clone(), 2000..ms, bound + 3000), |_| {});
    assert_eq!(after(bound - 500), []);
    assert_eq!(after(bound + 500), [Wrong::SlowRecovery]);
    // Another fault came before the bound.
    assert_eq!(wrong(load(kill.clone(), 2000..bound + 500, bound - 1), |_| {}), []);
}

#[test]
fn a_rerun_that_comes_later_than_the_bound_is_found() {
    let (kill, bound) = kill();
    let again = |ms| {
        wrong(load(kill.clone(), 2000..2000, bound + 3000), |case| {
            // The job of this second was running and never ended.
            case.history.retain(|line| !matches!(line.event, Event::Ended { job: 1099, .. }));
            let (job, attempt) = (1099, 2);
            case.history.push(line(ms, "v", Event::Started { job, attempt }));
            case.history.push(line(ms + 1, "v", Event::Ended { job, attempt, succeeded: true }));
            case.rows[99] = Row { queue: PLAIN[0].to_owned(), ..row(1099, 2) };
            let killed = fault(Kind::KillWorker, Touches::Worker("w".to_owned()), 1990, 1995);
            case.history.extend(killed);
        })
    };
    assert_eq!(again(bound - 500), []);
    assert_eq!(again(bound + 500), [Wrong::SlowRecovery]);
    // One whose last attempt it was has nothing to run again.
    let dead = |outcome| {
        wrong(load(kill.clone(), 2000..2000, bound + 3000), |case| {
            case.history.retain(|line| !matches!(line.event, Event::Ended { job: 1099, .. }));
            let killed = fault(Kind::KillWorker, Touches::Worker("w".to_owned()), 1990, 1995);
            case.history.extend(killed);
            let (max_attempts, failures) = (Some(1), 1);
            case.rows[99] = Row { outcome, max_attempts, failures, ..case.rows[99].clone() };
        })
    };
    assert!(!dead(Some(DEAD)).contains(&Wrong::SlowRecovery));
    assert!(dead(Some(SUCCEEDED)).contains(&Wrong::SlowRecovery));
}

#[test]
fn a_rate_that_does_not_come_back_is_found() {
    let (kill, bound) = kill();
    let found = wrong(load(kill, 2000..2000, bound + 3000), |case| {
        // Half of what was stored after the fault is of another queue.
        for row in case.rows.iter_mut().filter(|row| row.id > 1100 && row.id % 2 == 0) {
            row.queue = "q".to_owned();
        }
    });
    assert_eq!(found, [Wrong::SlowRecovery]);
}

#[test]
fn a_call_that_fails_while_brokers_are_only_drained_is_found() {
    let failed = |faults: &[[Line; 2]]| {
        let (call, by) = ("x".to_owned(), Producer::Grpc);
        let unknown = Event::Unknown { call, by, jobs: 1, began: 20_000_000 };
        wrong(good(), |case| {
            case.history.push(line(25_000, "producers", unknown));
            case.history.extend(faults.iter().flatten().cloned());
        })
    };
    let drain = fault(Kind::DrainBroker, Touches::All, 19_000, 23_000);
    let kill = fault(Kind::KillBroker, Touches::All, 12_000, 15_000);
    assert_eq!(failed(std::slice::from_ref(&drain)), [Wrong::FailedCall]);
    assert_eq!(failed(&[kill, drain]), []);
}
