//! `idle`: what workers without work cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    probe::{machine::Machine, process},
    report::Report,
    sessions::Sessions,
    settings::Settings,
    trial::{COUNTERS_LAG, Trial},
};

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let mut trial = Trial::prepare(settings).await?;
    let rss = |trial: &Trial| trial.stack.broker_pid().and_then(process::rss_bytes);
    let rss_before = rss(&trial);

    let start = Instant::now();
    let endpoint = trial.stack.endpoint();
    let mut sessions = Sessions::open(settings, endpoint, &trial.queues).await?;
    let connect_seconds = start.elapsed().as_secs_f64();
    eprintln!("{} workers connected in {connect_seconds:.2} s", settings.workers);
    // What connecting cost mustn't be counted as idling.
    sessions.idle(COUNTERS_LAG).await?;

    let seconds = settings.duration_seconds.context("idling takes a time")?;
    let before = transactions(&trial).await?;
    sessions.idle(Duration::from_secs(seconds.into())).await?;
    let after = transactions(&trial).await?;
    let rss_after = rss(&trial);
    let (connections, postgres) = match &trial.probe {
        Some(probe) => (Some(probe.connections().await?), Some(probe.settings().await?)),
        None => (None, None),
    };
    trial.stack.check_broker()?;
    drop(sessions);

    let mut report = Report::new(settings, Machine::look(postgres));
    let figures = &mut report.figures;
    figures.idle_transactions_per_s =
        before.zip(after).map(|(before, after)| (after - before) as f64 / f64::from(seconds));
    figures.broker_rss_bytes = rss_after;
    figures.postgres_connections = connections;
    report.details.connect_seconds = Some(connect_seconds);
    report.details.broker_rss_bytes_per_worker = rss_before
        .zip(rss_after)
        .map(|(before, after)| (after as f64 - before as f64) / f64::from(settings.workers));
    trial.stack.stop().await?;
    Ok(report)
}

async fn transactions(trial: &Trial) -> Result<Option<i64>> {
    match &trial.probe {
        Some(probe) => Ok(Some(probe.counters().await?.transactions)),
        None => Ok(None),
    }
}
