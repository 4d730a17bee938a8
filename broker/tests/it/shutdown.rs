//! SIGTERM: the drain, its deadline, and what the next broker takes over.

use std::time::Duration;

use currant_proto::v1::{
    EnqueueRequest, JobState, SubscribeRequest, Verdict, subscribe_response::Message,
};
use tonic::Code;

use crate::support::{Broker, Database, TestWorker, eventually, get, job};

fn drain(message: &Message) -> Option<i64> {
    match message {
        Message::Drain(drain) => Some(drain.deadline.unwrap().seconds),
        _ => None,
    }
}

#[tokio::test]
async fn a_draining_broker_takes_completions_and_gives_no_jobs() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    broker.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let jobs = worker.take(2).await;
    broker.signal_to_stop();
    assert_eq!(worker.until(drain).await, 25);

    // SQL still stores jobs; they wait for another broker.
    database.enqueue("emails").await;
    let request = SubscribeRequest {
        queues: vec!["emails".to_owned()],
        max_in_flight: 1,
        ..SubscribeRequest::default()
    };
    let refused = TestWorker::open(&broker, request).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let request = EnqueueRequest { jobs: vec![job("emails", b"3")], ..EnqueueRequest::default() };
    let refused = broker.jobs().enqueue(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    assert_eq!(worker.succeed(&jobs[..1]).await, [Verdict::Applied]);
    assert_eq!(worker.heartbeat(&jobs[1..]).await.unwrap().lost, []);
    assert_eq!(get(&broker, jobs[0].job_id).await.state(), JobState::Succeeded);
    // The last one held: the drain is over.
    assert_eq!(worker.succeed(&jobs[1..]).await, [Verdict::Applied]);
    let mut further = Vec::new();
    while let Ok(Some(message)) = worker.message().await {
        further.push(message);
    }
    assert!(!further.iter().any(|message| matches!(message, Message::Assignments(_))));
    assert_eq!(broker.end().await.code(), Some(0));
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE outcome = 1").await, 2);
    assert_eq!(database.number("SELECT count(*) FROM currant.job WHERE phase = 1").await, 1);
}

#[tokio::test]
async fn an_idle_broker_stops_at_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    broker.signal_to_stop();
    worker.end().await;
    assert_eq!(broker.end().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_held_at_the_deadline_goes_on_at_the_next_broker() {
    let database = Database::fresh().await;
    let settings = [("BROKER__DRAIN_DEADLINE_MS", "100"), ("BROKER__ADOPTION_GRACE_MS", "60000")];
    let first = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&first, &["emails"], 2).await;
    let ids = first.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let held = worker.take(2).await;
    first.signal_to_stop();
    worker.end().await;
    assert_eq!(first.end().await.code(), Some(0));

    let next = Broker::start_with(&database, &settings).await;
    let mut other = TestWorker::subscribe(&next, &["emails"], 2).await;
    let mut worker = worker.resume(&next, &held).await;
    assert_eq!(worker.welcome.lost, []);
    other.no_job_for(Duration::from_millis(300)).await;
    drop(other);
    assert_eq!(worker.heartbeat(&held).await.unwrap().lost, []);
    assert_eq!(worker.succeed(&held).await, [Verdict::Applied; 2]);
    for id in ids {
        let stored = get(&next, id).await;
        assert_eq!((stored.attempt, stored.failures), (1, 0));
    }
    // Its credit is free again.
    next.enqueue([job("emails", b"3"), job("emails", b"4")]).await;
    worker.take(2).await;
}

#[tokio::test]
async fn what_no_worker_has_yet_is_given_back_with_no_failure() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    // The first is delivered when the session's backlog is known; the others then go to memory.
    broker.enqueue([job("emails", b"0")]).await;
    let first = worker.job().await;
    broker.enqueue((0..3).map(|_| job("emails", b""))).await;
    let second = worker.job().await;
    let buffered = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
    eventually("two wait in memory", async || database.number(buffered).await == 4).await;

    broker.signal_to_stop();
    worker.until(drain).await;
    let ready = "SELECT count(*) FROM currant.job WHERE phase = 1 AND failures = 0";
    eventually("they are ready again", async || database.number(ready).await == 2).await;
    assert_eq!(worker.succeed([&first, &second]).await, [Verdict::Applied; 2]);
    assert_eq!(broker.end().await.code(), Some(0));

    let next = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&next, &["emails"], 2).await;
    for job in worker.take(2).await {
        assert_eq!((job.attempt, job.failures), (2, 0));
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_broker_at_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"1")]).await;
    worker.job().await;
    broker.signal_to_stop();
    worker.until(drain).await;
    broker.signal_to_stop();
    assert_eq!(broker.end().await.code(), Some(130));
}

#[tokio::test]
async fn an_enqueue_under_way_when_the_drain_begins_is_stored_and_given_back() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"1")]).await;
    let first = worker.job().await;
    assert_eq!(worker.succeed([&first]).await, [Verdict::Applied]);

    let mut admin = database.connect().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE currant.job IN SHARE MODE").await.unwrap();
    let mut client = broker.jobs();
    let jobs = vec![job("emails", b"2")];
    let request = EnqueueRequest { jobs, ..EnqueueRequest::default() };
    let call = tokio::spawn(async move { client.enqueue(request).await });
    eventually("the insert waits", async || database.waiting().await == 1).await;
    broker.signal_to_stop();
    worker.until(drain).await;
    lock.rollback().await.unwrap();
    let ids = call.await.unwrap().unwrap().into_inner().job_ids;
    assert_eq!(broker.end().await.code(), Some(0));
    // Ready for anybody, with no grace to wait for.
    let ready = format!("SELECT count(*) FROM currant.job WHERE phase = 1 AND id = {}", ids[0]);
    assert_eq!(database.number(&ready).await, 1);
}
