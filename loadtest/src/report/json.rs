//! `report.json`: for programs.

use anyhow::Result;
use serde::Serialize;

/// Numbers as measured, rounded to a thousandth, small ones to a millionth: more digits would only
/// look exact.
pub(crate) fn render(report: &impl Serialize) -> Result<String> {
    let mut value = serde_json::to_value(report)?;
    round(&mut value);
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn round(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64() {
                let digits = if float.abs() < 1.0 { 1e6 } else { 1e3 };
                *value = serde_json::Value::from((float * digits).round() / digits);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(round),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(round),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;
    use crate::report::tests::example;

    /// Programs read these. Adding one is fine; none may go or change its meaning.
    const KEYS: &str = "
        broker_cpu_us_per_job broker_rss_bytes claimed_percent command_line details drain_jobs_per_s elsewhere_start_latency_ms
        end_to_end_jobs_per_s enqueue_jobs_per_s enqueue_latency_ms finished_at finished_twice
        fraction_of_limit fraction_of_own_limit hot_update_percent idle_transactions_per_s insert_latency_ms limit
        load_cpu_us_per_job lost machine passed postgres_connections postgres_cpu_us_per_job redelivered series settings
        start_latency_ms sweep table transactions_per_job verification version wal_bytes_per_job
        windows";

    const SETTINGS: &str = "
        backlog batch channels concurrency duration_seconds endpoint history in_flight jobs key_concurrency_max keys
        limit load_threads mode old_snapshot payload_bytes prefetch producers queue_concurrency_max queue_rate queues rate
        sql warmup_percent window_seconds work_ms workers";

    fn keys(value: &serde_json::Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_keys_are_stable_and_there_even_without_a_value() {
        let json: serde_json::Value = serde_json::from_str(&render(&example()).unwrap()).unwrap();
        assert_eq!(keys(&json), KEYS.split_whitespace().collect());
        assert_eq!(keys(&json["settings"]), SETTINGS.split_whitespace().collect());
        let percentiles = BTreeSet::from(["p50", "p95", "p99", "max"]);
        assert_eq!(keys(&json["start_latency_ms"]), percentiles);
        assert!(json["drain_jobs_per_s"].is_null());
        assert_eq!(json["end_to_end_jobs_per_s"], 123_456.7);
    }
}
