//! `mixed`: half through the backlog, half directly. A backlog is enqueued while no worker is there;
//! then workers come, and producers enqueue into other queues for as long as there is a backlog.
//!
//! In queues of their own: behind older jobs of the same queue and priority no job is taken directly.
//! The time runs from the moment before the workers connect to the last committed completion; all jobs
//! count. How many went which way the table of jobs tells.

use anyhow::{Context, Result};

use crate::{
    producers::{self, Sender},
    report::Report,
    settings::Settings,
    trial::Trial,
    watch::Goal,
};

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let settings = Settings { duration_seconds: None, ..settings.clone() };
    let mut trial = Trial::prepare(&settings).await?;
    let (backlog, direct) = trial.queues.split_last().context("a run has queues")?;
    let backlog = std::slice::from_ref(backlog);
    let (endpoint, recorder) = (trial.stack.endpoint(), &trial.recorder);
    let before = Sender::for_producers(&settings, endpoint, backlog, recorder).await?;
    let beside = Sender::for_producers(&settings, endpoint, direct, recorder).await?;
    trial.measure_from_here().await?;
    trial.watch(Goal::Enqueued, producers::closed_loop(&settings, before)).await?;

    trial.recorder.expect_backlog(settings.jobs);
    trial.timed_from_ns = Some(trial.recorder.clock.now_ns());
    let mut workers = trial.start_workers().await?;
    workers.ready().await?;
    trial.watch(Goal::Finished, producers::beside_backlog(&settings, beside)).await?;
    trial.conclude(workers).await
}
