//! `run`: the closed loop. Producers and workers at the same time.

use anyhow::Result;

use crate::{
    producers::{self, Sender},
    report::Report,
    settings::Settings,
    trial::Trial,
    watch::Goal,
};

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let mut trial = Trial::prepare(settings).await?;
    let mut workers = trial.start_workers().await?;
    trial.ready(&mut workers).await?;
    let endpoint = trial.stack.endpoint();
    let senders = Sender::for_producers(settings, endpoint, &trial.queues, &trial.recorder).await?;
    trial.measure_from_here().await?;
    trial.watch(Goal::Finished, producers::closed_loop(settings, senders)).await?;
    trial.conclude(workers).await
}
