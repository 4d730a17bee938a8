#![allow(clippy::unwrap_used)]

use tower::{ServiceBuilder, timeout::TimeoutLayer};

use super::*;

fn job() -> NewJob {
    NewJob::json("emails", "send", "ada").unwrap()
}

fn message(ran: &Ran) -> &str {
    match &ran.outcome {
        Outcome::Failed { message, .. } | Outcome::Discarded { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handler_sees_the_job_and_its_outcome_progress_and_checkpoints_are_told() {
    let job = job().tag("a").metadata("b", "c").priority(3).traceparent("00-1-2-01");
    let ran = TestJob::new(job)
        .id(JobId(7))
        .after(3, 2)
        .checkpoint("5")
        .run(|job: Job<String>| async move {
            assert_eq!((job.id, job.attempt, job.failures), (JobId(7), 4, 2));
            assert_eq!((&*job.queue, &*job.kind, job.priority), ("emails", "send", 3));
            assert_eq!(
                (&*job.tags[0], &*job.metadata["b"], &*job.traceparent),
                ("a", "c", "00-1-2-01")
            );
            assert_eq!((job.max_attempts, &*job.content_type), (25, "application/json"));
            assert_eq!(job.last_checkpoint().await?.as_deref(), Some(&b"5"[..]));
            job.progress(120.0, "done");
            job.checkpoint("6").await?;
            assert!(job.checkpoint(vec![0; 32_769]).await.is_err());
            assert_eq!(job.last_checkpoint().await?.as_deref(), Some(&b"6"[..]));
            Ok(job.payload.len())
        })
        .await;
    assert_eq!(ran.result_json::<usize>(), 3);
    assert_eq!(ran.progress, [(100.0, "done".to_owned())]);
    assert_eq!(ran.checkpoints, [Bytes::from_static(b"6")]);
}

#[tokio::test]
async fn every_outcome_is_told_as_a_worker_would_report_it() {
    let run = |result: fn() -> Result<(), HandlerError>| {
        TestJob::new(job()).run(move |_: Job<String>| async move { result() })
    };
    assert_eq!(run(|| Ok(())).await.outcome, Outcome::Succeeded { result: Bytes::new() });
    run(|| Ok(())).await.result_json::<()>();
    let second = Duration::from_secs(1);
    let snoozed = run(|| Err(HandlerError::snooze(Duration::from_secs(1)))).await;
    assert_eq!(snoozed.outcome, Outcome::Snoozed { delay: second });
    assert_eq!(run(|| Err(HandlerError::release())).await.outcome, Outcome::Released);
    let failed =
        run(|| Err(HandlerError::retry_after(Duration::from_secs(1), "busy").class("c"))).await;
    let (class, message, details) = ("c".to_owned(), "busy".to_owned(), String::new());
    let expected = Outcome::Failed { class, message, details, retry_after: Some(second) };
    assert_eq!(failed.outcome, expected);
    let discarded = run(|| Err(HandlerError::discard("no"))).await;
    assert!(matches!(discarded.outcome, Outcome::Discarded { .. }));
    assert!(message_of_panic().await.contains("panicked: odd"));
    let other = NewJob::json("emails", "send", &1).unwrap();
    let unread = TestJob::new(other).run(|_: Job<String>| async { Ok(()) }).await;
    assert!(self::message(&unread).starts_with("payload: "));
}

async fn message_of_panic() -> String {
    let ran = TestJob::new(job()).run(|_: Job<String>| async { panic!("odd") as Result<(), _> });
    message(&ran.await).to_owned()
}

#[tokio::test]
#[should_panic(expected = "it has not succeeded: Released")]
async fn there_is_no_result_without_success() {
    let released = |_: Job<String>| async { Err::<(), _>(HandlerError::release()) };
    TestJob::new(job()).run(released).await.result_json::<()>();
}

#[tokio::test]
async fn a_cancel_and_a_timeout_reach_the_handler_and_are_told_apart() {
    let wait = |job: Job<String>| async move {
        job.cancellation.cancelled().await;
        Err::<(), _>(HandlerError::new("stopped"))
    };
    let test = TestJob::new(job());
    let cancellation = test.cancellation();
    let (ran, ()) = tokio::join!(test.run(wait), async { cancellation.cancel() });
    assert_eq!(ran.outcome, Outcome::Cancelled);
    let ran = TestJob::new(job().timeout(Duration::from_millis(10))).run(wait).await;
    assert!(matches!(&ran.outcome, Outcome::Failed { class, .. } if class == "timeout"), "{ran:?}");
}

#[tokio::test]
async fn a_workers_handler_runs_in_its_layers() {
    let worker = Worker::builder("http://127.0.0.1:1")
        .queue("emails")
        .handler("send", |job: Job<String>| async move {
            Ok((job.extensions.get::<u32>().copied(), job.payload))
        })
        .handler("stuck", |_: Job<()>| std::future::pending::<Result<(), HandlerError>>())
        .layer(TimeoutLayer::new(Duration::from_millis(10)))
        .layer(ServiceBuilder::new().map_request(|mut job: Job<Bytes>| {
            job.extensions.insert(5_u32);
            job
        }))
        .build()
        .unwrap();
    let ran = TestJob::new(job()).run_in(&worker).await;
    assert_eq!(ran.result_json::<(Option<u32>, String)>(), (Some(5), "ada".to_owned()));
    let stuck = NewJob::json("emails", "stuck", &()).unwrap();
    assert_eq!(message(&TestJob::new(stuck).run_in(&worker).await), "request timed out");
    let unheard = TestJob::new(NewJob::raw("emails", "unheard", "")).run_in(&worker).await;
    assert_eq!(message(&unheard), "no handler for the kind \"unheard\"");
}
