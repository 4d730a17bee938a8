//! `soak`: half of what this machine does, for long, with small faults; then nothing may have grown.

mod flat;
mod load;
mod samples;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use currant_worker_sdk::{Keep, QueueSettings};
use tokio::time::{Instant, sleep, sleep_until};

use self::{load::Load, samples::Samples};
use super::{
    cluster::{Cluster, Setup},
    crew,
    fault::Kind,
    history::{Writer, file_name},
    inject, is_secure, judge, metrics,
    queues::BULK,
    schedule::{Planned, plan},
    settle,
};

#[derive(Clone, Debug, Args)]
pub(crate) struct SoakOptions {
    /// Decides which faults come when, where and for how long.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load. Jobs are kept for a minute, so that less than two show nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(120..=86_400))]
    duration: u32,
}

/// Load as fast as it goes, to know what half of it is.
const CALIBRATION: Duration = Duration::from_secs(5);
/// All of it has to be over in this time.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// The least that jobs may be kept.
const KEPT: Duration = Duration::from_secs(60);
const SAMPLE: Duration = Duration::from_secs(1);

/// What a broker outlives.
const KINDS: [Kind; 12] = [
    Kind::KillWorker,
    Kind::PostgresFast,
    Kind::PostgresImmediate,
    Kind::CutConnections,
    Kind::ExhaustConnections,
    Kind::StopBroker,
    Kind::StopWorker,
    Kind::LockTable,
    Kind::SlowDisk,
    Kind::Latency,
    Kind::Resets,
    Kind::BlackHole,
];
/// Of a fault: far below what makes others hold a broker for dead.
const FAULT_MAX: Duration = Duration::from_millis(1000);
const REST: Duration = Duration::from_secs(5);

/// The table is vacuumed as often, for its size, as one that keeps jobs for a week.
const VACUUM: &str = "ALTER TABLE currant.job SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE currant.job SET (autovacuum_vacuum_insert_threshold = 10000)";

/// The subcommand. False: something grew, or was lost.
pub(crate) async fn soak(options: &SoakOptions) -> Result<bool> {
    let python = crew::python()?;
    let directory = tempfile::Builder::new().prefix("currant-soak-").tempdir()?;
    let control = Writer::open(&directory.path().join(file_name("control")))?;
    let secure = is_secure(options.seed);
    let (directory, python) = (directory.path(), &*python);
    let setup = Setup {
        directory,
        python,
        secure,
        previous: None,
        mutation: None,
        records: false,
        clock: None,
    };
    let mut cluster = Cluster::start(setup, control.clone()).await?;
    let keep = QueueSettings { keep_succeeded: Some(Keep::For(KEPT)), ..QueueSettings::default() };
    cluster.client(0).await?.configure_queue(BULK, keep).await?;
    cluster.connect().await?.batch_execute(VACUUM).await?;

    let begun = Instant::now();
    let load = Load::as_fast_as_it_goes(&cluster).await?;
    sleep(CALIBRATION).await;
    let mut told = load.stop().await?;
    settle(&mut cluster, SETTLE_MAX).await?;
    let most = told.acknowledged as f64 / begun.elapsed().as_secs_f64();
    println!("{most:.0} jobs/s go through; half of it for {} s", options.duration);

    let load = Load::at_rate(&cluster, most / 2.0).await?;
    let duration = Duration::from_secs(options.duration.into());
    let samples = disturb(&mut cluster, &control, options.seed, duration).await?;
    told += load.stop().await?;
    settle(&mut cluster, SETTLE_MAX).await?;
    let open = judge::open_jobs(&cluster.connect().await?).await?;
    let texts = cluster.metrics().await?;
    cluster.stop().await?;

    let mut problems = flat::problems(&samples, duration);
    ensure!(!samples.rows.is_empty(), "nothing was sampled");
    let done = format!(
        "currant_jobs_completed_total{{messaging_destination_name=\"{BULK}\",outcome=\"succeeded\"}}"
    );
    let done = metrics::sum(&texts, &done) as u64;
    let most = told.acknowledged + told.unknown;
    println!(
        "{} jobs acknowledged, {} of unknown fate, {done} done, {} faults",
        told.acknowledged, told.unknown, samples.faults
    );
    if open > 0 || !(told.acknowledged..=most).contains(&done) {
        problems.push(format!("{open} jobs are open, and {done} are done"));
    }
    if samples.ended > 0 {
        problems.push(format!("{} processes ended by themselves", samples.ended));
    }
    for problem in &problems {
        println!("PROBLEM {problem}");
    }
    println!("{}", if problems.is_empty() { "all is flat" } else { "not all is flat" });
    Ok(problems.is_empty())
}

/// Small faults one after another, and a sample a second, until the time is over.
async fn disturb(
    cluster: &mut Cluster,
    control: &Writer,
    seed: u64,
    duration: Duration,
) -> Result<Samples> {
    let mut samples = Samples::new();
    let end = Instant::now() + duration;
    let planned = plan(seed, duration, &KINDS, Cluster::targets(None));
    for planned in planned {
        let rest_until = (Instant::now() + REST).min(end);
        while Instant::now() < rest_until {
            samples.ended += cluster.revive().await?;
            samples.take(cluster).await.context("a sample")?;
            sleep_until((Instant::now() + SAMPLE).min(rest_until)).await;
        }
        if Instant::now() >= end {
            break;
        }
        let lasts = planned.lasts.min(FAULT_MAX);
        inject::carry_out(cluster, control, Planned { lasts, ..planned }).await?;
        samples.faults += 1;
    }
    Ok(samples)
}
