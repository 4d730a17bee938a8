use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use currant_proto::v1;
use serde::de::DeserializeOwned;

use crate::{
    error::Error,
    job::JobId,
    progress::JobProgress,
    retry_policy::RetryPolicy,
    time::{from_proto, from_timestamp},
};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Waits for its time, or for its next attempt after a failure.
    Scheduled,
    /// May start.
    Ready,
    /// Taken by a broker for a worker, or held by a worker.
    Running,
    /// Final: a worker reported success.
    Succeeded,
    /// Final: it failed `max_attempts` times, or a worker said that no retry will help.
    Dead,
    /// Final: cancelled before it succeeded.
    Cancelled,
    /// A state that this version of the SDK doesn't know.
    Unknown,
}

impl JobState {
    /// Whether the job is over; only a [retry](crate::Client::retry) brings it back.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Dead | JobState::Cancelled)
    }

    pub(crate) fn from_proto(state: v1::JobState) -> JobState {
        match state {
            v1::JobState::Unspecified => JobState::Unknown,
            v1::JobState::Scheduled => JobState::Scheduled,
            v1::JobState::Ready => JobState::Ready,
            v1::JobState::Running => JobState::Running,
            v1::JobState::Succeeded => JobState::Succeeded,
            v1::JobState::Dead => JobState::Dead,
            v1::JobState::Cancelled => JobState::Cancelled,
        }
    }

    pub(crate) fn into_proto(self) -> v1::JobState {
        match self {
            JobState::Unknown => v1::JobState::Unspecified,
            JobState::Scheduled => v1::JobState::Scheduled,
            JobState::Ready => v1::JobState::Ready,
            JobState::Running => v1::JobState::Running,
            JobState::Succeeded => v1::JobState::Succeeded,
            JobState::Dead => v1::JobState::Dead,
            JobState::Cancelled => v1::JobState::Cancelled,
        }
    }
}

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It failed for good.
    #[error("the job is dead: {error}")]
    Dead {
        /// The error of the last attempt.
        error: String,
    },
    /// It was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// It isn't over.
    #[error("the job is {state:?}")]
    Open {
        /// Where it stands.
        state: JobState,
    },
    /// Its result is something else.
    #[error("the job's result can't be read")]
    Result(#[source] serde_json::Error),
}

/// A job as stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredJob {
    /// The job.
    pub id: JobId,
    /// The queue that it is in.
    pub queue: String,
    /// What a worker registers a handler for.
    pub kind: String,
    /// The work itself.
    pub payload: Bytes,
    /// MIME type of the payload; empty if the client didn't say.
    pub content_type: String,
    /// -100 to 100; higher runs first.
    pub priority: i32,
    /// Where it stands.
    pub state: JobState,
    /// The number of the current or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Attempts that count against `max_attempts`.
    pub failures: u32,
    /// After so many failures the job is dead.
    pub max_attempts: u32,
    /// When it may start; None if it could at once.
    pub run_at: Option<SystemTime>,
    /// When it was stored.
    pub created_at: Option<SystemTime>,
    /// When the current or last attempt was taken; None before the first.
    pub claimed_at: Option<SystemTime>,
    /// Set in the final states.
    pub finished_at: Option<SystemTime>,
    /// What the worker returned with success; empty for nothing.
    pub result: Bytes,
    /// The error of the last failed attempt.
    pub error: String,
    /// How long one attempt may run. None: no limit.
    pub timeout: Option<Duration>,
    /// After it no attempt begins.
    pub expire_at: Option<SystemTime>,
    /// None: its kind's or the queue's default.
    pub retry: Option<RetryPolicy>,
    /// As given by the client.
    pub tags: Vec<String>,
    /// As given by the client.
    pub metadata: BTreeMap<String, String>,
    /// W3C trace context of the client.
    pub traceparent: String,
    /// Whose job it is; empty if the client didn't say.
    pub key: String,
    /// Its failed attempts, in order: the last 32 at most, and only in the answer of
    /// [`Client::get`](crate::Client::get).
    pub failed_attempts: Vec<FailedAttempt>,
    /// What its worker has reported last; not in listings.
    pub progress: Option<JobProgress>,
    /// The token has [`Scope::View`](crate::Scope::View) and not `Read`: payload, result and error are left
    /// out, and of failed attempts error and details.
    pub hidden: bool,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// Its number.
    pub attempt: u32,
    /// When it failed.
    pub failed_at: Option<SystemTime>,
    /// The name of the worker that had it; empty if that isn't known.
    pub worker: String,
    /// The first 8 digits of that worker's session; empty if that isn't known.
    pub session_id: String,
    /// What sort of error it was: the name of its type where a handler returned it through `?`;
    /// `worker_lost` or `timeout` where the broker failed the attempt.
    pub class: String,
    /// The error, cut at 2,000 characters.
    pub error: String,
    /// More about it.
    pub details: String,
}

impl FailedAttempt {
    pub(crate) fn from_proto(failed: v1::FailedAttempt) -> Result<FailedAttempt, Error> {
        let v1::FailedAttempt { attempt, failed_at, worker, session_id, class, error, details } =
            failed;
        let failed_at = from_timestamp(failed_at)?;
        Ok(FailedAttempt { attempt, failed_at, worker, session_id, class, error, details })
    }
}

impl StoredJob {
    /// What became of the job: the result of its typed handler, or why there is none.
    pub fn outcome<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        match self.state {
            JobState::Succeeded => self.result_json().map_err(JobError::Result),
            JobState::Dead => Err(JobError::Dead { error: self.error.clone() }),
            JobState::Cancelled => Err(JobError::Cancelled),
            state => Err(JobError::Open { state }),
        }
    }

    /// The payload of a job that was made with [`NewJob::json`](crate::NewJob::json).
    pub fn payload_json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.payload)
    }

    /// The result of a typed handler. An empty result is read as JSON `null`, see
    /// [`WorkerBuilder::handler`](crate::WorkerBuilder::handler).
    pub fn result_json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        let result: &[u8] = if self.result.is_empty() { b"null" } else { &self.result };
        serde_json::from_slice(result)
    }

    pub(crate) fn from_proto(job: v1::Job) -> Result<StoredJob, Error> {
        let state = JobState::from_proto(job.state());
        let v1::Job {
            job_id,
            queue,
            kind,
            payload,
            content_type,
            priority,
            state: _,
            attempt,
            failures,
            max_attempts,
            run_at,
            created_at,
            claimed_at,
            finished_at,
            result,
            error,
            timeout,
            expire_at,
            retry,
            tags,
            traceparent,
            metadata,
            progress,
            key,
            hidden,
        } = job;
        Ok(StoredJob {
            id: JobId(job_id),
            queue,
            kind,
            payload,
            content_type,
            priority,
            state,
            attempt,
            failures,
            max_attempts,
            run_at: from_timestamp(run_at)?,
            created_at: from_timestamp(created_at)?,
            claimed_at: from_timestamp(claimed_at)?,
            finished_at: from_timestamp(finished_at)?,
            result,
            error,
            timeout: from_proto(timeout),
            expire_at: from_timestamp(expire_at)?,
            retry: retry.and_then(RetryPolicy::from_proto),
            tags,
            metadata,
            traceparent,
            key,
            failed_attempts: Vec::new(),
            progress: progress.map(JobProgress::from_proto).transpose()?,
            hidden,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_stored_job_keeps_its_fields() {
        let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
        let job = StoredJob::from_proto(v1::Job {
            job_id: 9,
            state: v1::JobState::Dead.into(),
            finished_at: Some(time),
            error: "no".into(),
            ..v1::Job::default()
        })
        .unwrap();
        assert_eq!((job.id, job.state, &*job.error), (JobId(9), JobState::Dead, "no"));
        assert!(job.state.is_final() && job.created_at.is_none());
        let finished = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(job.finished_at, Some(finished));
        assert_eq!(job.result_json::<Option<u8>>().unwrap(), None);
    }

    #[test]
    fn an_absurd_time_is_an_error() {
        let absurd = Some(prost_types::Timestamp { seconds: i64::MIN, nanos: 0 });
        let job = v1::Job { run_at: absurd, ..v1::Job::default() };
        assert!(matches!(StoredJob::from_proto(job), Err(Error::Protocol(_))));
    }
}
