//! The load, by the protocol alone and a step at a time: nothing is under way while something else is.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use currant_proto::v1::{
    Assignment, CompleteRequest, Completion, EnqueueRequest, NewJob, SubscribeRequest,
    SubscribeResponse, Succeeded, Verdict, completion::Outcome,
    job_service_client::JobServiceClient, subscribe_response::Message,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::timeout;
use tonic::{Streaming, transport::Channel};

use super::{BATCH, Shape};
use crate::{channels, jobs, workers::KIND};

const QUEUE: &str = "budget";
const PAYLOAD_BYTES: u32 = 100;
/// A message of the stream that takes longer than this won't come.
const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// Takes so many batches from Enqueue to their completion.
pub(super) async fn run(endpoint: &str, shape: Shape, batches: u32) -> Result<()> {
    let channel = channels::open(endpoint, None, 1).await?.remove(0);
    let mut producer = Producer { client: JobServiceClient::new(channel.clone()) };
    match shape {
        Shape::Direct | Shape::Single => {
            let mut worker = Worker::subscribe(channel).await?;
            for _ in 0..batches {
                producer.enqueue(shape.batch()).await?;
                worker.finish(shape.batch()).await?;
            }
        }
        Shape::Backlog => {
            for _ in 0..batches {
                producer.enqueue(shape.batch()).await?;
            }
            let mut worker = Worker::subscribe(channel).await?;
            for _ in 0..batches {
                worker.finish(shape.batch()).await?;
            }
        }
    }
    Ok(())
}

struct Producer {
    client: JobServiceClient<Channel>,
}

impl Producer {
    async fn enqueue(&mut self, count: u32) -> Result<()> {
        let payloads = jobs::binary_batch(0, count, 0, PAYLOAD_BYTES);
        let jobs = payloads.map(|payload| NewJob { payload, ..NewJob::default() }).collect();
        let (queue, kind) = (QUEUE.to_owned(), KIND.to_owned());
        let request = EnqueueRequest { jobs, queue, kind, ..EnqueueRequest::default() };
        let stored = self.client.enqueue(request).await?.into_inner();
        ensure!(stored.job_ids.len() == count as usize, "{} ids", stored.job_ids.len());
        Ok(())
    }
}

struct Worker {
    client: WorkerServiceClient<Channel>,
    stream: Streaming<SubscribeResponse>,
    session_id: String,
    received_seq: u64,
}

impl Worker {
    async fn subscribe(channel: Channel) -> Result<Worker> {
        let mut client = WorkerServiceClient::new(channel);
        let request = SubscribeRequest {
            worker: "budget".to_owned(),
            queues: vec![QUEUE.to_owned()],
            max_in_flight: BATCH,
            concurrency: BATCH,
            ..SubscribeRequest::default()
        };
        let stream = client.subscribe(request).await?.into_inner();
        let mut worker = Worker { client, stream, session_id: String::new(), received_seq: 0 };
        match worker.message().await? {
            Message::Welcome(welcome) => worker.session_id = welcome.session_id,
            other => bail!("a stream began with {other:?}, not with a Welcome"),
        }
        Ok(worker)
    }

    async fn message(&mut self) -> Result<Message> {
        let message = timeout(MESSAGE_MAX, self.stream.message()).await;
        let message = message.context("no message came")??.context("the stream ended")?;
        message.message.context("an empty message")
    }

    /// Receives so many jobs and completes them in one call.
    async fn finish(&mut self, count: u32) -> Result<()> {
        let mut jobs: Vec<Assignment> = Vec::new();
        while jobs.len() < count as usize {
            match self.message().await? {
                Message::Assignments(assignments) => {
                    self.received_seq = assignments.seq;
                    jobs.extend(assignments.jobs);
                }
                Message::KeepAlive(_) => {}
                other => bail!("a worker received {other:?}"),
            }
        }
        ensure!(jobs.len() == count as usize, "{} jobs for a credit of {count}", jobs.len());
        let completion = |job: Assignment| Completion {
            job_id: job.job_id,
            attempt: job.attempt,
            outcome: Some(Outcome::Succeeded(Succeeded::default())),
        };
        let request = CompleteRequest {
            session_id: self.session_id.clone(),
            completions: jobs.into_iter().map(completion).collect(),
            received_seq: self.received_seq,
            mean_run_time: None,
        };
        let verdicts = self.client.complete(request).await?.into_inner().verdicts;
        let applied = verdicts.iter().filter(|verdict| **verdict == i32::from(Verdict::Applied));
        ensure!(applied.count() == count as usize, "not all was applied: {verdicts:?}");
        Ok(())
    }
}
