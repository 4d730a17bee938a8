use super::{
    Client, Settled, StoreError,
    statement::{Statement, job_by_key},
};
use crate::domain::{JobId, JobKey, QueueId};

const RETRY: Statement = Statement::new(
    "retry_jobs",
    concat!(
        "/* retry_jobs */
UPDATE currant.job j
SET outcome = NULL, finished_at = NULL, phase = 1, owner = NULL, failures = 0
FROM unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.outcome IN (2, 3)
RETURNING j.queue_id, j.id, j.priority, j.phase"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [RETRY];

/// Makes those ready again that are dead or cancelled, and returns them. `keys` sorted. The attempt stays:
/// the next one is numbered when it is taken.
pub async fn retry_jobs(client: &Client, keys: &[JobKey]) -> Result<Vec<Settled>, StoreError> {
    let queues: Vec<i32> = keys.iter().map(|key| key.queue.0).collect();
    let ids: Vec<i64> = keys.iter().map(|key| key.id.0).collect();
    let rows = RETRY.query(client, &[&queues, &ids]).await?;
    let settled = |row: &tokio_postgres::Row| Settled {
        key: JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) },
        priority: row.get(2),
        phase: row.get(3),
    };
    Ok(rows.iter().map(settled).collect())
}
