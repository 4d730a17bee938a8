use std::time::Duration;

use clap::{Args, Subcommand};
use currant_worker_sdk::{Client, Queue, QueueStats};

use super::queue_set::Set;
use crate::{
    end::{End, Failure},
    printer::Printer,
    shown::queue as shown,
    values,
};

#[derive(Subcommand)]
pub(crate) enum QueueCommand {
    /// All queues
    List,
    /// A queue's settings, and what holds for its jobs
    Show(Named),
    /// Change settings of a queue, which is created if it isn't there
    Set(Box<Set>),
    /// Give no further job of it to workers
    Pause(Named),
    /// End a pause
    Resume(Named),
    /// Pause it and wait until no worker has a job of it; fails if the time is over before
    Drain(Drain),
    /// How queues stand: depths, rates, the oldest job
    Stats(Stats),
}

#[derive(Args)]
pub(crate) struct Named {
    /// Its name
    queue: String,
}

#[derive(Args)]
pub(crate) struct Drain {
    /// Its name
    queue: String,
    /// At most so long
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5m")]
    wait: Duration,
}

#[derive(Args)]
pub(crate) struct Stats {
    /// Default: all
    queues: Vec<String>,
}

impl QueueCommand {
    pub(crate) async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        match self {
            QueueCommand::List => {
                let queues = client.queues().await?;
                printer.things(&queues, shown::HEAD, shown::row, shown::json)?;
            }
            QueueCommand::Show(Named { queue }) => {
                show(&client.queue(queue).await?, printer)?;
            }
            QueueCommand::Set(set) => show(&set.run(client).await?, printer)?,
            QueueCommand::Pause(Named { queue }) => {
                let queue = client.pause_queue(queue).await?;
                printer.done(&format!("{} is paused", queue.name), &shown::json(&queue))?;
            }
            QueueCommand::Resume(Named { queue }) => {
                let queue = client.resume_queue(queue).await?;
                printer.done(&format!("{} goes on", queue.name), &shown::json(&queue))?;
            }
            QueueCommand::Drain(drain) => return drain.run(client, printer).await,
            QueueCommand::Stats(Stats { queues }) => {
                let stats = all_stats(client, queues).await?;
                let row = |(name, stats): &(String, QueueStats)| shown::stats_row(name, stats);
                let json = |(name, stats): &(String, QueueStats)| shown::stats_json(name, stats);
                printer.things(&stats, shown::STATS_HEAD, row, json)?;
            }
        }
        Ok(End::Done)
    }
}

fn show(queue: &Queue, printer: &mut Printer) -> Result<(), Failure> {
    printer.thing(&shown::fields(queue), &shown::json(queue))
}

/// Of these queues, or of all.
async fn all_stats(
    client: &Client,
    mut queues: Vec<String>,
) -> Result<Vec<(String, QueueStats)>, Failure> {
    if queues.is_empty() {
        queues = client.queues().await?.into_iter().map(|queue| queue.name).collect();
    }
    let mut all = Vec::new();
    for queue in queues {
        let stats = client.queue_stats(&queue).await?;
        all.push((queue, stats));
    }
    Ok(all)
}

impl Drain {
    async fn run(self, client: &Client, printer: &mut Printer) -> Result<End, Failure> {
        let Drain { queue, wait } = self;
        let drained = client.drain_queue(&queue, wait).await?;
        let sentence = if drained {
            format!("no worker has a job of {queue}, which is paused")
        } else {
            format!("{queue} is paused, and workers have jobs of it still")
        };
        let json = serde_json::json!({ "queue": queue, "drained": drained });
        printer.done(&sentence, &json)?;
        Ok(if drained { End::Done } else { End::Refused })
    }
}
