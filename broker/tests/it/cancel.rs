//! Cancel: of jobs that wait, that a broker has in memory, that a worker has; by the broker that holds
//! them and by another.

use std::{collections::HashMap, time::Duration};

use currant_proto::v1::{
    Assignment, Attempt, CancelRequest, CancelVerdict, JobState, NewJob, Verdict, new_job::Start,
    subscribe_response::Message,
};
use tonic::Code;

use crate::support::{
    Broker, Database, Ledger, TestWorker, assert_invalid, attempt, eventually, get, job,
    start_worker,
};

/// Brokers that notice each other soon. The sweep is not to help.
const QUICK: &[(&str, &str)] = &[
    ("BROKER__HEARTBEAT_INTERVAL_MS", "200"),
    ("BROKER__DEAD_AFTER_MS", "1000"),
    ("BROKER__ADOPTION_GRACE_MS", "1000"),
    ("DISPATCH__SWEEP_INTERVAL_MS", "60000"),
];

pub(crate) async fn cancel(broker: &Broker, ids: &[i64]) -> Vec<CancelVerdict> {
    let request = CancelRequest { job_ids: ids.to_vec(), ..Default::default() };
    broker.jobs().cancel(request).await.unwrap().into_inner().verdicts().collect()
}

fn later() -> NewJob {
    let start = Start::Delay(prost_types::Duration { seconds: 3600, nanos: 0 });
    NewJob { start: Some(start), ..job("emails", b"") }
}

/// The next attempts that the worker is told to stop.
async fn told(worker: &mut TestWorker) -> Vec<Attempt> {
    worker
        .until(|message| match message {
            Message::Cancel(cancel) => Some(cancel.attempts.clone()),
            _ => None,
        })
        .await
}

async fn assert_cancelled(broker: &Broker, id: i64, attempt: u32) {
    let stored = get(broker, id).await;
    assert_eq!((stored.state(), stored.attempt), (JobState::Cancelled, attempt));
    assert!(stored.finished_at.is_some() && stored.failures == 0);
}

/// Waits until the broker has so many jobs in memory, those with workers among them.
async fn in_memory(database: &Database, jobs: i64) {
    let taken = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
    eventually("they're in memory", async || database.number(taken).await == jobs).await;
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_at_once_and_never_runs() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let ids = broker.enqueue([job("emails", b""), later(), job("emails", b"")]).await;
    let cancelled = [CancelVerdict::Cancelled; 2];
    assert_eq!(cancel(&broker, &ids[..2]).await, cancelled);
    assert_eq!(cancel(&broker, &ids[..2]).await, cancelled, "it can be repeated");
    for id in &ids[..2] {
        assert_cancelled(&broker, *id, 0).await;
    }
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 10).await;
    let left = worker.job().await;
    assert_eq!(left.job_id, ids[2]);
    assert_eq!(worker.succeed([&left]).await, [Verdict::Applied]);
    let all = [ids[2], 12_345, ids[0], ids[2]];
    assert_eq!(cancel(&broker, &all).await, {
        [
            CancelVerdict::Finished,
            CancelVerdict::NotFound,
            CancelVerdict::Cancelled,
            CancelVerdict::Finished,
        ]
    });
    worker.no_job_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_job_in_memory_is_cancelled_at_once_and_makes_room() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    broker.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    let waiting = broker.enqueue([job("emails", b"")]).await;
    in_memory(&database, 2).await;
    let next = broker.enqueue([job("emails", b"")]).await;
    assert_eq!(cancel(&broker, &waiting).await, [CancelVerdict::Cancelled]);
    assert_cancelled(&broker, waiting[0], 2).await;
    in_memory(&database, 2).await;
    assert_eq!(worker.succeed([&held]).await, [Verdict::Applied]);
    assert_eq!(worker.job().await.job_id, next[0]);
}

#[tokio::test]
async fn the_worker_of_a_job_that_runs_is_told_and_its_outcome_is_stale() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b""), job("emails", b"")]).await;
    let held = worker.job().await;
    assert_eq!(cancel(&broker, &ids[..1]).await, [CancelVerdict::Requested]);
    assert_cancelled(&broker, ids[0], 2).await;
    assert_eq!(told(&mut worker).await, [attempt(&held)]);
    let next = worker.job().await;
    assert_eq!(next.job_id, ids[1], "its credit has returned");
    for _ in 0..2 {
        let answer = worker.heartbeat([&held, &next]).await.unwrap();
        assert_eq!((answer.cancelled, answer.lost), (vec![attempt(&held)], vec![]));
    }
    assert_eq!(worker.succeed([&held, &next]).await, [Verdict::Stale, Verdict::Applied]);
    let answer = worker.heartbeat([]).await.unwrap();
    assert_eq!((answer.cancelled, answer.lost), (vec![], vec![]));
    assert_cancelled(&broker, ids[0], 2).await;
}

#[tokio::test]
async fn a_worker_that_comes_back_with_a_cancelled_attempt_has_lost_it() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let ids = broker.enqueue([job("emails", b""), job("emails", b"")]).await;
    let held = worker.take(2).await;
    let resumed = worker.resume_request(&held);
    drop(worker);
    assert_eq!(cancel(&broker, &ids[..1]).await, [CancelVerdict::Requested]);
    let mut worker = TestWorker::open(&broker, resumed).await.unwrap();
    assert_eq!(worker.welcome.lost, [attempt(&held[0])]);
    assert_eq!(worker.succeed(&held).await, [Verdict::Stale, Verdict::Applied]);
}

/// A broker on which jobs are cancelled, another whose worker holds one of three and has one in memory.
async fn held_elsewhere(
    database: &Database,
    settings: &[(&str, &str)],
) -> (Broker, Broker, TestWorker, Assignment, Vec<i64>) {
    let settings = [QUICK, settings].concat();
    let here = Broker::start_with(database, &settings).await;
    let there = Broker::start_with(database, &settings).await;
    let mut worker = TestWorker::subscribe(&there, &["emails"], 1).await;
    let mut ids = there.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    ids.extend(there.enqueue([job("emails", b"")]).await);
    in_memory(database, 2).await;
    ids.extend(there.enqueue([job("emails", b"")]).await);
    (here, there, worker, held, ids)
}

async fn cancelled_elsewhere(settings: &[(&str, &str)]) {
    let database = Database::fresh().await;
    let (here, there, mut worker, held, ids) = held_elsewhere(&database, settings).await;
    // From here it can't be seen whether a worker has them.
    assert_eq!(cancel(&here, &ids[..2]).await, [CancelVerdict::Requested; 2]);
    assert_eq!(told(&mut worker).await, [attempt(&held)]);
    assert_eq!(worker.job().await.job_id, ids[2], "the one in memory is passed over");
    assert_eq!(worker.heartbeat([&held]).await.unwrap().cancelled, [attempt(&held)]);
    assert_eq!(worker.succeed([&held]).await, [Verdict::Stale]);
    for id in &ids[..2] {
        assert_cancelled(&there, *id, 2).await;
    }
    let notes = "SELECT count(*) FROM currant.cancel";
    eventually("the notes are gone", async || database.number(notes).await == 0).await;
}

#[tokio::test]
async fn a_job_that_another_broker_holds_is_cancelled_there_too() {
    // The heartbeat is not to help.
    let seldom = ["60000", "600000"];
    let names = ["BROKER__HEARTBEAT_INTERVAL_MS", "BROKER__DEAD_AFTER_MS"];
    cancelled_elsewhere(&[(names[0], seldom[0]), (names[1], seldom[1])]).await;
}

#[tokio::test]
async fn a_broker_that_hears_no_notification_finds_what_was_cancelled() {
    cancelled_elsewhere(&[("DATABASE__LISTEN_URL", "")]).await;
}

#[tokio::test]
async fn what_was_cancelled_stays_so_when_the_broker_that_held_it_is_killed() {
    let database = Database::fresh().await;
    let (here, there, worker, held, ids) = held_elsewhere(&database, &[]).await;
    there.signal("STOP");
    assert_eq!(cancel(&here, &ids).await, {
        [CancelVerdict::Requested, CancelVerdict::Requested, CancelVerdict::Cancelled]
    });
    there.kill();
    let mut worker = worker.resume(&here, [&held]).await;
    assert_eq!(worker.welcome.lost, [attempt(&held)]);
    assert_eq!(worker.succeed([&held]).await, [Verdict::Stale]);
    let rescued = "SELECT count(*) FROM currant.broker WHERE rescued_at IS NOT NULL";
    eventually("it was rescued", async || database.number(rescued).await == 1).await;
    for id in ids {
        assert_eq!(get(&here, id).await.state(), JobState::Cancelled);
    }
    worker.no_job_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_cancel_that_was_answered_survives_the_end_of_its_broker() {
    let database = Database::fresh().await;
    let settings = [("BROKER__NAME", "same"), ("BROKER__ADOPTION_GRACE_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 1).await;
    let ids = broker.enqueue([job("emails", b""), job("emails", b""), later()]).await;
    let held = worker.job().await;
    cancel(&broker, &ids).await;
    broker.kill();
    let next = Broker::start_with(&database, &settings).await;
    let mut worker = worker.resume(&next, [&held]).await;
    assert_eq!(worker.welcome.lost, [attempt(&held)]);
    for id in ids {
        assert_eq!(get(&next, id).await.state(), JobState::Cancelled);
    }
    worker.no_job_for(Duration::from_millis(200)).await;
}

/// Everything at once: what was applied has succeeded, what was cancelled is, nothing is left.
#[tokio::test]
async fn under_load_each_job_is_either_done_or_cancelled() {
    let database = Database::fresh().await;
    let brokers =
        [Broker::start_with(&database, QUICK).await, Broker::start_with(&database, QUICK).await];
    let ledger = Ledger::default();
    let workers = [0, 1].map(|at: usize| start_worker(&brokers[at].endpoint(), "load", &ledger));
    let mut verdicts = HashMap::new();
    for round in 0..40 {
        let ids = brokers[round % 2].enqueue((0..50).map(|_| job("load", b""))).await;
        let some: Vec<i64> = ids.into_iter().filter(|_| fastrand::bool()).collect();
        let answers = cancel(&brokers[fastrand::usize(..2)], &some).await;
        verdicts.extend(some.into_iter().zip(answers));
    }
    let open = "SELECT count(*) FROM currant.job WHERE outcome IS NULL";
    eventually("all is over", async || database.number(open).await == 0).await;
    let rows = database.connect().await;
    let rows = rows.query("SELECT id, outcome FROM currant.job", &[]).await.unwrap();
    assert_eq!(rows.len(), 2000);
    for row in &rows {
        let (id, outcome): (i64, i16) = (row.get(0), row.get(1));
        let expected = match verdicts.get(&id) {
            Some(CancelVerdict::Cancelled | CancelVerdict::Requested) => 3,
            Some(CancelVerdict::Finished) | None => 1,
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected, "{id}: {:?}", verdicts.get(&id));
    }
    let succeeded = rows.iter().filter(|row| row.get::<_, i16>(1) == 1).count();
    assert!(succeeded > 0 && succeeded < 2000, "{succeeded} succeeded");
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
    assert_eq!(ledger.applied(), succeeded);
    for broker in brokers {
        eventually("no credit is kept", async || {
            broker.metric("currant_attempts_held").await == Some(0.0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_bad_cancel_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for (ids, limit) in
        [(vec![], "1 to 1000; this has 0"), (vec![1; 1001], "1 to 1000; this has 1001")]
    {
        let status = broker
            .jobs()
            .cancel(CancelRequest { job_ids: ids, ..Default::default() })
            .await
            .unwrap_err();
        assert_invalid(&status, "job_ids", limit);
    }
    let strange = [0, -1, i64::MAX, i64::MIN];
    assert_eq!(cancel(&broker, &strange).await, [CancelVerdict::NotFound; 4]);
    assert_eq!(cancel(&broker, &[7; 1000]).await, [CancelVerdict::NotFound; 1000]);
}

#[tokio::test]
async fn a_cancel_says_when_the_database_is_away() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &[("DATABASE__CONNECT_TIMEOUT_MS", "200")]).await;
    let ids = broker.enqueue([job("emails", b"")]).await;
    database.allow_connections(false).await;
    let client = database.connect_beside().await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    client.query(sql, &[&database.name]).await.unwrap();
    let request = CancelRequest { job_ids: ids.clone(), ..Default::default() };
    let status = broker.jobs().cancel(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    database.allow_connections(true).await;
    let request = || CancelRequest { job_ids: ids.clone(), ..Default::default() };
    eventually("it is back", async || broker.jobs().cancel(request()).await.is_ok()).await;
    assert_cancelled(&broker, ids[0], 0).await;
}
