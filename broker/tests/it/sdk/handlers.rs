//! What handlers get, and what becomes of what they return.

use std::time::Duration;

use currant_worker_sdk::{
    Bytes, CancelVerdict, HandlerError, Job, JobId, JobState, NewJob, RetryPolicy, WorkerBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{client, in_state, worker};
use crate::support::{Broker, Database};

#[derive(Serialize, Deserialize)]
struct Email {
    to: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sent {
    characters: usize,
}

fn email() -> NewJob {
    NewJob::json("emails", "send", &Email { to: "ada@example.org".into() }).unwrap()
}

/// Retried at once.
fn impatient(job: NewJob) -> NewJob {
    job.retry(RetryPolicy::exponential(Duration::from_millis(1)))
}

/// One job through one worker; the job as stored in the end.
async fn run(
    job: NewJob,
    state: JobState,
    handlers: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
) -> currant_worker_sdk::StoredJob {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = handlers(worker(&broker)).build().unwrap().start();
    let id = client.enqueue(job).await.unwrap();
    let stored = in_state(&client, id, state).await;
    running.shutdown().await.unwrap();
    stored
}

#[tokio::test]
async fn a_typed_handler_reads_the_payload_and_its_output_is_kept() {
    let stored = run(email(), JobState::Succeeded, |worker| {
        worker.handler("send", |job: Job<Email>| async move {
            tokio::task::yield_now().await;
            Ok(Sent { characters: job.payload.to.len() })
        })
    })
    .await;
    assert_eq!(stored.result_json::<Sent>().unwrap(), Sent { characters: 15 });
    assert_eq!((stored.attempt, stored.failures), (1, 0));
}

#[tokio::test]
async fn a_raw_handler_takes_and_returns_any_bytes() {
    let payload = Bytes::from_static(&[0, 255, 13, 10]);
    let stored = run(NewJob::raw("emails", "bytes", payload), JobState::Succeeded, |worker| {
        worker.raw_handler("bytes", |job: Job<Bytes>| async move {
            Ok(job.payload.iter().rev().copied().collect())
        })
    })
    .await;
    assert_eq!(&*stored.result, [10, 13, 255, 0]);
}

#[tokio::test]
async fn a_handler_sees_what_the_client_said() {
    let job = email()
        .priority(-7)
        .max_attempts(9)
        .timeout(Duration::from_secs(60))
        .tag("welcome")
        .traceparent("00-11-22-01");
    let (seen, mut jobs) = mpsc::channel(1);
    let stored = run(job, JobState::Succeeded, |worker| {
        worker.handler("send", move |job: Job<Email>| {
            let seen = seen.clone();
            async move {
                seen.send(job).await?;
                Ok(())
            }
        })
    })
    .await;
    let job = jobs.recv().await.unwrap();
    assert_eq!((job.id, job.attempt, &*job.queue, &*job.kind), (stored.id, 1, "emails", "send"));
    assert_eq!((&*job.payload.to, &*job.content_type), ("ada@example.org", "application/json"));
    assert_eq!((job.priority, job.failures, job.max_attempts), (-7, 0, 9));
    assert_eq!(job.timeout, Some(Duration::from_secs(60)));
    assert_eq!((job.tags, &*job.traceparent), (vec!["welcome".to_owned()], "00-11-22-01"));
    assert!(stored.result.is_empty() && !job.cancellation.is_cancelled());
}

#[tokio::test]
async fn an_error_is_retried_and_kept() {
    let stored = run(impatient(email()), JobState::Succeeded, |worker| {
        worker.handler("send", |job: Job<Email>| async move {
            if job.failures < 2 {
                Err(std::io::Error::other("connection refused"))?;
            }
            Ok(())
        })
    })
    .await;
    assert_eq!((stored.failures, &*stored.error), (2, "connection refused"));
}

#[tokio::test]
async fn an_error_may_say_when_to_try_again() {
    let stored = run(email(), JobState::Scheduled, |worker| {
        worker.handler("send", |_: Job<Email>| async {
            Err::<(), _>(HandlerError::retry_after(Duration::from_secs(3600), "closed"))
        })
    })
    .await;
    let wait = stored.run_at.unwrap().duration_since(stored.created_at.unwrap()).unwrap();
    assert!(wait >= Duration::from_secs(3600), "{wait:?}");
    assert_eq!(stored.failures, 1);
}

#[tokio::test]
async fn a_discarded_job_is_dead_at_once() {
    let stored = run(email(), JobState::Dead, |worker| {
        worker.handler("send", |_: Job<Email>| async {
            Err::<(), _>(HandlerError::discard("not an address"))
        })
    })
    .await;
    assert_eq!((stored.attempt, stored.failures, &*stored.error), (1, 1, "not an address"));
}

#[tokio::test]
async fn a_snooze_and_a_release_are_no_failures() {
    let stored = run(email(), JobState::Succeeded, |worker| {
        worker.handler("send", |job: Job<Email>| async move {
            match job.attempt {
                1 => Err(HandlerError::snooze(Duration::from_millis(1))),
                2 => Err(HandlerError::release()),
                _ => Ok(()),
            }
        })
    })
    .await;
    assert_eq!((stored.attempt, stored.failures), (3, 0));
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() {
    let stored = run(impatient(email()), JobState::Succeeded, |worker| {
        worker.handler("send", |job: Job<Email>| {
            assert_ne!(job.failures, 0, "before the first step");
            async move {
                assert_ne!(job.failures, 1, "in the first step");
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_ne!(job.failures, 2, "after a wait");
                Ok(())
            }
        })
    })
    .await;
    assert_eq!((stored.attempt, stored.failures), (4, 3));
    assert!(stored.error.contains("panicked: ") && stored.error.contains("after a wait"));
}

#[tokio::test]
async fn a_kind_without_a_handler_fails_and_says_so() {
    let job = NewJob::raw("emails", "unheard", "").max_attempts(1);
    let stored =
        run(job, JobState::Dead, |worker| worker.handler("send", |_: Job<Email>| async { Ok(()) }))
            .await;
    assert_eq!(&*stored.error, "no handler for the kind \"unheard\"");
}

#[tokio::test]
async fn a_payload_of_another_type_fails_and_says_so() {
    let job = NewJob::json("emails", "send", &["not", "an", "email"]).unwrap().max_attempts(1);
    let stored =
        run(job, JobState::Dead, |worker| worker.handler("send", |_: Job<Email>| async { Ok(()) }))
            .await;
    assert!(stored.error.starts_with("payload: "), "{}", stored.error);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_a_failure_and_not_sent_for_ever() {
    let stored = run(NewJob::raw("emails", "large", ""), JobState::Dead, |worker| {
        worker.raw_handler("large", |_| async { Ok(vec![0; (1 << 20) + 1].into()) })
    })
    .await;
    assert!(stored.error.contains("1048577 bytes"), "{}", stored.error);
}

#[tokio::test]
async fn a_handler_that_runs_over_its_timeout_is_told_and_the_attempt_fails() {
    let (told, mut tokens) = mpsc::channel(1);
    let job = email().timeout(Duration::from_millis(100)).max_attempts(1);
    let stored = run(job, JobState::Dead, |worker| {
        worker.handler("send", move |job: Job<Email>| {
            let told = told.clone();
            async move {
                told.send(job.cancellation).await?;
                std::future::pending::<Result<(), HandlerError>>().await
            }
        })
    })
    .await;
    assert_eq!((stored.attempt, stored.failures), (1, 1));
    tokens.recv().await.unwrap().cancelled().await;
}

#[tokio::test]
async fn a_handler_is_told_that_its_job_was_cancelled_at_another_broker() {
    let database = Database::fresh().await;
    let (here, there) = (Broker::start(&database).await, Broker::start(&database).await);
    let (told, mut tokens) = mpsc::channel(1);
    let worker = worker(&there)
        .concurrency(1)
        .handler("send", move |job: Job<Email>| {
            let told = told.clone();
            async move {
                told.send(job.cancellation.clone()).await?;
                job.cancellation.cancelled().await;
                Err::<(), _>(HandlerError::new("stopped"))
            }
        })
        .build()
        .unwrap()
        .start();
    let client = client(&here).await;
    let ids = client.enqueue_many([email(), email()]).await.unwrap();
    for id in ids {
        let token = tokens.recv().await.unwrap();
        let verdicts = client.cancel_many([id, JobId(7)]).await.unwrap();
        assert_eq!(verdicts, [CancelVerdict::Requested, CancelVerdict::NotFound]);
        token.cancelled().await;
        let stored = client.get(id).await.unwrap();
        assert_eq!((stored.state, &*stored.error), (JobState::Cancelled, ""));
        assert_eq!(client.cancel(id).await.unwrap(), CancelVerdict::Cancelled);
    }
    worker.shutdown().await.unwrap();
}
