use std::collections::BTreeMap;

use tokio_postgres::types::Json;

use super::{Client, StoreError, statement::Statement};
use crate::domain::{QueueLimits, QueueSettings, RetryPolicy, Waits};

// A trigger gives each change its version and tells all brokers: see V5__queues.sql.

/// A queue that has no limits is limited only when every living broker follows the change that it has none: its
/// owner of before would not know that others have taken its jobs meanwhile.
const CONFIGURE: Statement = Statement::new(
    "configure_queue",
    "/* configure_queue */
UPDATE currant.queue
SET priority = $2::smallint, max_attempts = $3::smallint, timeout_ms = $4::bigint,
    retry_base_ms = $5::bigint, retry_max_ms = $6::bigint, retry_factor = $7::float8,
    retry_jitter = $8::float8, succeeded_ms = $9::bigint, cancelled_ms = $10::bigint,
    dead_ms = $11::bigint, concurrency_max = $12::int, rate_jobs = $13::int,
    rate_period_ms = $14::bigint, rate_burst = $15::int, key_concurrency_max = $16::int,
    key_rate_jobs = $17::int, key_rate_period_ms = $18::bigint, key_rate_burst = $19::int,
    key_ordered = $20::boolean, retry = $21::jsonb, retry_by_kind = $22::jsonb, key_weights = $23::jsonb
WHERE name = $1::text
  AND (num_nonnulls($12::int, $13::int, $16::int, $17::int) = 0 AND NOT $20::boolean
       OR num_nonnulls(concurrency_max, rate_jobs, key_concurrency_max, key_rate_jobs) > 0 OR key_ordered
       OR NOT EXISTS (SELECT FROM currant.broker b WHERE b.dead_at IS NULL AND b.queue_version < version))",
);

const PAUSE: Statement = Statement::new(
    "pause_queue",
    "/* pause_queue */
UPDATE currant.queue SET paused_at = now() WHERE name = $1::text AND paused_at IS NULL",
);

const RESUME: Statement = Statement::new(
    "resume_queue",
    "/* resume_queue */
UPDATE currant.queue SET paused_at = NULL WHERE name = $1::text AND paused_at IS NOT NULL",
);

pub(super) const STATEMENTS: [Statement; 3] = [CONFIGURE, PAUSE, RESUME];

/// Replaces all settings of a queue that is there. `false`: it can't be limited yet.
pub async fn configure_queue(
    client: &Client,
    name: &str,
    settings: &QueueSettings,
) -> Result<bool, StoreError> {
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
    let ms = |value: Option<u64>| value.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let int = |value: Option<u32>| value.map(|value| i32::try_from(value).unwrap_or(i32::MAX));
    // An exponential policy has columns that brokers of before read too.
    let (exponential, other) = match retry {
        None => (None, None),
        Some(RetryPolicy { waits: Waits::Exponential { base_ms, max_ms, factor }, jitter }) => {
            (Some((*base_ms, *max_ms, *factor, *jitter)), None)
        }
        Some(other) => (None, Some(Json(other))),
    };
    let weights: BTreeMap<&str, u16> =
        key_weights.iter().map(|(key, weight)| (&**key, weight)).collect();
    let by_kind = Some(retry_by_kind).filter(|by_kind| !by_kind.is_empty());
    let changed = CONFIGURE
        .execute(
            client,
            &[
                &name,
                priority,
                &max_attempts.map(u16::cast_signed),
                &ms(*timeout_ms),
                &ms(exponential.map(|(base_ms, ..)| base_ms)),
                &ms(exponential.map(|(_, max_ms, ..)| max_ms)),
                &exponential.map(|(_, _, factor, _)| factor),
                &exponential.map(|(.., jitter)| jitter),
                &ms(*succeeded_ms),
                &ms(*cancelled_ms),
                &ms(*dead_ms),
                &int(*concurrency),
                &int(rate.map(|rate| rate.jobs)),
                &ms(rate.map(|rate| rate.period_ms)),
                &int(rate.map(|rate| rate.burst)),
                &int(key.concurrency),
                &int(key.rate.map(|rate| rate.jobs)),
                &ms(key.rate.map(|rate| rate.period_ms)),
                &int(key.rate.map(|rate| rate.burst)),
                &key.ordered,
                &other,
                &by_kind.map(Json),
                &(!weights.is_empty()).then_some(Json(weights)),
            ],
        )
        .await?;
    Ok(changed > 0)
}

/// Pauses a queue unless it is.
pub async fn pause_queue(client: &Client, name: &str) -> Result<(), StoreError> {
    PAUSE.execute(client, &[&name]).await?;
    Ok(())
}

/// Resumes a queue if it is paused.
pub async fn resume_queue(client: &Client, name: &str) -> Result<(), StoreError> {
    RESUME.execute(client, &[&name]).await?;
    Ok(())
}
