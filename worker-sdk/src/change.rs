//! Calls that change the course of jobs that are stored.

use currant_proto::v1::{self, CancelRequest, DeleteRequest, RetryRequest};

use crate::{client::Client, error::Error, job::JobId, retry::with_retry};

/// What a broker takes in one call.
const JOBS_PER_CALL_MAX: usize = 1000;

/// What a cancel did to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelVerdict {
    /// It is cancelled, and no worker has it; or it was cancelled before.
    Cancelled,
    /// It is cancelled, and a worker that has it is being told to stop: its handler's
    /// [`cancellation`](crate::Job::cancellation) fires. Whatever the handler returns changes nothing.
    Requested,
    /// It had succeeded or was dead already.
    Finished,
    /// There is no such job.
    NotFound,
    /// A verdict that this version of the SDK doesn't know.
    Unknown,
}

impl CancelVerdict {
    fn from_proto(verdict: v1::CancelVerdict) -> CancelVerdict {
        match verdict {
            v1::CancelVerdict::Unspecified => CancelVerdict::Unknown,
            v1::CancelVerdict::Cancelled => CancelVerdict::Cancelled,
            v1::CancelVerdict::Requested => CancelVerdict::Requested,
            v1::CancelVerdict::Finished => CancelVerdict::Finished,
            v1::CancelVerdict::NotFound => CancelVerdict::NotFound,
        }
    }
}

/// What a retry did to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryVerdict {
    /// It was dead or cancelled and is ready, with all its attempts.
    Ready,
    /// It waits or runs, perhaps because an earlier call made it ready.
    Open,
    /// It has succeeded.
    Succeeded,
    /// There is no such job.
    NotFound,
    /// A verdict that this version of the SDK doesn't know.
    Unknown,
}

impl RetryVerdict {
    fn from_proto(verdict: v1::RetryVerdict) -> RetryVerdict {
        match verdict {
            v1::RetryVerdict::Unspecified => RetryVerdict::Unknown,
            v1::RetryVerdict::Ready => RetryVerdict::Ready,
            v1::RetryVerdict::Open => RetryVerdict::Open,
            v1::RetryVerdict::Succeeded => RetryVerdict::Succeeded,
            v1::RetryVerdict::NotFound => RetryVerdict::NotFound,
        }
    }
}

/// What a delete did to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteVerdict {
    /// It is gone.
    Deleted,
    /// A broker has taken it for a worker, or a worker has it: cancel it before.
    Running,
    /// There is no such job, or none any more.
    NotFound,
    /// A verdict that this version of the SDK doesn't know.
    Unknown,
}

impl DeleteVerdict {
    fn from_proto(verdict: v1::DeleteVerdict) -> DeleteVerdict {
        match verdict {
            v1::DeleteVerdict::Unspecified => DeleteVerdict::Unknown,
            v1::DeleteVerdict::Deleted => DeleteVerdict::Deleted,
            v1::DeleteVerdict::Running => DeleteVerdict::Running,
            v1::DeleteVerdict::NotFound => DeleteVerdict::NotFound,
        }
    }
}

impl Client {
    /// Cancels a job for good, whether it waits or runs. When this returns it is committed.
    pub async fn cancel(&self, id: JobId) -> Result<CancelVerdict, Error> {
        one(self.cancel_many([id]).await?)
    }

    /// The same for many jobs: a verdict for each, in the same order. Calls of 1,000 jobs, one after the
    /// other: after an error some may be cancelled, and the call can be repeated.
    pub async fn cancel_many(
        &self,
        ids: impl IntoIterator<Item = JobId>,
    ) -> Result<Vec<CancelVerdict>, Error> {
        let mut verdicts = Vec::new();
        for job_ids in calls(ids) {
            let count = job_ids.len();
            let request = CancelRequest { job_ids, queue: self.queue.clone() };
            let answer = with_retry(self.deadline, || {
                let (mut inner, request) = (self.inner.clone(), request.clone());
                async move { inner.cancel(request).await }
            });
            let answer = answer.await?.into_inner();
            counted(answer.verdicts.len(), count)?;
            verdicts.extend(answer.verdicts().map(CancelVerdict::from_proto));
        }
        Ok(verdicts)
    }

    /// Makes a dead or cancelled job ready again. When this returns it is committed.
    pub async fn retry(&self, id: JobId) -> Result<RetryVerdict, Error> {
        one(self.retry_many([id]).await?)
    }

    /// The same for many jobs, as [`Client::cancel_many`].
    pub async fn retry_many(
        &self,
        ids: impl IntoIterator<Item = JobId>,
    ) -> Result<Vec<RetryVerdict>, Error> {
        let mut verdicts = Vec::new();
        for job_ids in calls(ids) {
            let count = job_ids.len();
            let request = RetryRequest { job_ids, queue: self.queue.clone() };
            let answer = with_retry(self.deadline, || {
                let (mut inner, request) = (self.inner.clone(), request.clone());
                async move { inner.retry(request).await }
            });
            let answer = answer.await?.into_inner();
            counted(answer.verdicts.len(), count)?;
            verdicts.extend(answer.verdicts().map(RetryVerdict::from_proto));
        }
        Ok(verdicts)
    }

    /// Deletes a job that is over or waits. When this returns it is committed.
    pub async fn delete(&self, id: JobId) -> Result<DeleteVerdict, Error> {
        one(self.delete_many([id]).await?)
    }

    /// The same for many jobs, as [`Client::cancel_many`].
    pub async fn delete_many(
        &self,
        ids: impl IntoIterator<Item = JobId>,
    ) -> Result<Vec<DeleteVerdict>, Error> {
        let mut verdicts = Vec::new();
        for job_ids in calls(ids) {
            let count = job_ids.len();
            let request = DeleteRequest { job_ids, queue: self.queue.clone() };
            let answer = with_retry(self.deadline, || {
                let (mut inner, request) = (self.inner.clone(), request.clone());
                async move { inner.delete(request).await }
            });
            let answer = answer.await?.into_inner();
            counted(answer.verdicts.len(), count)?;
            verdicts.extend(answer.verdicts().map(DeleteVerdict::from_proto));
        }
        Ok(verdicts)
    }
}

/// The ids of each call.
fn calls(ids: impl IntoIterator<Item = JobId>) -> Vec<Vec<i64>> {
    let ids: Vec<i64> = ids.into_iter().map(|id| id.0).collect();
    ids.chunks(JOBS_PER_CALL_MAX).map(<[i64]>::to_vec).collect()
}

fn counted(verdicts: usize, jobs: usize) -> Result<(), Error> {
    if verdicts == jobs { Ok(()) } else { Err(Error::Protocol("not one verdict for each job")) }
}

fn one<T: Copy>(verdicts: Vec<T>) -> Result<T, Error> {
    verdicts.first().copied().ok_or(Error::Protocol("no verdict for the job"))
}
