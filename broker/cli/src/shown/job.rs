use currant_worker_sdk::{Explanation, FailedAttempt, JobProgress, JobState, StoredJob};
use serde_json::{Value, json};

use super::{bytes, duration, queue, time};
use crate::values::{show_duration, show_time};

pub(crate) const HEAD: &[&str] = &["ID", "STATE", "KIND", "PRIORITY", "ATTEMPT", "STORED", "ERROR"];

/// Of an error in a row.
const ERROR_CHARS: usize = 60;

pub(crate) fn state(state: JobState) -> &'static str {
    match state {
        JobState::Scheduled => "scheduled",
        JobState::Ready => "ready",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Dead => "dead",
        JobState::Cancelled => "cancelled",
        _ => "unknown",
    }
}

pub(crate) fn row(job: &StoredJob) -> Vec<String> {
    let error = job.error.lines().next().unwrap_or_default();
    vec![
        job.id.to_string(),
        state(job.state).to_owned(),
        job.kind.clone(),
        job.priority.to_string(),
        job.attempt.to_string(),
        show_time(job.created_at),
        error.chars().take(ERROR_CHARS).collect(),
    ]
}

pub(crate) fn explanation(why: &Explanation) -> Value {
    json!({
        "reason": format!("{:?}", why.reason),
        "message": why.message,
        "state": state(why.state),
        "until": time(why.until),
        "jobs_ahead": why.jobs_ahead,
        "running": why.running,
        "limit": why.limit,
        "broker": why.broker,
        "worker": why.worker,
        "held_up_by": why.held_up_by.map(|id| id.to_string()),
    })
}

/// A line for each change.
pub(crate) fn change(job: &StoredJob) -> String {
    let attempt =
        if job.attempt > 0 { format!(", attempt {}", job.attempt) } else { String::new() };
    let told = match job.state {
        JobState::Succeeded => bytes::text(&job.result),
        JobState::Scheduled | JobState::Dead => job.error.clone(),
        // That of an attempt before says nothing of this one.
        JobState::Running => match &job.progress {
            Some(progress) if progress.attempt == job.attempt => progress_text(progress),
            _ => String::new(),
        },
        _ => String::new(),
    };
    let told = if told.is_empty() { told } else { format!(": {told}") };
    format!("{}{attempt}{told}", state(job.state))
}

/// `42 % row 4200`
fn progress_text(progress: &JobProgress) -> String {
    let JobProgress { percent, message, .. } = progress;
    let percent = percent.map(|percent| format!("{} %", (percent * 10.0).round() / 10.0));
    let message = Some(message.clone()).filter(|message| !message.is_empty());
    percent.into_iter().chain(message).collect::<Vec<String>>().join(" ")
}

fn progress_json(progress: &JobProgress) -> Value {
    json!({
        "attempt": progress.attempt,
        "percent": progress.percent,
        "message": progress.message,
        "reported_at": time(progress.reported_at),
    })
}

pub(crate) fn fields(job: &StoredJob) -> Vec<(&'static str, String)> {
    let metadata = job.metadata.iter().map(|(name, value)| format!("{name}={value}"));
    let tags: Vec<String> = job.tags.iter().cloned().chain(metadata).collect();
    let progress = job.progress.as_ref().map(|progress| {
        let said = Some(progress_text(progress)).filter(|said| !said.is_empty());
        let attempt = format!("attempt {}", progress.attempt);
        said.into_iter().chain([attempt]).collect::<Vec<String>>().join(", ")
    });
    let failed: Vec<String> = job.failed_attempts.iter().map(failed_line).collect();
    vec![
        ("id", job.id.to_string()),
        ("queue", job.queue.clone()),
        ("kind", job.kind.clone()),
        ("state", state(job.state).to_owned()),
        ("priority", job.priority.to_string()),
        ("attempt", job.attempt.to_string()),
        ("failures", format!("{} of {}", job.failures, job.max_attempts)),
        ("progress", progress.unwrap_or_default()),
        ("stored", show_time(job.created_at)),
        ("starts", show_time(job.run_at)),
        ("taken", show_time(job.claimed_at)),
        ("finished", show_time(job.finished_at)),
        ("timeout", show_duration(job.timeout)),
        ("expires", show_time(job.expire_at)),
        ("retry", job.retry.as_ref().map(queue::retry_text).unwrap_or_default()),
        ("tags", tags.join(", ")),
        ("trace", job.traceparent.clone()),
        ("key", job.key.clone()),
        ("content type", job.content_type.clone()),
        ("hidden", if job.hidden { "payload, result, errors" } else { "" }.to_owned()),
        ("payload", bytes::text(&job.payload)),
        ("result", bytes::text(&job.result)),
        ("error", job.error.clone()),
        ("failed", failed.join("\n")),
    ]
}

fn failed_line(failed: &FailedAttempt) -> String {
    let FailedAttempt { attempt, failed_at, worker, class, error, .. } = failed;
    let worker = if worker.is_empty() { String::new() } else { format!(" at {worker}") };
    let class = if class.is_empty() { String::new() } else { format!(" {class}") };
    format!("attempt {attempt}, {}{worker}:{class} {error}", show_time(*failed_at))
}

pub(crate) fn json(job: &StoredJob) -> Value {
    let failed = |failed: &FailedAttempt| {
        json!({
            "attempt": failed.attempt,
            "failed_at": time(failed.failed_at),
            "worker": failed.worker,
            "session_id": failed.session_id,
            "class": failed.class,
            "error": failed.error,
            "details": failed.details,
        })
    };
    json!({
        "id": job.id.to_string(),
        "queue": job.queue,
        "kind": job.kind,
        "state": state(job.state),
        "priority": job.priority,
        "attempt": job.attempt,
        "failures": job.failures,
        "max_attempts": job.max_attempts,
        "created_at": time(job.created_at),
        "run_at": time(job.run_at),
        "claimed_at": time(job.claimed_at),
        "finished_at": time(job.finished_at),
        "timeout_ms": duration(job.timeout),
        "expire_at": time(job.expire_at),
        "retry": queue::retry_json(job.retry.as_ref()),
        "tags": job.tags,
        "metadata": job.metadata,
        "traceparent": job.traceparent,
        "key": job.key,
        "hidden": job.hidden,
        "content_type": job.content_type,
        "payload": bytes::json(&job.payload, job.content_type == "application/json"),
        "result": bytes::json(&job.result, true),
        "error": job.error,
        "progress": job.progress.as_ref().map(progress_json),
        "failed_attempts": job.failed_attempts.iter().map(failed).collect::<Vec<Value>>(),
    })
}
