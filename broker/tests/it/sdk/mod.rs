//! The Rust SDK on a real broker.

mod client;
mod handlers;
mod kinds;
mod layers;
mod otlp;
mod progress;
mod restart;
mod sessions;
mod testing;
mod traces;
mod transaction;
mod waits;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use currant_worker_sdk::{Client, JobId, JobState, StoredJob, Worker, WorkerBuilder};

use crate::support::{Broker, Database, eventually};

/// Short intervals, for tests in which heartbeats matter.
const QUICK: [(&str, &str); 1] = [("SESSION__HEARTBEAT_INTERVAL_MS", "50")];

fn worker(broker: &Broker) -> WorkerBuilder {
    Worker::builder(broker.endpoint()).name("sdk").queue("emails")
}

async fn client(broker: &Broker) -> Client {
    Client::connect(broker.endpoint()).await.unwrap()
}

/// The job, once it is in this state.
async fn in_state(client: &Client, id: JobId, state: JobState) -> StoredJob {
    let mut job = client.get(id).await.unwrap();
    eventually(&format!("job {id} is {state:?}"), async || {
        job = client.get(id).await.unwrap();
        job.state == state
    })
    .await;
    job
}

/// A broker that can be started again at the same place.
async fn named(database: &Database) -> Broker {
    again(database, "127.0.0.1:0").await
}

/// The same broker again, after a crash or an orderly end.
async fn again(database: &Database, grpc: &str) -> Broker {
    let settings = [
        ("BROKER__NAME", "one"),
        ("GRPC__LISTEN", grpc),
        // What nobody holds needn't wait for long; the worker comes back several times in that time.
        ("BROKER__ADOPTION_GRACE_MS", "3000"),
        ("SESSION__RECONNECT_GRACE_MS", "2000"),
        QUICK[0],
    ];
    Broker::start_with(database, &settings).await
}

/// How many are there now, and how many there were at most.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    fn enter(&self) {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, SeqCst);
    }

    fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}
