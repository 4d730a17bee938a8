//! Jobs that do nothing, many of them.

use std::{ops::AddAssign, time::Duration};

use anyhow::{Context, Result};
use currant_worker_sdk::{Client, NewJob};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::chaos::{
    cluster::{self, Cluster},
    payload::BULK_KIND,
    queues::BULK,
};

/// Jobs of a call, and calls that are made at the same time.
const BATCH: u64 = 50;
const PRODUCERS: usize = 4;
const PAYLOAD: [u8; 100] = [b'x'; 100];
/// After that it isn't known whether a call was stored.
const CALL_MAX: Duration = Duration::from_secs(10);

/// What producers were told, in jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
}

impl AddAssign for Told {
    fn add_assign(&mut self, other: Told) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
    }
}

/// Producers that run until they are stopped.
pub(super) struct Load {
    stop: CancellationToken,
    tasks: JoinSet<Result<Told>>,
}

impl Load {
    /// The next call follows on the answer of the one before.
    pub(super) async fn as_fast_as_it_goes(cluster: &Cluster) -> Result<Load> {
        Load::start(cluster, None).await
    }

    /// In jobs a second. What a fault holds up isn't made up for.
    pub(super) async fn at_rate(cluster: &Cluster, rate: f64) -> Result<Load> {
        let every = BATCH as f64 * PRODUCERS as f64 / rate.max(1.0);
        Load::start(cluster, Some(Duration::from_secs_f64(every))).await
    }

    async fn start(cluster: &Cluster, every: Option<Duration>) -> Result<Load> {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for number in 0..PRODUCERS {
            let client = cluster.client(number % cluster::BROKERS).await?.deadline(CALL_MAX);
            tasks.spawn(produce(client, every, stop.clone()));
        }
        Ok(Load { stop, tasks })
    }

    /// Begins no further call and waits for those under way.
    pub(super) async fn stop(mut self) -> Result<Told> {
        self.stop.cancel();
        let mut told = Told::default();
        while let Some(ended) = self.tasks.join_next().await {
            told += ended?.context("a producer")?;
        }
        Ok(told)
    }
}

async fn produce(client: Client, every: Option<Duration>, stop: CancellationToken) -> Result<Told> {
    let mut told = Told::default();
    let mut ticks = interval(every.unwrap_or(Duration::from_nanos(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let jobs = (0..BATCH).map(|_| NewJob::raw(BULK, BULK_KIND, &PAYLOAD[..]));
        match client.enqueue_many(jobs).await {
            Ok(_) => told.acknowledged += BATCH,
            // Whatever the error: it may have been stored.
            Err(_) => told.unknown += BATCH,
        }
    }
    Ok(told)
}
