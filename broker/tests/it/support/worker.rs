use std::{collections::VecDeque, time::Duration};

use currant_proto::v1::{
    Assignment, Attempt, CompleteRequest, Completion, HeartbeatRequest, HeartbeatResponse,
    SubscribeRequest, SubscribeResponse, Succeeded, Verdict, Welcome, completion::Outcome,
    subscribe_response::Message, worker_service_client::WorkerServiceClient,
};
use tonic::{Status, Streaming, transport::Channel};

use super::{Broker, PATIENCE};

/// A worker by the protocol alone: it does nothing unless told.
pub(crate) struct TestWorker {
    pub(crate) client: WorkerServiceClient<Channel>,
    pub(crate) welcome: Welcome,
    /// Of the last Assignments seen.
    pub(crate) received_seq: u64,
    stream: Streaming<SubscribeResponse>,
    waiting: VecDeque<Assignment>,
}

impl TestWorker {
    /// A new session with this credit.
    pub(crate) async fn subscribe(broker: &Broker, queues: &[&str], credit: u32) -> Self {
        let request = SubscribeRequest {
            worker: "test".to_owned(),
            queues: queues.iter().map(|&queue| queue.to_owned()).collect(),
            max_in_flight: credit,
            ..SubscribeRequest::default()
        };
        Self::open(broker, request).await.unwrap()
    }

    pub(crate) async fn open(broker: &Broker, request: SubscribeRequest) -> Result<Self, Status> {
        let mut client = broker.workers();
        let mut stream = client.subscribe(request).await?.into_inner();
        let first = stream.message().await?.unwrap().message.unwrap();
        let Message::Welcome(welcome) = first else { panic!("{first:?} before a Welcome") };
        Ok(Self { client, welcome, received_seq: 0, stream, waiting: VecDeque::new() })
    }

    /// The next message of any type; `None` when the stream has ended.
    pub(crate) async fn message(&mut self) -> Result<Option<Message>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        Ok(message.expect("no message came")?.map(|response| response.message.unwrap()))
    }

    /// The next job, over messages of other types.
    pub(crate) async fn job(&mut self) -> Assignment {
        loop {
            if let Some(job) = self.waiting.pop_front() {
                return job;
            }
            match self.message().await.unwrap() {
                Some(Message::Assignments(assignments)) => {
                    assert_eq!(assignments.seq, self.received_seq + 1);
                    self.received_seq = assignments.seq;
                    self.waiting.extend(assignments.jobs);
                }
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        }
    }

    /// The other jobs of messages seen so far.
    pub(crate) fn received(&mut self) -> Vec<Assignment> {
        self.waiting.drain(..).collect()
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<Assignment> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            jobs.push(self.job().await);
        }
        jobs
    }

    /// Asserts that no job comes for so long.
    pub(crate) async fn no_job_for(&mut self, time: Duration) {
        if let Ok(job) = tokio::time::timeout(time, self.job()).await {
            panic!("a job came: {job:?}");
        }
    }

    pub(crate) async fn complete(&mut self, completions: Vec<Completion>) -> Vec<Verdict> {
        let request = CompleteRequest {
            session_id: self.welcome.session_id.clone(),
            completions,
            received_seq: self.received_seq,
        };
        let answer = self.client.complete(request).await.unwrap().into_inner();
        answer.verdicts().collect()
    }

    /// Reports an outcome for each of the jobs.
    pub(crate) async fn report<'a>(
        &mut self,
        jobs: impl IntoIterator<Item = &'a Assignment>,
        outcome: Outcome,
    ) -> Vec<Verdict> {
        let completion = |job: &Assignment| Completion {
            job_id: job.job_id,
            attempt: job.attempt,
            outcome: Some(outcome.clone()),
        };
        self.complete(jobs.into_iter().map(completion).collect()).await
    }

    pub(crate) async fn succeed<'a>(
        &mut self,
        jobs: impl IntoIterator<Item = &'a Assignment>,
    ) -> Vec<Verdict> {
        self.report(jobs, Outcome::Succeeded(Succeeded::default())).await
    }

    pub(crate) async fn heartbeat<'a>(
        &mut self,
        held: impl IntoIterator<Item = &'a Assignment>,
    ) -> Result<HeartbeatResponse, Status> {
        let held = held.into_iter().map(attempt).collect();
        let request = HeartbeatRequest { held, ..self.heartbeat_request() };
        Ok(self.client.heartbeat(request).await?.into_inner())
    }

    /// A heartbeat with new credit.
    pub(crate) async fn set_credit(&mut self, credit: u32) {
        let request = HeartbeatRequest { max_in_flight: Some(credit), ..self.heartbeat_request() };
        self.client.heartbeat(request).await.unwrap();
    }

    fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            session_id: self.welcome.session_id.clone(),
            epoch: self.welcome.epoch,
            received_seq: self.received_seq,
            ..HeartbeatRequest::default()
        }
    }
}

/// What a worker presents for a job that it holds.
pub(crate) fn attempt(job: &Assignment) -> Attempt {
    Attempt { job_id: job.job_id, attempt: job.attempt }
}
