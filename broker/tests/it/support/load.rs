use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use currant_worker_sdk::{
    Bytes, CancellationToken, Client, JobId, NewJob, Running, Verdict, Worker,
};
use tokio::task::JoinSet;

use super::{Broker, Database, eventually};

/// What clients and workers were told, to be held against the table at the end.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    stored: HashSet<JobId>,
    /// How often a job's outcome was applied.
    applied: HashMap<JobId, usize>,
    /// How often a handler began with a job.
    runs: HashMap<JobId, usize>,
}

impl Ledger {
    /// Acknowledged to a client that isn't one of [`Clients`].
    pub(crate) fn add(&self, ids: &[i64]) {
        self.0.lock().unwrap().stored.extend(ids.iter().map(|id| JobId(*id)));
    }

    pub(crate) fn stored(&self) -> usize {
        self.0.lock().unwrap().stored.len()
    }

    pub(crate) fn applied(&self) -> usize {
        self.0.lock().unwrap().applied.len()
    }

    /// Waits until all is done, and checks that every acknowledged job has succeeded, none was
    /// stored but the acknowledged ones, and no outcome was applied twice.
    pub(crate) async fn check(&self, database: &Database) {
        let open = "SELECT count(*) FROM currant.job WHERE outcome IS NULL";
        eventually("all jobs are finished", async || database.number(open).await == 0).await;
        let rows = database.connect().await;
        let rows = rows.query("SELECT id, outcome FROM currant.job", &[]).await.unwrap();
        let outcomes: HashMap<JobId, i16> =
            rows.iter().map(|row| (JobId(row.get(0)), row.get(1))).collect();
        let told = self.0.lock().unwrap();
        for id in &told.stored {
            assert_eq!(outcomes.get(id), Some(&1), "of the acknowledged job {id}");
        }
        for id in outcomes.keys() {
            assert!(told.stored.contains(id), "job {id} was never acknowledged");
        }
        for (id, applied) in &told.applied {
            assert_eq!(*applied, 1, "outcomes of job {id} were applied");
        }
    }

    /// Jobs whose handler began more than once.
    pub(crate) fn run_again(&self) -> Vec<JobId> {
        let told = self.0.lock().unwrap();
        told.runs.iter().filter(|(_, runs)| **runs > 1).map(|(id, _)| *id).collect()
    }

    fn ran(&self, id: JobId) {
        *self.0.lock().unwrap().runs.entry(id).or_default() += 1;
    }

    pub(crate) fn answered(&self, attempts: &[(JobId, u32)], verdicts: &[Verdict]) {
        let mut told = self.0.lock().unwrap();
        let pairs = attempts.iter().zip(verdicts);
        for ((id, _), _) in pairs.filter(|(_, verdict)| **verdict == Verdict::Applied) {
            *told.applied.entry(*id).or_default() += 1;
        }
    }
}

/// Clients that enqueue as fast as they are answered, each call with an idempotency key and repeated
/// until it is acknowledged.
pub(crate) struct Clients {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Clients {
    pub(crate) async fn start(count: usize, broker: &Broker, queue: &str, ledger: &Ledger) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for number in 0..count {
            let client = Client::connect(broker.endpoint()).await.unwrap();
            let (stop, ledger) = (stop.clone(), ledger.clone());
            let queue = queue.to_owned();
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let jobs = (0..=number).map(|_| NewJob::raw(queue.clone(), "test", "payload"));
                    let ids = client.enqueue_many(jobs).await.unwrap();
                    ledger.0.lock().unwrap().stored.extend(ids);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { stop, tasks }
    }

    /// Waits until the last call of each is acknowledged.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// A worker of the SDK whose handler takes a few milliseconds; of some jobs a second, so that they
/// run over a restart.
pub(crate) fn start_worker(endpoint: &str, queue: &str, ledger: &Ledger) -> Running {
    let (ran, answered) = (ledger.clone(), ledger.clone());
    Worker::builder(endpoint)
        .queue(queue)
        .concurrency(100)
        .raw_handler("test", move |job| {
            ran.ran(job.id);
            let long = job.id.0 % 64 == 0;
            async move {
                tokio::time::sleep(Duration::from_millis(if long { 1000 } else { 5 })).await;
                Ok(Bytes::new())
            }
        })
        .on_verdict(move |attempts, verdicts| answered.answered(attempts, verdicts))
        .build()
        .unwrap()
        .start()
}

/// Waits until so many jobs more are finished.
pub(crate) async fn progress(ledger: &Ledger, jobs: usize) {
    let goal = ledger.applied() + jobs;
    eventually("jobs are finished", async || ledger.applied() >= goal).await;
}
