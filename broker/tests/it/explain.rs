//! Why a job isn't running: one answer for each case.

use std::time::Duration;

use currant_proto::v1::{
    ConfigureQueueRequest, ExplainReason, ExplainRequest, ExplainResponse, NewJob,
    PauseQueueRequest, QueueSettings, RateLimit, new_job::Start,
};
use tonic::Code;

use crate::{
    outcomes::{every, failed, ms},
    queues::stats,
    support::{Broker, Database, TestWorker, eventually, job},
};

const QUICK: &[(&str, &str)] = &[
    ("BROKER__LOAD_INTERVAL_MS", "100"),
    ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
    ("BROKER__DEAD_AFTER_MS", "3000"),
];

async fn explain(broker: &Broker, id: i64) -> ExplainResponse {
    let request = ExplainRequest { job_id: id, ..ExplainRequest::default() };
    broker.jobs().explain(request).await.unwrap().into_inner()
}

/// What brokers tell each other comes a moment later.
async fn assert_reason(broker: &Broker, id: i64, reason: ExplainReason) -> ExplainResponse {
    eventually(reason.as_str_name(), async || explain(broker, id).await.reason() == reason).await;
    explain(broker, id).await
}

fn of(key: &str) -> NewJob {
    NewJob { key: key.to_owned(), ..job("q", b"") }
}

async fn configure(broker: &Broker, settings: QueueSettings) {
    let request = ConfigureQueueRequest { queue: "q".to_owned(), settings: Some(settings) };
    broker.queues().configure(request).await.unwrap();
}

#[tokio::test]
async fn jobs_that_wait_for_their_time_and_those_that_are_over() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let later = NewJob { start: Some(Start::Delay(ms(60_000))), ..job("q", b"") };
    let id = broker.enqueue([later]).await[0];
    let told = explain(&broker, id).await;
    assert_eq!(told.reason(), ExplainReason::Scheduled);
    assert!(told.until.is_some() && told.message.contains("scheduled"), "{told:?}");
    // Before its broker looks again.
    let sql = "UPDATE currant.job SET run_at = now() - interval '1 s'";
    database.connect().await.batch_execute(sql).await.unwrap();
    assert_eq!(explain(&broker, id).await.reason(), ExplainReason::Due);
    let mut worker = TestWorker::subscribe(&broker, &["q"], 1).await;
    let id = broker.enqueue([NewJob { retry: every(60_000), ..job("q", b"") }]).await[0];
    let held = worker.job().await;
    worker.report([&held], failed("no")).await;
    assert_eq!(explain(&broker, id).await.reason(), ExplainReason::Retry);
    let id = broker.enqueue([job("q", b"")]).await[0];
    let held = worker.job().await;
    worker.succeed([&held]).await;
    assert_eq!(explain(&broker, id).await.reason(), ExplainReason::Over);
    let request = ExplainRequest { job_id: 1, ..ExplainRequest::default() };
    assert_eq!(broker.jobs().explain(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn jobs_that_wait_for_workers_and_for_each_other() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let ids = a.enqueue((0..10).map(|_| job("q", b""))).await;
    let told = explain(&a, ids[9]).await;
    assert_eq!((told.reason(), told.jobs_ahead), (ExplainReason::NoWorkers, 9));
    // One at the other broker that takes nothing.
    let mut worker = TestWorker::subscribe(&b, &["q"], 1).await;
    let held = worker.job().await;
    assert_eq!(held.job_id, ids[0]);
    let running = assert_reason(&b, ids[0], ExplainReason::Running).await;
    assert!(!running.broker.is_empty() && running.message.contains("worker"), "{running:?}");
    let running = explain(&a, ids[0]).await;
    assert_eq!((running.reason(), &*running.worker), (ExplainReason::Running, ""));
    let busy = assert_reason(&a, ids[9], ExplainReason::WorkersBusy).await;
    assert!(busy.running >= 1, "{busy:?}");
    let pause = PauseQueueRequest { queue: "q".to_owned() };
    a.queues().pause(pause).await.unwrap();
    assert_reason(&a, ids[9], ExplainReason::QueuePaused).await;
    assert_reason(&b, ids[9], ExplainReason::QueuePaused).await;
    b.kill();
    assert_reason(&a, ids[0], ExplainReason::BrokerLost).await;
}

#[tokio::test]
async fn jobs_that_nothing_stands_before_but_others() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let mut worker = TestWorker::subscribe(&b, &["q"], 5).await;
    eventually("b has told of its worker", async || stats(&a, "q").await.sessions == 1).await;
    // The only broker with workers for them doesn't get to it, and isn't dead yet.
    b.signal("STOP");
    let ids = a.enqueue((0..3).map(|_| job("q", b""))).await;
    assert_eq!(explain(&a, ids[0]).await.reason(), ExplainReason::Next);
    let told = explain(&a, ids[2]).await;
    assert_eq!((told.reason(), told.jobs_ahead), (ExplainReason::Behind, 2));
    b.signal("CONT");
    worker.take(3).await;
}

#[tokio::test]
async fn jobs_that_wait_for_the_owner_of_their_queue() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let mut at_a = TestWorker::subscribe(&a, &["q"], 5).await;
    eventually("a has told of its worker", async || stats(&a, "q").await.sessions == 1).await;
    // Nobody owns it until all that live know that it is limited.
    b.signal("STOP");
    configure(&a, QueueSettings { concurrency_max: 1, ..QueueSettings::default() }).await;
    let id = a.enqueue([job("q", b"")]).await[0];
    assert_eq!(explain(&a, id).await.reason(), ExplainReason::NoOwner);
    b.signal("CONT");
    let held = at_a.job().await;
    assert_eq!(held.job_id, id);
    // The first of them waits in its owner's memory.
    let id = b.enqueue([job("q", b""), job("q", b"")]).await[1];
    assert_reason(&b, id, ExplainReason::ConcurrencyFull).await;
    a.signal("STOP");
    let told = assert_reason(&b, id, ExplainReason::OwnerLost).await;
    assert!(!told.broker.is_empty() && told.message.contains(&told.broker), "{told:?}");
}

#[tokio::test]
async fn jobs_that_wait_for_a_limit() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    configure(&broker, QueueSettings { concurrency_max: 2, ..QueueSettings::default() }).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let ids = broker.enqueue((0..9).map(|_| job("q", b""))).await;
    let held = worker.take(2).await;
    let full = assert_reason(&broker, ids[8], ExplainReason::ConcurrencyFull).await;
    assert_eq!(full.limit, 2);
    worker.succeed(&held).await;
    let rate = RateLimit { jobs: 1, period: Some(ms(60_000)), burst: 1 };
    configure(&broker, QueueSettings { rate: Some(rate), ..QueueSettings::default() }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let told = assert_reason(&broker, ids[8], ExplainReason::RateSpent).await;
    assert!(told.message.contains("rate"), "{told:?}");
}

#[tokio::test]
async fn jobs_that_wait_for_a_limit_of_their_key() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    configure(&a, QueueSettings { key_concurrency_max: 2, ..QueueSettings::default() }).await;
    let mut worker = TestWorker::subscribe(&a, &["q"], 10).await;
    let ids = a.enqueue((0..3).map(|_| of("k"))).await;
    let held = worker.take(2).await;
    for broker in [&a, &b] {
        let full = assert_reason(broker, ids[2], ExplainReason::KeyConcurrencyFull).await;
        assert_eq!((full.running, full.limit), (2, 2));
        assert!(full.message.contains("its key"), "{full:?}");
    }
    worker.succeed(&held).await;
    let last = worker.job().await;
    worker.succeed([&last]).await;
    let rate = RateLimit { jobs: 1, period: Some(ms(60_000)), burst: 1 };
    configure(&a, QueueSettings { key_rate: Some(rate), ..QueueSettings::default() }).await;
    let id = a.enqueue([of("k")]).await[0];
    for broker in [&a, &b] {
        assert_reason(broker, id, ExplainReason::KeyRateSpent).await;
    }
    // Of two limits the owner alone knows which it is.
    let both = QueueSettings {
        key_rate: Some(RateLimit { jobs: 1000, period: Some(ms(1000)), burst: 1000 }),
        key_concurrency_max: 1,
        ..QueueSettings::default()
    };
    configure(&a, both).await;
    assert_eq!(worker.job().await.job_id, id);
    let id = a.enqueue([of("k")]).await[0];
    assert_reason(&a, id, ExplainReason::KeyConcurrencyFull).await;
    let told = assert_reason(&b, id, ExplainReason::KeyLimited).await;
    assert!(!told.broker.is_empty() && told.message.contains(&told.broker), "{told:?}");
}

#[tokio::test]
async fn jobs_whose_key_the_owner_cannot_count() {
    let database = Database::fresh().await;
    let settings = [QUICK, &[("DISPATCH__LIMITED_KEYS_MAX", "1")]].concat();
    let broker = Broker::start_with(&database, &settings).await;
    configure(&broker, QueueSettings { key_concurrency_max: 2, ..QueueSettings::default() }).await;
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    broker.enqueue([of("k")]).await;
    worker.job().await;
    let id = broker.enqueue([of("l")]).await[0];
    let told = assert_reason(&broker, id, ExplainReason::KeyLimited).await;
    assert!(told.message.contains("maximum of keys"), "{told:?}");
}

#[tokio::test]
async fn jobs_that_wait_for_an_earlier_one_of_their_key() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    configure(&a, QueueSettings { key_ordered: true, ..QueueSettings::default() }).await;
    let mut worker = TestWorker::subscribe(&a, &["q"], 10).await;
    let urgent = NewJob { priority: Some(9), ..of("k") };
    let ids = a.enqueue([NewJob { retry: every(60_000), ..of("k") }, of("k"), urgent]).await;
    let held_up = async |broker: &Broker, id: i64, by: i64| {
        let held_up = async || {
            let told = explain(broker, id).await;
            told.reason() == ExplainReason::KeyHeldUp && told.held_up_by == by
        };
        eventually(&format!("{id} is held up by {by}"), held_up).await;
    };
    let first = worker.job().await;
    assert_eq!(first.job_id, ids[0]);
    for id in &ids[1..] {
        held_up(&a, *id, ids[0]).await;
    }
    // Another broker sees those that wait.
    held_up(&b, ids[1], 0).await;
    held_up(&b, ids[2], ids[1]).await;
    worker.report([&first], failed("no")).await;
    for broker in [&a, &b] {
        assert_eq!(explain(broker, ids[0]).await.reason(), ExplainReason::Retry);
        for id in &ids[1..] {
            held_up(broker, *id, ids[0]).await;
        }
    }
}
