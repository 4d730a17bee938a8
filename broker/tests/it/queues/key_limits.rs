use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use currant_broker::clock::Stopwatch;
use currant_proto::v1::{
    CancelVerdict, DeleteVerdict, JobState, NewJob, QueueSettings, RateLimit, Unique,
    UniqueConflict, Verdict,
    new_job::{Expiry, Start},
};
use currant_worker_sdk::{Bytes, HandlerError, Running, Worker};

use super::{QUICK, configure};
use crate::{
    cancel::cancel,
    outcomes::{every, failed, ms},
    retry::delete,
    support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job},
};

const A_WHILE: Duration = Duration::from_millis(300);
const DONE: &str = "SELECT count(*) FROM currant.job WHERE outcome = 1";

fn of(key: &str) -> NewJob {
    NewJob { key: key.to_owned(), ..job("q", b"") }
}

fn at_a_time(max: u32) -> QueueSettings {
    QueueSettings { key_concurrency_max: max, ..QueueSettings::default() }
}

fn ordered() -> QueueSettings {
    QueueSettings { key_ordered: true, ..QueueSettings::default() }
}

#[tokio::test]
async fn no_more_jobs_of_a_key_go_to_workers_than_may_and_the_limit_changes_live() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    configure(&broker, "q", at_a_time(2)).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 20).await;
    broker.enqueue((0..5).map(|_| of("a"))).await;
    let held = worker.take(2).await;
    worker.no_job_for(A_WHILE).await;
    // Neither other keys nor jobs without one are concerned.
    broker.enqueue([of("b"), job("q", b""), job("q", b""), job("q", b"")]).await;
    let others = worker.take(4).await;
    assert_eq!(others.iter().filter(|job| job.key.is_empty()).count(), 3);
    assert_eq!(worker.succeed([&held[0]]).await, [Verdict::Applied]);
    let third = worker.job().await;
    assert_eq!(third.key, "a");
    worker.no_job_for(A_WHILE).await;
    configure(&broker, "q", at_a_time(3)).await.unwrap();
    let fourth = worker.job().await;
    worker.no_job_for(A_WHILE).await;
    configure(&broker, "q", at_a_time(1)).await.unwrap();
    worker.succeed([&held[1], &third]).await;
    worker.no_job_for(Duration::from_secs(1)).await;
    worker.succeed([&fourth]).await;
    assert_eq!(worker.job().await.key, "a");
}

#[tokio::test]
async fn of_an_ordered_key_the_next_job_comes_when_the_one_before_is_over() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    configure(&broker, "q", ordered()).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 20).await;
    let urgent = NewJob { priority: Some(9), ..of("a") };
    let ids = broker.enqueue([NewJob { retry: every(400), ..of("a") }, of("a"), urgent]).await;
    let first = worker.job().await;
    assert_eq!(first.job_id, ids[0]);
    worker.no_job_for(A_WHILE).await;
    // One that waits for its retry holds up those behind it.
    worker.report([&first], failed("x")).await;
    worker.no_job_for(Duration::from_millis(200)).await;
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (ids[0], 2));
    worker.succeed([&again]).await;
    let second = worker.job().await;
    assert_eq!(second.job_id, ids[1]);
    // Cancelled, it is over.
    let request = currant_proto::v1::CancelRequest { job_ids: vec![ids[1]], ..Default::default() };
    broker.jobs().cancel(request).await.unwrap();
    assert_eq!(worker.job().await.job_id, ids[2]);
}

/// Two jobs of a key, of which the first has failed and holds up the other.
async fn held_up(broker: &Broker, worker: &mut TestWorker, first: NewJob) -> [i64; 2] {
    let first = NewJob { retry: every(600_000), ..first };
    let ids = broker.enqueue([first, of("a")]).await;
    let came = worker.job().await;
    assert_eq!(came.job_id, ids[0]);
    worker.report([&came], failed("x")).await;
    [ids[0], ids[1]]
}

async fn comes(worker: &mut TestWorker, id: i64) {
    let came = worker.job().await;
    assert_eq!(came.job_id, id);
    worker.succeed([&came]).await;
}

#[tokio::test]
async fn a_job_that_holds_up_its_key_lets_it_go_when_it_is_cancelled_deleted_or_expires() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    configure(&a, "q", ordered()).await.unwrap();
    let mut worker = TestWorker::subscribe(&a, &["q"], 20).await;
    // By the broker that owns the queue, and by another.
    for broker in [&a, &b] {
        let [first, second] = held_up(&a, &mut worker, of("a")).await;
        worker.no_job_for(A_WHILE).await;
        assert_eq!(cancel(broker, &[first]).await, [CancelVerdict::Cancelled]);
        comes(&mut worker, second).await;
        let [first, second] = held_up(&a, &mut worker, of("a")).await;
        worker.no_job_for(A_WHILE).await;
        assert_eq!(delete(broker, &[first]).await, [DeleteVerdict::Deleted]);
        comes(&mut worker, second).await;
    }
    let expiry = Some(Expiry::ExpireAfter(ms(60_000)));
    let [first, second] = held_up(&a, &mut worker, NewJob { expiry, ..of("a") }).await;
    comes(&mut worker, second).await;
    let expired = get(&a, first).await;
    assert_eq!((expired.state(), expired.failures), (JobState::Cancelled, 1));
    assert!(expired.error.starts_with("x; ") && expired.error.contains("expires"), "{expired:?}");
}

#[tokio::test]
async fn a_job_that_holds_up_its_key_lets_it_go_when_it_is_replaced_by_one_of_another() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    configure(&a, "q", ordered()).await.unwrap();
    let unique = |job: NewJob| {
        let conflict = UniqueConflict::Replace.into();
        let unique = Unique { key: "u".to_owned(), conflict, ..Unique::default() };
        NewJob { unique: Some(unique), retry: every(600_000), ..job }
    };
    let holds_up = async |broker: &Broker, worker: &mut TestWorker| {
        let first = broker.enqueue([unique(of("a"))]).await[0];
        // The id of a unique job is made by the database's clock, the next one by the broker's.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let second = broker.enqueue([of("a")]).await[0];
        let came = worker.job().await;
        assert_eq!(came.job_id, first);
        worker.report([&came], failed("x")).await;
        worker.no_job_for(A_WHILE).await;
        [first, second]
    };
    let later = |job| NewJob { start: Some(Start::Delay(ms(600_000))), ..unique(job) };
    let mut worker = TestWorker::subscribe(&a, &["q"], 20).await;
    // By the broker that owns the queue, and by another.
    for broker in [&a, &b] {
        for other in [later(of("b")), later(job("q", b""))] {
            let [first, second] = holds_up(&a, &mut worker).await;
            assert_eq!(broker.enqueue([other]).await, [first]);
            comes(&mut worker, second).await;
            assert_eq!(delete(broker, &[first]).await, [DeleteVerdict::Deleted]);
        }
    }
    // By SQL.
    let [first, second] = holds_up(&a, &mut worker).await;
    let sql = "SELECT id FROM currant.enqueue_unique(
        currant.new_job('q', 'test', delay => '10 minutes'), 'u', conflict => 'replace')";
    assert_eq!(database.number(sql).await, first);
    comes(&mut worker, second).await;
    delete(&a, &[first]).await;
    drop((a, b, worker));
    // At a broker that hears no notification.
    let deaf = [("DATABASE__LISTEN_URL", ""), ("DISPATCH__POLL_INTERVAL_MS", "60000")];
    let c = Broker::start_with(&database, &[QUICK, &deaf].concat()).await;
    let mut worker = TestWorker::subscribe(&c, &["q"], 20).await;
    let [first, second] = holds_up(&c, &mut worker).await;
    assert_eq!(c.enqueue([later(of("b"))]).await, [first]);
    comes(&mut worker, second).await;
}

/// Of a key: how many jobs run, and ran at most; which succeeded, in order.
#[derive(Default)]
struct OfKey {
    now: usize,
    most: usize,
    succeeded: Vec<i64>,
}

/// What handlers saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<String, OfKey>>>);

impl Seen {
    fn worker(&self, broker: &Broker, fails: bool) -> Running {
        let seen = self.clone();
        Worker::builder(broker.endpoint())
            .queue("q")
            .concurrency(10)
            .raw_handler("test", move |job| {
                let seen = seen.clone();
                async move {
                    {
                        let mut seen = seen.0.lock().unwrap();
                        let of_key = seen.entry(job.key.clone()).or_default();
                        of_key.now += 1;
                        of_key.most = of_key.most.max(of_key.now);
                    }
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    let fails = fails && job.attempt == 1 && job.id.0 % 4 == 0;
                    let mut seen = seen.0.lock().unwrap();
                    let of_key = seen.get_mut(&job.key).unwrap();
                    of_key.now -= 1;
                    if fails {
                        return Err(HandlerError::new("the first time"));
                    }
                    of_key.succeeded.push(job.id.0);
                    Ok(Bytes::new())
                }
            })
            .build()
            .unwrap()
            .start()
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().values().map(|of_key| of_key.most).max().unwrap_or_default()
    }
}

/// Brokers with workers come and go, by their own will and by SIGKILL, until all jobs of four keys are done.
async fn brokers_come_and_go(database: &Database, settings: QueueSettings, fails: bool) -> Seen {
    const JOBS: i64 = 240;
    let mut a = Broker::start_with(database, QUICK).await;
    let b = Broker::start_with(database, QUICK).await;
    configure(&b, "q", settings).await.unwrap();
    let jobs =
        (0..JOBS).map(|n| NewJob { retry: every(30), ..of(["a", "b", "c", "d"][n as usize % 4]) });
    b.enqueue(jobs).await;
    let seen = Seen::default();
    let mut workers = vec![seen.worker(&a, fails)];
    let mut done = 0;
    for kill in [true, false, true] {
        done += JOBS / 5;
        let least = done;
        eventually("jobs are done", async || database.number(DONE).await >= least).await;
        workers.push(seen.worker(&b, fails));
        let next = Broker::start_with(database, QUICK).await;
        workers.push(seen.worker(&next, fails));
        let gone = std::mem::replace(&mut a, next);
        if kill {
            gone.kill();
        } else {
            gone.terminate().await;
        }
    }
    eventually("all are done", async || database.number(DONE).await == JOBS).await;
    seen
}

#[tokio::test]
async fn a_keys_limit_is_never_exceeded_while_brokers_come_and_go() {
    let database = Database::fresh().await;
    let seen = brokers_come_and_go(&database, at_a_time(2), false).await;
    assert_eq!(seen.most(), 2);
}

#[tokio::test]
async fn order_within_a_key_holds_through_retries_and_while_brokers_come_and_go() {
    let database = Database::fresh().await;
    let seen = brokers_come_and_go(&database, ordered(), true).await;
    assert_eq!(seen.most(), 1);
    for (key, OfKey { succeeded, .. }) in seen.0.lock().unwrap().iter() {
        // One whose broker was killed may have run twice.
        assert!(succeeded.is_sorted(), "{key}: {succeeded:?}");
    }
}

#[tokio::test]
async fn jobs_of_each_key_go_to_workers_at_a_rate() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let rate = Some(RateLimit { jobs: 20, period: Some(ms(1000)), burst: 5 });
    let settings = QueueSettings { key_rate: rate, ..QueueSettings::default() };
    configure(&broker, "q", settings).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 100).await;
    broker.enqueue([of("c")]).await;
    worker.job().await;
    tokio::time::sleep(A_WHILE).await;
    let watch = Stopwatch::start();
    broker.enqueue((0..50).map(|n| of(["a", "b"][n % 2]))).await;
    let came = worker.take(50).await;
    assert_eq!(came.iter().filter(|job| job.key == "a").count(), 25);
    // A burst of 5, and 20 more at 20 a second, of each.
    let took = watch.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "50 jobs in {took:?}");
}

#[tokio::test]
async fn keys_with_something_under_way_are_bounded_and_others_wait_for_a_place() {
    let database = Database::fresh().await;
    let settings = [QUICK, &[("DISPATCH__LIMITED_KEYS_MAX", "3")]].concat();
    let broker = Broker::start_with(&database, &settings).await;
    configure(&broker, "q", at_a_time(1)).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["q"], 20).await;
    let keys = ["a", "b", "c", "d", "e"];
    broker.enqueue(keys.map(of)).await;
    let held = worker.take(3).await;
    worker.no_job_for(A_WHILE).await;
    let metric = async || broker.metric("currant_limited_keys").await;
    eventually("as many as may be", async || metric().await == Some(3.0)).await;
    for one in &held {
        worker.succeed([one]).await;
    }
    let rest = worker.take(2).await;
    let all: BTreeSet<&str> = held.iter().chain(&rest).map(|job| &*job.key).collect();
    assert_eq!(all, BTreeSet::from(keys));
    worker.succeed(&rest).await;
    eventually("none is left", async || metric().await == Some(0.0)).await;
}

#[tokio::test]
async fn limits_of_keys_that_cannot_be_are_refused_by_name_and_the_sdk_sets_them() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let status = configure(&broker, "q", at_a_time(1_000_001)).await.unwrap_err();
    assert_invalid(&status, "settings.key_concurrency_max", "1 to 1000000");
    let rate = Some(RateLimit::default());
    let settings = QueueSettings { key_rate: rate, ..QueueSettings::default() };
    let status = configure(&broker, "q", settings).await.unwrap_err();
    assert_invalid(&status, "settings.key_rate.jobs", "1 to 1000000");
    let settings = currant_worker_sdk::QueueSettings {
        key_concurrency_max: Some(4),
        key_rate: Some(currant_worker_sdk::RateLimit::per_second(100)),
        key_ordered: true,
        key_weights: [("acme".to_owned(), 3)].into(),
        ..Default::default()
    };
    let client = currant_worker_sdk::Client::connect(broker.endpoint()).await.unwrap();
    let queue = client.configure_queue("q", settings.clone()).await.unwrap();
    assert_eq!((queue.settings, queue.effective.key_ordered), (settings, true));
}
