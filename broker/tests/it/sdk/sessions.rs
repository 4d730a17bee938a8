//! How many jobs a worker runs, when it stops them, and how it ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use currant_proto::v1::{CompleteRequest, Completion, Succeeded, completion::Outcome};
use currant_worker_sdk::{
    Bytes, CancellationToken, Job, JobState, NewJob, Verdict, Worker, WorkerError,
};
use tokio::sync::{Semaphore, mpsc};

use super::{Gauge, QUICK, client, in_state, worker};
use crate::support::{Broker, Database, PATIENCE, eventually};

fn jobs(count: usize) -> impl Iterator<Item = NewJob> {
    (0..count).map(|_| NewJob::raw("emails", "work", ""))
}

/// Handlers that wait until they may go on.
#[derive(Clone)]
struct Gate {
    inside: Gauge,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Gate {
        Gate { inside: Gauge::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    fn worker(&self, broker: &Broker) -> currant_worker_sdk::WorkerBuilder {
        let gate = self.clone();
        worker(broker).raw_handler("work", move |job: Job<Bytes>| {
            let gate = gate.clone();
            async move {
                gate.inside.enter();
                gate.permits.acquire().await?.forget();
                gate.inside.leave();
                Ok(job.payload)
            }
        })
    }

    async fn holds(&self, count: usize) {
        eventually(&format!("{count} jobs run"), async || self.inside.now() == count).await;
    }

    fn open(&self, count: usize) {
        self.permits.add_permits(count);
    }
}

#[tokio::test]
async fn jobs_find_a_worker_there_that_is_ready() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let gate = Gate::closed();
    let mut running = gate.worker(&broker).build().unwrap().start();
    running.ready().await.unwrap();
    client(&broker).await.enqueue_many(jobs(10)).await.unwrap();
    // Those of the backlog are claimed.
    let claimed = "SELECT count(*) FROM currant.job WHERE phase <> 2 OR claimed_at IS NOT NULL";
    assert_eq!(database.number(claimed).await, 0);
    // More than a session may hold.
    let refused = gate.worker(&broker).prefetch(20_000).build().unwrap();
    assert!(refused.start().ready().await.is_err());
    gate.open(10);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn concurrency_is_reached_and_never_exceeded() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let gate = Gate::closed();
    let running = gate.worker(&broker).concurrency(5).prefetch(20).build().unwrap().start();
    let ids = client.enqueue_many(jobs(60)).await.unwrap();
    gate.holds(5).await;
    gate.open(60);
    for id in ids {
        in_state(&client, id, JobState::Succeeded).await;
    }
    assert_eq!(gate.inside.most(), 5);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_token_fires_when_the_lease_is_lost() {
    let database = Database::fresh().await;
    let broker = Broker::start_with(&database, &QUICK).await;
    let client = client(&broker).await;
    let (tell, mut stopped) = mpsc::channel(2);
    let running = worker(&broker)
        .raw_handler("work", move |job: Job<Bytes>| {
            let tell = tell.clone();
            async move {
                tell.send("started").await?;
                job.cancellation.cancelled().await;
                tell.send("stopped").await?;
                Ok("too late".into())
            }
        })
        .build()
        .unwrap()
        .start();
    let id = client.enqueue(jobs(1).next().unwrap()).await.unwrap();
    assert_eq!(stopped.recv().await, Some("started"));
    // Somebody else ends the attempt; the worker's next heartbeat is told.
    let outcome = Some(Outcome::Succeeded(Succeeded { result: "elsewhere".into() }));
    let completions = vec![Completion { job_id: id.0, attempt: 1, outcome }];
    let request = CompleteRequest { completions, ..CompleteRequest::default() };
    broker.workers().complete(request).await.unwrap();
    assert_eq!(stopped.recv().await, Some("stopped"));
    running.shutdown().await.unwrap();
    assert_eq!(&*client.get(id).await.unwrap().result, b"elsewhere");
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs_and_gives_back_what_waits() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let gate = Gate::closed();
    let running = gate.worker(&broker).concurrency(2).prefetch(10).build().unwrap().start();
    let ids = client.enqueue_many(jobs(12)).await.unwrap();
    gate.holds(2).await;
    let ended = tokio::spawn(running.shutdown());
    for id in &ids[2..] {
        let job = in_state(&client, *id, JobState::Ready).await;
        assert_eq!(job.failures, 0);
    }
    gate.open(2);
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap().unwrap();
    for id in &ids[..2] {
        let job = client.get(*id).await.unwrap();
        assert_eq!((job.state, job.attempt, job.failures), (JobState::Succeeded, 1, 0));
    }

    let next = gate.worker(&broker).build().unwrap().start();
    gate.open(10);
    for id in &ids[2..] {
        assert_eq!(in_state(&client, *id, JobState::Succeeded).await.failures, 0);
    }
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_under_load_leaves_no_job_taken() {
    let database = Database::fresh().await;
    // What were left behind would stay so for longer than the test waits.
    let settings = [QUICK[0], ("SESSION__RECONNECT_GRACE_MS", "60000")];
    let broker = Broker::start_with(&database, &settings).await;
    let client = client(&broker).await;
    let done = "SELECT count(*) FROM currant.job WHERE outcome IS NOT NULL";
    let taken = "SELECT count(*) FROM currant.job WHERE phase = 2 AND outcome IS NULL";
    for _ in 0..3 {
        let before = database.number(done).await;
        let handler = |job: Job<Bytes>| async move {
            tokio::task::yield_now().await;
            Ok(job.payload)
        };
        let worker = worker(&broker).concurrency(20).raw_handler("work", handler);
        let running = worker.build().unwrap().start();
        client.enqueue_many(jobs(3000)).await.unwrap();
        eventually("some are done", async || database.number(done).await > before + 100).await;
        running.shutdown().await.unwrap();
        eventually("none is taken", async || database.number(taken).await == 0).await;
    }
    assert_eq!(database.number("SELECT max(failures)::bigint FROM currant.job").await, 0);
}

#[tokio::test]
async fn a_shutdown_stops_what_runs_too_long_and_gives_it_back() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let client = client(&broker).await;
    let gate = Gate::closed();
    let time = Duration::from_millis(50);
    let running = gate.worker(&broker).shutdown_timeout(time).build().unwrap().start();
    let id = client.enqueue_many(jobs(1)).await.unwrap()[0];
    gate.holds(1).await;
    running.shutdown().await.unwrap();
    let job = client.get(id).await.unwrap();
    assert_eq!((job.state, job.failures), (JobState::Ready, 0));
}

#[tokio::test]
async fn a_worker_that_the_broker_refuses_ends_with_the_reason() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let gate = Gate::closed();
    let worker = gate.worker(&broker).prefetch(1_000_000).build().unwrap();
    let ended = worker.run(CancellationToken::new()).await.unwrap_err();
    let WorkerError::Refused(reason) = &ended else { panic!("{ended:?}") };
    assert!(reason.to_string().contains("max_in_flight"), "{reason}");
}

#[tokio::test]
async fn a_worker_without_a_broker_still_shuts_down() {
    let worker = Worker::builder("http://127.0.0.1:1").queue("emails");
    let handler = |job: Job<Bytes>| async move { Ok(job.payload) };
    let running = worker.raw_handler("work", handler).build().unwrap().start();
    let ended = tokio::time::timeout(PATIENCE, running.shutdown()).await;
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn a_handler_may_run_for_longer_than_a_silent_session_lives() {
    let database = Database::fresh().await;
    let settings = [("SESSION__HEARTBEAT_INTERVAL_MS", "100"), ("SESSION__TIMEOUT_MS", "500")];
    let broker = Broker::start_with(&database, &settings).await;
    let client = client(&broker).await;
    let verdicts = Arc::new(Mutex::new(Vec::new()));
    let answered = Arc::clone(&verdicts);
    let running = worker(&broker)
        .raw_handler("work", |job: Job<Bytes>| async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            Ok(job.payload)
        })
        .on_verdict(move |_, verdicts| answered.lock().unwrap().extend_from_slice(verdicts))
        .build()
        .unwrap()
        .start();
    let id = client.enqueue_many(jobs(1)).await.unwrap()[0];
    let job = in_state(&client, id, JobState::Succeeded).await;
    assert_eq!((job.attempt, job.failures), (1, 0));
    running.shutdown().await.unwrap();
    assert_eq!(*verdicts.lock().unwrap(), [Verdict::Applied]);
}
