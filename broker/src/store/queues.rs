use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Client, StoreError, connection::Connection, row::json, statement::Statement};
use crate::domain::{
    KeyLimits, KeyWeights, Queue, QueueId, QueueLimits, QueueSettings, RETRY_BASE_MS, RETRY_FACTOR,
    RETRY_JITTER, RETRY_MAX_MS, RateLimit, Retention, RetryPolicy,
};

macro_rules! queues {
    ($name:literal, $which:literal) => {
        concat!(
            "/* ",
            $name,
            " */
SELECT id, name, max_attempts, retry_base_ms, retry_max_ms, retry_factor, retry_jitter, timeout_ms,
       priority, succeeded_ms, cancelled_ms, dead_ms, paused_at, version, concurrency_max, rate_jobs,
       rate_period_ms, rate_burst, key_concurrency_max, key_rate_jobs, key_rate_period_ms, key_rate_burst,
       key_ordered, retry, retry_by_kind, key_weights
FROM currant.queue WHERE ",
            $which
        )
    };
}

const FIND: Statement =
    Statement::new("find_queues", queues!("find_queues", "name = ANY ($1::text[])"));

const BY_ID: Statement =
    Statement::new("queues_by_id", queues!("queues_by_id", "id = ANY ($1::int[])"));

const LIST: Statement = Statement::new(
    "list_queues",
    queues!("list_queues", "name > $1::text ORDER BY name LIMIT $2::bigint"),
);

const CHANGED: Statement =
    Statement::new("changed_queues", queues!("changed_queues", "version > $1::bigint"));

const CREATE: Statement = Statement::new(
    "create_queues",
    "/* create_queues */
INSERT INTO currant.queue (name) SELECT n FROM unnest($1::text[]) AS v (n) ORDER BY n
ON CONFLICT DO NOTHING",
);

const COUNT: Statement =
    Statement::new("count_queues", "/* count_queues */ SELECT count(*) FROM currant.queue");

const ALL: Statement =
    Statement::new("all_queues", "/* all_queues */ SELECT id FROM currant.queue ORDER BY id");

const RETENTIONS: Statement = Statement::new(
    "queue_retentions",
    "/* queue_retentions */
SELECT id, succeeded_ms, cancelled_ms, dead_ms FROM currant.queue ORDER BY id",
);

pub(super) const STATEMENTS: [Statement; 8] =
    [FIND, BY_ID, LIST, CHANGED, CREATE, COUNT, ALL, RETENTIONS];

/// The queues of these names, as far as they're there; what one leaves open comes from `defaults`.
pub async fn find_queues(
    client: &Client,
    names: &[&str],
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let rows = FIND.query(client, &[&names]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// The same, by number.
pub async fn queues_by_id(
    client: &Client,
    ids: &[QueueId],
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let rows = BY_ID.query(client, &[&ids]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// The first of those behind a name, in the order of names as the database sorts them.
pub async fn list_queues(
    client: &Client,
    after: &str,
    limit: usize,
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = LIST.query(client, &[&after, &limit]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// Those that were changed after this version.
pub async fn changed_queues(
    client: &Client,
    version: i64,
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let rows = CHANGED.query(client, &[&version]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// Creates those that aren't there.
pub async fn create_queues(client: &Client, names: &[&str]) -> Result<(), StoreError> {
    CREATE.execute(client, &[&names]).await?;
    Ok(())
}

pub async fn count_queues(client: &Client) -> Result<usize, StoreError> {
    let rows = COUNT.query(client, &[]).await?;
    Ok(rows.first().map_or(0, |row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX)))
}

/// The numbers of all queues.
pub async fn all_queues(client: &Client) -> Result<Vec<QueueId>, StoreError> {
    queues_seen_by(client).await
}

/// The same, in a transaction too.
pub(super) async fn queues_seen_by(
    connection: &impl Connection,
) -> Result<Vec<QueueId>, StoreError> {
    let rows = ALL.query(connection, &[]).await?;
    Ok(rows.iter().map(|row| QueueId(row.get(0))).collect())
}

/// How long the finished jobs of each queue are kept.
pub async fn queue_retentions(
    client: &Client,
    defaults: Retention,
) -> Result<Vec<(QueueId, Retention)>, StoreError> {
    let rows = RETENTIONS.query(client, &[]).await?;
    let retention = |row: &Row| {
        let [succeeded_ms, cancelled_ms, dead_ms] = [1, 2, 3].map(|column| positive(row, column));
        QueueSettings { succeeded_ms, cancelled_ms, dead_ms, ..QueueSettings::default() }
            .retention(defaults)
    };
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), retention(row))).collect())
}

/// The table's checks keep these from being negative.
fn positive(row: &Row, column: usize) -> Option<u64> {
    row.get::<_, Option<i64>>(column).map(i64::unsigned_abs)
}

fn limits(row: &Row) -> QueueLimits {
    let int = |column| row.get::<_, Option<i32>>(column).map(i32::unsigned_abs);
    let rate = |first| match (int(first), positive(row, first + 1), int(first + 2)) {
        (Some(jobs), Some(period_ms), Some(burst)) => Some(RateLimit { jobs, period_ms, burst }),
        _ => None,
    };
    let key = KeyLimits { concurrency: int(18), rate: rate(19), ordered: row.get(22) };
    QueueLimits { concurrency: int(14), rate: rate(15), key }
}

fn key_weights(row: &Row) -> KeyWeights {
    let weights: Option<BTreeMap<String, u16>> = json(row, 25, "currant.queue.key_weights");
    weights.into_iter().flatten().map(|(key, weight)| (key.into(), weight)).collect()
}

/// A policy in columns, if one is there; what isn't is as in a call that doesn't say it.
fn exponential(row: &Row) -> Option<RetryPolicy> {
    let (base_ms, max_ms) = (positive(row, 3), positive(row, 4));
    let (factor, jitter): (Option<f64>, Option<f64>) = (row.get(5), row.get(6));
    if base_ms.or(max_ms).is_none() && factor.or(jitter).is_none() {
        return None;
    }
    let base_ms = base_ms.unwrap_or(RETRY_BASE_MS);
    Some(RetryPolicy::exponential(
        base_ms,
        max_ms.unwrap_or(RETRY_MAX_MS.max(base_ms)),
        factor.unwrap_or(RETRY_FACTOR),
        jitter.unwrap_or(RETRY_JITTER),
    ))
}

fn queue(row: &Row, defaults: &Queue) -> Queue {
    let ms = |column| positive(row, column);
    let own = QueueSettings {
        priority: row.get(8),
        max_attempts: row.get::<_, Option<i16>>(2).map(i16::cast_unsigned),
        retry: json(row, 23, "currant.queue.retry").or_else(|| exponential(row)),
        retry_by_kind: json(row, 24, "currant.queue.retry_by_kind").unwrap_or_default(),
        timeout_ms: ms(7),
        succeeded_ms: ms(9),
        cancelled_ms: ms(10),
        dead_ms: ms(11),
        limits: limits(row),
        key_weights: key_weights(row),
    };
    Queue {
        id: QueueId(row.get(0)),
        name: row.get(1),
        version: row.get(13),
        paused_at: row.get::<_, Option<DateTime<Utc>>>(12).map(|at| at.timestamp_micros()),
        priority: own.priority.unwrap_or(defaults.priority),
        max_attempts: own.max_attempts.unwrap_or(defaults.max_attempts),
        retry: own.retry.clone().unwrap_or_else(|| defaults.retry.clone()),
        worker_losses_max: defaults.worker_losses_max,
        timeout_ms: own.timeout_ms.or(defaults.timeout_ms),
        retention: own.retention(defaults.retention),
        own,
    }
}
