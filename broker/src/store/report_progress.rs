use chrono::{DateTime, Utc};

use super::{Client, StoreError, column::Column, row::job_key, statement::Statement};
use crate::domain::{JobKey, ProgressReport};

/// Only of attempts that are current, and never over what a later one has said. What a report leaves out
/// stays as the same attempt said it before; a checkpoint stays over attempts.
const REPORT: Statement = Statement::new(
    "report_progress",
    "/* report_progress */
INSERT INTO currant.progress AS p (queue_id, id, attempt, percent, message, checkpoint, reported_at)
SELECT v.q, v.i, v.a, v.p, v.m, v.c, $7::timestamptz
FROM unnest($1::int[], $2::bigint[], $3::int[], $4::real[], $5::text[], $6::bytea[])
         AS v (q, i, a, p, m, c),
     LATERAL (SELECT FROM currant.job WHERE queue_id = v.q AND id = v.i AND attempt = v.a
              AND phase = 2 AND outcome IS NULL OFFSET 0) j
ON CONFLICT (queue_id, id) DO UPDATE
SET attempt = EXCLUDED.attempt, reported_at = EXCLUDED.reported_at,
    percent = CASE WHEN EXCLUDED.percent IS NULL AND p.attempt = EXCLUDED.attempt THEN p.percent
                   ELSE EXCLUDED.percent END,
    message = CASE WHEN EXCLUDED.message IS NULL AND p.attempt = EXCLUDED.attempt THEN p.message
                   ELSE EXCLUDED.message END,
    checkpoint = CASE WHEN EXCLUDED.checkpoint IS NULL THEN p.checkpoint
                      ELSE EXCLUDED.checkpoint END
WHERE p.attempt <= EXCLUDED.attempt
RETURNING queue_id, id",
);

const CHECKPOINT: Statement = Statement::new(
    "get_checkpoint",
    "/* get_checkpoint */
SELECT checkpoint FROM currant.progress WHERE queue_id = $1::int AND id = $2::bigint",
);

pub(super) const STATEMENTS: [Statement; 2] = [REPORT, CHECKPOINT];

/// Writes those that are current and returns their jobs. `rows` sorted by key, one a job.
pub async fn report_progress(
    client: &Client,
    reported_at: DateTime<Utc>,
    rows: &[(JobKey, i32, ProgressReport)],
) -> Result<Vec<JobKey>, StoreError> {
    let written = REPORT
        .query(
            client,
            &[
                &Column::new(rows, |(key, ..)| key.queue.0),
                &Column::new(rows, |(key, ..)| key.id.0),
                &Column::new(rows, |(_, attempt, _)| *attempt),
                &Column::new(rows, |(.., report)| report.percent),
                &Column::new(rows, |(.., report)| report.message.as_deref()),
                &Column::new(rows, |(.., report)| report.checkpoint.as_deref()),
                &reported_at,
            ],
        )
        .await?;
    Ok(written.iter().map(job_key).collect())
}

/// The last checkpoint of a job, if there is one.
pub async fn get_checkpoint(client: &Client, key: JobKey) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = CHECKPOINT.query(client, &[&key.queue.0, &key.id.0]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}
