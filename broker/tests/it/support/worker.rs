use std::{collections::VecDeque, convert::Infallible, time::Duration};

use currant_proto::v1::{
    Assignment, Assignments, Attempt, CompleteRequest, Completion, HeartbeatRequest,
    HeartbeatResponse, LeaseLost, SubscribeRequest, SubscribeResponse, Succeeded, Verdict, Welcome,
    completion::Outcome, subscribe_response::Message, worker_service_client::WorkerServiceClient,
};
use tonic::{Status, Streaming, transport::Channel};

use super::{Broker, PATIENCE};

/// A worker by the protocol alone: it does nothing unless told.
pub(crate) struct TestWorker {
    pub(crate) client: WorkerServiceClient<Channel>,
    pub(crate) welcome: Welcome,
    /// Of the last Assignments seen; 0 at the start of a stream.
    pub(crate) received_seq: u64,
    request: SubscribeRequest,
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
        Self::open_with(broker.workers(), request).await
    }

    /// On a broker that another program started.
    pub(crate) async fn open_with(
        mut client: WorkerServiceClient<Channel>,
        request: SubscribeRequest,
    ) -> Result<Self, Status> {
        let mut stream = client.subscribe(request.clone()).await?.into_inner();
        let first = stream.message().await?.unwrap().message.unwrap();
        let Message::Welcome(welcome) = first else { panic!("{first:?} before a Welcome") };
        let waiting = VecDeque::new();
        Ok(Self { client, welcome, received_seq: 0, request, stream, waiting })
    }

    /// A further stream of the same session, here or at another broker, presenting these attempts.
    pub(crate) async fn resume<'a>(
        &self,
        broker: &Broker,
        held: impl IntoIterator<Item = &'a Assignment>,
    ) -> Self {
        Self::open(broker, self.resume_request(held)).await.unwrap()
    }

    pub(crate) fn resume_request<'a>(
        &self,
        held: impl IntoIterator<Item = &'a Assignment>,
    ) -> SubscribeRequest {
        SubscribeRequest {
            session_id: self.welcome.session_id.clone(),
            held: held.into_iter().map(attempt).collect(),
            ..self.request.clone()
        }
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
                Some(Message::Assignments(assignments)) => self.assigned(assignments),
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        }
    }

    /// The other jobs of messages seen so far.
    pub(crate) fn received(&mut self) -> Vec<Assignment> {
        self.waiting.drain(..).collect()
    }

    /// The next message that `pick` wants; jobs that come before it wait for `job`.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let message = self.message().await.unwrap().expect("the stream ended");
            if let Some(wanted) = pick(&message) {
                return wanted;
            }
            if let Message::Assignments(assignments) = message {
                self.assigned(assignments);
            }
        }
    }

    pub(crate) async fn lease_lost(&mut self) -> LeaseLost {
        self.until(|message| match message {
            Message::LeaseLost(lost) => Some(lost.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for so many keep-alives, with no lease lost meanwhile: time passes in the broker.
    pub(crate) async fn keep_alives(&mut self, count: usize) {
        for _ in 0..count {
            self.until(|message| match message {
                Message::LeaseLost(lost) => panic!("{lost:?}"),
                Message::KeepAlive(_) => Some(()),
                _ => None,
            })
            .await;
        }
    }

    /// Waits for the end of the stream, over all messages.
    pub(crate) async fn end(&mut self) {
        while let Ok(Some(_)) = self.message().await {}
    }

    fn assigned(&mut self, assignments: Assignments) {
        // A resumed session goes on counting where its older stream was.
        assert!(self.received_seq == 0 || assignments.seq == self.received_seq + 1);
        self.received_seq = assignments.seq;
        self.waiting.extend(assignments.jobs);
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
        let request = self.complete_request(completions);
        let answer = self.client.complete(request).await.unwrap().into_inner();
        answer.verdicts().collect()
    }

    pub(crate) fn complete_request(&self, completions: Vec<Completion>) -> CompleteRequest {
        CompleteRequest {
            session_id: self.welcome.session_id.clone(),
            completions,
            received_seq: self.received_seq,
            ..CompleteRequest::default()
        }
    }

    /// Reports an outcome for each of the jobs.
    pub(crate) async fn report<'a>(
        &mut self,
        jobs: impl IntoIterator<Item = &'a Assignment>,
        outcome: Outcome,
    ) -> Vec<Verdict> {
        let completion = |job| completion(job, outcome.clone());
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
        let request = self.heartbeat_request(held);
        Ok(self.client.heartbeat(request).await?.into_inner())
    }

    /// A heartbeat with new credit.
    pub(crate) async fn set_credit(&mut self, credit: u32) {
        let request =
            HeartbeatRequest { max_in_flight: Some(credit), ..self.heartbeat_request([]) };
        self.client.heartbeat(request).await.unwrap();
    }

    /// Sends heartbeats that acknowledge what has been received until now, for as long as it is
    /// polled.
    pub(crate) fn beats(&self) -> impl Future<Output = Infallible> + use<> {
        let (mut client, request) = (self.client.clone(), self.heartbeat_request([]));
        async move {
            loop {
                client.heartbeat(request.clone()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn heartbeat_request<'a>(
        &self,
        held: impl IntoIterator<Item = &'a Assignment>,
    ) -> HeartbeatRequest {
        HeartbeatRequest {
            session_id: self.welcome.session_id.clone(),
            epoch: self.welcome.epoch,
            received_seq: self.received_seq,
            held: held.into_iter().map(attempt).collect(),
            max_in_flight: None,
        }
    }
}

/// What a worker reports of a job that it has done.
pub(crate) fn success(job: &Assignment) -> Completion {
    completion(job, Outcome::Succeeded(Succeeded::default()))
}

fn completion(job: &Assignment, outcome: Outcome) -> Completion {
    Completion { job_id: job.job_id, attempt: job.attempt, outcome: Some(outcome) }
}

/// What a worker presents for a job that it holds.
pub(crate) fn attempt(job: &Assignment) -> Attempt {
    Attempt { job_id: job.job_id, attempt: job.attempt }
}
