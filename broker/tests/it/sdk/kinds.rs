//! How many jobs of a kind run at the same time.

use std::sync::Arc;

use currant_worker_sdk::{CancelVerdict, Job, JobState, NewJob, WorkerBuilder};
use tokio::sync::Semaphore;

use super::{Gauge, client, in_state, worker};
use crate::support::{Broker, Database, eventually};

/// Jobs of the kind `slow` run until they are let go; those of `quick` are done at once.
#[derive(Clone)]
struct Slow {
    gauge: Gauge,
    gate: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Slow {
        Slow { gauge: Gauge::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn handlers(&self, worker: WorkerBuilder) -> WorkerBuilder {
        let slow = self.clone();
        worker.handler("quick", |_: Job<()>| async { Ok(()) }).handler("slow", move |_: Job<()>| {
            let slow = slow.clone();
            async move {
                slow.gauge.enter();
                let permit = slow.gate.acquire().await;
                slow.gauge.leave();
                permit?.forget();
                Ok(())
            }
        })
    }
}

fn jobs(kind: &'static str, count: usize) -> impl Iterator<Item = NewJob> {
    (0..count).map(move |_| NewJob::json("emails", kind, &()).unwrap())
}

#[tokio::test]
async fn jobs_of_a_full_kind_wait_and_those_of_other_kinds_pass() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let slow = Slow::new();
    let running =
        slow.handlers(worker(&broker)).kind_concurrency("slow", 2).build().unwrap().start();
    let held = client.enqueue_many(jobs("slow", 7)).await.unwrap();
    for id in client.enqueue_many(jobs("quick", 50)).await.unwrap() {
        in_state(&client, id, JobState::Succeeded).await;
    }
    eventually("two run", async || slow.gauge.now() == 2).await;
    slow.gate.add_permits(7);
    for id in held {
        let job = in_state(&client, id, JobState::Succeeded).await;
        assert_eq!((job.attempt, job.failures), (1, 0), "it stayed in the worker");
    }
    assert_eq!(slow.gauge.most(), 2);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_kind_that_takes_all_credit_is_put_off_and_is_no_failure() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let slow = Slow::new();
    let worker = slow.handlers(worker(&broker).concurrency(4).prefetch(2));
    let running = worker.kind_concurrency("slow", 1).build().unwrap().start();
    // Six are all that the worker takes; one runs and one may wait for long.
    let held = client.enqueue_many(jobs("slow", 8)).await.unwrap();
    for id in client.enqueue_many(jobs("quick", 3)).await.unwrap() {
        in_state(&client, id, JobState::Succeeded).await;
    }
    assert_eq!(slow.gauge.now(), 1);
    slow.gate.add_permits(8);
    let mut put_off = 0;
    for id in held {
        let job = in_state(&client, id, JobState::Succeeded).await;
        assert_eq!(job.failures, 0);
        put_off += usize::from(job.attempt > 1);
    }
    assert!((3..=6).contains(&put_off), "{put_off} were put off");
    assert_eq!(slow.gauge.most(), 1);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_waits_for_its_kind_is_cancelled_and_given_back_like_all_that_waits() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let slow = Slow::new();
    let running =
        slow.handlers(worker(&broker)).kind_concurrency("slow", 1).build().unwrap().start();
    let ids = client.enqueue_many(jobs("slow", 3)).await.unwrap();
    eventually("one runs", async || slow.gauge.now() == 1).await;
    assert_eq!(client.cancel(ids[1]).await.unwrap(), CancelVerdict::Requested);
    in_state(&client, ids[1], JobState::Cancelled).await;
    let shutdown = tokio::spawn(running.shutdown());
    assert_eq!(in_state(&client, ids[2], JobState::Ready).await.failures, 0);
    slow.gate.add_permits(1);
    shutdown.await.unwrap().unwrap();
    assert_eq!(client.get(ids[0]).await.unwrap().state, JobState::Succeeded);
    assert_eq!(slow.gauge.most(), 1);
}
