use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    row::{job_key, key_columns},
    statement::{Statement, job_by_key},
};
use crate::domain::JobKey;

/// A job that was cancelled just now.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    pub key: JobKey,
    /// Who held it, under which attempt; `None`: it waited in the database.
    pub held: Option<(i32, i32)>,
    /// It waited for another attempt, and has a key, of which others may have waited for it.
    pub frees_key: bool,
}

/// The next attempt number is used up, so that what the current one reports is stale. The owner stays
/// in the row and in a note: it has to hear of it.
const CANCEL: Statement = Statement::new(
    "cancel_jobs",
    concat!(
        "/* cancel_jobs */
WITH cancelled AS (
    UPDATE currant.job j
    SET outcome = 3, finished_at = $3::timestamptz, phase = 2,
        attempt = CASE WHEN j.phase = 2 THEN j.attempt + 1 ELSE j.attempt END
    FROM unnest($1::int[], $2::bigint[]) AS v (q, i)
    WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.outcome IS NULL
    RETURNING j.queue_id, j.id, j.owner, j.attempt - 1 AS attempt,
              j.owner IS NULL AND j.attempt > 0 AND j.key IS NOT NULL AS frees_key
), noted AS (
    INSERT INTO currant.cancel (owner, queue_id, id, attempt)
    SELECT owner, queue_id, id, attempt FROM cancelled WHERE owner IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT queue_id, id, owner, attempt, frees_key FROM cancelled"
    ),
);

const NOTED: Statement = Statement::new(
    "find_cancels",
    "/* find_cancels */
SELECT queue_id, id, attempt FROM currant.cancel WHERE owner = $1::int
ORDER BY queue_id, id, attempt LIMIT $2::bigint",
);

const FORGET: Statement = Statement::new(
    "forget_cancels",
    "/* forget_cancels */
DELETE FROM currant.cancel c USING unnest($2::int[], $3::bigint[], $4::int[]) AS v (q, i, a)
WHERE c.owner = $1::int AND c.queue_id = v.q AND c.id = v.i AND c.attempt = v.a",
);

const NOTIFY: Statement = Statement::new(
    "notify_cancelled",
    "/* notify_cancelled */ SELECT pg_notify('currant_ready', 'cancelled/' || $1::int)",
);

pub(super) const STATEMENTS: [Statement; 4] = [CANCEL, NOTED, FORGET, NOTIFY];

/// Cancels those that aren't over and returns them. `keys` sorted. Whoever holds one finds a note.
pub async fn cancel_jobs(
    client: &Client,
    keys: &[JobKey],
    finished_at: DateTime<Utc>,
) -> Result<Vec<Cancelled>, StoreError> {
    let (queues, ids) = key_columns(keys);
    let rows = CANCEL.query(client, &[&queues, &ids, &finished_at]).await?;
    let cancelled = |row: &tokio_postgres::Row| Cancelled {
        key: job_key(row),
        held: row.get::<_, Option<i32>>(2).map(|owner| (owner, row.get(3))),
        frees_key: row.get(4),
    };
    Ok(rows.iter().map(cancelled).collect())
}

/// Attempts of this owner that were cancelled and of which it may not have heard: at most `limit`.
pub async fn find_cancels(
    client: &Client,
    owner: i32,
    limit: usize,
) -> Result<Vec<(JobKey, i32)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = NOTED.query(client, &[&owner, &limit]).await?;
    Ok(rows.iter().map(|row| (job_key(row), row.get(2))).collect())
}

/// The owner has heard of these.
pub async fn forget_cancels(
    client: &Client,
    owner: i32,
    attempts: &[(JobKey, i32)],
) -> Result<(), StoreError> {
    let queues: Vec<i32> = attempts.iter().map(|(key, _)| key.queue.0).collect();
    let ids: Vec<i64> = attempts.iter().map(|(key, _)| key.id.0).collect();
    let numbers: Vec<i32> = attempts.iter().map(|(_, number)| *number).collect();
    FORGET.execute(client, &[&owner, &queues, &ids, &numbers]).await?;
    Ok(())
}

/// Tells the other brokers that there are notes; each looks for its own.
pub async fn notify_cancelled(client: &Client, me: i32) -> Result<(), StoreError> {
    NOTIFY.execute(client, &[&me]).await?;
    Ok(())
}
