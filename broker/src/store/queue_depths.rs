use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Client, StoreError, statement::Statement};
use crate::domain::{QueueId, Sampled};

const PAGES: Statement = Statement::new(
    "job_pages",
    "/* job_pages */
SELECT pg_relation_size('currant.job') / current_setting('block_size')::bigint",
);

const SAMPLE: Statement = Statement::new(
    "sample_jobs",
    "/* sample_jobs */
SELECT queue_id, count(*) FILTER (WHERE phase = 0 AND outcome IS NULL),
       count(*) FILTER (WHERE phase = 1 AND outcome IS NULL), count(*) FILTER (WHERE outcome = 1),
       count(*) FILTER (WHERE outcome = 2), count(*) FILTER (WHERE outcome = 3)
FROM currant.job TABLESAMPLE SYSTEM ($1::real) GROUP BY queue_id",
);

const SCHEDULED: Statement = Statement::new(
    "next_scheduled",
    "/* next_scheduled */
SELECT queue_id FROM currant.job WHERE phase = 0 ORDER BY run_at LIMIT $1::bigint",
);

/// Of each queue: its ready and its dead jobs, counted up to a bound, and the oldest ready one: from the first
/// job of each priority to that of the next lower one; and of the first thousand keys, from the first job of each
/// to that of the next.
const STANDINGS: Statement = Statement::new(
    "queue_standings",
    "/* queue_standings */
SELECT q.id, (
    SELECT count(*) FROM (
        (SELECT FROM currant.job WHERE queue_id = q.id AND phase = 1 AND key IS NULL
         ORDER BY priority DESC, id LIMIT $2::bigint)
      UNION ALL
        (SELECT FROM currant.job WHERE queue_id = q.id AND phase = 1 AND key IS NOT NULL
         ORDER BY key LIMIT $2::bigint)
      LIMIT $2::bigint) r
), (
    SELECT count(*) FROM (SELECT FROM currant.dead_job WHERE queue_id = q.id ORDER BY id LIMIT $2::bigint) d
), (
    WITH RECURSIVE head AS (
        (SELECT priority, id, run_at FROM currant.job WHERE queue_id = q.id AND phase = 1 AND key IS NULL
         ORDER BY priority DESC, id LIMIT 1)
      UNION ALL
        SELECT n.priority, n.id, n.run_at
        FROM head h, LATERAL (SELECT priority, id, run_at FROM currant.job
                              WHERE queue_id = q.id AND phase = 1 AND key IS NULL AND priority < h.priority
                              ORDER BY priority DESC, id LIMIT 1) n
    ), keyed (key, id, run_at, step) AS (
        (SELECT key, id, run_at, 1 FROM currant.job WHERE queue_id = q.id AND phase = 1 AND key IS NOT NULL
         ORDER BY key, priority DESC, id LIMIT 1)
      UNION ALL
        SELECT n.key, n.id, n.run_at, k.step + 1
        FROM keyed k, LATERAL (SELECT key, id, run_at FROM currant.job
                               WHERE queue_id = q.id AND phase = 1 AND key > k.key
                               ORDER BY key, priority DESC, id LIMIT 1) n
        WHERE k.step < 1000
    )
    SELECT min(greatest(to_timestamp((id >> 22) / 1000.0), run_at))
    FROM (SELECT id, run_at FROM head UNION ALL SELECT id, run_at FROM keyed) r
) FROM unnest($1::int[]) AS q (id)",
);

pub(super) const STATEMENTS: [Statement; 4] = [PAGES, SAMPLE, SCHEDULED, STANDINGS];

/// How many pages the table of jobs has.
pub async fn job_pages(client: &Client) -> Result<u64, StoreError> {
    let rows = PAGES.query(client, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// The jobs of all queues in a random share of the pages: 1 is all of them.
pub async fn sample_jobs(
    client: &Client,
    share: f64,
) -> Result<HashMap<QueueId, Sampled>, StoreError> {
    let rows = SAMPLE.query(client, &[&((share * 100.0) as f32)]).await?;
    let count = |row: &tokio_postgres::Row, column| row.get::<_, i64>(column).unsigned_abs();
    let sampled = |row: &tokio_postgres::Row| Sampled {
        scheduled: count(row, 1),
        ready: count(row, 2),
        succeeded: count(row, 3),
        dead: count(row, 4),
        cancelled: count(row, 5),
    };
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), sampled(row))).collect())
}

/// The queues of the next jobs that are due, of all queues: at most `limit`.
pub async fn next_scheduled(client: &Client, limit: u64) -> Result<Vec<QueueId>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = SCHEDULED.query(client, &[&limit]).await?;
    Ok(rows.iter().map(|row| QueueId(row.get(0))).collect())
}

/// What is read of a queue itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    pub ready: u64,
    pub dead: u64,
    /// Since when the job that has waited longest has been ready, of the first jobs of each priority.
    pub oldest_ready: Option<DateTime<Utc>>,
}

/// How queues stand: jobs are counted up to `limit`.
pub async fn queue_standings(
    client: &Client,
    queues: &[QueueId],
    limit: u64,
) -> Result<HashMap<QueueId, Standing>, StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = STANDINGS.query(client, &[&queues, &limit]).await?;
    let count = |row: &tokio_postgres::Row, column| row.get::<_, i64>(column).unsigned_abs();
    let standing = |row: &tokio_postgres::Row| Standing {
        ready: count(row, 1),
        dead: count(row, 2),
        oldest_ready: row.get(3),
    };
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), standing(row))).collect())
}
