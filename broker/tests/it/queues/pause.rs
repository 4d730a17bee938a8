use std::time::Duration;

use currant_proto::v1::{JobState, Verdict};

use super::{QUICK, drain, pause, queue, resume};
use crate::support::{
    Broker, Clients, Database, Ledger, TestWorker, cut, eventually, get, job, progress,
    start_worker,
};

const A_WHILE: Duration = Duration::from_millis(300);
const HELD: &str = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";

#[tokio::test]
async fn a_paused_queue_takes_jobs_and_delivers_none_while_what_runs_goes_on() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails", "calls"], 1).await;
    let first = broker.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    // In memory, since the worker has no room.
    let buffered = broker.enqueue([job("emails", b"")]).await;
    assert_eq!(database.number(HELD).await, 2);
    assert!(queue(&broker, "emails").await.paused_at.is_none());
    let paused = pause(&broker, "emails").await;
    assert!(paused.paused_at.is_some());
    assert_eq!(pause(&broker, "emails").await, paused, "it can be repeated");
    eventually("what was in memory is given back", async || database.number(HELD).await == 1).await;
    let late = broker.enqueue([job("emails", b"")]).await;
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied], "what runs goes on");
    worker.no_job_for(A_WHILE).await;
    for id in [buffered[0], late[0]] {
        let stored = get(&broker, id).await;
        assert_eq!((stored.state(), stored.failures), (JobState::Ready, 0));
    }
    // Others aren't concerned.
    let call = broker.enqueue([job("calls", b"")]).await;
    let came = worker.job().await;
    assert_eq!(came.job_id, call[0]);
    worker.succeed([&came]).await;
    assert!(resume(&broker, "emails").await.paused_at.is_none());
    let latest = broker.enqueue([job("emails", b"")]).await;
    for id in [buffered[0], late[0], latest[0]] {
        let came = worker.job().await;
        assert_eq!(came.job_id, id, "the oldest first");
        worker.succeed([&came]).await;
    }
    assert_eq!(get(&broker, first[0]).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn other_brokers_follow_and_so_do_those_that_start_later() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let mut worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    b.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    b.enqueue([job("emails", b"")]).await;
    assert_eq!(database.number(HELD).await, 2);
    pause(&a, "emails").await;
    eventually("the other gave back", async || database.number(HELD).await == 1).await;
    worker.succeed([&held]).await;
    b.enqueue([job("emails", b"")]).await;
    worker.no_job_for(A_WHILE).await;
    let c = Broker::start_with(&database, QUICK).await;
    let mut third = TestWorker::subscribe(&c, &["emails"], 1).await;
    c.enqueue([job("emails", b"")]).await;
    third.no_job_for(A_WHILE).await;
    // Resumed by the one that was paused by another; its sweep is far.
    resume(&b, "emails").await;
    // Of three jobs neither takes more than two.
    let came = worker.job().await;
    third.job().await;
    assert_eq!(worker.succeed([&came]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn a_pause_reaches_a_broker_that_hears_no_notification() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let deaf = [QUICK, &[("DATABASE__LISTEN_URL", "")]].concat();
    let b = Broker::start_with(&database, &deaf).await;
    let mut worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    b.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    b.enqueue([job("emails", b"")]).await;
    pause(&a, "emails").await;
    eventually("its heartbeat tells it", async || database.number(HELD).await == 1).await;
    worker.succeed([&held]).await;
    worker.no_job_for(A_WHILE).await;
    resume(&a, "emails").await;
    worker.job().await;
}

#[tokio::test]
async fn sql_may_pause_a_queue_and_a_listener_that_was_cut_off_misses_nothing() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = database.connect().await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    broker.enqueue([job("emails", b"")]).await;
    // While nobody hears.
    assert_eq!(cut(&client, "currant-broker listener").await, 1);
    let sql = "UPDATE currant.queue SET paused_at = now() WHERE name = 'emails'";
    client.batch_execute(sql).await.unwrap();
    eventually("it is given back", async || database.number(HELD).await == 1).await;
    worker.succeed([&held]).await;
    worker.no_job_for(A_WHILE).await;
    client.batch_execute("UPDATE currant.queue SET paused_at = NULL").await.unwrap();
    worker.job().await;
}

#[tokio::test]
async fn a_pause_survives_the_kill_of_the_broker_that_made_it() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&a, &["emails"], 2).await;
    let stored = a.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let held = worker.take(2).await;
    pause(&a, "emails").await;
    a.kill();
    let b = Broker::start_with(&database, QUICK).await;
    // What runs goes on at another broker; what nobody holds is rescued and waits.
    let mut worker = worker.resume(&b, &held[..1]).await;
    let state = async || get(&b, stored[1]).await.state();
    eventually("it is rescued", async || state().await == JobState::Ready).await;
    assert_eq!(worker.succeed([&held[0]]).await, [Verdict::Applied]);
    worker.no_job_for(A_WHILE).await;
    resume(&b, "emails").await;
    let came = worker.job().await;
    assert_eq!((came.job_id, came.attempt, came.failures), (stored[1], 2, 0));
}

#[tokio::test]
async fn pauses_under_load_lose_nothing_and_repeat_nothing() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let ledger = Ledger::default();
    let workers = [&a, &b].map(|broker| start_worker(&broker.endpoint(), "load", &ledger));
    let clients = Clients::start(4, &a, "load", &ledger).await;
    for round in 0..10 {
        let broker = if round % 2 == 0 { &a } else { &b };
        progress(&ledger, 100).await;
        pause(broker, "load").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        resume(broker, "load").await;
    }
    clients.stop().await;
    ledger.check(&database).await;
    assert_eq!(ledger.run_again(), []);
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_waits_for_the_workers_of_all_brokers() {
    let database = Database::fresh().await;
    let [a, b] =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let mut worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    b.enqueue([job("emails", b""), job("emails", b"")]).await;
    let held = worker.job().await;
    let answer = drain(&a, "emails", 300).await;
    assert!(!answer.drained && answer.queue.unwrap().paused_at.is_some());
    let mut waits = Box::pin(drain(&a, "emails", 20_000));
    let ended = tokio::time::timeout(Duration::from_millis(1500), &mut waits).await;
    assert!(ended.is_err(), "though a worker has a job: {ended:?}");
    worker.succeed([&held]).await;
    let answer = waits.await;
    assert!(answer.drained && answer.running == 0);
    assert_eq!(get(&a, held.job_id).await.state(), JobState::Succeeded);
    assert!(drain(&b, "emails", 5000).await.drained, "it can be repeated");
    worker.no_job_for(A_WHILE).await;
}

#[tokio::test]
async fn a_drain_waits_until_a_dead_brokers_jobs_are_rescued() {
    let database = Database::fresh().await;
    let a = Broker::start_with(&database, QUICK).await;
    let b = Broker::start_with(&database, QUICK).await;
    let mut worker = TestWorker::subscribe(&b, &["emails"], 1).await;
    let id = b.enqueue([job("emails", b"")]).await[0];
    worker.job().await;
    b.kill();
    assert!(drain(&a, "emails", 20_000).await.drained);
    let stored = get(&a, id).await;
    assert_eq!((stored.state(), stored.attempt), (JobState::Ready, 1));
}
