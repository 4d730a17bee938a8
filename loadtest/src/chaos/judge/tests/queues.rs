//! What queues, keys and jobs say of themselves.

use super::*;
use crate::chaos::{
    payload::Scope,
    queues::{KEYED, LIMITED, ORDERED, PAUSED, UNIQUE},
};

/// As an id of this millisecond.
fn id(ms: i64, number: i64) -> i64 {
    (ms << 22) | number
}

/// A job that was run once, from and until, and succeeded.
fn ran(case: &mut Case, row: Row, acknowledged_ms: i64, from_ms: i64, until_ms: i64) {
    let (job, attempt) = (row.id, row.attempt);
    let (call, jobs) = (row.payload.call.clone(), vec![job]);
    case.history.extend([
        line(acknowledged_ms, "p", Event::Acknowledged { call, by: Producer::Sql, jobs }),
        line(from_ms, "w", Event::Started { job, attempt }),
        line(until_ms, "w", Event::Ended { job, attempt, succeeded: true }),
    ]);
    case.rows.push(Row { finished_at: Some(until_ms * 1000), ..row });
}

fn of(queue: &str, id: i64) -> Row {
    Row { queue: queue.to_owned(), ..row(id, 1) }
}

fn of_key(queue: &str, key: &str, id: i64) -> Row {
    Row { key: Some(key.to_owned()), ..of(queue, id) }
}

/// Jobs of a queue that run at these times, each acknowledged at once.
fn runs(row: impl Fn(i64) -> Row, times: &[(i64, i64)]) -> Case {
    let mut case = Case::default();
    for (number, &(from, until)) in (0..).zip(times) {
        ran(&mut case, row(id(1000, number)), 1001, from, until);
    }
    case
}

#[test]
fn more_at_a_time_than_a_limit_allows_is_found() {
    let times = [(2000, 2100), (2010, 2110), (2020, 2120), (2100, 2200)];
    assert_eq!(wrong(runs(|id| of(LIMITED, id), &times), |_| {}), []);
    let crowded = [(2000, 2100), (2010, 2110), (2020, 2120), (2099, 2200)];
    let case = || runs(|id| of(LIMITED, id), &crowded);
    assert_eq!(wrong(case(), |_| {}), [Wrong::OverLimit]);
    // One of an attempt that was taken from its worker doesn't count.
    let taken = wrong(case(), |case| {
        case.rows[0].attempt = 2;
        case.rows[0].result = Some(result(case.rows[0].id, 2));
        let (job, attempt) = (case.rows[0].id, 2);
        case.history.push(line(5000, "w", Event::Started { job, attempt }));
        case.history.push(line(5001, "w", Event::Ended { job, attempt, succeeded: true }));
    });
    assert_eq!(taken, []);
    let found = |kind, worker: &str| {
        let touches = Touches::Worker(worker.to_owned());
        wrong(case(), |case| case.history.extend(fault(kind, touches, 1000, 1900)))
    };
    assert_eq!(found(Kind::StopWorker, "w"), []);
    assert_eq!(found(Kind::StopWorker, "v"), [Wrong::OverLimit]);
    assert_eq!(found(Kind::KillWorker, "w"), [Wrong::OverLimit]);
}

#[test]
fn more_of_a_key_at_a_time_than_its_limit_is_found() {
    let times = [(2000, 2100), (2010, 2110), (2020, 2120)];
    let one = |id| of_key(KEYED, "north", id);
    assert_eq!(wrong(runs(one, &times), |_| {}), [Wrong::OverKeyLimit]);
    let others = |id| of_key(KEYED, ["north", "east"][id as usize % 2], id);
    assert_eq!(wrong(runs(others, &times), |_| {}), []);
}

#[test]
fn more_of_a_key_in_a_time_than_its_rate_is_found() {
    // Stored in the second 1, begun one after the other.
    let every = |ms: i64, jobs: i64| {
        let times: Vec<_> = (0..jobs).map(|n| (1000 + n * ms, 1001 + n * ms)).collect();
        wrong(runs(|id| of_key(KEYED, "north", id), &times), |_| {})
    };
    assert_eq!(every(200, 20), []);
    assert_eq!(every(1, 4), []);
    assert_eq!(every(150, 20), [Wrong::OverKeyRate]);
    assert_eq!(every(2, 5), [Wrong::OverKeyRate]);
}

#[test]
fn a_job_of_an_ordered_key_that_does_not_wait_for_the_one_before_is_found() {
    let case = |second_made_ms, second_begins_ms| {
        let mut case = Case::default();
        ran(&mut case, of_key(ORDERED, "north", id(1000, 0)), 1010, 2000, 2100);
        let second = of_key(ORDERED, "north", id(second_made_ms, 0));
        ran(&mut case, second, second_made_ms + 1, second_begins_ms, second_begins_ms + 50);
        wrong(case, |_| {})
    };
    assert_eq!(case(1020, 2101), []);
    assert_eq!(case(1020, 1500), [Wrong::KeyOutOfOrder]);
    // Two at a time, which is one more than one.
    assert_eq!(case(1020, 2050), [Wrong::KeyOutOfOrder, Wrong::OverKeyLimit].sorted());
    // The first wasn't acknowledged when the second was made.
    assert_eq!(case(1005, 1500), []);
}

trait Sorted {
    fn sorted(self) -> Vec<Wrong>;
}

impl<const N: usize> Sorted for [Wrong; N] {
    fn sorted(mut self) -> Vec<Wrong> {
        self.sort();
        self.into()
    }
}

#[test]
fn a_unique_job_beside_one_that_is_in_its_way_is_found() {
    let pair = |scope, second_made_ms| {
        let mut case = Case::default();
        for made_ms in [1000, second_made_ms] {
            let mut row = of(UNIQUE, id(made_ms, 0));
            row.payload.unique = Some(scope);
            row.claimed_at = Some((made_ms + 100) * 1000);
            ran(&mut case, row, made_ms + 1, made_ms + 200, made_ms + 300);
        }
        wrong(case, |_| {})
    };
    assert_eq!(pair(Scope::Waiting, 1099), [Wrong::UniqueTwice]);
    assert_eq!(pair(Scope::Waiting, 1100), []);
    assert_eq!(pair(Scope::Unfinished, 1299), [Wrong::UniqueTwice]);
    assert_eq!(pair(Scope::Unfinished, 1300), []);
    assert_eq!(pair(Scope::Period, 2999), [Wrong::UniqueTwice]);
    assert_eq!(pair(Scope::Period, 3000), []);
}

#[test]
fn a_run_after_expiry_and_an_expiry_before_its_time_are_found() {
    let case = |from_ms| {
        let row = Row { expires_at: Some(3_000_000), ..of("q", id(1000, 0)) };
        let mut case = Case::default();
        ran(&mut case, row, 1001, from_ms, from_ms + 1);
        case
    };
    assert_eq!(wrong(case(5900), |_| {}), []);
    assert_eq!(wrong(case(6100), |_| {}), [Wrong::BegunExpired]);
    let found = |kind, touches| {
        wrong(case(6100), |case| case.history.extend(fault(kind, touches, 2500, 2900)))
    };
    assert_eq!(found(Kind::StopBroker, Touches::All), []);
    assert_eq!(found(Kind::StopWorker, Touches::Worker("w".to_owned())), []);
    assert_eq!(found(Kind::StopWorker, Touches::Worker("v".to_owned())), [Wrong::BegunExpired]);
    assert_eq!(found(Kind::PostgresFast, Touches::All), [Wrong::BegunExpired]);

    let cancelled = |ms: i64, failures, expires_at| {
        let mut case = Case::default();
        let (outcome, finished_at) = (Some(CANCELLED), Some(ms * 1000));
        let row = of("q", id(1000, 0));
        case.rows.push(Row { outcome, finished_at, failures, expires_at, result: None, ..row });
        wrong(case, |_| {})
    };
    assert_eq!(cancelled(3001, 0, Some(3_000_000)), []);
    assert_eq!(cancelled(2999, 0, Some(3_000_000)), [Wrong::Invented]);
    // Its next try would come later than that.
    assert_eq!(cancelled(2000, 1, Some(3_000_000)), []);
    assert_eq!(cancelled(1800, 1, Some(3_000_000)), [Wrong::Invented]);
    assert_eq!(cancelled(3001, 0, None), [Wrong::Invented]);
}

#[test]
fn a_unique_job_may_be_stored_again_by_the_same_call() {
    let twice = |unique| {
        let mut case = Case::default();
        for made_ms in [1000, 5000] {
            let mut row = of(UNIQUE, id(made_ms, 0));
            (row.payload.call, row.payload.unique) = ("call".to_owned(), unique);
            ran(&mut case, row, 5001, made_ms + 200, made_ms + 300);
        }
        case.history.retain(|line| {
            !matches!(&line.event, Event::Acknowledged { jobs, .. } if jobs[0] == id(1000, 0))
        });
        wrong(case, |_| {})
    };
    assert_eq!(twice(Some(Scope::Unfinished)), []);
    assert_eq!(twice(None), [Wrong::Doubled]);
}

#[test]
fn a_job_that_begins_in_a_paused_queue_is_found() {
    let case = |made_ms, from_ms| {
        let mut case = Case::default();
        ran(&mut case, of(PAUSED, id(made_ms, 0)), made_ms + 1, from_ms, from_ms + 1);
        let queue = PAUSED.to_owned();
        case.history.push(line(10_000, "control", Event::Paused { queue: queue.clone() }));
        case.history.push(line(16_000, "control", Event::ResumeAsked { queue }));
        case
    };
    assert_eq!(wrong(case(12_100, 15_000), |_| {}), [Wrong::BegunInPause]);
    // Not every broker had heard of it; a worker may have had it; it was over.
    assert_eq!(wrong(case(11_900, 11_990), |_| {}), []);
    assert_eq!(wrong(case(9_900, 13_000), |_| {}), []);
    assert_eq!(wrong(case(12_100, 16_001), |_| {}), []);
    let found = |kind, touches| {
        wrong(case(12_100, 15_000), |case| case.history.extend(fault(kind, touches, 9000, 10_500)))
    };
    assert_eq!(found(Kind::BlackHole, Touches::All), []);
    assert_eq!(found(Kind::BlackHole, Touches::Clients), [Wrong::BegunInPause]);
    assert_eq!(found(Kind::KillBroker, Touches::All), [Wrong::BegunInPause]);
}

#[test]
fn a_job_that_waits_though_its_limit_has_room_is_found() {
    let quiet = |case: Case| wrong(case, |case| make_quiet(case, 60_000));
    // The last one is stored at the second 1, and begins so late.
    let waits = |row: &dyn Fn(i64) -> Row, before: &[(i64, i64)], begins_ms: i64| {
        quiet(runs(row, &[before, &[(begins_ms, begins_ms + 10)]].concat()))
    };
    let limited = |id| of(LIMITED, id);
    let long = [(1500, 20_000); 3];
    assert_eq!(waits(&limited, &[], 5900), []);
    assert_eq!(waits(&limited, &[], 6100), [Wrong::Late]);
    assert_eq!(waits(&limited, &long, 24_000), []);
    assert_eq!(waits(&limited, &long, 25_000), [Wrong::Late]);
    assert_eq!(waits(&limited, &long[1..], 7000), [Wrong::Late]);

    let of_one = |id| of_key(KEYED, "north", id);
    let of_each = |id| of_key(KEYED, ["north", "east"][id as usize % 2], id);
    assert_eq!(waits(&of_one, &long[1..], 24_000), []);
    assert_eq!(waits(&of_one, &long[2..], 7000), [Wrong::Late]);
    assert_eq!(waits(&of_each, &long[1..], 7000), [Wrong::Late]);
    // One after the other, as fast as the rate lets them.
    let steps: Vec<_> = (6..60).map(|n| (n * 200, n * 200 + 5)).collect();
    assert_eq!(waits(&of_one, &steps, 12_000), []);
    assert_eq!(waits(&of_one, &steps, 18_000), [Wrong::Late]);

    let ordered = |id| of_key(ORDERED, "north", id);
    let of_each = |id| of_key(ORDERED, ["north", "east"][id as usize % 2], id);
    assert_eq!(waits(&ordered, &long[2..], 24_000), []);
    assert_eq!(waits(&ordered, &long[2..], 25_500), [Wrong::Late]);
    assert_eq!(waits(&of_each, &long[2..], 7000), [Wrong::Late]);
}
