//! Generated types to the domain's and back. Every field is named, so that a new one fails to compile
//! until somebody decides what it means.

use currant_proto::v1 as pb;

use super::{
    check::{self, AHEAD_MS_MAX},
    convert_retry::retry_policy,
    convert_unique,
};
use crate::domain::{
    Attempt, Completion, Failure, JobId, JobOptions, NewJob, Outcome, QueueId, Start, TakenJob,
    Verdict,
};

const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 64;
pub(super) const TEXT_CHARS_MAX: usize = 128;
pub(super) const ATTEMPTS_MAX: u32 = 1000;
pub(super) const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
const METADATA_CHARS_MAX: usize = 256;
const ERROR_BYTES_MAX: usize = 16 * 1024;
const CLASS_BYTES_MAX: usize = 128;
const DETAILS_BYTES_MAX: usize = 8 * 1024;

/// What a job's check depends on.
pub(super) struct Defaults {
    /// The request names a queue for those that don't.
    pub(super) queue: bool,
    pub(super) kind: bool,
    pub(super) payload_bytes_max: usize,
    /// Microseconds since 1970.
    pub(super) now: i64,
}

/// Says what is wrong with a job, field by field.
pub(super) fn check_new_job(
    job: &pb::NewJob,
    defaults: &Defaults,
    mut wrong: impl FnMut(&str, String),
) {
    let pb::NewJob {
        queue,
        kind,
        payload,
        content_type,
        priority,
        start,
        expiry,
        max_attempts,
        retry,
        timeout,
        tags,
        traceparent,
        metadata,
        unique,
        key,
    } = job;
    let mut see = |field: &str, result: Result<(), String>| {
        if let Err(problem) = result {
            wrong(field, problem);
        }
    };
    if !(queue.is_empty() && defaults.queue) {
        see("queue", check::name(queue));
    }
    if !(kind.is_empty() && defaults.kind) {
        see("kind", check::name(kind));
    }
    see("payload", check::bytes(payload, defaults.payload_bytes_max));
    if let Some(priority) = priority {
        see("priority", check::priority(*priority).map(drop));
    }
    match start {
        None => {}
        Some(pb::new_job::Start::RunAt(at)) => {
            see("run_at", check::time_micros(at, defaults.now).map(drop));
        }
        Some(pb::new_job::Start::Delay(delay)) => {
            see("delay", check::duration_ms(delay, 0, AHEAD_MS_MAX).map(drop));
        }
    }
    see("expiry", expires_at(expiry.as_ref(), start.as_ref(), defaults.now).map(drop));
    if *max_attempts > ATTEMPTS_MAX {
        see("max_attempts", Err(format!("1 to {ATTEMPTS_MAX}; this is {max_attempts}")));
    }
    if let Some(timeout) = timeout {
        see("timeout", check::duration_ms(timeout, 1, TIMEOUT_MS_MAX).map(drop));
    }
    if let Some(retry) = retry {
        see("retry", retry_policy(retry).map(drop));
    }
    if !content_type.is_empty() {
        see("content_type", check::text(content_type, TEXT_CHARS_MAX));
    }
    if !traceparent.is_empty() {
        see("traceparent", check::text(traceparent, TEXT_CHARS_MAX));
    }
    see("tags", check::count(tags.len(), 0, TAGS_MAX));
    for tag in tags.iter().take(TAGS_MAX) {
        see("tags", check::text(tag, TAG_CHARS_MAX));
    }
    see("metadata", check::count(metadata.len(), 0, TAGS_MAX));
    for (name, value) in metadata.iter().take(TAGS_MAX) {
        see("metadata", check::metadata_name(name, TAG_CHARS_MAX));
        see("metadata", check::text(value, METADATA_CHARS_MAX));
    }
    if let Some(one_job) = unique {
        see("unique", convert_unique::unique(one_job).map(drop));
    }
    see("key", check::text(key, TEXT_CHARS_MAX));
}

/// A job that `check_new_job` found nothing wrong with. With its queue comes the default for priority.
pub(super) fn new_job(
    job: pb::NewJob,
    (queue, default_priority): (QueueId, i16),
    default_kind: &str,
    now: i64,
) -> NewJob {
    let pb::NewJob {
        queue: _,
        kind,
        payload,
        content_type,
        priority,
        start,
        expiry,
        max_attempts,
        retry,
        timeout,
        tags,
        traceparent,
        metadata,
        unique: one_job,
        key,
    } = job;
    let expires_at = expires_at(expiry.as_ref(), start.as_ref(), now).ok().flatten();
    let start = match start {
        None => Start::Now,
        Some(pb::new_job::Start::RunAt(at)) => {
            Start::AtMicros(at.seconds * 1_000_000 + i64::from(at.nanos / 1000))
        }
        Some(pb::new_job::Start::Delay(delay)) => {
            Start::AfterMicros(delay.seconds * 1_000_000 + i64::from(delay.nanos / 1000))
        }
    };
    let options = JobOptions {
        retry: retry.and_then(|retry| retry_policy(&retry).ok().flatten()),
        timeout_ms: timeout
            .and_then(|timeout| check::duration_ms(&timeout, 1, TIMEOUT_MS_MAX).ok()),
        expires_at,
        content_type,
        tags,
        metadata,
        traceparent,
        call_jobs: None,
    };
    NewJob {
        queue,
        kind: if kind.is_empty() { default_kind.to_owned() } else { kind },
        payload,
        priority: priority
            .and_then(|priority| i16::try_from(priority).ok())
            .unwrap_or(default_priority),
        start,
        max_attempts: u16::try_from(max_attempts).ok().filter(|max| *max > 0),
        options: (options != JobOptions::default()).then(|| Box::new(options)),
        unique: one_job.and_then(|one| convert_unique::unique(&one).ok()).map(Box::new),
        key: (!key.is_empty()).then(|| key.into()),
    }
}

/// After when a job doesn't start, in microseconds since 1970.
fn expires_at(
    expiry: Option<&pb::new_job::Expiry>,
    start: Option<&pb::new_job::Start>,
    now: i64,
) -> Result<Option<i64>, String> {
    let after = |delay: &prost_types::Duration, min| {
        let ms = check::duration_ms(delay, min, AHEAD_MS_MAX)?;
        Ok::<_, String>(now.saturating_add(i64::try_from(ms * 1000).unwrap_or(i64::MAX)))
    };
    let at = match expiry {
        None => return Ok(None),
        Some(pb::new_job::Expiry::ExpireAt(at)) => check::time_micros(at, now)?,
        Some(pb::new_job::Expiry::ExpireAfter(delay)) => after(delay, 1)?,
    };
    let starts_at = match start {
        None => Ok(i64::MIN),
        Some(pb::new_job::Start::RunAt(at)) => check::time_micros(at, now),
        Some(pb::new_job::Start::Delay(delay)) => after(delay, 0),
    };
    // What is wrong with the start is its own problem.
    if starts_at.is_ok_and(|starts_at| at < starts_at) {
        return Err("not before it may start".to_owned());
    }
    Ok(Some(at))
}

/// A completion, or what is wrong with it: field and problem.
pub(super) fn completion(
    completion: pb::Completion,
    result_bytes_max: usize,
) -> Result<Completion, (&'static str, String)> {
    let pb::Completion { job_id, attempt, outcome } = completion;
    let attempt = attempt_of(job_id, attempt).map_err(|problem| ("attempt", problem))?;
    let outcome = match outcome {
        None => return Err(("outcome", "one has to be set".to_owned())),
        Some(pb::completion::Outcome::Succeeded(pb::Succeeded { result })) => {
            check::bytes(&result, result_bytes_max)
                .map_err(|problem| ("succeeded.result", problem))?;
            Outcome::Succeeded { result }
        }
        Some(pb::completion::Outcome::Failed(failed)) => {
            let pb::Failed { error, discard, retry_after, class, details } = failed;
            let retry_after_ms = retry_after
                .map(|after| check::duration_ms(&after, 0, AHEAD_MS_MAX))
                .transpose()
                .map_err(|problem| ("failed.retry_after", problem))?;
            let error = Failure {
                class: cut(class, CLASS_BYTES_MAX),
                message: cut(error, ERROR_BYTES_MAX),
                details: cut(details, DETAILS_BYTES_MAX),
            };
            Outcome::Failed { error, discard, retry_after_ms }
        }
        Some(pb::completion::Outcome::Snoozed(pb::Snoozed { delay })) => {
            let delay_ms = delay
                .map(|delay| check::duration_ms(&delay, 0, AHEAD_MS_MAX))
                .transpose()
                .map_err(|problem| ("snoozed.delay", problem))?;
            Outcome::Snoozed { delay_ms: delay_ms.unwrap_or_default() }
        }
        Some(pb::completion::Outcome::Released(pb::Released {})) => Outcome::Released,
        Some(pb::completion::Outcome::Cancelled(pb::Cancelled {})) => Outcome::Cancelled,
        Some(pb::completion::Outcome::Committed(pb::Committed {})) => Outcome::Committed,
    };
    Ok(Completion { attempt, outcome })
}

/// Text about an error, so that it can be stored.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    text
}

pub(super) fn attempts(held: Vec<pb::Attempt>) -> Result<Vec<Attempt>, (usize, String)> {
    held.into_iter()
        .enumerate()
        .map(|(index, pb::Attempt { job_id, attempt })| {
            attempt_of(job_id, attempt).map_err(|problem| (index, problem))
        })
        .collect()
}

pub(super) fn attempt_of(job_id: i64, attempt: u32) -> Result<Attempt, String> {
    i32::try_from(attempt)
        .ok()
        .filter(|number| *number > 0)
        .map(|number| Attempt { id: JobId(job_id), number })
        .ok_or_else(|| format!("1 to {}; this is {attempt}", i32::MAX))
}

pub(super) fn pb_attempts(attempts: Vec<Attempt>) -> Vec<pb::Attempt> {
    let attempt =
        |Attempt { id, number }| pb::Attempt { job_id: id.0, attempt: number.cast_unsigned() };
    attempts.into_iter().map(attempt).collect()
}

/// The defaults are the queue's.
pub(super) fn assignment(
    job: TakenJob,
    default_max_attempts: u16,
    default_timeout_ms: Option<u64>,
) -> pb::Assignment {
    let TakenJob {
        id,
        attempt,
        priority,
        failures,
        max_attempts,
        run_at: _,
        kind,
        payload,
        options,
        key,
    } = job;
    let JobOptions {
        retry: _,
        expires_at: _,
        timeout_ms,
        content_type,
        tags,
        metadata,
        traceparent,
        call_jobs: _,
    } = options.map(|options| *options).unwrap_or_default();
    pb::Assignment {
        job_id: id.0,
        attempt: attempt.cast_unsigned(),
        kind,
        payload,
        content_type,
        priority: i32::from(priority),
        failures: u32::from(failures),
        max_attempts: u32::from(max_attempts.unwrap_or(default_max_attempts)),
        timeout: timeout_ms.or(default_timeout_ms).map(duration),
        tags,
        traceparent,
        metadata,
        key: key.map_or_else(String::new, |key| key.as_ref().to_owned()),
    }
}

pub(super) fn verdict(verdict: Verdict) -> pb::Verdict {
    match verdict {
        Verdict::Applied => pb::Verdict::Applied,
        Verdict::Duplicate => pb::Verdict::Duplicate,
        Verdict::Stale => pb::Verdict::Stale,
        Verdict::NotFound => pb::Verdict::NotFound,
    }
}

pub(super) fn duration(ms: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1000).unwrap_or_default() * 1_000_000,
    }
}
