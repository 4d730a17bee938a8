//! What becomes of a job after an attempt, and what the worker is told.

use currant_proto::v1::{
    Cancelled, CompleteRequest, Completion, ExponentialRetry, Failed, JobState, LeaseLostReason,
    NewJob, Released, RetryPolicy, Snoozed, Succeeded, Verdict, completion::Outcome,
    new_job::Start, retry_policy::Policy, subscribe_response::Message,
};
use prost_types::Duration;

use crate::support::{Broker, Database, TestWorker, attempt, eventually, get, job};

pub(crate) fn ms(ms: i64) -> Duration {
    Duration { seconds: ms / 1000, nanos: i32::try_from(ms % 1000).unwrap() * 1_000_000 }
}

/// Tries again after so long, each time.
pub(crate) fn every(delay_ms: i64) -> Option<RetryPolicy> {
    let policy = ExponentialRetry {
        base_delay: Some(ms(delay_ms)),
        max_delay: Some(ms(delay_ms)),
        factor: 1.0,
        jitter: Some(0.0),
    };
    Some(RetryPolicy { policy: Some(Policy::Exponential(policy)) })
}

/// A job that is tried again without much of a wait.
pub(crate) fn retried() -> NewJob {
    NewJob { retry: every(10), ..job("q", b"") }
}

pub(crate) fn succeeded(result: &'static [u8]) -> Outcome {
    Outcome::Succeeded(Succeeded { result: result.into() })
}

pub(crate) fn failed(error: &str) -> Outcome {
    Outcome::Failed(Failed { error: error.to_owned(), ..Failed::default() })
}

pub(crate) fn completion(job_id: i64, attempt: u32, outcome: Outcome) -> Completion {
    Completion { job_id, attempt, outcome: Some(outcome) }
}

pub(crate) fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

#[tokio::test]
async fn a_success_is_stored_with_its_result() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let ids = broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.take(2).await;
    let result: &[u8] = b"\0\xff result";
    assert_eq!(worker.report([&held[0]], succeeded(result)).await, [Verdict::Applied]);
    assert_eq!(worker.succeed([&held[1]]).await, [Verdict::Applied]);
    for (id, result) in [(ids[0], result), (ids[1], b"")] {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.result.as_ref()), (JobState::Succeeded, result));
        assert_eq!((stored.attempt, stored.failures), (1, 0));
        assert!(micros(stored.created_at) <= micros(stored.claimed_at));
        assert!(micros(stored.claimed_at) <= micros(stored.finished_at));
    }
}

#[tokio::test]
async fn a_completion_is_answered_after_its_commit() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.take(2).await;
    let finished = "SELECT count(*) FROM currant.job WHERE outcome IS NOT NULL";
    for (job, outcome) in held.into_iter().zip([succeeded(b""), Outcome::Cancelled(Cancelled {})]) {
        let before = database.number(finished).await;
        let stall = database.stall_writes().await;
        let mut client = broker.workers();
        let completions = vec![completion(job.job_id, job.attempt, outcome)];
        let session_id = worker.welcome.session_id.clone();
        let request = CompleteRequest {
            session_id,
            completions,
            received_seq: 0,
            ..CompleteRequest::default()
        };
        let call = tokio::spawn(async move { client.complete(request).await });
        database.write_waiting().await;
        assert!(!call.is_finished());
        stall.end().await;
        let verdicts = call.await.unwrap().unwrap().into_inner();
        assert_eq!(verdicts.verdicts().collect::<Vec<_>>(), [Verdict::Applied]);
        assert_eq!(database.number(finished).await, before + 1);
    }
}

#[tokio::test]
async fn a_failed_job_is_tried_again_until_its_budget_is_spent() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([NewJob { max_attempts: 3, ..retried() }]).await[0];
    for attempt in 1..=3 {
        let job = worker.job().await;
        assert_eq!((job.job_id, job.attempt), (id, attempt));
        assert_eq!((job.failures, job.max_attempts), (attempt - 1, 3));
        let error = format!("error {attempt}");
        assert_eq!(worker.report([&job], failed(&error)).await, [Verdict::Applied]);
        let stored = get(&broker, id).await;
        assert_eq!((stored.error, stored.failures), (error, attempt));
    }
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.attempt), (JobState::Dead, 3));
    assert!(stored.finished_at.is_some() && stored.result.is_empty());
}

#[tokio::test]
async fn a_workers_hint_comes_before_the_retry_policy() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let slow = || NewJob { retry: every(3_600_000), ..job("q", b"") };
    broker.enqueue((0..4).map(|_| slow())).await;
    let held = worker.take(4).await;
    let hint = |retry_after, discard| {
        Outcome::Failed(Failed {
            error: "hint".to_owned(),
            discard,
            retry_after,
            ..Failed::default()
        })
    };
    worker.report([&held[0]], hint(None, true)).await;
    worker.report([&held[1]], hint(Some(ms(3_600_000 * 24)), false)).await;
    worker.report([&held[2]], hint(Some(ms(0)), false)).await;
    worker.report([&held[3]], hint(Some(ms(200)), false)).await;
    let discarded = get(&broker, held[0].job_id).await;
    assert_eq!((discarded.state(), discarded.failures), (JobState::Dead, 1));
    let later = get(&broker, held[1].job_id).await;
    assert_eq!((later.state(), later.failures), (JobState::Scheduled, 1));
    assert!(micros(later.run_at) > micros(later.created_at) + 23 * 3600 * 1_000_000);
    let again = worker.take(2).await;
    assert_eq!((again[0].job_id, again[0].failures), (held[2].job_id, 1));
    assert_eq!((again[1].job_id, again[1].failures), (held[3].job_id, 1));
}

#[tokio::test]
async fn snoozed_and_released_jobs_come_again_without_a_failure() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([NewJob { max_attempts: 1, ..job("q", b"") }]).await[0];
    let again = [
        Outcome::Snoozed(Snoozed { delay: Some(ms(50)) }),
        Outcome::Released(Released {}),
        Outcome::Snoozed(Snoozed { delay: None }),
        Outcome::Released(Released {}),
    ];
    for (n, outcome) in (1..).zip(again) {
        let job = worker.job().await;
        assert_eq!((job.job_id, job.attempt, job.failures), (id, n, 0));
        assert_eq!(worker.report([&job], outcome).await, [Verdict::Applied]);
    }
    let job = worker.job().await;
    assert_eq!((job.attempt, job.failures), (5, 0));
    let snooze = Outcome::Snoozed(Snoozed { delay: Some(ms(3_600_000)) });
    worker.report([&job], snooze).await;
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.failures), (JobState::Scheduled, 0));
}

#[tokio::test]
async fn a_cancelled_job_never_runs_again() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([job("q", b"")]).await[0];
    let held = worker.job().await;
    let cancelled = || Outcome::Cancelled(Cancelled {});
    assert_eq!(worker.report([&held], cancelled()).await, [Verdict::Applied]);
    assert_eq!(worker.report([&held], cancelled()).await, [Verdict::Duplicate]);
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.failures), (JobState::Cancelled, 0));
    assert!(stored.finished_at.is_some());
}

#[tokio::test]
async fn an_attempt_past_its_timeout_is_lost_and_tried_again() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let limited = NewJob { timeout: Some(ms(100)), max_attempts: 2, ..retried() };
    let id = broker.enqueue([limited]).await[0];
    for n in 1..=2 {
        let held = worker.job().await;
        assert_eq!((held.job_id, held.attempt, held.failures), (id, n, n - 1));
        assert_eq!(held.timeout, Some(ms(100)));
        let lost = loop {
            match worker.message().await.unwrap().unwrap() {
                Message::LeaseLost(lost) => break lost,
                Message::KeepAlive(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lost.reason(), LeaseLostReason::Timeout);
        assert_eq!(lost.attempts, [attempt(&held)]);
        eventually("the failure is stored", async || get(&broker, id).await.failures == n).await;
        assert!(get(&broker, id).await.error.contains("timeout"));
        let late = worker.report([&held], succeeded(b"late")).await;
        // Of a job that is dead now there is an outcome.
        assert_eq!(late, [if n == 1 { Verdict::Stale } else { Verdict::Duplicate }]);
    }
    let stored = get(&broker, id).await;
    assert_eq!((stored.state(), stored.attempt), (JobState::Dead, 2));
    assert!(stored.result.is_empty());
}

#[tokio::test]
async fn a_queues_defaults_apply_where_the_job_says_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let sql = "INSERT INTO currant.queue (name, max_attempts, retry_base_ms, retry_max_ms,
                                          retry_factor, retry_jitter, timeout_ms)
               VALUES ('q', 2, 10, 10, 1, 0, 100)";
    database.connect().await.batch_execute(sql).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([job("q", b"")]).await[0];
    let held = worker.job().await;
    assert_eq!((held.max_attempts, held.timeout), (2, Some(ms(100))));
    worker.report([&held], failed("")).await;
    let held = worker.job().await;
    assert_eq!((held.attempt, held.failures), (2, 1));
    // Its second failure is the timeout's.
    eventually("dead", async || get(&broker, id).await.state() == JobState::Dead).await;
    assert_eq!(get(&broker, id).await.max_attempts, 2);
    // The job's own come first.
    let own = NewJob { max_attempts: 7, timeout: Some(ms(60_000)), ..job("q", b"") };
    broker.enqueue([own]).await;
    let held = worker.job().await;
    assert_eq!((held.max_attempts, held.timeout), (7, Some(ms(60_000))));
}

/// Takes ten seconds: as long as a broker believes what it knows of a queue.
#[tokio::test]
async fn changed_defaults_of_a_queue_apply_within_seconds() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let ids = broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.job().await;
    assert_eq!((held.max_attempts, held.timeout), (25, None));
    let sql = "UPDATE currant.queue SET max_attempts = 1, timeout_ms = 60000 WHERE name = 'q'";
    database.connect().await.batch_execute(sql).await.unwrap();
    // A worker that comes later hears of them.
    let comes = async || {
        let mut later = TestWorker::subscribe(&broker, &["q"], 1).await;
        let job = later.job().await;
        // It goes, and takes nothing with it.
        later.set_credit(0).await;
        later.report([&job], Outcome::Released(Released {})).await;
        job.max_attempts == 1 && job.timeout == Some(ms(60_000))
    };
    eventually("a new worker is told", comes).await;
    worker.report([&held], failed("")).await;
    assert_eq!(get(&broker, ids[0]).await.state(), JobState::Dead);
}

#[tokio::test]
async fn get_shows_every_state() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let later = NewJob { start: Some(Start::Delay(ms(3_600_000))), ..job("q", b"") };
    let scheduled = broker.enqueue([later]).await[0];
    let ids = broker.enqueue((0..5).map(|_| job("q", b""))).await;
    let state = async |id| get(&broker, id).await.state();
    assert_eq!(state(scheduled).await, JobState::Scheduled);
    for &id in &ids {
        assert_eq!(state(id).await, JobState::Ready);
    }
    let mut worker = TestWorker::subscribe(&broker, &["q"], 4).await;
    let held = worker.take(4).await;
    for job in &held {
        let stored = get(&broker, job.job_id).await;
        assert_eq!((stored.state(), stored.attempt), (JobState::Running, 1));
        assert!(stored.claimed_at.is_some() && stored.finished_at.is_none());
    }
    worker.set_credit(0).await;
    worker.report([&held[0]], succeeded(b"result")).await;
    worker.report([&held[1]], Outcome::Failed(Failed { discard: true, ..Failed::default() })).await;
    worker.report([&held[2]], Outcome::Cancelled(Cancelled {})).await;
    worker.report([&held[3]], Outcome::Released(Released {})).await;
    for (n, expected) in [JobState::Succeeded, JobState::Dead, JobState::Cancelled, JobState::Ready]
        .iter()
        .enumerate()
    {
        assert_eq!(state(held[n].job_id).await, *expected);
    }
}

#[tokio::test]
async fn an_error_is_cut_to_what_can_be_kept() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 2).await;
    let ids = broker.enqueue([job("q", b""), job("q", b"")]).await;
    let held = worker.take(2).await;
    worker.report([&held[0]], failed(&"ä".repeat(10_000))).await;
    worker.report([&held[1]], failed("before\0after")).await;
    assert_eq!(get(&broker, ids[0]).await.error, "ä".repeat(8192));
    assert_eq!(get(&broker, ids[1]).await.error, "before\u{fffd}after");
}
