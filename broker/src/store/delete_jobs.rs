use super::{
    Client, StoreError,
    dead_jobs::forget_dead,
    row::job_key,
    statement::{Statement, job_by_key},
};
use crate::domain::JobKey;

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
pub async fn delete_jobs(client: &mut Client, keys: &[JobKey]) -> Result<Vec<JobKey>, StoreError> {
    let failed = |error| StoreError::of(DELETE.name, error);
    let queues: Vec<i32> = keys.iter().map(|key| key.queue.0).collect();
    let ids: Vec<i64> = keys.iter().map(|key| key.id.0).collect();
    let transaction = client.transaction().await.map_err(failed)?;
    let rows = DELETE.query(&transaction, &[&queues, &ids]).await?;
    let deleted: Vec<JobKey> = rows.iter().map(job_key).collect();
    if !deleted.is_empty() {
        forget_dead(&transaction, &deleted).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(deleted)
}
