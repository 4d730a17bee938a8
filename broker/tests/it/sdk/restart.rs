//! What a broker's crash means to workers and clients: nothing but a pause.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use currant_worker_sdk::{
    Bytes, CancellationToken, Client, Enqueued, Job, JobId, JobState, NewJob, Verdict,
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{again, client, in_state, named, worker};
use crate::support::{Database, eventually};

fn jobs(count: usize) -> impl Iterator<Item = NewJob> {
    (0..count).map(|_| NewJob::raw("emails", "work", "x"))
}

/// How often each job has run.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<HashMap<JobId, usize>>>);

impl Runs {
    fn add(&self, id: JobId) {
        *self.0.lock().unwrap().entry(id).or_default() += 1;
    }

    fn jobs(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn assert_once(&self) {
        let twice = self.0.lock().unwrap().iter().filter(|(_, runs)| **runs > 1).count();
        assert_eq!(twice, 0, "jobs ran twice");
    }
}

#[tokio::test]
async fn a_worker_goes_on_with_what_it_holds_when_the_broker_is_killed_and_comes_back() {
    let database = Database::fresh().await;
    let broker = named(&database).await;
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let verdicts = Arc::new(Mutex::new(Vec::new()));
    let running = {
        let (runs, gate, verdicts) = (runs.clone(), Arc::clone(&gate), Arc::clone(&verdicts));
        worker(&broker)
            .concurrency(4)
            .prefetch(4)
            .raw_handler("work", move |job: Job<Bytes>| {
                runs.add(job.id);
                let (gate, stop) = (Arc::clone(&gate), job.cancellation);
                async move {
                    gate.acquire().await?.forget();
                    assert!(!stop.is_cancelled(), "it was told to stop");
                    Ok(job.payload)
                }
            })
            .on_verdict(move |_, answered| verdicts.lock().unwrap().extend_from_slice(answered))
            .build()
            .unwrap()
            .start()
    };
    let ids = client(&broker).await.enqueue_many(jobs(12)).await.unwrap();
    eventually("four jobs run", async || runs.jobs() == 4).await;
    let grpc = broker.grpc.clone();
    broker.kill();
    // Two finish while there is no broker: their outcomes are kept and sent again.
    gate.add_permits(2);
    eventually("the next two have started", async || runs.jobs() == 6).await;
    let broker = again(&database, &grpc).await;
    let client = client(&broker).await;
    eventually("the outcomes are answered", async || verdicts.lock().unwrap().len() >= 2).await;
    gate.add_permits(10);
    for id in ids {
        let job = in_state(&client, id, JobState::Succeeded).await;
        assert_eq!(job.failures, 0);
    }
    runs.assert_once();
    running.shutdown().await.unwrap();
    assert_eq!(*verdicts.lock().unwrap(), [Verdict::Applied; 12]);
}

#[tokio::test]
async fn under_load_a_crash_of_the_broker_runs_no_job_twice_and_loses_none() {
    let database = Database::fresh().await;
    let mut broker = named(&database).await;
    let runs = Runs::default();
    let seen = runs.clone();
    let running = worker(&broker)
        .concurrency(20)
        .raw_handler("work", move |job: Job<Bytes>| {
            seen.add(job.id);
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(job.payload)
            }
        })
        .build()
        .unwrap()
        .start();
    let ids = client(&broker).await.enqueue_many(jobs(1500)).await.unwrap();
    for crash in 1..=2 {
        eventually("a part has run", async || runs.jobs() > crash * 300).await;
        let grpc = broker.grpc.clone();
        broker.kill();
        broker = again(&database, &grpc).await;
    }
    let open = "SELECT count(*) FROM currant.job WHERE outcome IS NULL";
    eventually("every job is done", async || database.number(open).await == 0).await;
    let failed = "SELECT count(*) FROM currant.job WHERE outcome <> 1 OR failures > 0";
    assert_eq!(database.number(failed).await, 0);
    assert_eq!(runs.jobs(), ids.len());
    runs.assert_once();
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_while_the_broker_is_away_reports_once_it_is_back() {
    let database = Database::fresh().await;
    let broker = named(&database).await;
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::new(AtomicUsize::new(0));
    let (entered, pass) = (Arc::clone(&inside), Arc::clone(&gate));
    let stop = CancellationToken::new();
    let worker = worker(&broker)
        .concurrency(1)
        .raw_handler("work", move |job: Job<Bytes>| {
            entered.fetch_add(1, SeqCst);
            let pass = Arc::clone(&pass);
            async move {
                pass.acquire().await?.forget();
                Ok(job.payload)
            }
        })
        .build()
        .unwrap();
    let running = tokio::spawn(worker.run(stop.clone()));
    let ids = client(&broker).await.enqueue_many(jobs(2)).await.unwrap();
    eventually("one job runs", async || inside.load(SeqCst) == 1).await;
    let grpc = broker.grpc.clone();
    broker.kill();
    stop.cancel();
    let broker = again(&database, &grpc).await;
    let client = client(&broker).await;
    assert_eq!(in_state(&client, ids[1], JobState::Ready).await.failures, 0);
    gate.add_permits(1);
    running.await.unwrap().unwrap();
    assert_eq!(client.get(ids[0]).await.unwrap().state, JobState::Succeeded);
    assert_eq!(inside.load(SeqCst), 1);
}

/// Enqueues until told to stop; how many jobs were acknowledged.
async fn enqueue_until(client: Client, acknowledged: Arc<AtomicUsize>, stop: CancellationToken) {
    let mut size = 1;
    while !stop.is_cancelled() {
        let ids = client.enqueue_many(jobs(size)).await.unwrap();
        assert_eq!(ids.len(), size);
        acknowledged.fetch_add(size, SeqCst);
        size = size % 7 + 1;
    }
}

#[tokio::test]
async fn calls_are_repeated_through_a_crash_and_store_nothing_twice() {
    let database = Database::fresh().await;
    let mut broker = named(&database).await;
    let client = client(&broker).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(enqueue_until(client.clone(), Arc::clone(&acknowledged), stop.clone()));
    }
    for _ in 0..2 {
        let before = acknowledged.load(SeqCst);
        eventually("jobs are stored", async || acknowledged.load(SeqCst) > before + 200).await;
        let grpc = broker.grpc.clone();
        broker.kill();
        broker = again(&database, &grpc).await;
    }
    stop.cancel();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let stored = database.number("SELECT count(*) FROM currant.job").await;
    assert_eq!(stored, i64::try_from(acknowledged.load(SeqCst)).unwrap());
}

#[tokio::test]
async fn a_stream_goes_on_after_a_crash_and_stores_nothing_twice() {
    let database = Database::fresh().await;
    let mut broker = named(&database).await;
    let stream = client(&broker).await.enqueue_stream();
    let (answers, mut sent) = tokio::sync::mpsc::channel::<Enqueued>(1000);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let sender = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            answers.send(stream.send(jobs(3)).await.unwrap()).await.unwrap();
        }
    });
    let mut ids = HashSet::new();
    for _ in 0..2 {
        for _ in 0..200 {
            ids.extend(sent.recv().await.unwrap().await.unwrap());
        }
        let grpc = broker.grpc.clone();
        broker.kill();
        broker = again(&database, &grpc).await;
    }
    stop.cancel();
    while let Some(answer) = sent.recv().await {
        ids.extend(answer.await.unwrap());
    }
    sender.await.unwrap();
    let stored = database.number("SELECT count(*) FROM currant.job").await;
    assert_eq!(stored, i64::try_from(ids.len()).unwrap());
}
