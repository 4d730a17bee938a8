//! The client's calls, one, many and on a stream.

use std::time::{Duration, SystemTime};

use currant_worker_sdk::{
    CancelVerdict, Client, DeleteVerdict, Error, JobId, JobState, NewJob, RetryVerdict,
};

use super::client;
use crate::support::{Broker, Database};

fn numbered(number: usize) -> NewJob {
    NewJob::raw("emails", "work", number.to_string())
}

#[tokio::test]
async fn jobs_of_one_call_are_stored_in_their_order() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let ids = client.enqueue_many((0..100).map(numbered)).await.unwrap();
    assert!(ids.is_sorted() && ids.len() == 100);
    for number in [0, 57, 99] {
        let job = client.get(ids[number]).await.unwrap();
        assert_eq!(job.payload, number.to_string());
        assert_eq!((job.state, &*job.queue, &*job.kind), (JobState::Ready, "emails", "work"));
    }
    assert_eq!(client.enqueue_many([]).await.unwrap(), []);
}

#[tokio::test]
async fn a_job_may_wait_for_its_time() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let day = Duration::from_secs(86400);
    let delayed = client.enqueue(numbered(1).delay(day)).await.unwrap();
    let timed = client.enqueue(numbered(2).run_at(SystemTime::UNIX_EPOCH + 20_000 * day)).await;
    let delayed = client.get(delayed).await.unwrap();
    let wait = delayed.run_at.unwrap().duration_since(delayed.created_at.unwrap()).unwrap();
    assert_eq!((delayed.state, wait.as_secs()), (JobState::Scheduled, 86400));
    let past = client.get(timed.unwrap()).await.unwrap();
    assert_eq!(past.state, JobState::Ready, "a time that has passed means at once");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let bad = client.enqueue_many([numbered(0), numbered(1).priority(1000)]).await.unwrap_err();
    let Error::InvalidArgument { violations, .. } = &bad else { panic!("{bad:?}") };
    assert_eq!(violations[0].field, "jobs[1].priority");
    assert!(matches!(client.get(JobId(1)).await, Err(Error::NotFound { .. })));
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
}

#[tokio::test]
async fn one_bad_request_of_a_stream_fails_alone() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let stream = client(&broker).await.enqueue_stream();
    let mut sent = Vec::new();
    for number in 0..200 {
        let priority = if number == 77 { 1000 } else { 0 };
        sent.push(stream.send([numbered(number).priority(priority)]).await.unwrap());
    }
    for (number, answer) in sent.into_iter().enumerate() {
        match answer.await {
            Ok(ids) => assert_eq!(ids.len(), 1),
            Err(error) => assert!(number == 77 && matches!(error, Error::InvalidArgument { .. })),
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 199);
}

/// A message beyond the limit ends the stream itself.
#[tokio::test]
async fn a_request_that_is_too_large_fails_alone() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let stream = client(&broker).await.enqueue_stream();
    let mut sent = Vec::new();
    for number in 0..100 {
        let bytes = if number == 33 { 5 << 20 } else { 10 };
        let job = NewJob::raw("emails", "work", vec![0; bytes]);
        sent.push(stream.send([job]).await.unwrap());
    }
    for (number, answer) in sent.into_iter().enumerate() {
        let answer = answer.await;
        assert_eq!(answer.is_err(), number == 33, "{number}: {answer:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 99);
}

#[tokio::test]
async fn a_call_with_a_key_of_ones_own_is_stored_once() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let first = client(&broker).await.enqueue_once("order-7", (0..3).map(numbered)).await.unwrap();
    // Another process, which isn't told what the first one was told.
    let client = client(&broker).await;
    let again = client.enqueue_once("order-7", (0..3).map(numbered)).await.unwrap();
    let wrong = client.enqueue_once("order-7", (0..2).map(numbered)).await;
    assert!(matches!(wrong, Err(Error::InvalidArgument { .. })));
    let other = client.enqueue_once("order-8", [numbered(0)]).await.unwrap();
    assert_eq!((first.len(), &again), (3, &first));
    assert!(!first.contains(&other[0]));
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 4);
}

#[tokio::test]
async fn a_client_gives_up_at_its_deadline() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client: Client = client(&broker).await.deadline(Duration::from_millis(300));
    broker.kill();
    let error = client.enqueue(numbered(0)).await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error:?}");
    let sent = client.enqueue_stream().send([numbered(0)]).await.unwrap();
    let error = sent.await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error:?}");
}

#[tokio::test]
async fn thousands_of_jobs_are_changed_by_one_call_each() {
    const JOBS: usize = 2500;
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let ids = client.enqueue_many((0..JOBS).map(numbered)).await.unwrap();
    let all = || ids.iter().copied().chain([JobId(7)]);
    let cancelled = client.cancel_many(all()).await.unwrap();
    assert_eq!(cancelled[..JOBS], [CancelVerdict::Cancelled; JOBS]);
    assert_eq!(cancelled[JOBS..], [CancelVerdict::NotFound]);
    let retried = client.retry_many(all()).await.unwrap();
    assert_eq!(retried[..JOBS], [RetryVerdict::Ready; JOBS]);
    assert_eq!(retried[JOBS..], [RetryVerdict::NotFound]);
    assert_eq!(client.retry(ids[0]).await.unwrap(), RetryVerdict::Open);
    assert_eq!(client.get(ids[JOBS - 1]).await.unwrap().state, JobState::Ready);
    assert_eq!(client.delete(ids[0]).await.unwrap(), DeleteVerdict::Deleted);
    let deleted = client.delete_many(all()).await.unwrap();
    assert_eq!(deleted[0], DeleteVerdict::NotFound);
    assert_eq!(deleted[1..JOBS], [DeleteVerdict::Deleted; JOBS - 1]);
    assert_eq!(database.number("SELECT count(*) FROM currant.job").await, 0);
    assert_eq!(client.cancel_many([]).await.unwrap(), []);
}

#[tokio::test]
async fn settings_that_an_update_does_not_touch_stay() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let created = client.update_queue("emails", |settings| settings.priority = Some(7)).await;
    assert_eq!(created.unwrap().settings.priority, Some(7));
    let limited = client.update_queue("emails", |settings| settings.concurrency_max = Some(2));
    let settings = limited.await.unwrap().settings;
    assert_eq!((settings.priority, settings.concurrency_max), (Some(7), Some(2)));
    assert_eq!(client.queue("emails").await.unwrap().settings, settings);
    let wrong = client.update_queue("emails", |settings| settings.priority = Some(101)).await;
    assert!(matches!(wrong, Err(Error::InvalidArgument { .. })), "{wrong:?}");
}
