//! Queues to messages and back; as in `convert`, every field is named.

use std::collections::BTreeMap;

use currant_proto::v1 as pb;

use super::{
    check::{self, AHEAD_MS_MAX},
    convert::{ATTEMPTS_MAX, TEXT_CHARS_MAX, TIMEOUT_MS_MAX, duration},
    convert_retry::{pb_retry_policy, retry_by_kind, retry_policy},
    stored::timestamp,
};
use crate::domain::{
    Count, KEY_WEIGHT_MAX, KEY_WEIGHTS_MAX, KeyLimits, KeyWeights, Queue, QueueLimits,
    QueueSettings, QueueStats, RateLimit, Retention,
};

const KEEP_MS_MIN: u64 = 60_000;
const LIMIT_MAX: u32 = 1_000_000;
const PERIOD_MS_MAX: u64 = 86_400_000;

/// The settings, of which `wrong` is told what can't be.
pub(super) fn queue_settings(
    settings: &pb::QueueSettings,
    mut wrong: impl FnMut(&str, String),
) -> QueueSettings {
    let pb::QueueSettings {
        priority,
        max_attempts,
        timeout,
        retry,
        retry_by_kind: by_kind,
        keep_succeeded,
        keep_cancelled,
        keep_dead,
        concurrency_max,
        rate,
        key_concurrency_max,
        key_rate,
        key_ordered,
        key_weights: weights,
    } = settings;
    let priority = priority.map(check::priority).transpose().unwrap_or_else(|problem| {
        wrong("priority", problem);
        None
    });
    if *max_attempts > ATTEMPTS_MAX {
        wrong("max_attempts", format!("1 to {ATTEMPTS_MAX}; this is {max_attempts}"));
    }
    let timeout = timeout.as_ref().map(|timeout| check::duration_ms(timeout, 1, TIMEOUT_MS_MAX));
    let timeout_ms = timeout.transpose().unwrap_or_else(|problem| {
        wrong("timeout", problem);
        None
    });
    let retry = retry.as_ref().map_or(Ok(None), retry_policy).unwrap_or_else(|problem| {
        wrong("retry", problem);
        None
    });
    let by_kind = retry_by_kind(by_kind).unwrap_or_else(|problem| {
        wrong("retry_by_kind", problem);
        BTreeMap::new()
    });
    if *concurrency_max > LIMIT_MAX {
        wrong("concurrency_max", limit_problem(*concurrency_max));
    }
    if *key_concurrency_max > LIMIT_MAX {
        wrong("key_concurrency_max", limit_problem(*key_concurrency_max));
    }
    let key_weights = key_weights(weights).unwrap_or_else(|problem| {
        wrong("key_weights", problem);
        KeyWeights::NONE
    });
    let rate = rate.as_ref().and_then(|rate| rate_limit("rate", rate, &mut wrong));
    let key_rate = key_rate.as_ref().and_then(|rate| rate_limit("key_rate", rate, &mut wrong));
    let said = |max: u32| Some(max).filter(|max| *max > 0);
    let concurrency = said(*concurrency_max);
    let key = KeyLimits {
        concurrency: said(*key_concurrency_max),
        rate: key_rate,
        ordered: *key_ordered,
    };
    let mut kept = |field, value: &Option<prost_types::Duration>| {
        let ms = value.as_ref().map(keep_ms).transpose();
        ms.unwrap_or_else(|problem| {
            wrong(field, problem);
            None
        })
    };
    QueueSettings {
        priority,
        max_attempts: u16::try_from(*max_attempts).ok().filter(|max| *max > 0),
        retry,
        retry_by_kind: by_kind,
        timeout_ms,
        succeeded_ms: kept("keep_succeeded", keep_succeeded),
        cancelled_ms: kept("keep_cancelled", keep_cancelled),
        dead_ms: kept("keep_dead", keep_dead),
        limits: QueueLimits { concurrency, rate, key },
        key_weights,
    }
}

/// Weights of keys, or what is wrong with them.
fn key_weights(weights: &BTreeMap<String, u32>) -> Result<KeyWeights, String> {
    check::count(weights.len(), 0, KEY_WEIGHTS_MAX)?;
    let checked = weights.iter().map(|(key, weight)| {
        let problem = |problem| format!("{key:?}: {problem}");
        if key.is_empty() {
            return Err(problem("1 to 128 characters".to_owned()));
        }
        check::text(key, TEXT_CHARS_MAX).map_err(problem)?;
        let in_range = u16::try_from(*weight).ok().filter(|it| (1..=KEY_WEIGHT_MAX).contains(it));
        let weight =
            in_range.ok_or_else(|| problem(format!("1 to {KEY_WEIGHT_MAX}; this is {weight}")))?;
        Ok((key.as_str().into(), weight))
    });
    checked.collect()
}

fn rate_limit(
    field: &str,
    rate: &pb::RateLimit,
    wrong: &mut impl FnMut(&str, String),
) -> Option<RateLimit> {
    let pb::RateLimit { jobs, period, burst } = rate;
    if !(1..=LIMIT_MAX).contains(jobs) {
        wrong(&format!("{field}.jobs"), limit_problem(*jobs));
    }
    if *burst > LIMIT_MAX {
        wrong(&format!("{field}.burst"), limit_problem(*burst));
    }
    let period_ms = period.as_ref().map(|period| check::duration_ms(period, 1, PERIOD_MS_MAX));
    match period_ms.transpose() {
        Ok(period_ms) => Some(RateLimit {
            jobs: *jobs,
            period_ms: period_ms.unwrap_or(1000),
            burst: if *burst == 0 { *jobs } else { *burst },
        }),
        Err(problem) => {
            wrong(&format!("{field}.period"), problem);
            None
        }
    }
}

fn limit_problem(value: u32) -> String {
    format!("1 to {LIMIT_MAX}; this is {value}")
}

fn keep_ms(value: &prost_types::Duration) -> Result<u64, String> {
    check::duration_ms(value, 0, AHEAD_MS_MAX)
        .ok()
        .filter(|ms| *ms == 0 || *ms >= KEEP_MS_MIN)
        .ok_or_else(|| format!("0 ms, or {KEEP_MS_MIN} ms to {AHEAD_MS_MAX} ms"))
}

pub(super) fn queue(queue: Queue) -> pb::Queue {
    let Queue {
        id: _,
        name,
        version: _,
        paused_at,
        own,
        priority,
        max_attempts,
        retry,
        worker_losses_max: _,
        timeout_ms,
        retention: Retention { succeeded_ms, cancelled_ms, dead_ms },
    } = queue;
    let kept = |ms: Option<i64>| Some(ms.map_or(0, i64::unsigned_abs));
    let effective = QueueSettings {
        priority: Some(priority),
        max_attempts: Some(max_attempts),
        retry: Some(retry),
        retry_by_kind: own.retry_by_kind.clone(),
        timeout_ms,
        succeeded_ms: kept(succeeded_ms),
        cancelled_ms: kept(cancelled_ms),
        dead_ms: kept(dead_ms),
        limits: own.limits,
        key_weights: own.key_weights.clone(),
    };
    pb::Queue {
        name,
        paused_at: paused_at.map(timestamp),
        settings: Some(pb_settings(own)),
        effective: Some(pb_settings(effective)),
    }
}

pub(super) fn stats(stats: QueueStats) -> pb::QueueStatsResponse {
    let QueueStats {
        scheduled,
        ready,
        running,
        succeeded,
        dead,
        cancelled,
        oldest_ready_ms,
        enqueued_per_s,
        completed_per_s,
        sessions,
    } = stats;
    let count = |Count { jobs, exact }| Some(pb::JobCount { jobs, exact });
    pb::QueueStatsResponse {
        scheduled: count(scheduled),
        ready: count(ready),
        running,
        succeeded: count(succeeded),
        dead: count(dead),
        cancelled: count(cancelled),
        oldest_ready: oldest_ready_ms.map(duration),
        enqueued_per_second: enqueued_per_s,
        completed_per_second: completed_per_s,
        sessions,
    }
}

fn pb_settings(settings: QueueSettings) -> pb::QueueSettings {
    let QueueSettings {
        priority,
        max_attempts,
        retry,
        retry_by_kind,
        timeout_ms,
        succeeded_ms,
        cancelled_ms,
        dead_ms,
        limits: QueueLimits { concurrency, rate, key },
        key_weights,
    } = settings;
    let of_kind = |(kind, policy)| (kind, pb_retry_policy(policy));
    pb::QueueSettings {
        priority: priority.map(i32::from),
        max_attempts: max_attempts.map_or(0, u32::from),
        timeout: timeout_ms.map(duration),
        retry: retry.map(pb_retry_policy),
        retry_by_kind: retry_by_kind.into_iter().map(of_kind).collect(),
        keep_succeeded: succeeded_ms.map(duration),
        keep_cancelled: cancelled_ms.map(duration),
        keep_dead: dead_ms.map(duration),
        concurrency_max: concurrency.unwrap_or(0),
        rate: rate.map(pb_rate),
        key_concurrency_max: key.concurrency.unwrap_or(0),
        key_rate: key.rate.map(pb_rate),
        key_ordered: key.ordered,
        key_weights: key_weights
            .iter()
            .map(|(key, weight)| (key.to_string(), weight.into()))
            .collect(),
    }
}

fn pb_rate(rate: RateLimit) -> pb::RateLimit {
    let RateLimit { jobs, period_ms, burst } = rate;
    pb::RateLimit { jobs, period: Some(duration(period_ms)), burst }
}
