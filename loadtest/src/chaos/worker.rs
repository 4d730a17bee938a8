//! A worker as a process of its own: the SDK's, with a handler that writes down what it sees.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use currant_worker_sdk::{HandlerError, Job, Verdict as Answer, Worker};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    credentials::Credentials,
    history::{Event, Verdict, Writer, now_micros},
    payload::{BULK_KIND, KIND, Payload, result},
};
use crate::broker_process::end_with_the_load_test;

/// Jobs that run may go on for so long after SIGTERM.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    endpoint: String,
    name: String,
    history: PathBuf,
    concurrency: u32,
    queues: Vec<String>,
}

/// What the hidden subcommand does.
pub(crate) fn be_a_worker(args: WorkerArgs) -> ExitCode {
    end_with_the_load_test();
    match work(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn work(args: WorkerArgs) -> Result<()> {
    // While its clock is right.
    now_micros();
    let history = Writer::open(&args.history)?;
    let answers = history.clone();
    let credentials = Credentials::of_environment()?;
    let mut builder = credentials
        .on_worker(Worker::builder(&args.endpoint))
        .name(args.name)
        .concurrency(args.concurrency)
        .shutdown_timeout(SHUTDOWN_MAX)
        .raw_handler(KIND, move |job| handle(job, history.clone()))
        .raw_handler(BULK_KIND, |_| async { Ok::<_, HandlerError>(Bytes::new()) })
        .on_verdict(move |attempts, verdicts| {
            for ((job, attempt), verdict) in attempts.iter().zip(verdicts) {
                let event = Event::Answered {
                    job: job.0,
                    attempt: *attempt,
                    verdict: verdict_of(*verdict),
                };
                // A verdict that isn't in the history proves nothing, and harms no check.
                if let Err(error) = answers.write(event) {
                    eprintln!("error: {error:#}");
                }
            }
        });
    for queue in args.queues {
        builder = builder.queue(queue);
    }
    let running = builder.build()?.start();
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    terminate.recv().await;
    running.shutdown().await.context("the worker didn't end well")
}

async fn handle(job: Job<Bytes>, history: Writer) -> Result<Bytes, HandlerError> {
    let (id, attempt) = (job.id.0, job.attempt);
    history.write(Event::Started { job: id, attempt }).map_err(HandlerError::new)?;
    let payload: Payload = serde_json::from_slice(&job.payload).map_err(HandlerError::new)?;
    tokio::time::sleep(Duration::from_millis(payload.ms)).await;
    let succeeded = attempt > payload.fail;
    history.write(Event::Ended { job: id, attempt, succeeded }).map_err(HandlerError::new)?;
    if succeeded {
        Ok(result(id, attempt).into())
    } else {
        Err(HandlerError::new("this attempt was meant to fail"))
    }
}

fn verdict_of(answer: Answer) -> Verdict {
    match answer {
        Answer::Applied => Verdict::Applied,
        Answer::Duplicate => Verdict::Duplicate,
        Answer::Stale => Verdict::Stale,
        // What isn't known confirms nothing.
        _ => Verdict::NotFound,
    }
}
