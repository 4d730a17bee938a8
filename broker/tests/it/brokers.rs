//! Several brokers on one database.

use currant_proto::v1::{
    CompleteRequest, EnqueueRequest, JobState, Released, Verdict, completion::Outcome,
};
use tokio::task::JoinSet;

use crate::support::{
    Broker, Clients, Database, Ledger, TestWorker, eventually, get, job, progress, start_worker,
    success,
};

/// Brokers that notice each other's life and death soon. The sweep is not to help.
const QUICK: &[(&str, &str)] = &[
    ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
    ("BROKER__DEAD_AFTER_MS", "1000"),
    ("BROKER__ADOPTION_GRACE_MS", "100"),
    ("DISPATCH__SWEEP_INTERVAL_MS", "60000"),
];

#[tokio::test]
async fn workers_of_two_brokers_share_a_queue_and_run_each_job_once() {
    let database = Database::fresh().await;
    let brokers =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let ledger = Ledger::default();
    let workers = [0, 0, 1, 1]
        .map(|broker: usize| start_worker(&brokers[broker].endpoint(), "load", &ledger));
    // All through one of them.
    let clients = Clients::start(4, &brokers[0], "load", &ledger).await;
    progress(&ledger, 500).await;
    // More than the workers of one can hold: the other has its share.
    let ids = brokers[0].enqueue((0..2000).map(|_| job("load", b""))).await;
    ledger.add(&ids);
    clients.stop().await;
    ledger.check(&database).await;
    assert_eq!(ledger.run_again(), []);
    for broker in &brokers {
        let delivered = "currant_jobs_delivered_total{messaging_destination_name=\"load\"}";
        assert!(broker.metric(delivered).await > Some(0.0));
    }
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_stored_by_one_broker_is_soon_with_a_worker_of_another() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&b, &["emails"], 10).await;
    for _ in 0..3 {
        let ids = a.enqueue([job("emails", b"")]).await;
        let came = worker.job().await;
        assert_eq!(came.job_id, ids[0]);
        assert_eq!(worker.succeed([&came]).await, [Verdict::Applied]);
    }
    // What becomes ready otherwise is told too: a retry, a scheduled job, a job given back.
    let mut elsewhere = TestWorker::subscribe(&a, &["calls"], 1).await;
    let ids = a.enqueue([job("calls", b"")]).await;
    let held = elsewhere.job().await;
    let mut worker = TestWorker::subscribe(&b, &["calls"], 1).await;
    // Else its own broker could be the first to take it again.
    elsewhere.set_credit(0).await;
    let released = Outcome::Released(Released {});
    assert_eq!(elsewhere.report([&held], released).await, [Verdict::Applied]);
    let came = worker.job().await;
    assert_eq!((came.job_id, came.attempt), (ids[0], 2));
}

#[tokio::test]
async fn a_broker_that_has_just_come_hears_of_jobs_from_its_first_moment() {
    let database = Database::fresh().await;
    // It looks for others once in a while.
    let settings =
        [("BROKER__HEARTBEAT_INTERVAL_MS", "1500"), ("DISPATCH__SWEEP_INTERVAL_MS", "60000")];
    let a = Broker::start_with(&database, &settings).await;
    let b = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&b, &["emails"], 10).await;
    // Its backlog is known to be empty now.
    b.enqueue([job("emails", b"")]).await;
    worker.job().await;
    let ids = a.enqueue([job("emails", b"")]).await;
    assert_eq!(worker.job().await.job_id, ids[0]);
}

#[tokio::test]
async fn a_completion_may_go_to_another_broker() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&a, &["emails"], 2).await;
    let ids = a.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    let request =
        CompleteRequest { completions: vec![success(&held)], ..CompleteRequest::default() };
    let answer = b.workers().complete(request).await.unwrap().into_inner();
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), [Verdict::Applied]);
    assert_eq!(get(&a, ids[0]).await.state(), JobState::Succeeded);
    assert_eq!(worker.succeed([&held]).await, [Verdict::Duplicate]);
}

#[tokio::test]
async fn a_worker_takes_what_it_holds_from_one_living_broker_to_another() {
    let database = Database::fresh().await;
    let settings = [QUICK, &[("SESSION__RECONNECT_GRACE_MS", "100")]].concat();
    let a = Broker::start_with(&database, &settings).await;
    let b = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&a, &["emails"], 1).await;
    a.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    worker.heartbeat([&held]).await.unwrap();
    let mut moved = worker.resume(&b, [&held]).await;
    assert_eq!(moved.welcome.lost, []);
    drop(worker);
    let sessions = async || a.metric("currant_sessions").await == Some(0.0);
    eventually("the session is over at the first", sessions).await;
    assert_eq!(moved.heartbeat([&held]).await.unwrap().lost, []);
    assert_eq!(moved.succeed([&held]).await, [Verdict::Applied]);
    let stored = get(&a, held.job_id).await;
    assert_eq!((stored.attempt, stored.failures), (1, 0));
}

#[tokio::test]
async fn a_broker_that_others_hold_for_dead_stops_and_its_work_goes_on() {
    let database = Database::fresh().await;
    let a =
        Broker::start_with(&database, &[QUICK, &[("BROKER__ADOPTION_GRACE_MS", "1500")]].concat())
            .await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&b, &["emails"], 2).await;
    b.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let jobs = worker.take(2).await;
    let sql =
        "UPDATE currant.broker SET dead_at = now() WHERE id = (SELECT max(id) FROM currant.broker)";
    database.connect().await.batch_execute(sql).await.unwrap();
    worker.end().await;
    assert!(b.logged("other brokers hold this one for dead; it stops"));
    assert_eq!(b.end().await.code(), Some(1));

    let mut worker = worker.resume(&a, &jobs[..1]).await;
    assert_eq!(worker.welcome.lost, []);
    let second = worker.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (jobs[1].job_id, 2, 0));
    assert_eq!(worker.succeed([&jobs[0], &second]).await, [Verdict::Applied; 2]);
}

#[tokio::test]
async fn a_broker_that_rescues_for_long_goes_on_to_show_that_it_lives() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&a, &["emails"], 1).await;
    a.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    let client = database.connect().await;
    client.batch_execute("BEGIN; SELECT FROM currant.job FOR UPDATE").await.unwrap();
    a.kill();
    eventually("the rescue waits", async || database.waiting().await == 1).await;
    // For longer than a dead broker is silent.
    database.heartbeats_for(2000).await;
    assert_eq!(database.waiting().await, 1);
    client.batch_execute("ROLLBACK").await.unwrap();
    let mut worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    let rescued = worker.job().await;
    assert_eq!((rescued.job_id, rescued.attempt), (held.job_id, 2));
}

#[tokio::test]
async fn a_second_broker_of_the_same_name_supersedes_the_first() {
    let database = Database::fresh().await;
    let settings = [("BROKER__NAME", "only"), ("BROKER__HEARTBEAT_INTERVAL_MS", "200")];
    let first = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&first, &["emails"], 1).await;
    first.enqueue([job("emails", b"1")]).await;
    let held = worker.job().await;
    let second = Broker::start_with(&database, &settings).await;
    worker.end().await;
    assert_eq!(first.end().await.code(), Some(1));
    let mut worker = worker.resume(&second, [&held]).await;
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn a_frozen_broker_that_was_rescued_loses_nothing_when_it_thaws() {
    let database = Database::fresh().await;
    let frozen = Broker::start_with(&database, QUICK).await;
    let mut stale = TestWorker::subscribe(&frozen, &["emails"], 1000).await;
    frozen.enqueue([job("emails", b"")]).await;
    let held = stale.job().await;
    let other = Broker::start_with(&database, QUICK).await;
    frozen.signal("STOP");
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (mut client, jobs) = (frozen.jobs(), vec![job("emails", b"")]);
        calls.spawn(async move {
            let request = EnqueueRequest { jobs, ..EnqueueRequest::default() };
            client.enqueue(request).await.map(|answer| answer.into_inner().job_ids)
        });
    }
    let unrescued = "SELECT count(*) FROM currant.broker WHERE rescued_at IS NULL";
    eventually("its jobs are rescued", async || database.number(unrescued).await == 1).await;
    let mut worker = TestWorker::subscribe(&other, &["emails"], 1000).await;
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (held.job_id, 2));

    frozen.signal("CONT");
    let mut stored = vec![held.job_id];
    while let Some(answer) = calls.join_next().await {
        stored.extend(answer.unwrap().into_iter().flatten());
    }
    assert_eq!(frozen.end().await.code(), Some(1));
    drop(stale);
    assert_eq!(worker.succeed([&again]).await, [Verdict::Applied]);
    let open = "SELECT count(*) FROM currant.job WHERE outcome IS NULL";
    for _ in 0..database.number(open).await {
        let job = worker.job().await;
        assert_eq!(worker.succeed([&job]).await, [Verdict::Applied]);
    }
    for id in stored {
        assert_eq!(get(&other, id).await.state(), JobState::Succeeded);
    }
}
