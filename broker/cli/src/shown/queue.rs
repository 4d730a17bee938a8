use std::{collections::BTreeMap, time::Duration};

use currant_worker_sdk::{
    JobCount, Keep, Queue, QueueSettings, QueueStats, RateLimit, RetryPolicy, Waits,
};
use serde_json::{Value, json};

use super::{duration, optional, time};
use crate::values::{show_duration, show_time};

pub(crate) const HEAD: &[&str] =
    &["QUEUE", "PAUSED", "PRIORITY", "MAX-ATTEMPTS", "TIMEOUT", "KEEP-SUCCEEDED", "KEEP-DEAD"];

pub(crate) const STATS_HEAD: &[&str] = &[
    "QUEUE",
    "READY",
    "RUNNING",
    "SCHEDULED",
    "DEAD",
    "OLDEST",
    "IN/S",
    "OUT/S",
    "SESSIONS",
    "SUCCEEDED",
    "CANCELLED",
];

pub(crate) fn row(queue: &Queue) -> Vec<String> {
    let effective = &queue.effective;
    vec![
        queue.name.clone(),
        show_time(queue.paused_at),
        optional(effective.priority),
        optional(effective.max_attempts),
        show_duration(effective.timeout),
        keep_text(effective.keep_succeeded),
        keep_text(effective.keep_dead),
    ]
}

/// What holds for its jobs; what it says itself is marked.
pub(crate) fn fields(queue: &Queue) -> Vec<(&'static str, String)> {
    let all = settings_text(&queue.effective).into_iter().zip(settings_text(&queue.settings));
    let settings = all.map(|((name, holds), (_, own))| {
        let whose = if holds.is_empty() || !own.is_empty() { "" } else { "  (of the broker)" };
        (name, format!("{holds}{whose}"))
    });
    let first = [("queue", queue.name.clone()), ("paused", show_time(queue.paused_at))];
    first.into_iter().chain(settings).collect()
}

fn settings_text(settings: &QueueSettings) -> [(&'static str, String); 14] {
    let QueueSettings { priority, max_attempts, timeout, retry, concurrency_max, rate, .. } =
        settings;
    [
        ("priority", optional(*priority)),
        ("max attempts", optional(*max_attempts)),
        ("timeout", show_duration(*timeout)),
        ("retry", retry.as_ref().map(retry_text).unwrap_or_default()),
        ("retry by kind", by_kind_text(&settings.retry_by_kind)),
        ("keep succeeded", keep_text(settings.keep_succeeded)),
        ("keep cancelled", keep_text(settings.keep_cancelled)),
        ("keep dead", keep_text(settings.keep_dead)),
        ("concurrency max", optional(*concurrency_max)),
        ("rate", rate.map(rate_text).unwrap_or_default()),
        ("key concurrency max", optional(settings.key_concurrency_max)),
        ("key rate", settings.key_rate.map(rate_text).unwrap_or_default()),
        ("key ordered", if settings.key_ordered { "yes".to_owned() } else { String::new() }),
        ("key weights", weights_text(&settings.key_weights)),
    ]
}

/// A line for each kind.
fn by_kind_text(policies: &BTreeMap<String, RetryPolicy>) -> String {
    let policies = policies.iter().map(|(kind, policy)| format!("{kind}: {}", retry_text(policy)));
    policies.collect::<Vec<String>>().join("\n")
}

fn weights_text(weights: &BTreeMap<String, u32>) -> String {
    let weights: Vec<String> =
        weights.iter().map(|(key, weight)| format!("{key} {weight}")).collect();
    weights.join(", ")
}

fn rate_text(rate: RateLimit) -> String {
    let RateLimit { jobs, period, burst } = rate;
    format!("{jobs} in {}, {burst} at once", show_duration(Some(period)))
}

pub(crate) fn retry_text(retry: &RetryPolicy) -> String {
    let time = |name: &str, time: Option<Duration>| {
        time.map(|time| format!("{name}{}", show_duration(Some(time))))
    };
    let jitter = retry.jitter.map(|jitter| format!("jitter {jitter}"));
    let parts = match &retry.waits {
        Waits::Exponential { base_delay, max_delay, factor } => [
            time("after ", *base_delay),
            time("at most ", *max_delay),
            Some(*factor).filter(|factor| *factor > 0.0).map(|factor| format!("factor {factor}")),
            jitter,
        ],
        Waits::Linear { base_delay, step, max_delay } => [
            time("after ", *base_delay),
            time("at most ", *max_delay),
            time("step ", *step),
            jitter,
        ],
        Waits::Fixed { delay } => [time("always ", *delay), jitter, None, None],
        Waits::List { delays } => {
            let delays: Vec<String> = delays.iter().map(|d| show_duration(Some(*d))).collect();
            [Some(delays.join(", then ")), jitter, None, None]
        }
        _ => [Some("unknown".to_owned()), jitter, None, None],
    };
    parts.into_iter().flatten().collect::<Vec<String>>().join(", ")
}

pub(crate) fn retry_json(retry: Option<&RetryPolicy>) -> Value {
    let Some(RetryPolicy { waits, jitter, .. }) = retry else { return Value::Null };
    match waits {
        Waits::Exponential { base_delay, max_delay, factor } => json!({
            "base_delay_ms": duration(*base_delay),
            "max_delay_ms": duration(*max_delay),
            "factor": Some(*factor).filter(|factor| *factor > 0.0),
            "jitter": jitter,
        }),
        Waits::Linear { base_delay, step, max_delay } => json!({
            "base_delay_ms": duration(*base_delay),
            "step_ms": duration(*step),
            "max_delay_ms": duration(*max_delay),
            "jitter": jitter,
        }),
        Waits::Fixed { delay } => json!({ "delay_ms": duration(*delay), "jitter": jitter }),
        Waits::List { delays } => {
            let delays: Vec<Value> = delays.iter().map(|d| duration(Some(*d))).collect();
            json!({ "delays_ms": delays, "jitter": jitter })
        }
        _ => Value::Null,
    }
}

fn keep_text(keep: Option<Keep>) -> String {
    match keep {
        None => String::new(),
        Some(Keep::ForEver) => "forever".to_owned(),
        Some(Keep::For(time)) => show_duration(Some(time)),
    }
}

pub(crate) fn json(queue: &Queue) -> Value {
    json!({
        "queue": queue.name,
        "paused_at": time(queue.paused_at),
        "settings": settings_json(&queue.settings),
        "effective": settings_json(&queue.effective),
    })
}

/// 0: for ever.
fn settings_json(settings: &QueueSettings) -> Value {
    let keep = |keep: Option<Keep>| match keep {
        None => Value::Null,
        Some(Keep::ForEver) => json!(0),
        Some(Keep::For(time)) => duration(Some(time)),
    };
    let QueueSettings { priority, max_attempts, timeout, retry, .. } = settings;
    json!({
        "priority": priority,
        "max_attempts": max_attempts,
        "timeout_ms": duration(*timeout),
        "retry": retry_json(retry.as_ref()),
        "retry_by_kind": settings.retry_by_kind.iter()
            .map(|(kind, policy)| (kind.clone(), retry_json(Some(policy))))
            .collect::<serde_json::Map<String, Value>>(),
        "keep_succeeded_ms": keep(settings.keep_succeeded),
        "keep_cancelled_ms": keep(settings.keep_cancelled),
        "keep_dead_ms": keep(settings.keep_dead),
        "concurrency_max": settings.concurrency_max,
        "rate": settings.rate.map(rate_json),
        "key_concurrency_max": settings.key_concurrency_max,
        "key_rate": settings.key_rate.map(rate_json),
        "key_ordered": settings.key_ordered,
        "key_weights": settings.key_weights,
    })
}

fn rate_json(RateLimit { jobs, period, burst }: RateLimit) -> Value {
    json!({ "jobs": jobs, "period_ms": duration(Some(period)), "burst": burst })
}

pub(crate) fn stats_row(name: &str, stats: &QueueStats) -> Vec<String> {
    let count = |count: JobCount| format!("{}{}", if count.exact { "" } else { "~" }, count.jobs);
    vec![
        name.to_owned(),
        count(stats.ready),
        stats.running.to_string(),
        count(stats.scheduled),
        count(stats.dead),
        show_duration(stats.oldest_ready),
        format!("{:.1}", stats.enqueued_per_second),
        format!("{:.1}", stats.completed_per_second),
        stats.sessions.to_string(),
        count(stats.succeeded),
        count(stats.cancelled),
    ]
}

pub(crate) fn stats_json(name: &str, stats: &QueueStats) -> Value {
    let count = |count: JobCount| json!({ "jobs": count.jobs, "exact": count.exact });
    json!({
        "queue": name,
        "ready": count(stats.ready),
        "running": stats.running,
        "scheduled": count(stats.scheduled),
        "succeeded": count(stats.succeeded),
        "dead": count(stats.dead),
        "cancelled": count(stats.cancelled),
        "oldest_ready_ms": duration(stats.oldest_ready),
        "enqueued_per_second": stats.enqueued_per_second,
        "completed_per_second": stats.completed_per_second,
        "sessions": stats.sessions,
    })
}
