//! Stored jobs as messages.

use bytes::Bytes;
use currant_proto::v1 as pb;

use super::{convert::duration, convert_retry::pb_retry_policy};
use crate::domain::{
    FailedAttempt, Failure, JobOptions, Progress, State, StoredJob, shown_session,
};

/// A state as a request names it.
pub(super) fn state_of(state: i32) -> Option<State> {
    match pb::JobState::try_from(state).ok()? {
        pb::JobState::Unspecified => None,
        pb::JobState::Scheduled => Some(State::Scheduled),
        pb::JobState::Ready => Some(State::Ready),
        pb::JobState::Running => Some(State::Running),
        pb::JobState::Succeeded => Some(State::Succeeded),
        pb::JobState::Dead => Some(State::Dead),
        pb::JobState::Cancelled => Some(State::Cancelled),
    }
}

pub(super) fn state(state: State) -> pb::JobState {
    match state {
        State::Scheduled => pb::JobState::Scheduled,
        State::Ready => pb::JobState::Ready,
        State::Running => pb::JobState::Running,
        State::Succeeded => pb::JobState::Succeeded,
        State::Dead => pb::JobState::Dead,
        State::Cancelled => pb::JobState::Cancelled,
    }
}

/// `queue`: its name and its default for max_attempts.
pub(super) fn job(job: StoredJob, queue: (String, u16)) -> pb::Job {
    let StoredJob {
        key,
        kind,
        payload,
        priority,
        state: current,
        attempt,
        failures,
        max_attempts,
        run_at,
        claimed_at,
        finished_at,
        result,
        error,
        options,
        job_key,
        progress,
    } = job;
    let JobOptions {
        retry,
        timeout_ms,
        expires_at,
        content_type,
        tags,
        metadata,
        traceparent,
        call_jobs: _,
    } = options.map(|options| *options).unwrap_or_default();
    let created = key.id.created_ms() * 1000;
    pb::Job {
        job_id: key.id.0,
        queue: queue.0,
        kind,
        payload,
        content_type,
        priority: i32::from(priority),
        state: state(current).into(),
        attempt: attempt.cast_unsigned(),
        failures: u32::from(failures),
        max_attempts: u32::from(max_attempts.unwrap_or(queue.1)),
        run_at: run_at.map(timestamp),
        created_at: Some(timestamp(created)),
        claimed_at: (attempt > 0).then(|| timestamp(claimed_at.unwrap_or(created))),
        finished_at: finished_at.map(timestamp),
        result: result.unwrap_or_else(Bytes::new),
        error: error.unwrap_or_default(),
        timeout: timeout_ms.map(duration),
        expire_at: expires_at.map(timestamp),
        retry: retry.map(pb_retry_policy),
        tags,
        traceparent,
        metadata,
        progress: progress.map(pb_progress),
        key: job_key.unwrap_or_default(),
        hidden: false,
    }
}

/// Leaves out what it carries, unless the caller may read that.
pub(super) fn shown(reads: bool, job: pb::Job) -> pb::Job {
    if reads {
        return job;
    }
    let (payload, result, error) = Default::default();
    pb::Job { payload, result, error, hidden: true, ..job }
}

fn pb_progress(progress: Progress) -> pb::Progress {
    let Progress { attempt, percent, message, reported_at } = progress;
    pb::Progress {
        attempt: attempt.cast_unsigned(),
        percent,
        message: message.unwrap_or_default(),
        reported_at: Some(timestamp(reported_at)),
    }
}

pub(super) fn failed_attempt(reads: bool, failed: FailedAttempt) -> pb::FailedAttempt {
    let FailedAttempt { attempt, failed_at, worker, session, failure } = failed;
    let Failure { class, message, details } = failure;
    let (error, details) = if reads { (message, details) } else { Default::default() };
    pb::FailedAttempt {
        attempt: attempt.cast_unsigned(),
        failed_at: Some(timestamp(failed_at)),
        worker: worker.unwrap_or_default(),
        // A broker of before has stored all of it.
        session_id: session.as_deref().map(shown_session).unwrap_or_default(),
        class,
        error,
        details,
    }
}

pub(super) fn timestamp(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default() * 1000,
    }
}
