//! What brokers count.

use std::collections::BTreeSet;

use super::{
    super::counters::{Expected, expected_in_all, expected_in_quiet},
    *,
};

const METRICS: &str = include_str!("../../../../../docs/metrics.md");

/// Counters of what a broker does, of which neither history nor database knows anything.
const WITHOUT_COUNTERPART: [&str; 14] = [
    "currant_requests_refused_total",
    "currant_messages_refused_total",
    "currant_enqueues_held_total",
    "currant_assignments_total",
    "currant_complete_calls_total",
    "currant_statement_errors_total",
    "currant_callers_refused_total",
    "currant_connections_refused_total",
    "currant_certificates_read_total",
    "currant_listener_failures_total",
    "currant_notices_total",
    "currant_heartbeat_failures_total",
    "currant_brokers_dead_total",
    "currant_spans_total",
];

/// The least that fits.
pub(super) fn fitting(case: &Case) -> Counters {
    let all = expected_in_quiet(case).unwrap().into_iter();
    Counters(all.map(|Expected { series, least, .. }| (series, least as f64)).collect())
}

/// Jobs with all that can become of one.
fn all_kinds() -> Case {
    let mut case = good();
    let add = |case: &mut Case, id: i64, row: Row, events: &[Event]| {
        let (call, by, jobs) = (format!("call-{id}"), Producer::Grpc, vec![id]);
        let events = [&[Event::Acknowledged { call, by, jobs }], events].concat();
        let lines = (100 + id..).zip(events);
        case.history.extend(lines.map(|(ms, event)| line(ms, "a", event)));
        case.rows.push(row);
    };
    let run = |job, attempt, succeeded| {
        let ended = Event::Ended { job, attempt, succeeded };
        [Event::Started { job, attempt }, ended]
    };
    let answered = |job, attempt, verdict| [Event::Answered { job, attempt, verdict }];
    // One attempt fails, the next is lost, the last succeeds and is reported twice.
    let row_of = |id, attempt| Row { claimed_at: Some(1), ..row(id, attempt) };
    let mut again = Row { failures: 2, ..row_of(10, 3) };
    again.payload.fail = 2;
    let [applied, duplicate] = [Verdict::Applied, Verdict::Duplicate];
    let events = [
        &run(10, 1, false)[..],
        &answered(10, 1, applied),
        &run(10, 2, false),
        &run(10, 3, true),
        &answered(10, 3, applied),
        &answered(10, 3, duplicate),
    ];
    add(&mut case, 10, again, &events.concat());
    let (outcome, max_attempts) = (Some(DEAD), Some(1));
    let dead = Row { outcome, max_attempts, failures: 1, result: None, ..row_of(20, 1) };
    add(&mut case, 20, dead, &[&run(20, 1, false)[..], &answered(20, 1, applied)].concat());
    let (outcome, expires_at) = (Some(CANCELLED), Some(120_000));
    let expired = Row { outcome, expires_at, result: None, ..row_of(30, 2) };
    add(&mut case, 30, expired, &[]);
    let cancelled = Row { outcome, result: None, ..row_of(40, 2) };
    let events = [
        &[Event::Started { job: 40, attempt: 1 }, Event::CancelAsked { job: 40 }][..],
        &[Event::Cancelled { job: 40 }],
        &answered(40, 1, Verdict::Stale),
        &answered(40, 1, Verdict::NotFound),
    ];
    add(&mut case, 40, cancelled, &events.concat());
    let events = [
        &[Event::CancelAsked { job: 50 }][..],
        &run(50, 1, true),
        &answered(50, 1, Verdict::Applied),
    ];
    add(&mut case, 50, row_of(50, 1), &events.concat());
    case
}

fn quiet() -> Case {
    let mut case = all_kinds();
    make_quiet(&mut case, 10_000);
    case
}

#[test]
fn each_counter_that_does_not_fit_is_found() {
    assert_eq!(judge(&quiet()), []);
    let mut unseen = Vec::new();
    for Expected { series, least, most, .. } in expected_in_quiet(&quiet()).unwrap() {
        let found = |count: usize| {
            wrong(quiet(), |case| {
                case.counters_in_quiet.0.insert(series, count as f64);
            })
        };
        assert_eq!(found(most), [], "{series}");
        assert_eq!(found(most + 1), [Wrong::MiscountedMetrics], "{series}");
        match least.checked_sub(1) {
            Some(less) => assert_eq!(found(less), [Wrong::MiscountedMetrics], "{series}"),
            None => unseen.push(series),
        }
    }
    // What goes on by itself, or never.
    let expected = [
        "currant_settlements_total{next=\"ready\"}",
        "currant_jobs_given_back_total",
        "currant_jobs_rescued_total",
        "currant_jobs_retried_total",
        "currant_jobs_deleted_total",
        "currant_jobs_pruned_total",
        "currant_schedule_fires_total",
    ];
    assert_eq!(unseen, expected);
}

#[test]
fn a_counter_of_all_that_is_above_what_the_database_has_is_found() {
    let all = expected_in_all(&quiet());
    assert!(all.len() > 10);
    for Expected { series, most, .. } in all {
        let found = |count: usize| {
            wrong(quiet(), |case| {
                case.counters_in_all.0.insert(series, count as f64);
            })
        };
        // A broker that was killed took with it what it had counted.
        assert_eq!(found(0), [], "{series}");
        assert_eq!(found(most), [], "{series}");
        assert_eq!(found(most + 1), [Wrong::MiscountedMetrics], "{series}");
    }
}

#[test]
fn where_it_is_not_known_what_was_stored_only_the_database_counts() {
    let (call, by) = ("x".to_owned(), Producer::Grpc);
    let unknown = Event::Unknown { call, by, jobs: 1, began: 0 };
    let found = wrong(quiet(), |case| {
        case.history.push(line(5, "producers", unknown));
        case.counters_in_quiet = Counters::default();
    });
    assert_eq!(found, [Wrong::FailedCall]);
}

#[test]
fn each_counter_of_the_page_is_compared_or_has_nothing_to_be_compared_with() {
    let compared = expected_in_quiet(&quiet()).unwrap().into_iter();
    let compared = compared.map(|one| one.series.split('{').next().unwrap_or_default());
    let decided: BTreeSet<&str> = compared.chain(WITHOUT_COUNTERPART).collect();
    let counters = METRICS.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("| `")?.split_once("` | ")?;
        kind.starts_with("counter |").then_some(name)
    });
    let undecided: Vec<&str> = counters.filter(|name| !decided.contains(name)).collect();
    assert_eq!(undecided, [""; 0]);
}

#[test]
fn gauges_that_do_not_fit_are_found() {
    let gauges = Gauges { held: 2.0, buffered: 0.0 };
    assert_eq!(wrong(good(), |case| case.gauges = gauges), [Wrong::HeldAtTheEnd]);
}
