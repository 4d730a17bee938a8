//! Waiting for jobs.

use std::time::{Duration, SystemTime};

use currant_proto::v1::{WatchRequest, WatchResponse};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::{
    client::Client,
    clock,
    error::Error,
    job::JobId,
    new_job::NewJob,
    retry::Reconnect,
    stored_job::{JobError, JobState, StoredJob},
};

/// A job that is watched: how it stands, and each change of its state or its progress until it is over.
///
/// Survives the end of its broker: it calls again, and tells what has changed meanwhile. Changes that
/// follow each other quickly may be told as one.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    id: JobId,
    stream: Option<Streaming<WatchResponse>>,
    told: Option<Sight>,
    reconnect: Reconnect,
}

/// What a change is a change of: the state, the attempt, and when the progress was reported.
type Sight = (JobState, u32, Option<SystemTime>);

impl Watch {
    /// The job as it stands, the first time; then waits for the next change. Without its payload; with
    /// the result when it has one. `None`: it is over, and that was told.
    ///
    /// [`Error::NotFound`] if there is no such job, or none any more. [`Error::GaveUp`] if the broker
    /// can't be reached until the client's [`deadline`](Client::deadline). May be dropped while it waits
    /// and called again: nothing gets lost.
    pub async fn next(&mut self) -> Result<Option<StoredJob>, Error> {
        loop {
            if self.told.is_some_and(|(state, ..)| state.is_final()) {
                return Ok(None);
            }
            match self.message().await {
                Ok(WatchResponse { job }) => {
                    self.reconnect.answered();
                    let Some(job) = job else { continue };
                    let job = StoredJob::from_proto(job)?;
                    let sight = sight(&job);
                    if self.told.replace(sight) != Some(sight) {
                        return Ok(Some(job));
                    }
                }
                Err(status) => {
                    self.stream = None;
                    self.reconnect.lost(status).await?;
                }
            }
        }
    }

    async fn message(&mut self) -> Result<WatchResponse, Status> {
        if self.stream.is_none() {
            let request = WatchRequest { job_id: self.id.0, queue: self.client.queue.clone() };
            let mut inner = self.client.inner.clone();
            self.stream = Some(inner.watch(request).await?.into_inner());
        }
        match &mut self.stream {
            Some(stream) => stream.message().await?.ok_or_else(ended),
            None => Err(ended()),
        }
    }
}

fn sight(job: &StoredJob) -> Sight {
    let reported_at = job.progress.as_ref().and_then(|progress| progress.reported_at);
    (job.state, job.attempt, reported_at)
}

/// A stream that ended before the job was over, with a connection or a broker.
fn ended() -> Status {
    Status::new(Code::Unavailable, "the stream of the watch ended")
}

/// Why [`Client::enqueue_and_wait`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The job could not be stored or watched.
    #[error(transparent)]
    Call(#[from] Error),
    /// The job is over, and has no such result.
    #[error("job {id}")]
    Job {
        /// The job.
        id: JobId,
        /// What became of it.
        #[source]
        source: JobError,
    },
    /// The time is over. The job goes on: see [`Client::wait`], [`Client::cancel`].
    #[error("job {id} isn't over after {after:?}")]
    TimedOut {
        /// The job.
        id: JobId,
        /// How long it was waited for.
        after: Duration,
    },
}

impl Client {
    /// Watches a job. The call to the broker is made by [`Watch::next`].
    pub fn watch(&self, id: JobId) -> Watch {
        Watch {
            client: self.clone(),
            id,
            stream: None,
            told: None,
            reconnect: Reconnect::new(self.deadline),
        }
    }

    /// Waits until a job is over, however long that takes, and returns it without its payload. Costs the
    /// database nothing while it waits. Errors as of [`Watch::next`].
    pub async fn wait(&self, id: JobId) -> Result<StoredJob, Error> {
        let mut watch = self.watch(id);
        while let Some(job) = watch.next().await? {
            if job.state.is_final() {
                return Ok(job);
            }
        }
        Err(Error::Protocol("a watch without an end"))
    }

    /// Stores a job, waits until it is over and returns the result of its handler. After `timeout` it
    /// is left alone: [`WaitError::TimedOut`].
    pub async fn enqueue_and_wait<T: DeserializeOwned>(
        &self,
        job: NewJob,
        timeout_after: Duration,
    ) -> Result<T, WaitError> {
        let until = clock::now() + timeout_after;
        let id = self.enqueue(job).await?;
        let rest = until.saturating_duration_since(clock::now());
        let job = timeout(rest, self.wait(id))
            .await
            .map_err(|_| WaitError::TimedOut { id, after: timeout_after })??;
        job.outcome().map_err(|source| WaitError::Job { id, source })
    }
}
