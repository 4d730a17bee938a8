//! Retry policies to messages and back; as in `convert`, every field is named.

use std::collections::BTreeMap;

use currant_proto::v1::{self as pb, retry_policy::Policy};
use prost_types::Duration;

use super::{
    check::{self, AHEAD_MS_MAX},
    convert::duration,
};
use crate::domain::{RETRY_BASE_MS, RETRY_FACTOR, RETRY_JITTER, RETRY_MAX_MS, RetryPolicy, Waits};

const WAITS_MAX: usize = 100;
const KINDS_MAX: usize = 100;

/// The policy, if the message has one.
pub(super) fn retry_policy(policy: &pb::RetryPolicy) -> Result<Option<RetryPolicy>, String> {
    let pb::RetryPolicy { policy } = policy;
    let (waits, jitter) = match policy {
        None => return Ok(None),
        Some(Policy::Exponential(exponential)) => {
            let pb::ExponentialRetry { base_delay, max_delay, factor, jitter } = exponential;
            let (base_ms, max_ms) = base_and_max(base_delay.as_ref(), max_delay.as_ref())?;
            let factor = if *factor == 0.0 { RETRY_FACTOR } else { *factor };
            if !(1.0..=100.0).contains(&factor) {
                return Err(format!("factor: 1 to 100; this is {factor}"));
            }
            (Waits::Exponential { base_ms, max_ms, factor }, jitter)
        }
        Some(Policy::Linear(pb::LinearRetry { base_delay, step, max_delay, jitter })) => {
            let (base_ms, max_ms) = base_and_max(base_delay.as_ref(), max_delay.as_ref())?;
            let step_ms = ms("step", step.as_ref(), 0, base_ms)?;
            (Waits::Linear { base_ms, step_ms, max_ms }, jitter)
        }
        Some(Policy::Fixed(pb::FixedRetry { delay, jitter })) => {
            let wait = ms("delay", delay.as_ref(), 0, RETRY_BASE_MS)?;
            (Waits::List { waits_ms: vec![wait] }, jitter)
        }
        Some(Policy::List(pb::ListRetry { delays, jitter })) => {
            check::count(delays.len(), 1, WAITS_MAX).map_err(|e| format!("delays: {e}"))?;
            let waits = delays.iter().map(|delay| ms("delays", Some(delay), 0, 0));
            (Waits::List { waits_ms: waits.collect::<Result<_, _>>()? }, jitter)
        }
    };
    let jitter = jitter.unwrap_or(RETRY_JITTER);
    if !(0.0..=1.0).contains(&jitter) {
        return Err(format!("jitter: 0 to 1; this is {jitter}"));
    }
    Ok(Some(RetryPolicy { waits, jitter }))
}

fn base_and_max(base: Option<&Duration>, max: Option<&Duration>) -> Result<(u64, u64), String> {
    let base_ms = ms("base_delay", base, 1, RETRY_BASE_MS)?;
    let max_ms = ms("max_delay", max, base_ms, RETRY_MAX_MS.max(base_ms))?;
    Ok((base_ms, max_ms))
}

fn ms(field: &str, value: Option<&Duration>, min: u64, default: u64) -> Result<u64, String> {
    let ms = value.map(|value| check::duration_ms(value, min, AHEAD_MS_MAX)).transpose();
    ms.map(|ms| ms.unwrap_or(default)).map_err(|problem| format!("{field}: {problem}"))
}

/// Policies of kinds, or what is wrong with them.
pub(super) fn retry_by_kind(
    policies: &BTreeMap<String, pb::RetryPolicy>,
) -> Result<BTreeMap<String, RetryPolicy>, String> {
    check::count(policies.len(), 0, KINDS_MAX)?;
    let mut by_kind = BTreeMap::new();
    for (kind, policy) in policies {
        let policy = check::name(kind).and_then(|()| retry_policy(policy));
        let policy = policy.map_err(|problem| format!("{kind:?}: {problem}"))?;
        by_kind.insert(kind.clone(), policy.ok_or_else(|| format!("{kind:?}: one has to be set"))?);
    }
    Ok(by_kind)
}

pub(super) fn pb_retry_policy(policy: RetryPolicy) -> pb::RetryPolicy {
    let RetryPolicy { waits, jitter } = policy;
    let jitter = Some(jitter);
    let policy = match waits {
        Waits::Exponential { base_ms, max_ms, factor } => {
            Policy::Exponential(pb::ExponentialRetry {
                base_delay: Some(duration(base_ms)),
                max_delay: Some(duration(max_ms)),
                factor,
                jitter,
            })
        }
        Waits::Linear { base_ms, step_ms, max_ms } => Policy::Linear(pb::LinearRetry {
            base_delay: Some(duration(base_ms)),
            step: Some(duration(step_ms)),
            max_delay: Some(duration(max_ms)),
            jitter,
        }),
        Waits::List { waits_ms } => match waits_ms[..] {
            [wait] => Policy::Fixed(pb::FixedRetry { delay: Some(duration(wait)), jitter }),
            _ => {
                let delays = waits_ms.into_iter().map(duration).collect();
                Policy::List(pb::ListRetry { delays, jitter })
            }
        },
    };
    pb::RetryPolicy { policy: Some(policy) }
}
