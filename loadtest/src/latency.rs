//! `latency`: the open loop. Jobs are sent at a fixed rate, by gRPC or by SQL; latency counts from
//! the time at which each was meant to be sent, so that a slow answer doesn't hide the jobs that
//! had to wait behind it (coordinated omission).

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    open_loop::{self, SqlSender, Target},
    pacer::{self, Schedule},
    producers::Sender,
    report::Report,
    settings::Settings,
    trial::Trial,
    watch::Goal,
};

/// From when everything is connected to the first call.
const HEAD_START: Duration = Duration::from_millis(200);

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let mut trial = Trial::prepare(settings).await?;
    let mut workers = trial.start_workers().await?;
    trial.ready(&mut workers).await?;
    let target = target(settings, &trial).await?;
    trial.measure_from_here().await?;
    let clock = trial.recorder.clock;
    let schedule = Schedule {
        start_ns: clock.now_ns() + HEAD_START.as_nanos() as u64,
        jobs: settings.jobs,
        batch: settings.batch,
        rate: settings.rate.context("an open loop has a rate")?,
    };
    let due = pacer::start(clock, schedule)?;
    trial.watch(Goal::Finished, open_loop::send_all(due, &target)).await?;
    // Closes its connections to Postgres, which would be counted as busy otherwise.
    drop(target);
    trial.conclude(workers).await
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
