use super::{
    Client, StoreError,
    row::{job_key, key_columns},
    statement::{Statement, job_by_key},
};
use crate::domain::JobKey;

/// A job that was deleted just now.
#[derive(Clone, Copy, Debug)]
pub struct Deleted {
    pub key: JobKey,
    /// It waited for another attempt, and has a key, of which others may have waited for it.
    pub frees_key: bool,
}

/// Whoever stores a unique job locks its key and then the job that has it: so does who deletes one that waits,
/// in the order in which `enqueue_unique` has keys. One that is over is no other's to change, and who prunes it
/// locks it before its key.
const LOCK_KEYS: Statement = Statement::new(
    "lock_keys",
    "/* lock_keys */
WITH had AS MATERIALIZED (
    SELECT k.queue_id, k.key FROM unnest($1::int[], $2::bigint[]) AS v (q, i)
    CROSS JOIN LATERAL (SELECT FROM currant.job
                        WHERE queue_id = v.q AND id = v.i AND outcome IS NULL OFFSET 0) j
    CROSS JOIN LATERAL (SELECT queue_id, key FROM currant.unique_key
                        WHERE queue_id = v.q AND id = v.i OFFSET 0) k
    ORDER BY k.queue_id, k.key COLLATE \"C\"
)
SELECT FROM had CROSS JOIN LATERAL (SELECT FROM currant.unique_key
                                    WHERE queue_id = had.queue_id AND key = had.key FOR UPDATE) locked",
);

const DELETE: Statement = Statement::new(
    "delete_jobs",
    concat!(
        "/* delete_jobs */
DELETE FROM currant.job j USING unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND (j.outcome IS NOT NULL OR j.phase <> 2)
RETURNING j.queue_id, j.id, j.phase = 0 AND j.attempt > 0 AND j.key IS NOT NULL"
    ),
);

/// What only few jobs have.
const DELETE_RARE: Statement = Statement::new(
    "delete_rare",
    "/* delete_rare */
WITH gone AS (SELECT q, i FROM unnest($1::int[], $2::bigint[]) AS v (q, i)),
dead AS (DELETE FROM currant.dead_job r USING gone WHERE r.queue_id = q AND r.id = i),
keys AS (DELETE FROM currant.unique_key r USING gone WHERE r.queue_id = q AND r.id = i),
progress AS (DELETE FROM currant.progress r USING gone WHERE r.queue_id = q AND r.id = i),
failures AS (DELETE FROM currant.failure r USING gone WHERE r.queue_id = q AND r.id = i)
DELETE FROM currant.tag r USING gone WHERE r.queue_id = q AND r.id = i",
);

pub(super) const STATEMENTS: [Statement; 3] = [LOCK_KEYS, DELETE, DELETE_RARE];

/// Deletes those that no broker holds, and returns them. `keys` sorted.
pub async fn delete_jobs(client: &mut Client, keys: &[JobKey]) -> Result<Vec<Deleted>, StoreError> {
    let failed = |error| StoreError::of(DELETE.name, error);
    let (queues, ids) = key_columns(keys);
    let transaction = client.transaction().await.map_err(failed)?;
    LOCK_KEYS.execute(&transaction, &[&queues, &ids]).await?;
    let rows = DELETE.query(&transaction, &[&queues, &ids]).await?;
    let gone: Vec<JobKey> = rows.iter().map(job_key).collect();
    if !gone.is_empty() {
        let (queues, ids) = key_columns(&gone);
        // After the rows of the jobs were locked: it sees what their last settlement wrote.
        DELETE_RARE.execute(&transaction, &[&queues, &ids]).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(rows.iter().map(|row| Deleted { key: job_key(row), frees_key: row.get(2) }).collect())
}
