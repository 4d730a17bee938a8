//! `latency`: the open loop. Jobs are sent at a fixed rate, by gRPC or by SQL; latency counts from
//! the time at which each was meant to be sent, so that a slow answer doesn't hide the jobs that
//! had to wait behind it (coordinated omission).
//!
//! With a backlog, jobs of another key stand before them all the time, of which as many run as its limit
//! allows; of several queues the first has it, and what the others do meanwhile shows what it is to blame for. They have stood there for a while: what storing them left to be written is written before. When the last job of the loop has started the limits go, and the backlog is drained, so
//! that each of its jobs can be checked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use crate::{
    open_loop::{self, SqlSender, Target},
    pacer::{self, Schedule},
    probe,
    producers::{self, Sender},
    queue_limits,
    recorder::{Recorder, Turns},
    report::Report,
    settings::{BACKLOG_BATCH, Settings},
    trial::Trial,
    watch::Goal,
};

/// From when everything is connected to the first call.
const HEAD_START: Duration = Duration::from_millis(200);
/// From the last answer to the start of the last job.
const STARTED_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let mut trial = Trial::prepare(settings).await?;
    trial.measure_from_here().await?;
    if settings.backlog > 0 {
        enqueue_backlog(settings, &mut trial).await?;
    }
    let mut workers = trial.start_workers().await?;
    trial.ready(&mut workers).await?;
    let target = target(settings, &trial).await?;
    let clock = trial.recorder.clock;
    let schedule = Schedule {
        start_ns: clock.now_ns() + HEAD_START.as_nanos() as u64,
        first: settings.backlog,
        jobs: settings.jobs,
        batch: settings.batch,
        rate: settings.rate.context("an open loop has a rate")?,
    };
    let due = pacer::start(clock, schedule)?;
    let (recorder, queues) = (trial.recorder.clone(), trial.queues.clone());
    let endpoint = trial.stack.endpoint().to_owned();
    let load = async {
        open_loop::send_all(due, &target).await?;
        if settings.backlog > 0 {
            all_started(settings, &recorder).await?;
            queue_limits::lift(settings, &endpoint, &queues).await?;
        }
        Ok(())
    };
    trial.watch(Goal::Finished, load).await?;
    // Closes its connections to Postgres, which would be counted as busy otherwise.
    drop(target);
    trial.conclude(workers).await
}

async fn enqueue_backlog(settings: &Settings, trial: &mut Trial) -> Result<()> {
    let load = Settings {
        jobs: settings.backlog,
        batch: BACKLOG_BATCH,
        duration_seconds: None,
        ..settings.clone()
    };
    let endpoint = trial.stack.endpoint();
    let first = trial.queues.get(..1).context("a run has a queue")?;
    let senders = Sender::for_producers(&load, endpoint, first, &trial.recorder).await?;
    trial.recorder.expect_backlog(settings.backlog);
    trial
        .recorder
        .tell_apart(Turns { queues: trial.queues.len() as u64, batch: settings.batch.into() });
    trial.watch(Goal::Enqueued, producers::closed_loop(&load, senders)).await?;
    if let Some(url) = trial.stack.database_url().filter(|_| trial.stack.is_private()) {
        let config = url.parse().context("the database's address can't be read")?;
        probe::postgres::settle(&probe::postgres::connect(&config).await?).await?;
    }
    Ok(())
}

/// Waits until each job of the loop has started. Fails if the backlog was over before.
async fn all_started(settings: &Settings, recorder: &Recorder) -> Result<()> {
    let deadline = Instant::now() + STARTED_MAX;
    for number in settings.backlog..settings.numbers() {
        while recorder.starts(number) == 0 {
            ensure!(Instant::now() < deadline, "job {number} of the loop doesn't start");
            sleep(POLL).await;
        }
    }
    ensure!(!recorder.backlog_is_over(), "the backlog was over before the last job had started");
    Ok(())
}

async fn target(settings: &Settings, trial: &Trial) -> Result<Target> {
    let (queues, recorder) = (&trial.queues, &trial.recorder);
    if !settings.sql {
        let endpoint = trial.stack.endpoint();
        let senders = Sender::for_producers(settings, endpoint, queues, recorder).await?;
        return Ok(Target::Grpc(senders));
    }
    let url = trial.stack.database_url().context("--sql needs access to the database")?;
    Ok(Target::Sql(SqlSender::for_producers(settings, url, queues, recorder).await?))
}
