//! Progress and checkpoints of handlers.

use std::{sync::Arc, time::Duration};

use currant_worker_sdk::{Error, HandlerError, Job, JobState, NewJob, RetryPolicy};

use super::{client, in_state, worker};
use crate::support::{Broker, Database, PATIENCE, eventually};

/// Counts to ten, and fails at five the first time.
async fn count(job: Job<()>) -> Result<(u32, u32), HandlerError> {
    let begin = match job.last_checkpoint().await? {
        None => 0,
        Some(state) => String::from_utf8_lossy(&state).parse()?,
    };
    for step in begin..10_u16 {
        if step == 5 && begin == 0 {
            return Err(HandlerError::new("five is too much"));
        }
        job.progress(f32::from(step + 1) * 10.0, format!("step {step}"));
        job.checkpoint((step + 1).to_string()).await?;
    }
    Ok((u32::from(begin), job.attempt))
}

#[tokio::test]
async fn an_attempt_goes_on_from_the_checkpoint_of_the_one_before() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let running = worker(&broker).handler("count", count).build().unwrap().start();
    let policy = RetryPolicy::exponential(Duration::from_millis(10));
    let job = NewJob::json("emails", "count", &()).unwrap().retry(policy);
    let id = client.enqueue(job).await.unwrap();
    let stored = in_state(&client, id, JobState::Succeeded).await;
    assert_eq!(stored.outcome::<(u32, u32)>().unwrap().0, 5);
    let progress = stored.progress.expect("it was reported");
    assert_eq!((progress.percent, &*progress.message), (Some(100.0), "step 9"));
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_the_progress_that_a_handler_reports() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let (go_on, heard) = tokio::sync::mpsc::channel(1);
    let heard = Arc::new(tokio::sync::Mutex::new(heard));
    let running = worker(&broker)
        .handler("steps", move |job: Job<Vec<f32>>| {
            let heard = Arc::clone(&heard);
            async move {
                let mut heard = heard.lock().await;
                for &percent in &job.payload {
                    heard.recv().await;
                    job.progress(percent, format!("row {percent}"));
                }
                heard.recv().await;
                Ok::<_, HandlerError>(())
            }
        })
        .build()
        .unwrap()
        .start();
    let job = NewJob::json("emails", "steps", &[25, 75]).unwrap();
    let id = client.enqueue(job).await.unwrap();
    let mut watch = client.watch(id);
    let mut next = async || {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await;
        next.expect("nothing is told").unwrap().expect("it isn't over")
    };
    let mut job = next().await;
    while job.state != JobState::Running {
        job = next().await;
    }
    assert_eq!(job.progress, None);
    for percent in [25.0, 75.0] {
        go_on.send(()).await.unwrap();
        let job = next().await;
        let progress = job.progress.expect("a change of it is told");
        let said = (progress.attempt, progress.percent, progress.message);
        assert_eq!((job.state, said.0), (JobState::Running, job.attempt));
        assert_eq!((said.1, said.2), (Some(percent), format!("row {percent}")));
    }
    go_on.send(()).await.unwrap();
    let job = next().await;
    assert_eq!((job.state, job.progress.unwrap().percent), (JobState::Succeeded, Some(75.0)));
    assert_eq!(watch.next().await.unwrap(), None);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_handler_whose_attempt_is_lost_is_told_by_its_checkpoint() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let running = worker(&broker)
        .handler("loop", move |job: Job<()>| {
            let told = told.clone();
            async move {
                loop {
                    match job.checkpoint("x").await {
                        Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
                        Err(error) => {
                            told.send(matches!(error, Error::Lost)).await.unwrap();
                            return Err::<(), _>(error.into());
                        }
                    }
                }
            }
        })
        .build()
        .unwrap()
        .start();
    let id = client.enqueue(NewJob::json("emails", "loop", &()).unwrap()).await.unwrap();
    eventually("it has a checkpoint", async || {
        database.number("SELECT count(*) FROM currant.progress").await == 1
    })
    .await;
    client.cancel(id).await.unwrap();
    assert_eq!(heard.recv().await, Some(true));
    let large = vec![0; 32_769];
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    running.shutdown().await.unwrap();
    let running = worker(&broker)
        .handler("large", move |job: Job<()>| {
            let (told, large) = (told.clone(), large.clone());
            async move {
                let error = job.checkpoint(large).await.unwrap_err();
                told.send(error.to_string()).await.unwrap();
                Ok(())
            }
        })
        .build()
        .unwrap()
        .start();
    client.enqueue(NewJob::json("emails", "large", &()).unwrap()).await.unwrap();
    let error = heard.recv().await.unwrap();
    assert!(error.contains("at most 32768 bytes"), "{error}");
    running.shutdown().await.unwrap();
}
