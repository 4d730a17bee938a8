//! What a worker is told of each outcome that it reports.

use currant_proto::v1::{
    Assignment, Cancelled, CompleteRequest, Completion, Failed, JobState, NewJob, Released,
    Snoozed, Verdict, completion::Outcome,
};

use crate::{
    outcomes::{completion, every, failed, ms, retried, succeeded},
    support::{Broker, Database, TestWorker, attempt, get, job},
};

/// Without a session.
async fn complete(broker: &Broker, completions: Vec<Completion>) -> Vec<Verdict> {
    let request = CompleteRequest { completions, ..CompleteRequest::default() };
    broker.workers().complete(request).await.unwrap().into_inner().verdicts().collect()
}

#[tokio::test]
async fn each_item_of_a_mixed_request_has_its_own_verdict() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut other = TestWorker::subscribe(&broker, &["theirs"], 10).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue((0..2).map(|_| job("theirs", b""))).await;
    let theirs = other.take(2).await;
    broker.enqueue((0..6).map(|_| retried())).await;
    let held = worker.take(6).await;
    worker.succeed(&held[..1]).await;
    worker.report([&held[1]], Outcome::Failed(Failed { discard: true, ..Failed::default() })).await;
    // Given out again: its first attempt is no longer current.
    worker.report([&held[2]], failed("")).await;
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (held[2].job_id, 2));
    let waiting = broker.enqueue([job("nobodys", b"")]).await[0];

    let of = |job: &Assignment, outcome| completion(job.job_id, job.attempt, outcome);
    let released = || Outcome::Released(Released {});
    let (completions, expected): (Vec<_>, Vec<_>) = [
        (of(&held[3], succeeded(b"3")), Verdict::Applied),
        (of(&held[0], succeeded(b"again")), Verdict::Duplicate),
        (of(&held[1], succeeded(b"after all")), Verdict::Duplicate),
        (of(&held[2], succeeded(b"stale")), Verdict::Stale),
        (completion(held[4].job_id, 7, succeeded(b"future")), Verdict::Stale),
        (completion(12_345, 1, succeeded(b"")), Verdict::NotFound),
        (completion(-1, 1, failed("")), Verdict::NotFound),
        (of(&held[4], failed("4")), Verdict::Applied),
        (of(&held[1], failed("again")), Verdict::Duplicate),
        (of(&held[2], failed("stale")), Verdict::Stale),
        (of(&held[5], released()), Verdict::Applied),
        (of(&again, succeeded(b"second")), Verdict::Applied),
        // Another session's, which it doesn't even serve the queue of.
        (of(&theirs[0], succeeded(b"theirs")), Verdict::Applied),
        (of(&theirs[1], failed("theirs")), Verdict::Applied),
        (completion(waiting, 1, succeeded(b"")), Verdict::Stale),
    ]
    .into_iter()
    .unzip();
    assert_eq!(worker.complete(completions).await, expected);
    for (job, state, result) in [
        (&held[0], JobState::Succeeded, &b""[..]),
        (&held[1], JobState::Dead, b""),
        (&held[2], JobState::Succeeded, b"second"),
        (&held[3], JobState::Succeeded, b"3"),
        (&theirs[0], JobState::Succeeded, b"theirs"),
    ] {
        let stored = get(&broker, job.job_id).await;
        assert_eq!((stored.state(), stored.result.as_ref()), (state, result));
    }
    assert_eq!(get(&broker, waiting).await.state(), JobState::Ready);
}

#[tokio::test]
async fn an_attempt_reported_twice_at_once_is_applied_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue((0..3).map(|_| job("q", b""))).await;
    let held = worker.take(3).await;
    let of = |job: &Assignment, outcome| completion(job.job_id, job.attempt, outcome);
    let cancelled = Outcome::Cancelled(Cancelled {});
    let later = Outcome::Snoozed(Snoozed { delay: Some(ms(3_600_000)) });
    let completions = vec![
        of(&held[0], succeeded(b"first")),
        of(&held[1], cancelled.clone()),
        of(&held[0], succeeded(b"second")),
        of(&held[1], failed("second")),
        of(&held[2], later),
        of(&held[2], cancelled),
        of(&held[0], succeeded(b"third")),
    ];
    let (applied, duplicate) = (Verdict::Applied, Verdict::Duplicate);
    let expected = [applied, applied, duplicate, duplicate, applied, duplicate, duplicate];
    assert_eq!(worker.complete(completions).await, expected);
    assert_eq!(get(&broker, held[0].job_id).await.result, "first");
    assert_eq!(get(&broker, held[1].job_id).await.state(), JobState::Cancelled);
    assert_eq!(get(&broker, held[2].job_id).await.state(), JobState::Scheduled);
    // Their credit came back once: ten more, not thirteen.
    broker.enqueue((0..20).map(|_| job("q", b""))).await;
    worker.take(10).await;
    worker.no_job_for(std::time::Duration::from_millis(150)).await;
}

#[tokio::test]
async fn success_and_failure_of_one_attempt_at_once_leave_one_of_them() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 20).await;
    broker.enqueue((0..20).map(|_| NewJob { max_attempts: 1, ..job("q", b"") })).await;
    for held in worker.take(20).await {
        let of = |outcome| vec![completion(held.job_id, held.attempt, outcome)];
        let (one, two) = tokio::join!(
            complete(&broker, of(succeeded(b"done"))),
            complete(&broker, of(failed("not done")))
        );
        let stored = get(&broker, held.job_id).await;
        match (one[0], two[0]) {
            (Verdict::Applied, Verdict::Duplicate) => {
                assert_eq!((stored.state(), stored.error.as_str()), (JobState::Succeeded, ""));
            }
            (Verdict::Duplicate, Verdict::Applied) => {
                assert_eq!((stored.state(), stored.result.as_ref()), (JobState::Dead, &b""[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_completion_without_a_session_ends_the_lease_and_returns_the_credit() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let mut other = TestWorker::subscribe(&broker, &["other"], 1).await;
    broker.enqueue((0..4).map(|_| job("q", b""))).await;
    let first = worker.job().await;
    let of = |job: &Assignment, outcome| vec![completion(job.job_id, job.attempt, outcome)];
    let nobodys = complete(&broker, of(&first, succeeded(b""))).await;
    assert_eq!(nobodys, [Verdict::Applied]);
    let second = worker.job().await;
    let cancelled = Outcome::Cancelled(Cancelled {});
    assert_eq!(complete(&broker, of(&second, cancelled)).await, [Verdict::Applied]);
    let third = worker.job().await;
    let others = other.complete(of(&third, succeeded(b""))).await;
    assert_eq!(others, [Verdict::Applied]);
    worker.job().await;
    // What isn't its own any more is told to the worker with its next heartbeat.
    let lost = worker.heartbeat([&first, &second, &third]).await.unwrap().lost;
    assert_eq!(lost, [&first, &second, &third].map(attempt));
}

#[tokio::test]
async fn a_repeated_failure_is_no_second_one() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([NewJob { retry: every(3_600_000), ..job("q", b"") }]).await[0];
    let held = worker.job().await;
    assert_eq!(worker.report([&held], failed("first")).await, [Verdict::Applied]);
    for outcome in [failed("second"), succeeded(b"late"), Outcome::Released(Released {})] {
        let verdict = worker.report([&held], outcome).await[0];
        assert!(matches!(verdict, Verdict::Stale | Verdict::Duplicate), "{verdict:?}");
    }
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.failures), (JobState::Scheduled, 1));
    assert_eq!(stored.error, "first");
}

#[tokio::test]
async fn a_stale_completion_changes_nothing_of_the_attempt_that_runs() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut first = TestWorker::subscribe(&broker, &["q"], 1).await;
    let limited = NewJob { timeout: Some(ms(1000)), ..retried() };
    let id = broker.enqueue([limited]).await[0];
    let stale = first.job().await;
    first.set_credit(0).await;
    let mut second = TestWorker::subscribe(&broker, &["q"], 1).await;
    let current = second.job().await;
    assert_eq!((current.job_id, current.attempt), (id, 2));
    for outcome in [
        succeeded(b"stale"),
        failed("stale"),
        Outcome::Cancelled(Cancelled {}),
        Outcome::Released(Released {}),
        Outcome::Snoozed(Snoozed::default()),
    ] {
        assert_eq!(first.report([&stale], outcome).await, [Verdict::Stale]);
    }
    assert_eq!(second.report([&current], succeeded(b"current")).await, [Verdict::Applied]);
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.attempt), (JobState::Succeeded, 2));
    assert_eq!(stored.result, "current");
}
