//! Retry and delete: dead and cancelled jobs once more, and jobs that go for good.

use std::time::Duration;

use currant_proto::v1::{
    CancelRequest, DeleteRequest, DeleteVerdict, Failed, GetRequest, JobState, NewJob,
    RetryRequest, RetryVerdict, Verdict, completion::Outcome, new_job::Start,
};
use tonic::Code;

use crate::support::{Broker, Database, TestWorker, assert_invalid, eventually, get, job};

pub(crate) async fn retry(broker: &Broker, ids: &[i64]) -> Vec<RetryVerdict> {
    let request = RetryRequest { job_ids: ids.to_vec(), ..Default::default() };
    broker.jobs().retry(request).await.unwrap().into_inner().verdicts().collect()
}

pub(crate) async fn delete(broker: &Broker, ids: &[i64]) -> Vec<DeleteVerdict> {
    let request = DeleteRequest { job_ids: ids.to_vec(), ..Default::default() };
    broker.jobs().delete(request).await.unwrap().into_inner().verdicts().collect()
}

async fn cancel(broker: &Broker, id: i64) {
    broker.jobs().cancel(CancelRequest { job_ids: vec![id], ..Default::default() }).await.unwrap();
}

fn discarded() -> Outcome {
    Outcome::Failed(Failed { error: "no".to_owned(), discard: true, ..Failed::default() })
}

fn later() -> NewJob {
    let start = Start::Delay(prost_types::Duration { seconds: 3600, nanos: 0 });
    NewJob { start: Some(start), ..job("emails", b"") }
}

#[tokio::test]
async fn dead_and_cancelled_jobs_run_again_with_all_their_attempts() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 2).await;
    let ids = broker.enqueue([job("emails", b""), job("emails", b"")]).await;
    let held = worker.take(2).await;
    assert_eq!(worker.report([&held[0]], discarded()).await, [Verdict::Applied]);
    cancel(&broker, ids[1]).await;
    assert_eq!(retry(&broker, &ids).await, [RetryVerdict::Ready; 2]);
    let mut again = worker.take(2).await;
    again.sort_by_key(|job| job.job_id);
    let seen: Vec<_> = again.iter().map(|job| (job.job_id, job.attempt, job.failures)).collect();
    // The cancel took a number.
    assert_eq!(seen, [(ids[0], 2, 0), (ids[1], 3, 0)]);
    let stored = get(&broker, ids[0]).await;
    assert_eq!((stored.state(), &*stored.error), (JobState::Running, "no"));
    assert!(stored.finished_at.is_none());
    assert_eq!(retry(&broker, &ids).await, [RetryVerdict::Open; 2], "it can be repeated");
    // What their earlier attempts still bring changes nothing.
    assert_eq!(worker.succeed(&held).await, [Verdict::Stale; 2]);
    assert_eq!(worker.succeed(&again).await, [Verdict::Applied; 2]);
    let all = [ids[0], 12_345, ids[1]];
    assert_eq!(retry(&broker, &all).await, {
        [RetryVerdict::Succeeded, RetryVerdict::NotFound, RetryVerdict::Succeeded]
    });
}

#[tokio::test]
async fn a_job_retried_at_one_broker_runs_at_another() {
    let database = Database::fresh().await;
    let settings =
        [("DISPATCH__SWEEP_INTERVAL_MS", "60000"), ("BROKER__HEARTBEAT_INTERVAL_MS", "200")];
    let here = Broker::start_with(&database, &settings).await;
    let there = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&there, &["emails"], 1).await;
    let ids = there.enqueue([job("emails", b"")]).await;
    let held = worker.job().await;
    cancel(&here, ids[0]).await;
    assert_eq!(retry(&here, &ids).await, [RetryVerdict::Ready]);
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (ids[0], 3));
    assert_eq!(worker.heartbeat([&held, &again]).await.unwrap().lost, []);
    assert_eq!(worker.succeed([&held, &again]).await, [Verdict::Stale, Verdict::Applied]);
    let notes = "SELECT count(*) FROM currant.cancel";
    eventually("the notes are gone", async || database.number(notes).await == 0).await;
}

#[tokio::test]
async fn a_retry_that_was_answered_survives_the_end_of_its_broker() {
    let database = Database::fresh().await;
    let settings = [("BROKER__NAME", "same"), ("BROKER__ADOPTION_GRACE_MS", "100")];
    let broker = Broker::start_with(&database, &settings).await;
    let ids = broker.enqueue([job("emails", b""), later()]).await;
    cancel(&broker, ids[0]).await;
    assert_eq!(retry(&broker, &ids).await, [RetryVerdict::Ready, RetryVerdict::Open]);
    broker.kill();
    let next = Broker::start_with(&database, &settings).await;
    let mut worker = TestWorker::subscribe(&next, &["emails"], 2).await;
    let again = worker.job().await;
    assert_eq!((again.job_id, again.attempt), (ids[0], 1));
    assert_eq!(worker.succeed([&again]).await, [Verdict::Applied]);
}

#[tokio::test]
async fn jobs_that_do_not_run_can_be_deleted() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let mut worker = TestWorker::subscribe(&broker, &["emails"], 3).await;
    let mut ids = broker.enqueue((0..3).map(|_| job("emails", b""))).await;
    let held = worker.take(3).await;
    worker.set_credit(0).await;
    ids.extend(broker.enqueue([later(), job("others", b"")]).await);
    worker.succeed([&held[0]]).await;
    worker.report([&held[1]], discarded()).await;
    assert_eq!(delete(&broker, &ids).await, {
        let deleted = DeleteVerdict::Deleted;
        [deleted, deleted, DeleteVerdict::Running, deleted, deleted]
    });
    assert_eq!(delete(&broker, &ids[..1]).await, [DeleteVerdict::NotFound], "it can be repeated");
    let status =
        broker.jobs().get(GetRequest { job_id: ids[0], ..Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 1);
    // A cancelled job goes even while its worker hasn't stopped.
    cancel(&broker, ids[2]).await;
    assert_eq!(delete(&broker, &ids[2..3]).await, [DeleteVerdict::Deleted]);
    assert_eq!(worker.succeed([&held[2]]).await, [Verdict::NotFound]);
    let mut other = TestWorker::subscribe(&broker, &["emails", "others"], 3).await;
    other.no_job_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_bad_retry_or_delete_is_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    for (ids, limit) in
        [(vec![], "1 to 1000; this has 0"), (vec![1; 1001], "1 to 1000; this has 1001")]
    {
        let request = RetryRequest { job_ids: ids.clone(), ..Default::default() };
        let status = broker.jobs().retry(request).await.unwrap_err();
        assert_invalid(&status, "job_ids", limit);
        let status = broker
            .jobs()
            .delete(DeleteRequest { job_ids: ids, ..Default::default() })
            .await
            .unwrap_err();
        assert_invalid(&status, "job_ids", limit);
    }
    let strange = [0, -1, i64::MAX, i64::MIN];
    assert_eq!(retry(&broker, &strange).await, [RetryVerdict::NotFound; 4]);
    assert_eq!(delete(&broker, &strange).await, [DeleteVerdict::NotFound; 4]);
}
