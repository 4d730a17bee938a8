//! Workers in this process, through the SDK that everybody uses.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use currant_worker_sdk::{HandlerError, Job, JobId, Running, Verdict, Worker};
use futures_util::future::join_all;
use tonic::transport::Channel;

use crate::{
    channels,
    recorder::{Answer, Recorder},
    settings::Settings,
};

/// The kind of every job of a load test.
pub(crate) const KIND: &str = "noop";

/// Running workers.
pub(crate) struct Workers {
    running: Vec<Running>,
}

impl Workers {
    /// Opens the connections, then starts the workers. Their sessions may not be open yet.
    pub(crate) async fn start(
        settings: &Settings,
        endpoint: &str,
        queues: &[String],
        recorder: &Arc<Recorder>,
    ) -> Result<Workers> {
        let own = settings.channels == 0;
        let connections = if own { settings.workers } else { settings.channels };
        let channels = channels::open(
            endpoint,
            settings.ca_file.as_deref(),
            connections.min(settings.workers),
        )
        .await?;
        let running = (0..settings.workers as usize)
            .map(|number| {
                let channel = channels[number % channels.len()].clone();
                Ok(worker(settings, channel, queues, recorder, number)?.start())
            })
            .collect::<Result<_>>()?;
        Ok(Workers { running })
    }

    /// Waits until all sessions are open.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        for worker in &mut self.running {
            worker.ready().await.context("a worker couldn't begin")?;
        }
        Ok(())
    }

    /// Drains them all. Fails with the first error of those that didn't end well.
    pub(crate) async fn shutdown(self) -> Result<()> {
        let ended = join_all(self.running.into_iter().map(Running::shutdown)).await;
        ended.into_iter().collect::<Result<(), _>>().context("a worker ended with an error")
    }
}

fn worker(
    settings: &Settings,
    channel: Channel,
    queues: &[String],
    recorder: &Arc<Recorder>,
    number: usize,
) -> Result<Worker> {
    let work = Duration::from_millis(settings.work_ms.into());
    let handler = {
        let recorder = Arc::clone(recorder);
        move |job: Job<Bytes>| {
            let known = recorder.started(number, &job.payload);
            // A worker without work needn't look at the clock again.
            let working = (!work.is_zero()).then(|| Arc::clone(&recorder));
            async move {
                if let Some(recorder) = working {
                    let start_ns = recorder.clock.now_ns();
                    tokio::time::sleep(work).await;
                    recorder.worked(start_ns);
                }
                if known { Ok(Bytes::new()) } else { Err(HandlerError::discard("not of this run")) }
            }
        }
    };
    let recorder = Arc::clone(recorder);
    let mut builder = Worker::builder_with_channel(channel)
        .name(format!("loadtest-{number}"))
        .concurrency(settings.concurrency)
        .prefetch(settings.prefetch)
        .raw_handler(KIND, handler)
        .on_verdict(move |attempts: &[(JobId, u32)], verdicts: &[Verdict]| {
            let ids = attempts.iter().map(|(id, _)| id.0);
            recorder.completed(ids.zip(verdicts.iter().map(|verdict| answer(*verdict))));
        });
    if let Some(token) = &settings.token {
        builder = builder.token(token.secret());
    }
    for queue in queues {
        builder = builder.queue(queue);
    }
    Ok(builder.build()?)
}

fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Applied => Answer::Applied,
        Verdict::Duplicate => Answer::Duplicate,
        Verdict::Stale => Answer::Stale,
        // What isn't known confirms nothing.
        _ => Answer::NotFound,
    }
}
