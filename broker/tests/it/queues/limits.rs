use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use currant_broker::clock::Stopwatch;
use currant_proto::v1::{JobState, QueueSettings, RateLimit, Verdict};
use currant_worker_sdk::{Bytes, Running, Worker};
use tonic::Code;

use super::{QUICK, configure};
use crate::{
    outcomes::ms,
    support::{
        Broker, Clients, Database, Ledger, TestWorker, assert_invalid, eventually, get, job,
        progress,
    },
};

const A_WHILE: Duration = Duration::from_millis(300);
const OWNERS: &str = "SELECT count(*) FROM currant.queue_owner";
const OWNER: &str = "SELECT owner::bigint FROM currant.queue_owner";

fn at_a_time(max: u32) -> QueueSettings {
    QueueSettings { concurrency_max: max, ..QueueSettings::default() }
}

fn rate(jobs: u32, period_ms: i64, burst: u32) -> QueueSettings {
    let rate = Some(RateLimit { jobs, period: Some(ms(period_ms)), burst });
    QueueSettings { rate, ..QueueSettings::default() }
}

#[tokio::test]
async fn what_a_worker_takes_to_another_broker_still_counts() {
    let database = Database::fresh().await;
    let settings = [QUICK, &[("SESSION__RECONNECT_GRACE_MS", "100")]].concat();
    let a = Broker::start_with(&database, &settings).await;
    let b = Broker::start_with(&database, &settings).await;
    configure(&a, "emails", at_a_time(1)).await.unwrap();
    // It keeps the queue at its broker.
    let mut other = TestWorker::subscribe(&a, &["emails"], 0).await;
    let mut worker = TestWorker::subscribe(&a, &["emails"], 1).await;
    let stored = a.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let held = worker.job().await;
    let mut moved = worker.resume(&b, [&held]).await;
    assert_eq!(moved.welcome.lost, []);
    drop(worker);
    let sessions = async || a.metric("currant_sessions").await == Some(1.0);
    eventually("the session is over at the first", sessions).await;
    other.set_credit(1).await;
    other.no_job_for(5 * A_WHILE).await;
    assert_eq!(moved.succeed([&held]).await, [Verdict::Applied]);
    assert_eq!(other.job().await.job_id, stored[1]);
}

#[tokio::test]
async fn a_queue_is_limited_again_only_when_all_brokers_know_that_it_was_not() {
    let database = Database::fresh().await;
    let [a, b] = [Broker::start(&database).await, Broker::start(&database).await];
    configure(&b, "emails", at_a_time(1)).await.unwrap();
    let behind = "SELECT count(*) FROM currant.broker b, currant.queue q
                  WHERE b.queue_version < q.version";
    eventually("both follow", async || database.number(behind).await == 0).await;
    a.signal("STOP");
    configure(&b, "emails", QueueSettings::default()).await.unwrap();
    let status = configure(&b, "emails", at_a_time(2)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("emails has no limits"), "{status}");
    a.signal("CONT");
    let queue = configure(&b, "emails", at_a_time(2)).await.unwrap();
    assert_eq!(queue.settings, Some(at_a_time(2)));
}

#[tokio::test]
async fn no_more_jobs_go_to_workers_than_may_and_the_limit_changes_live() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    configure(&broker, "emails", at_a_time(2)).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["emails", "calls"], 10).await;
    let stored = broker.enqueue((0..6).map(|_| job("emails", b""))).await;
    let held = worker.take(2).await;
    worker.no_job_for(A_WHILE).await;
    // Other queues of the session aren't concerned.
    broker.enqueue([job("calls", b"")]).await;
    let call = worker.job().await;
    assert_eq!(call.kind, "test");
    // A place is free: the next in order comes.
    assert_eq!(worker.succeed([&held[0]]).await, [Verdict::Applied]);
    let third = worker.job().await;
    assert_eq!(third.job_id, stored[2]);
    worker.no_job_for(A_WHILE).await;
    configure(&broker, "emails", at_a_time(3)).await.unwrap();
    let fourth = worker.job().await;
    worker.no_job_for(A_WHILE).await;
    // Lower than what runs: that goes on, and nothing comes until it is less.
    configure(&broker, "emails", at_a_time(1)).await.unwrap();
    worker.succeed([&held[1], &third]).await;
    worker.no_job_for(A_WHILE).await;
    worker.succeed([&fourth]).await;
    let fifth = worker.job().await;
    assert_eq!(fifth.job_id, stored[4]);
    configure(&broker, "emails", QueueSettings::default()).await.unwrap();
    assert_eq!(worker.job().await.job_id, stored[5]);
    eventually("nobody owns a queue without limits", async || database.number(OWNERS).await == 0)
        .await;
}

#[tokio::test]
async fn a_limit_holds_over_brokers_and_its_owner_hands_it_on() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    // Each broker has jobs with workers before there is a limit.
    let mut first = TestWorker::subscribe(&a, &["emails"], 1).await;
    a.enqueue([job("emails", b"")]).await;
    let at_a = first.job().await;
    let mut second = TestWorker::subscribe(&b, &["emails"], 1).await;
    b.enqueue([job("emails", b"")]).await;
    let at_b = second.job().await;
    configure(&a, "emails", at_a_time(2)).await.unwrap();
    eventually("one owns it", async || database.number(OWNERS).await == 1).await;
    let mut more = [
        TestWorker::subscribe(&a, &["emails"], 5).await,
        TestWorker::subscribe(&b, &["emails"], 5).await,
    ];
    let waiting = a.enqueue([job("emails", b"3"), job("emails", b"4"), job("emails", b"5")]).await;
    for worker in &mut more {
        worker.no_job_for(A_WHILE).await;
    }
    // Wherever it ends.
    assert_eq!(first.succeed([&at_a]).await, [Verdict::Applied]);
    assert_eq!(second.succeed([&at_b]).await, [Verdict::Applied]);
    let held = async || {
        let sql = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
        database.number(sql).await
    };
    eventually("two run", async || held().await >= 2).await;
    let before = database.number(OWNER).await;
    // Whoever owns it stops: what its workers have counts for the next.
    let a_owns = before == database.number("SELECT min(id)::bigint FROM currant.broker").await;
    let (gone, left) = if a_owns { (a, b) } else { (b, a) };
    gone.kill();
    drop((more, first, second));
    let mut worker = TestWorker::subscribe(&left, &["emails"], 5).await;
    for _ in 0..3 {
        let came = worker.job().await;
        assert!(waiting.contains(&came.job_id));
        worker.succeed([&came]).await;
    }
    assert_ne!(database.number(OWNER).await, before);
    for id in waiting {
        assert_eq!(get(&left, id).await.state(), JobState::Succeeded);
    }
}

/// How many handlers run, and ran at most.
#[derive(Clone, Default)]
struct Handlers(Arc<[AtomicUsize; 2]>);

impl Handlers {
    fn most(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }

    fn worker(&self, broker: &Broker, ledger: &Ledger) -> Running {
        let (handlers, ledger) = (self.clone(), ledger.clone());
        Worker::builder(broker.endpoint())
            .queue("emails")
            .concurrency(10)
            .raw_handler("test", move |_| {
                let handlers = handlers.clone();
                async move {
                    let [now, most] = &*handlers.0;
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(Bytes::new())
                }
            })
            .on_verdict(move |attempts, verdicts| ledger.answered(attempts, verdicts))
            .build()
            .unwrap()
            .start()
    }
}

#[tokio::test]
async fn a_limit_is_never_exceeded_while_brokers_come_and_go() {
    let database = Database::fresh().await;
    // Producers stay at one that has no workers, and so owns nothing.
    let stays = Broker::start_with(&database, QUICK).await;
    configure(&stays, "emails", at_a_time(3)).await.unwrap();
    let (ledger, handlers) = (Ledger::default(), Handlers::default());
    let clients = Clients::start(2, &stays, "emails", &ledger).await;
    let mut owner = Broker::start_with(&database, QUICK).await;
    let mut workers = vec![handlers.worker(&owner, &ledger)];
    let mut owners = HashSet::new();
    for kill in [false, true, false] {
        progress(&ledger, 20).await;
        owners.insert(database.number(OWNER).await);
        let next = Broker::start_with(&database, QUICK).await;
        workers.push(handlers.worker(&next, &ledger));
        progress(&ledger, 20).await;
        let gone = std::mem::replace(&mut owner, next);
        if kill {
            gone.kill();
        } else {
            gone.terminate().await;
        }
    }
    progress(&ledger, 20).await;
    owners.insert(database.number(OWNER).await);
    clients.stop().await;
    ledger.check(&database).await;
    assert_eq!(owners.len(), 4);
    assert_eq!(handlers.most(), 3);
}

#[tokio::test]
async fn jobs_go_to_workers_at_a_rate_and_a_burst_at_once() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    configure(&broker, "emails", rate(20, 1000, 5)).await.unwrap();
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 100).await;
    eventually("it is owned", async || database.number(OWNERS).await == 1).await;
    tokio::time::sleep(A_WHILE).await;
    let watch = Stopwatch::start();
    broker.enqueue((0..40).map(|_| job("emails", b""))).await;
    worker.take(25).await;
    // A burst of 5, and 20 more at 20 a second.
    let took = watch.elapsed();
    assert!(took >= Duration::from_secs(1), "25 jobs in {took:?}");
    // Faster from now on.
    configure(&broker, "emails", rate(1000, 1, 1000)).await.unwrap();
    worker.take(15).await;
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_by_name_and_the_sdk_sets_them() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for (settings, field, limit) in [
        (at_a_time(1_000_001), "settings.concurrency_max", "1 to 1000000"),
        (rate(0, 1000, 1), "settings.rate.jobs", "1 to 1000000"),
        (rate(1, 1000, 1_000_001), "settings.rate.burst", "1 to 1000000"),
        (rate(1, 86_400_001, 1), "settings.rate.period", "86400000 ms"),
    ] {
        let status = configure(&broker, "emails", settings).await.unwrap_err();
        assert_invalid(&status, field, limit);
    }
    let settings = currant_worker_sdk::QueueSettings {
        concurrency_max: Some(4),
        rate: Some(currant_worker_sdk::RateLimit::per_second(100)),
        ..Default::default()
    };
    let client = currant_worker_sdk::Client::connect(broker.endpoint()).await.unwrap();
    let queue = client.configure_queue("emails", settings.clone()).await.unwrap();
    assert_eq!((queue.settings, queue.effective.concurrency_max), (settings, Some(4)));
    let unsaid = QueueSettings {
        rate: Some(RateLimit { jobs: 3, ..RateLimit::default() }),
        ..QueueSettings::default()
    };
    let said = configure(&broker, "emails", unsaid).await.unwrap().settings.unwrap().rate;
    assert_eq!(said, Some(RateLimit { jobs: 3, period: Some(ms(1000)), burst: 3 }));
}
