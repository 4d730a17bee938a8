//! Jobs that start later: at a time, after a delay, after a failure.

use std::collections::HashMap;

use currant_proto::v1::{
    ExponentialRetry, JobState, NewJob, RetryPolicy, new_job::Start, retry_policy::Policy,
};

use crate::{
    outcomes::{failed, micros, ms},
    support::{Broker, Database, TestWorker, get, job},
};

#[tokio::test]
async fn the_wait_after_a_failure_grows_by_the_retry_policy() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let policy = ExponentialRetry {
        base_delay: Some(ms(100)),
        max_delay: Some(ms(250)),
        factor: 2.0,
        jitter: Some(0.0),
    };
    let retry = Some(RetryPolicy { policy: Some(Policy::Exponential(policy)) });
    let id = broker.enqueue([NewJob { retry, ..job("q", b"") }]).await[0];
    for wait_ms in [100, 200, 250, 250] {
        let held = worker.job().await;
        let before = database.now_micros().await;
        worker.report([&held], failed("")).await;
        let after = database.now_micros().await;
        let stored = get(&broker, id).await;
        // The broker's idea of the database's clock may be off by a little.
        let wait = wait_ms * 1000;
        let due = before + wait - 20_000..=after + wait + 20_000;
        assert!(due.contains(&micros(stored.run_at)), "{} not in {due:?}", micros(stored.run_at));
    }
}

#[tokio::test]
async fn scheduled_jobs_start_at_their_time_and_in_its_order() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let now = database.now_micros().await;
    let at = |delay_ms: i64| {
        let micros = now + delay_ms * 1000;
        let nanos = i32::try_from(micros % 1_000_000).unwrap() * 1000;
        let at = prost_types::Timestamp { seconds: micros / 1_000_000, nanos };
        NewJob { start: Some(Start::RunAt(at)), ..job("q", b"") }
    };
    let after = |delay_ms: i64| NewJob { start: Some(Start::Delay(ms(delay_ms))), ..job("q", b"") };
    let scheduled = [at(900), after(300), at(600), at(3_600_000), after(1200)];
    let ids = broker.enqueue(scheduled).await;
    let mut due = HashMap::new();
    for &id in &ids {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.attempt), (JobState::Scheduled, 0));
        due.insert(id, micros(stored.run_at));
    }
    assert_eq!((due[&ids[0]], due[&ids[2]]), (now + 900_000, now + 600_000));
    let mut order = Vec::new();
    for _ in 0..4 {
        let job = worker.job().await;
        let late = database.now_micros().await - due[&job.job_id];
        // Not before, but for what the broker's idea of the database's clock is off; soon after.
        assert!((-20_000..5_000_000).contains(&late), "{late} µs late");
        assert_eq!((job.attempt, job.failures), (1, 0));
        order.push(job.job_id);
    }
    assert_eq!(order, [ids[1], ids[2], ids[0], ids[4]]);
    assert_eq!(get(&broker, ids[3]).await.state(), JobState::Scheduled);
}

#[tokio::test]
async fn an_earlier_job_is_not_kept_by_a_later_one() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let after = |delay_ms| NewJob { start: Some(Start::Delay(ms(delay_ms))), ..job("q", b"") };
    broker.enqueue([after(3_600_000)]).await;
    let soon = broker.enqueue([after(100)]).await[0];
    assert_eq!(worker.job().await.job_id, soon);
    // Nor is a second one, after a promotion.
    let soon = broker.enqueue([after(50)]).await[0];
    assert_eq!(worker.job().await.job_id, soon);
}
