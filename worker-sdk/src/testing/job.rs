use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use currant_proto::v1::{self, completion};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use crate::{
    clock,
    handler::HandlerService,
    handler_error::HandlerError,
    job::{Job, JobId},
    new_job::NewJob,
    output::IntoOutput,
    time::from_proto,
    worker::{Worker, run_inline},
};

/// When the job doesn't say, as a queue does.
const MAX_ATTEMPTS: u32 = 25;

/// One attempt at a job, run right here: no broker, no database. The job's timeout holds, and a panic is a
/// failure, as in a worker.
#[derive(Debug)]
#[must_use = "nothing runs until `run` is called"]
pub struct TestJob {
    id: JobId,
    attempt: u32,
    failures: u32,
    job: NewJob,
    checkpoint: Option<Bytes>,
    cancellation: CancellationToken,
}

impl TestJob {
    /// The first attempt at this job. When it may start, its retry policy and its key play no part.
    pub fn new(job: NewJob) -> TestJob {
        TestJob {
            id: JobId((clock::unix_millis() << 22).cast_signed()),
            attempt: 1,
            failures: 0,
            job,
            checkpoint: None,
            cancellation: CancellationToken::new(),
        }
    }

    /// This id instead of one of now.
    pub fn id(mut self, id: JobId) -> TestJob {
        self.id = id;
        self
    }

    /// A later attempt, after so many others of which so many failed.
    pub fn after(mut self, attempts: u32, failures: u32) -> TestJob {
        self.attempt = attempts.saturating_add(1);
        self.failures = failures;
        self
    }

    /// What the attempt before has stored with [`Job::checkpoint`]. Makes it the second one, if it is the first.
    pub fn checkpoint(mut self, state: impl Into<Bytes>) -> TestJob {
        self.checkpoint = Some(state.into());
        self.attempt = self.attempt.max(2);
        self
    }

    /// Cancel it and the handler hears of it by [`Job::cancellation`], as if somebody had cancelled the job:
    /// before the attempt or while it runs.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancellation.clone()
    }

    /// Runs a handler as [`WorkerBuilder::handler`](crate::WorkerBuilder::handler) takes it.
    pub async fn run<T, O, F, Fut>(self, handler: F) -> Ran
    where
        T: DeserializeOwned + Send + 'static,
        O: IntoOutput,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        self.run_service(&HandlerService::json(handler)).await
    }

    /// Runs a handler as [`WorkerBuilder::raw_handler`](crate::WorkerBuilder::raw_handler) takes it.
    pub async fn run_raw<F, Fut>(self, handler: F) -> Ran
    where
        F: Fn(Job<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.run_service(&HandlerService::raw(handler)).await
    }

    /// Runs the handler that this worker has for the job's kind, in its layers. The worker needn't have a broker:
    /// nothing is started.
    pub async fn run_in(self, worker: &Worker) -> Ran {
        match worker.handler(self.job.kind_name()) {
            Some(handler) => self.run_service(&handler).await,
            None => {
                let kind = self.job.kind_name();
                let message = format!("no handler for the kind {kind:?}");
                let failed = Outcome::Failed {
                    class: String::new(),
                    message,
                    details: String::new(),
                    retry_after: None,
                };
                Ran { outcome: failed, progress: Vec::new(), checkpoints: Vec::new() }
            }
        }
    }

    async fn run_service(self, handler: &HandlerService) -> Ran {
        let recorder = Arc::new(Recorder::new(self.checkpoint));
        let (queue, assignment) = assignment(self.id, self.attempt, self.failures, self.job);
        let mut job = Job::from_assignment(assignment, queue, Some(recorder.clone()));
        // A timeout fires the handler's token too, and isn't a cancel.
        job.cancellation = self.cancellation.child_token();
        let outcome = run_inline(handler, job, &self.cancellation).await;
        let said = recorder.said();
        let (progress, checkpoints) = (said.progress, said.checkpoints);
        Ran { outcome: Outcome::from_proto(outcome), progress, checkpoints }
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ran {
    /// What a worker would report.
    pub outcome: Outcome,
    /// What the handler has said of its progress: percent and message.
    pub progress: Vec<(f32, String)>,
    /// The checkpoints that it has stored, the last one last.
    pub checkpoints: Vec<Bytes>,
}

impl Ran {
    /// The result of a typed handler.
    ///
    /// # Panics
    /// If it hasn't succeeded, saying what became of it instead, and if the result is of another type.
    pub fn result_json<T: DeserializeOwned>(&self) -> T {
        let Outcome::Succeeded { result } = &self.outcome else {
            panic!("it has not succeeded: {:?}", self.outcome);
        };
        let result: &[u8] = if result.is_empty() { b"null" } else { result };
        match serde_json::from_slice(result) {
            Ok(result) => result,
            Err(error) => panic!("its result is {}: {error}", String::from_utf8_lossy(result)),
        }
    }
}

/// What a worker would report of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has succeeded.
    Succeeded {
        /// As kept with the job.
        result: Bytes,
    },
    /// It has, and the handler has recorded that itself.
    Committed,
    /// It has failed, and is tried again unless that was once too often.
    Failed {
        /// What sort of error it is; empty if the handler didn't say.
        class: String,
        /// The error.
        message: String,
        /// More about it.
        details: String,
        /// None: after what the job's policy says.
        retry_after: Option<Duration>,
    },
    /// It has failed, and the job is dead.
    Discarded {
        /// What sort of error it is; empty if the handler didn't say.
        class: String,
        /// The error.
        message: String,
        /// More about it.
        details: String,
    },
    /// It runs again later, which is no failure.
    Snoozed {
        /// So much later.
        delay: Duration,
    },
    /// It is ready again, which is no failure.
    Released,
    /// Somebody has cancelled the job, and the handler hasn't succeeded all the same.
    Cancelled,
}

impl Outcome {
    fn from_proto(outcome: completion::Outcome) -> Outcome {
        match outcome {
            completion::Outcome::Succeeded(v1::Succeeded { result }) => {
                Outcome::Succeeded { result }
            }
            completion::Outcome::Committed(_) => Outcome::Committed,
            completion::Outcome::Snoozed(v1::Snoozed { delay }) => {
                Outcome::Snoozed { delay: from_proto(delay).unwrap_or_default() }
            }
            completion::Outcome::Released(_) => Outcome::Released,
            completion::Outcome::Cancelled(_) => Outcome::Cancelled,
            completion::Outcome::Failed(v1::Failed {
                error: message,
                discard,
                retry_after,
                class,
                details,
            }) => match discard {
                true => Outcome::Discarded { class, message, details },
                false => Outcome::Failed {
                    class,
                    message,
                    details,
                    retry_after: from_proto(retry_after),
                },
            },
        }
    }
}

/// As a broker would deliver it.
fn assignment(id: JobId, attempt: u32, failures: u32, job: NewJob) -> (Arc<str>, v1::Assignment) {
    let job = job.into_proto();
    let max_attempts = if job.max_attempts == 0 { MAX_ATTEMPTS } else { job.max_attempts };
    let assignment = v1::Assignment {
        job_id: id.0,
        attempt,
        kind: job.kind,
        payload: job.payload,
        content_type: job.content_type,
        priority: job.priority.unwrap_or_default(),
        failures,
        max_attempts,
        timeout: job.timeout,
        tags: job.tags,
        traceparent: job.traceparent,
        metadata: job.metadata,
        key: job.key,
    };
    (job.queue.into(), assignment)
}

#[cfg(test)]
mod tests;
