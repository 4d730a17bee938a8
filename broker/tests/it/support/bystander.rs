use std::time::Duration;

use currant_broker::clock::Stopwatch;
use currant_proto::v1::EnqueueRequest;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{Broker, job};

const ALONE: Duration = Duration::from_millis(500);

/// A client that behaves, and how long its calls take.
pub(crate) struct Bystander {
    stop: oneshot::Sender<()>,
    calls: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    pub(crate) fn beside(broker: &Broker) -> Self {
        let mut client = broker.jobs();
        let (stop, mut stopped) = oneshot::channel();
        let calls = tokio::spawn(async move {
            let mut took = Vec::new();
            while stopped.try_recv().is_err() {
                let watch = Stopwatch::start();
                let jobs = vec![job("beside", b"")];
                client.enqueue(EnqueueRequest { jobs, ..Default::default() }).await.unwrap();
                took.push(watch.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            took
        });
        Self { stop, calls }
    }

    /// Its p99.
    pub(crate) async fn end(self) -> Duration {
        self.stop.send(()).unwrap();
        let mut took = self.calls.await.unwrap();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    /// Its p99 while nothing else happens.
    pub(crate) async fn alone(broker: &Broker) -> Duration {
        let bystander = Self::beside(broker);
        tokio::time::sleep(ALONE).await;
        bystander.end().await
    }
}
