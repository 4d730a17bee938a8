use chrono::{DateTime, Utc};

use super::{
    Client, Settled, StoreError,
    row::{settled, settled_columns},
    statement::{Statement, job_by_key},
};

const PROMOTE: Statement = Statement::new(
    "promote_jobs",
    concat!(
        "/* promote_jobs */
UPDATE currant.job j SET phase = 1
FROM (SELECT queue_id, id FROM currant.job WHERE phase = 0 AND run_at <= $1::timestamptz
      ORDER BY run_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED) d
WHERE ",
        job_by_key!("d.queue_id", "d.id"),
        "
RETURNING ",
        settled_columns!()
    ),
);

const NEXT_DUE: Statement = Statement::new(
    "next_due",
    "/* next_due */
SELECT run_at FROM currant.job WHERE phase = 0 ORDER BY run_at LIMIT 1",
);

pub(super) const STATEMENTS: [Statement; 2] = [PROMOTE, NEXT_DUE];

/// Makes due jobs ready, the longest due first, and returns them.
pub async fn promote_jobs(
    client: &Client,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<Settled>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = PROMOTE.query(client, &[&now, &limit]).await?;
    Ok(rows.iter().map(settled).collect())
}

/// When the next scheduled job is due.
pub async fn next_due(client: &Client) -> Result<Option<DateTime<Utc>>, StoreError> {
    let rows = NEXT_DUE.query(client, &[]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}
