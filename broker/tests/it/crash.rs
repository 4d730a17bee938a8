//! kill -9 of a broker, and of a worker.

use std::{
    env,
    process::{Command, Stdio},
};

use currant_proto::v1::{Assignment, JobState, LeaseLostReason, NewJob, Verdict};
use currant_worker_sdk::{Bytes, Worker};

use crate::{
    outcomes::ms,
    support::{
        Broker, Clients, Database, Ledger, TestWorker, attempt, cut, eventually, get, job,
        progress, start_worker,
    },
};

const NOT_SOON: (&str, &str) = ("BROKER__ADOPTION_GRACE_MS", "2000");

const STRAGGLERS: &str = "SELECT count(*) FROM currant.straggler
                          WHERE owner = (SELECT max(id) FROM currant.broker)";

/// Set for the process that is to be a worker: the broker to call.
const BROKER_OF_CHILD: &str = "CURRANT_TEST_WORKER_OF";

#[tokio::test]
async fn a_broker_that_is_killed_under_load_and_restarted_loses_and_repeats_nothing() {
    crash_under_load(["same"; 3]).await;
}

#[tokio::test]
async fn a_broker_of_another_name_goes_on_with_the_load_of_a_killed_one() {
    crash_under_load(["one", "two", "three"]).await;
}

async fn crash_under_load(names: [&str; 3]) {
    let database = Database::fresh().await;
    let ledger = Ledger::default();
    let first = [
        ("BROKER__NAME", names[0]),
        ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
        ("BROKER__DEAD_AFTER_MS", "1000"),
        // A worker of the SDK is back within a moment; only then comes the rescue.
        ("BROKER__ADOPTION_GRACE_MS", "2000"),
        ("GRPC__LISTEN", "127.0.0.1:0"),
    ];
    let mut broker = Broker::start_with(&database, &first).await;
    let (address, endpoint) = (broker.grpc.clone(), broker.endpoint());
    let clients = Clients::start(4, &broker, "load", &ledger).await;
    let workers = [0; 3].map(|_| start_worker(&endpoint, "load", &ledger));
    for name in &names[1..] {
        progress(&ledger, 200).await;
        broker.kill();
        let mut settings = first;
        settings[0].1 = name;
        settings[4].1 = &address;
        broker = Broker::start_with(&database, &settings).await;
    }
    progress(&ledger, 200).await;
    clients.stop().await;
    ledger.check(&database).await;
    assert!(ledger.stored() > 600);
    assert_eq!(ledger.run_again(), [], "living workers presented what they held");
    let failures = "SELECT coalesce(sum(failures), 0)::bigint FROM currant.job";
    assert_eq!(database.number(failures).await, 0);
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_worker_presents_after_a_crash_is_its_own_and_the_rest_is_rescued() {
    let database = Database::fresh().await;
    for name in ["same", "other"] {
        let settings = [
            NOT_SOON,
            ("BROKER__NAME", "same"),
            ("BROKER__HEARTBEAT_INTERVAL_MS", "100"),
            ("BROKER__DEAD_AFTER_MS", "500"),
        ];
        let broker = Broker::start_with(&database, &settings).await;
        let mut worker = TestWorker::subscribe(&broker, &["emails"], 3).await;
        broker.enqueue((0..3).map(|_| job("emails", b""))).await;
        let jobs = worker.take(3).await;
        assert_eq!(worker.succeed(&jobs[2..]).await, [Verdict::Applied]);
        broker.kill();

        let mut settings = settings;
        settings[1].1 = name;
        let next = Broker::start_with(&database, &settings).await;
        let mut worker = worker.resume(&next, [&jobs[0], &jobs[2]]).await;
        // A finished attempt is nobody's.
        assert_eq!(worker.welcome.lost, [attempt(&jobs[2])]);
        assert_eq!(worker.heartbeat(&jobs[..1]).await.unwrap().lost, []);
        assert_eq!(worker.succeed([&jobs[0], &jobs[2]]).await, {
            [Verdict::Applied, Verdict::Duplicate]
        });
        // The one that nobody presents.
        let rescued = worker.job().await;
        assert_eq!((rescued.job_id, rescued.attempt), (jobs[1].job_id, 2));
        assert_eq!(rescued.failures, 0);
        assert_eq!(worker.succeed(&jobs[1..2]).await, [Verdict::Stale]);
        assert_eq!(worker.succeed([&rescued]).await, [Verdict::Applied]);
        assert_eq!(get(&next, jobs[0].job_id).await.attempt, 1);
        assert_eq!(next.terminate().await.code(), Some(0));
    }
}

#[tokio::test]
async fn what_waited_in_the_memory_of_a_killed_broker_runs_without_a_failure() {
    let database = Database::fresh().await;
    let settings = [("BROKER__NAME", "same"), NOT_SOON];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"")]).await;
    let first = worker.job().await;
    let ids = broker.enqueue([job("emails", b"")]).await;
    let taken = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
    eventually("one waits in memory", async || database.number(taken).await == 2).await;
    broker.kill();
    let next = Broker::start_with(&database, &settings).await;
    let mut worker = worker.resume(&next, [&first]).await;
    assert_eq!(worker.succeed([&first]).await, [Verdict::Applied]);
    let second = worker.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (ids[0], 2, 0));
}

/// The worker holds so many jobs that are too old for the watermark.
async fn stragglers(database: &Database, worker: &mut TestWorker, jobs: usize) -> Vec<Assignment> {
    // Ids are times: these are of an hour ago.
    let sql = format!(
        "INSERT INTO currant.job (queue_id, id, attempt, priority, phase, kind, payload)
         SELECT q.id, (extract(epoch FROM now() - interval '1 hour') * 1000)::bigint << 22 | n,
                0, 0, 1, 'test', '' FROM currant.queue q, generate_series(1, {jobs}) n;
         NOTIFY currant_ready, '1'"
    );
    database.connect().await.batch_execute(&sql).await.unwrap();
    let held = worker.take(jobs).await;
    let noted = async || database.number(STRAGGLERS).await == i64::try_from(jobs).unwrap();
    eventually("all are stragglers", noted).await;
    held
}

#[tokio::test]
async fn a_job_held_for_longer_than_the_watermark_waits_is_adopted_and_rescued() {
    let database = Database::fresh().await;
    let settings = [
        ("BROKER__NAME", "same"),
        ("BROKER__HEARTBEAT_INTERVAL_MS", "100"),
        ("BROKER__ADOPTION_GRACE_MS", "1000"),
    ];
    let first = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&first, &["emails"], 10).await;
    let jobs = stragglers(&database, &mut worker, 3).await;
    first.kill();

    let second = Broker::start_with(&database, &settings).await;
    let mut worker = worker.resume(&second, &jobs[..2]).await;
    assert_eq!(worker.welcome.lost, []);
    let rescued = worker.job().await;
    assert_eq!((rescued.job_id, rescued.attempt), (jobs[2].job_id, 2));
    assert_eq!(worker.succeed([&jobs[0], &rescued]).await, [Verdict::Applied; 2]);
    let straggler = format!("{STRAGGLERS} AND id = {}", jobs[1].job_id);
    eventually("one is left", async || {
        database.number(STRAGGLERS).await == 1 && database.number(&straggler).await == 1
    })
    .await;
    second.kill();

    let third = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&third, &["emails"], 10).await;
    let rescued = worker.job().await;
    assert_eq!((rescued.job_id, rescued.attempt), (jobs[1].job_id, 2));
    assert_eq!(worker.succeed([&rescued]).await, [Verdict::Applied]);
    eventually("no straggler", async || database.number(STRAGGLERS).await == 0).await;
}

#[tokio::test]
async fn what_a_broker_could_not_give_back_before_it_died_is_rescued() {
    let database = Database::fresh().await;
    let settings = [
        ("BROKER__NAME", "same"),
        ("BROKER__HEARTBEAT_INTERVAL_MS", "100"),
        ("BROKER__ADOPTION_GRACE_MS", "100"),
        ("SESSION__RECONNECT_GRACE_MS", "100"),
    ];
    let first = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&first, &["emails"], 10).await;
    let held = stragglers(&database, &mut worker, 1).await;
    // Nobody can write it now, as while a migration runs.
    let admin = database.connect().await;
    admin.batch_execute("BEGIN; SELECT FROM currant.job FOR UPDATE").await.unwrap();
    drop(worker);
    eventually("the broker fails the attempt", async || database.waiting().await == 1).await;
    database.heartbeats_for(500).await;
    assert_eq!(database.number(STRAGGLERS).await, 1, "nobody would find it");
    first.kill();
    // What it has sent isn't written later either.
    cut(&admin, "currant-broker%").await;
    admin.batch_execute("ROLLBACK").await.unwrap();

    let second = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&second, &["emails"], 10).await;
    let rescued = worker.job().await;
    assert_eq!((rescued.job_id, rescued.attempt, rescued.failures), (held[0].job_id, 2, 0));
    assert_eq!(worker.succeed([&rescued]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn the_timeout_of_an_attempt_outlives_its_broker() {
    let database = Database::fresh().await;
    let settings = [NOT_SOON, ("BROKER__NAME", "same"), ("QUEUE_DEFAULTS__TIMEOUT_MS", "4000")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let own = NewJob { timeout: Some(ms(3000)), ..job("emails", b"") };
    broker.enqueue([own, job("emails", b"")]).await;
    let held = worker.take(2).await;
    broker.kill();
    let next = Broker::start_with(&database, &settings).await;
    let mut worker = worker.resume(&next, &held).await;
    assert_eq!(worker.welcome.lost, []);
    for job in &held {
        let lost = worker.lease_lost().await;
        assert_eq!(
            (lost.reason(), &lost.attempts[..]),
            (LeaseLostReason::Timeout, &[attempt(job)][..])
        );
    }
}

/// Runs in a process of its own as a worker that never finishes, until it is killed.
#[tokio::test]
async fn the_jobs_of_a_killed_worker_process_run_elsewhere() {
    if let Ok(broker) = env::var(BROKER_OF_CHILD) {
        return hold_jobs(&broker).await;
    }
    let database = Database::fresh().await;
    let settings = [("SESSION__RECONNECT_GRACE_MS", "100"), ("QUEUE_DEFAULTS__RETRY_BASE_MS", "1")];
    let broker = Broker::start_with(&database, &settings).await;
    let ids = broker.enqueue((0..10).map(|_| job("emails", b""))).await;
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::the_jobs_of_a_killed_worker_process_run_elsewhere"])
        .env(BROKER_OF_CHILD, broker.endpoint())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the worker holds all", async || {
        let metrics = broker.metric("currant_attempts_held").await;
        metrics == Some(10.0)
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();

    let mut other = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let jobs = other.take(10).await;
    assert!(jobs.iter().all(|job| job.attempt == 2), "{jobs:?}");
    assert_eq!(other.succeed(&jobs).await, [Verdict::Applied; 10]);
    for id in ids {
        assert_eq!(get(&broker, id).await.state(), JobState::Succeeded);
    }
}

async fn hold_jobs(broker: &str) {
    let worker = Worker::builder(broker)
        .queue("emails")
        .concurrency(10)
        .raw_handler("test", |_| async { std::future::pending::<Result<Bytes, _>>().await })
        .build()
        .unwrap();
    worker.start().closed().await.unwrap();
}

#[tokio::test]
async fn workers_that_come_and_go_under_load_lose_nothing() {
    let database = Database::fresh().await;
    let settings = [("SESSION__RECONNECT_GRACE_MS", "100"), ("QUEUE_DEFAULTS__RETRY_BASE_MS", "1")];
    let broker = Broker::start_with(&database, &settings).await;
    let ledger = Ledger::default();
    let clients = Clients::start(3, &broker, "load", &ledger).await;
    let steady = start_worker(&broker.endpoint(), "load", &ledger);
    for _ in 0..5 {
        let mut dying = TestWorker::subscribe(&broker, &["load"], 10).await;
        dying.take(5).await;
        drop(dying);
        progress(&ledger, 50).await;
    }
    clients.stop().await;
    ledger.check(&database).await;
    steady.shutdown().await.unwrap();
}
