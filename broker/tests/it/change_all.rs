//! Cancel, retry and delete of all jobs that a filter finds.

use std::collections::HashSet;

use currant_proto::v1::{
    CancelRequest, CancelVerdict, Change, ChangeAllRequest, ChangeAllResponse, DeleteRequest,
    DeleteVerdict, GetRequest, JobFilter, JobState, NewJob, RetryRequest, RetryVerdict,
    job_service_client::JobServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    list::{all, discarded, ids, in_state},
    support::{Broker, Database, TestWorker, assert_full, assert_invalid, eventually, job},
};

async fn change(
    broker: &Broker,
    filter: JobFilter,
    change: Change,
    page_token: &str,
) -> Result<Vec<ChangeAllResponse>, Status> {
    let request = ChangeAllRequest {
        filter: Some(filter),
        change: change.into(),
        page_token: page_token.to_owned(),
    };
    let mut stream = broker.jobs().change_all(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// The last message: found, changed.
async fn done(broker: &Broker, filter: JobFilter, kind: Change) -> (u64, u64) {
    let messages = change(broker, filter, kind, "").await.unwrap();
    let last = messages.last().unwrap();
    assert_eq!(last.page_token, "");
    (last.found, last.changed)
}

/// So many dead jobs of queue `q`, a third of them of kind `other`.
async fn dead(broker: &Broker, jobs: usize) {
    let mut worker = TestWorker::subscribe(broker, &["q"], 10_000).await;
    let kind = |n: usize| if n.is_multiple_of(3) { "other" } else { "test" };
    let job = |n| NewJob { kind: kind(n).to_owned(), ..job("q", b"") };
    broker.enqueue((0..jobs).map(job)).await;
    let held = worker.take(jobs).await;
    // What is ready later isn't for this worker, whose stream ends when the broker hears of it.
    worker.set_credit(0).await;
    worker.report(&held, discarded("no such address")).await;
}

#[tokio::test]
async fn dead_jobs_are_retried_and_deleted_by_filter_and_it_says_how_far_it_is() {
    const JOBS: usize = 1500;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    dead(&broker, JOBS).await;
    let other = JobFilter {
        kind: "other".to_owned(),
        error: "ADDRESS".to_owned(),
        ..in_state("q", JobState::Dead)
    };
    assert_eq!(done(&broker, other.clone(), Change::Retry).await, (500, 500));
    assert_eq!(ids(&broker, in_state("q", JobState::Ready)).await.len(), 500);
    assert_eq!(done(&broker, other, Change::Retry).await, (0, 0), "it can be repeated");
    let messages =
        change(&broker, in_state("q", JobState::Dead), Change::Delete, "").await.unwrap();
    let found: Vec<u64> = messages.iter().map(|one| one.found).collect();
    assert!(messages.len() >= 2 && found.is_sorted(), "{found:?}");
    assert_eq!(messages.last().unwrap().changed, 1000);
    assert_eq!(ids(&broker, all("q")).await.len(), 500);
    // They run again, and wait no longer.
    let mut worker = TestWorker::subscribe(&broker, &["q"], 10).await;
    let running: HashSet<i64> = worker.take(10).await.iter().map(|job| job.job_id).collect();
    assert_eq!(done(&broker, all("q"), Change::Delete).await.0, 500);
    let left = ids(&broker, all("q")).await;
    assert!(running.iter().all(|id| left.contains(id)), "what runs stays");
    assert_eq!(done(&broker, all("q"), Change::Cancel).await.1, left.len() as u64);
    let mut counted = 0.0;
    for verdict in ["cancelled", "requested"] {
        let metric = format!("currant_cancels_total{{verdict=\"{verdict}\"}}");
        counted += broker.metric(&metric).await.unwrap_or_default();
    }
    assert_eq!(counted, left.len() as f64);
    assert_eq!(done(&broker, all("q"), Change::Delete).await.1, left.len() as u64);
    for table in ["job", "dead_job", "failure"] {
        let sql = format!("SELECT count(*) FROM currant.{table}");
        assert_eq!(database.number(&sql).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_change_that_broke_off_goes_on_at_another_broker() {
    let database = Database::fresh().await;
    let here = Broker::start(&database).await;
    let there = Broker::start(&database).await;
    dead(&here, 1200).await;
    let request = ChangeAllRequest {
        filter: Some(in_state("q", JobState::Dead)),
        change: Change::Retry.into(),
        page_token: String::new(),
    };
    let mut stream = here.jobs().change_all(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.found, first.changed), (500, 500));
    here.kill();
    let filter = in_state("q", JobState::Dead);
    let rest = change(&there, filter, Change::Retry, &first.page_token).await.unwrap();
    let last = rest.last().unwrap();
    assert!(last.found <= 700 && last.changed == last.found, "{last:?}");
    assert_eq!(ids(&there, in_state("q", JobState::Dead)).await, [0_i64; 0]);
    assert_eq!(database.number("SELECT count(*) FROM currant.dead_job").await, 0);
}

#[tokio::test]
async fn such_calls_are_bounded_and_bad_ones_are_refused() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    broker.enqueue((0..2000).map(|_| job("q", b""))).await;
    let request = ChangeAllRequest {
        filter: Some(all("q")),
        change: Change::Retry.into(),
        page_token: String::new(),
    };
    // None of them gets far while the table is locked.
    let mut client = database.connect().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE currant.job").await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(broker.jobs().change_all(request.clone()).await.unwrap().into_inner());
    }
    let one_more = async || broker.jobs().change_all(request.clone()).await;
    assert_full(&one_more().await.unwrap_err());
    lock.rollback().await.unwrap();
    for mut stream in streams {
        let mut last = ChangeAllResponse::default();
        while let Some(message) = stream.message().await.unwrap() {
            last = message;
        }
        assert_eq!((last.found, last.changed, &*last.page_token), (2000, 0, ""));
    }
    eventually("there is room again", async || one_more().await.is_ok()).await;
    let status = change(&broker, all("q"), Change::Unspecified, "").await.unwrap_err();
    assert_invalid(&status, "change", "cancel, retry or delete");
    let status = change(&broker, all("q"), Change::Retry, "x").await.unwrap_err();
    assert_invalid(&status, "page_token", "the one of an answer to a request like this");
    let status = change(&broker, all("nowhere"), Change::Retry, "").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

async fn get_with(
    jobs: &mut JobServiceClient<Channel>,
    job_id: i64,
    queue: &str,
) -> Result<i64, Status> {
    let request = GetRequest { job_id, queue: queue.to_owned() };
    Ok(jobs.get(request).await?.into_inner().job.unwrap().job_id)
}

#[tokio::test]
async fn calls_that_name_the_queue_find_what_is_in_it() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let ids = broker.enqueue([job("q", b""), job("q", b""), job("other", b"")]).await;
    let queue = || "q".to_owned();
    let mut jobs = broker.jobs();
    assert_eq!(get_with(&mut jobs, ids[0], "q").await.unwrap(), ids[0]);
    assert_eq!(get_with(&mut jobs, ids[2], "q").await.unwrap_err().code(), Code::NotFound);
    let status = get_with(&mut jobs, ids[0], "nowhere").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_invalid(&get_with(&mut jobs, ids[0], "?").await.unwrap_err(), "queue", "1 to 128");
    let request = CancelRequest { job_ids: ids.clone(), queue: queue() };
    let answer = jobs.cancel(request).await.unwrap().into_inner();
    let cancelled = CancelVerdict::Cancelled;
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), {
        [cancelled, cancelled, CancelVerdict::NotFound]
    });
    let request = RetryRequest { job_ids: ids[1..].to_vec(), queue: queue() };
    let answer = jobs.retry(request).await.unwrap().into_inner();
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), {
        [RetryVerdict::Ready, RetryVerdict::NotFound]
    });
    let request = DeleteRequest { job_ids: ids.clone(), queue: queue() };
    let answer = jobs.delete(request).await.unwrap().into_inner();
    let deleted = DeleteVerdict::Deleted;
    assert_eq!(answer.verdicts().collect::<Vec<_>>(), {
        [deleted, deleted, DeleteVerdict::NotFound]
    });
}
