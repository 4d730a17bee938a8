use super::{
    Client, StoreError,
    statement::{Statement, job_by_key},
};
use crate::domain::{JobId, JobKey, QueueId};

const DELETE: Statement = Statement::new(
    "delete_jobs",
    concat!(
        "/* delete_jobs */
DELETE FROM currant.job j USING unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND (j.outcome IS NOT NULL OR j.phase <> 2)
RETURNING j.queue_id, j.id"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [DELETE];

/// Deletes those that no broker holds, and returns them. `keys` sorted.
pub async fn delete_jobs(client: &Client, keys: &[JobKey]) -> Result<Vec<JobKey>, StoreError> {
    let queues: Vec<i32> = keys.iter().map(|key| key.queue.0).collect();
    let ids: Vec<i64> = keys.iter().map(|key| key.id.0).collect();
    let rows = DELETE.query(client, &[&queues, &ids]).await?;
    let key =
        |row: &tokio_postgres::Row| JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) };
    Ok(rows.iter().map(key).collect())
}
