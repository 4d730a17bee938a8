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
SELECT (SELECT run_at FROM currant.job WHERE phase = 0 ORDER BY run_at LIMIT 1) <= $1::timestamptz,
       (SELECT run_at FROM currant.job WHERE phase = 0 AND run_at > $1::timestamptz
        ORDER BY run_at LIMIT 1)",
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

/// What is to be promoted later.
#[derive(Clone, Copy, Debug)]
pub struct NextDue {
    /// A job was due by then and is still scheduled: somebody has its row locked.
    pub left: bool,
    /// When the first job after that is due.
    pub at: Option<DateTime<Utc>>,
}

/// What is left after all that could be promoted by `now` was.
pub async fn next_due(client: &Client, now: DateTime<Utc>) -> Result<NextDue, StoreError> {
    let rows = NEXT_DUE.query(client, &[&now]).await?;
    let left = rows.first().and_then(|row| row.get(0)).unwrap_or(false);
    Ok(NextDue { left, at: rows.first().and_then(|row| row.get(1)) })
}
