//! What Postgres alone takes for the calls of an open loop: the same schedule, and each call is one INSERT
//! of its jobs, taken, on one of as many connections as the broker has. Time counts from when a call
//! was meant to be sent to its commit, so it is what a caller who writes to Postgres himself would wait.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use currant_broker::{
    domain::QueueId,
    store::{self, PHASE_TAKEN},
};
use hdrhistogram::Histogram;
use tokio::task::{JoinSet, spawn_blocking};

use super::own::{OwnStore, next_ids};
use crate::{
    clock::Clock,
    histogram::{Latencies, Percentiles},
    jobs::binary_batch,
    pacer::{self, Schedule},
    report::Report,
    settings::Settings,
    stack::start_postgres,
};

/// The broker's default.
const CONNECTIONS: u32 = 6;
const SECONDS_MAX: u64 = 10;
const HEAD_START: Duration = Duration::from_millis(200);
const QUEUE: QueueId = QueueId(1);

/// Measures it before and after a run of `latency`.
pub(super) async fn around<F>(settings: &Settings, run: F) -> Result<Report>
where
    F: AsyncFnOnce(&Settings) -> Result<Report>,
{
    let mut inserts = measure(settings).await?;
    let mut report = run(settings).await?;
    inserts.add(measure(settings).await?).context("both have the same bounds")?;
    report.figures.insert_latency_ms = Percentiles::of(&inserts);
    Ok(report)
}

/// On a fresh private server.
async fn measure(settings: &Settings) -> Result<Histogram<u32>> {
    let rate = settings.rate.context("an open loop has a rate")?;
    let jobs = settings.jobs.min(u64::from(rate) * SECONDS_MAX);
    eprintln!("measuring what Postgres takes alone, {} s", jobs / u64::from(rate));
    let postgres = start_postgres(&[]).await?;
    store::migrate(&postgres.dsn().as_str().into()).await?;
    let own = OwnStore::open(&postgres.dsn(), CONNECTIONS).await?;
    let payload = binary_batch(0, 1, 0, settings.payload_bytes).next().unwrap_or_default();
    let latencies = Arc::new(Latencies::new(settings.load_threads as usize));
    let clock = Clock::start();
    let start_ns = clock.now_ns() + HEAD_START.as_nanos() as u64;
    let schedule = Schedule { start_ns, first: 0, jobs, batch: settings.batch, rate };
    let mut due = pacer::start(clock, schedule)?;
    let mut ids = own.ids();
    let mut calls = JoinSet::new();
    while let Some(call) = due.recv().await {
        let ids = next_ids(&mut ids, call.count as usize);
        let (own, payload, latencies) = (own.clone(), payload.clone(), Arc::clone(&latencies));
        calls.spawn(async move {
            own.insert(QUEUE, &ids, &payload, PHASE_TAKEN).await?;
            latencies.record_ns(clock.now_ns().saturating_sub(call.intended_ns));
            anyhow::Ok(())
        });
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    drop(own);
    spawn_blocking(|| postgres.stop()).await?.context("Postgres didn't stop")?;
    Ok(latencies.merged())
}
