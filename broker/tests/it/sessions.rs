//! Sessions: reconnecting, going silent, losing deliveries.

use currant_proto::v1::{
    HeartbeatRequest, JobState, LeaseLostReason, SubscribeRequest, Verdict,
    subscribe_response::Message,
};
use tonic::Code;

use crate::support::{Broker, Database, TestWorker, attempt, eventually, get, job};

/// A worker that dies is noticed soon; nothing else is.
const SHORT_GRACE: &[(&str, &str)] = &[
    ("SESSION__RECONNECT_GRACE_MS", "100"),
    ("SESSION__KEEP_ALIVE_INTERVAL_MS", "100"),
    ("QUEUE_DEFAULTS__RETRY_BASE_MS", "1"),
];

#[tokio::test]
async fn a_worker_that_reconnects_keeps_what_it_presents_and_loses_the_rest() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 3).await;
    broker.enqueue([job("emails", b"1"), job("emails", b"2"), job("emails", b"3")]).await;
    let jobs = worker.take(3).await;

    let mut again = worker.resume(&broker, &jobs[..2]).await;
    assert!(again.welcome.epoch > worker.welcome.epoch);
    assert_eq!(again.welcome.session_id, worker.welcome.session_id);
    assert_eq!(again.welcome.lost, []);
    let third = again.job().await;
    assert_eq!((third.job_id, third.attempt), (jobs[2].job_id, 2));
    assert_eq!(third.failures, 0);

    let held = [jobs[0].clone(), jobs[1].clone(), third];
    assert_eq!(again.heartbeat(&held).await.unwrap().lost, []);
    assert_eq!(again.succeed(&held).await, [Verdict::Applied; 3]);
    assert_eq!(again.succeed(&jobs[2..]).await, [Verdict::Stale]);
    assert_eq!(get(&broker, jobs[0].job_id).await.attempt, 1);
}

#[tokio::test]
async fn what_a_reconnecting_worker_does_not_present_goes_to_others() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    let first = worker.job().await;
    let mut other = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let request = SubscribeRequest { max_in_flight: 0, ..worker.resume_request([]) };
    let _again = TestWorker::open(&broker, request).await.unwrap();
    let second = other.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (ids[0], 2, 0));
    assert_eq!(worker.succeed([&first]).await, [Verdict::Stale]);
    assert_eq!(other.succeed([&second]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn the_end_of_an_older_stream_does_not_end_the_newer_one() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, SHORT_GRACE).await;
    let mut older = TestWorker::subscribe(&broker, &["emails"], 2).await;
    broker.enqueue([job("emails", b"1")]).await;
    let held = [older.job().await];
    let mut newer = older.resume(&broker, &held).await;
    drop(older);
    // Longer than the grace.
    newer.keep_alives(8).await;
    broker.enqueue([job("emails", b"2")]).await;
    let second = newer.job().await;
    assert_eq!(second.payload, "2");
    assert_eq!(newer.succeed([&held[0], &second]).await, [Verdict::Applied; 2]);
}

#[tokio::test]
async fn the_epoch_grows_even_when_the_session_was_forgotten_in_between() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let first = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let second = first.resume(&broker, []).await;
    let (id, epoch) = (second.welcome.session_id.clone(), second.welcome.epoch);
    let request = second.resume_request([]);
    drop((first, second));
    let mut beat = broker.workers();
    eventually("the session that holds nothing is over with its stream", async || {
        let request = HeartbeatRequest { session_id: id.clone(), ..HeartbeatRequest::default() };
        beat.heartbeat(request).await.is_err_and(|status| status.code() == Code::NotFound)
    })
    .await;
    let third = TestWorker::open(&broker, request).await.unwrap();
    assert_eq!(third.welcome.session_id, id);
    assert!(third.welcome.epoch > epoch, "{} after {epoch}", third.welcome.epoch);
}

#[tokio::test]
async fn the_jobs_of_a_worker_that_stays_away_run_elsewhere_with_a_failure_more() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, SHORT_GRACE).await;
    let mut dying = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    let first = dying.job().await;
    dying.heartbeat([&first]).await.unwrap();
    let mut other = TestWorker::subscribe(&broker, &["emails"], 1).await;
    drop(dying);
    let second = other.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (ids[0], 2, 1));
    let error = get(&broker, ids[0]).await.error;
    assert!(error.contains("worker was lost"), "{error}");
    assert_eq!(other.succeed([&second]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn what_a_lost_worker_never_acknowledged_runs_elsewhere_without_a_failure() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, SHORT_GRACE).await;
    let mut dying = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    dying.job().await;
    drop(dying);
    let mut other = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let second = other.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (ids[0], 2, 0));
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends_dead() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, SHORT_GRACE).await;
    let mut poison = job("emails", b"poison");
    poison.max_attempts = 2;
    let ids = broker.enqueue([poison]).await;
    for _ in 0..2 {
        let mut dying = TestWorker::subscribe(&broker, &["emails"], 1).await;
        let held = dying.job().await;
        dying.heartbeat([&held]).await.unwrap();
    }
    eventually("the job is dead", async || get(&broker, ids[0]).await.state() == JobState::Dead)
        .await;
    assert_eq!(get(&broker, ids[0]).await.failures, 2);
}

#[tokio::test]
async fn a_silent_session_is_over_though_its_stream_is_open() {
    let database = Database::fresh().await;
    let settings = [
        ("SESSION__HEARTBEAT_INTERVAL_MS", "200"),
        ("SESSION__TIMEOUT_MS", "600"),
        ("QUEUE_DEFAULTS__RETRY_BASE_MS", "1"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut silent = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    let first = silent.job().await;
    silent.heartbeat([&first]).await.unwrap();
    silent.end().await;
    let late = silent.heartbeat([&first]).await.unwrap_err();
    assert_eq!(late.code(), Code::NotFound);
    let mut other = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let second = other.job().await;
    assert_eq!((second.job_id, second.failures), (ids[0], 1));
    let again = silent.resume(&broker, [&first]).await;
    assert_eq!(again.welcome.lost, [attempt(&first)]);
}

#[tokio::test]
async fn a_stream_on_which_nothing_is_ever_acknowledged_is_closed() {
    let database = Database::fresh().await;
    let settings =
        [("SESSION__HEARTBEAT_INTERVAL_MS", "50"), ("SESSION__ACKNOWLEDGE_TIMEOUT_MS", "200")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut deaf = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    let beats = deaf.beats();
    tokio::select! {
        () = deaf.end() => {}
        never = beats => match never {},
    }
    let mut other = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let again = other.job().await;
    assert_eq!((again.job_id, again.failures), (ids[0], 0));
    assert_eq!(other.succeed([&again]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn a_delivery_that_a_live_worker_never_acknowledges_is_taken_back() {
    let database = Database::fresh().await;
    let settings = [
        ("SESSION__HEARTBEAT_INTERVAL_MS", "50"),
        ("SESSION__ACKNOWLEDGE_TIMEOUT_MS", "300"),
        ("SESSION__KEEP_ALIVE_INTERVAL_MS", "100"),
    ];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let ids = broker.enqueue([job("emails", b"1")]).await;
    let first = worker.job().await;
    // As if the Assignments had been lost on the way.
    worker.received_seq = 0;
    let deaf = worker.beats();
    let lost = tokio::select! {
        lost = worker.lease_lost() => lost,
        never = deaf => match never {},
    };
    assert_eq!(lost.reason(), LeaseLostReason::Unacknowledged);
    assert_eq!(lost.attempts, [attempt(&first)]);
    let second = worker.job().await;
    assert_eq!((second.job_id, second.attempt, second.failures), (ids[0], 2, 0));
    // What is acknowledged stays, however long it runs.
    let hearing = worker.beats();
    tokio::select! {
        () = worker.keep_alives(8) => {}
        never = hearing => match never {},
    }
    assert_eq!(worker.succeed([&second]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn a_heartbeat_names_what_is_lost() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    broker.enqueue([job("emails", b"1"), job("emails", b"2")]).await;
    let jobs = worker.take(2).await;
    let mut imagined = jobs[1].clone();
    imagined.attempt = 7;
    let answer = worker.heartbeat([&jobs[0], &jobs[1], &imagined]).await.unwrap();
    assert_eq!(answer.lost, [attempt(&imagined)]);
    // Given back by a reconnect that didn't present it.
    let mut again = worker.resume(&broker, &jobs[..1]).await;
    let answer = again.heartbeat(&jobs[..2]).await.unwrap();
    assert_eq!(answer.lost, [attempt(&jobs[1])]);
}

#[tokio::test]
async fn an_idle_stream_carries_keep_alives() {
    let database = Database::fresh().await;
    let settings = [("SESSION__KEEP_ALIVE_INTERVAL_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let keep_alive = |message: &Message| match message {
        Message::KeepAlive(keep_alive) => Some(keep_alive.seq),
        _ => None,
    };
    assert_eq!(worker.until(keep_alive).await, 0);
    broker.enqueue([job("emails", b"1")]).await;
    worker.job().await;
    assert_eq!(worker.until(keep_alive).await, 1);
    assert_eq!(worker.until(keep_alive).await, 1);
}

#[tokio::test]
async fn a_take_over_whose_call_was_given_up_is_still_the_workers() {
    let database = Database::fresh().await;
    let first = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&first, &["emails"], 1).await;
    first.enqueue([job("emails", b"1")]).await;
    let held = worker.job().await;
    first.kill();
    let next = Broker::start(&database).await;

    // A lock holds up the take-over.
    let mut admin = database.connect().await;
    let lock = admin.transaction().await.unwrap();
    lock.execute("SELECT FROM currant.job WHERE id = $1 FOR UPDATE", &[&held.job_id])
        .await
        .unwrap();
    let request = worker.resume_request([&held]);
    let mut client = next.workers();
    let call = tokio::spawn(async move { client.subscribe(request).await.map(drop) });
    eventually("the take-over waits", async || database.waiting().await == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    lock.rollback().await.unwrap();
    eventually("nothing waits", async || database.waiting().await == 0).await;

    let mut worker = worker.resume(&next, [&held]).await;
    assert_eq!(worker.welcome.lost, []);
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
}
