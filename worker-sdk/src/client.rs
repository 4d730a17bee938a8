use std::time::Duration;

use currant_proto::v1::{
    ExplainRequest, GetRequest, GetResponse, broker_service_client::BrokerServiceClient,
    job_service_client::JobServiceClient, queue_service_client::QueueServiceClient,
    schedule_service_client::ScheduleServiceClient, token_service_client::TokenServiceClient,
};
use tonic::transport::Channel;

use crate::{
    channel::{DECODE_BYTES_MAX, endpoint, is_tls},
    credentials::{Tls, Token, Transport},
    enqueue_stream::EnqueueStream,
    error::Error,
    explanation::Explanation,
    job::JobId,
    new_job::{NewJob, fresh_key, request},
    retry::with_retry,
    span,
    stored_job::{FailedAttempt, StoredJob},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Enqueues jobs, asks about them and changes their course; the same for queues,
/// schedules, tokens and brokers. Cheap to clone; all clones share one connection.
///
/// Calls that fail for a passing reason (UNAVAILABLE, RESOURCE_EXHAUSTED, a broken connection) are
/// repeated with jittered waits, or after the wait that the broker asks for, until the
/// [`deadline`](Client::deadline). Every enqueue carries an idempotency key, so that repeating it
/// stores nothing twice; but for one with a [unique](NewJob::unique) job in it, which takes no such key: repeated, it
/// finds its own unique jobs as long as they are in the way, and stores the others again.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: JobServiceClient<Transport>,
    pub(crate) queues: QueueServiceClient<Transport>,
    pub(crate) schedules: ScheduleServiceClient<Transport>,
    pub(crate) tokens: TokenServiceClient<Transport>,
    pub(crate) brokers: BrokerServiceClient<Transport>,
    channel: Channel,
    pub(crate) deadline: Duration,
    /// Empty: not said.
    pub(crate) queue: String,
}

impl Client {
    /// Connects to a broker at a URL like `http://127.0.0.1:7070`. Lost connections are made anew by
    /// themselves later; the first one has to succeed: [`Error::Endpoint`], [`Error::Connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<Client, Error> {
        Client::open(url.as_ref(), &Tls::new()).await
    }

    /// The same at a URL of `https://`, with certificates of your own. [`Error::WithoutTls`] at another.
    pub async fn connect_tls(url: impl AsRef<str>, tls: Tls) -> Result<Client, Error> {
        let url = url.as_ref();
        if !is_tls(url) {
            return Err(Error::WithoutTls { url: url.to_owned() });
        }
        Client::open(url, &tls).await
    }

    /// Uses a channel that the caller has made.
    pub fn from_channel(channel: Channel) -> Client {
        Client::over(channel, Token::default())
    }

    /// Sends this token with every call, its secret as `currant-broker token create` prints it.
    /// [`Error::Token`] if that can't be one.
    pub fn token(self, secret: impl AsRef<str>) -> Result<Client, Error> {
        let token = Token::new(secret.as_ref()).ok_or(Error::Token)?;
        let Client { channel, deadline, queue, .. } = self;
        Ok(Client { deadline, queue, ..Client::over(channel, token) })
    }

    fn over(channel: Channel, token: Token) -> Client {
        let calls = token.on(channel.clone());
        let inner = JobServiceClient::new(calls.clone());
        let queues = QueueServiceClient::new(calls.clone());
        let schedules = ScheduleServiceClient::new(calls.clone());
        let tokens = TokenServiceClient::new(calls.clone());
        let brokers = BrokerServiceClient::new(calls);
        Client {
            inner: inner.max_decoding_message_size(DECODE_BYTES_MAX),
            queues: queues.max_decoding_message_size(DECODE_BYTES_MAX),
            schedules: schedules.max_decoding_message_size(DECODE_BYTES_MAX),
            tokens: tokens.max_decoding_message_size(DECODE_BYTES_MAX),
            brokers: brokers.max_decoding_message_size(DECODE_BYTES_MAX),
            channel,
            deadline: DEADLINE,
            queue: String::new(),
        }
    }

    async fn open(url: &str, tls: &Tls) -> Result<Client, Error> {
        let endpoint =
            endpoint(url, tls).map_err(|source| Error::Endpoint { url: url.to_owned(), source })?;
        Ok(Client::from_channel(endpoint.connect().await.map_err(Error::Connect)?))
    }

    /// How long a call is repeated before it fails with [`Error::GaveUp`]. Default 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Client {
        self.deadline = deadline;
        self
    }

    /// A client whose calls about jobs that are stored are all about jobs of this queue: saves the broker
    /// a look into each queue. [`Error::NotFound`] for a job that is in another one.
    pub fn in_queue(&self, queue: impl Into<String>) -> Client {
        Client { queue: queue.into(), ..self.clone() }
    }

    /// Stores one job. When this returns the job is committed and survives any crash.
    pub async fn enqueue(&self, job: NewJob) -> Result<JobId, Error> {
        let ids = self.enqueue_many([job]).await?;
        ids.first().copied().ok_or(Error::Protocol("no id for the job"))
    }

    /// Stores jobs, all or none; their ids in the same order. At most 10,000 jobs and 4 MiB by the
    /// broker's defaults. No jobs: no call, no ids.
    pub async fn enqueue_many(
        &self,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<JobId>, Error> {
        self.enqueue_once(fresh_key(), jobs).await
    }

    /// The same under an idempotency key of your own, at most 64 characters: if a call with this key
    /// and the same queue of its first job is already stored, by this client or by another, nothing
    /// is stored and the ids are those of that call. For calls that a process may make again after
    /// it was restarted. The key is remembered for as long as the first job of the call is kept.
    /// [`Error::InvalidArgument`] if that call had another number of jobs.
    pub async fn enqueue_once(
        &self,
        key: impl Into<String>,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<JobId>, Error> {
        let jobs: Vec<NewJob> = jobs.into_iter().collect();
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let count = jobs.len();
        let around = span::of_enqueue(&jobs);
        let request = around.in_scope(|| request(key.into(), jobs));
        let answer = with_retry(self.deadline, || {
            let (mut inner, request) = (self.inner.clone(), request.clone());
            async move { inner.enqueue(request).await }
        });
        ids(span::during(around, answer).await?.into_inner().job_ids, count)
    }

    /// Opens a stream for enqueues that don't wait for each other. Panics outside of a tokio runtime.
    pub fn enqueue_stream(&self) -> EnqueueStream {
        EnqueueStream::open(self.inner.clone(), self.deadline)
    }

    /// The job as stored. [`Error::NotFound`] if there is none, or none any more.
    pub async fn get(&self, id: JobId) -> Result<StoredJob, Error> {
        let answer = with_retry(self.deadline, || {
            let mut inner = self.inner.clone();
            let request = GetRequest { job_id: id.0, queue: self.queue.clone() };
            async move { inner.get(request).await }
        });
        let GetResponse { job, failed_attempts } = answer.await?.into_inner();
        let job = StoredJob::from_proto(job.ok_or(Error::Protocol("no job in the answer"))?)?;
        let failed = failed_attempts.into_iter().map(FailedAttempt::from_proto);
        Ok(StoredJob { failed_attempts: failed.collect::<Result<_, _>>()?, ..job })
    }

    /// Why the job isn't running, or what it does. [`Error::NotFound`] if there is none.
    pub async fn explain(&self, id: JobId) -> Result<Explanation, Error> {
        let answer = with_retry(self.deadline, || {
            let mut inner = self.inner.clone();
            let request = ExplainRequest { job_id: id.0, queue: self.queue.clone() };
            async move { inner.explain(request).await }
        });
        Explanation::from_proto(answer.await?.into_inner())
    }
}

/// The ids of an answer, one a job.
pub(crate) fn ids(ids: Vec<i64>, jobs: usize) -> Result<Vec<JobId>, Error> {
    if ids.len() != jobs {
        return Err(Error::Protocol("not one id for each job"));
    }
    Ok(ids.into_iter().map(JobId).collect())
}
