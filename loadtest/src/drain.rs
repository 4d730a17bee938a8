//! `drain`: a backlog is enqueued while no worker is there, then workers come and are timed.
//!
//! The time runs from the moment before they connect to the last committed completion. There is no
//! warm-up, and no start latency: how long a job waits in the backlog was decided here.

use anyhow::Result;

use crate::{
    producers::{self, Sender},
    report::Report,
    settings::Settings,
    trial::Trial,
    watch::Goal,
};

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let settings = Settings { warmup_percent: 0, ..settings.clone() };
    let mut trial = Trial::prepare(&settings).await?;
    let endpoint = trial.stack.endpoint();
    let senders =
        Sender::for_producers(&settings, endpoint, &trial.queues, &trial.recorder).await?;
    trial.measure_from_here().await?;
    trial.watch(Goal::Enqueued, producers::closed_loop(&settings, senders)).await?;

    trial.timed_from_ns = Some(trial.recorder.clock.now_ns());
    let workers = trial.start_workers().await?;
    trial.watch(Goal::Finished, async { Ok(()) }).await?;
    trial.conclude(workers).await
}
