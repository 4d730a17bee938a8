use super::{
    Client, Settled, StoreError,
    column::Column,
    row::{key_columns, settled, settled_columns},
    statement::{Statement, job_by_key},
};
use crate::domain::JobKey;

const RETRY: Statement = Statement::new(
    "retry_jobs",
    concat!(
        "/* retry_jobs */
UPDATE currant.job j
SET outcome = NULL, finished_at = NULL, phase = 1, owner = NULL, failures = 0,
    options = j.options - 'expires_at'
FROM unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.outcome IN (2, 3)
RETURNING ",
        settled_columns!()
    ),
);

const FORGET_DEAD: Statement = Statement::new(
    "forget_dead",
    "/* forget_dead */
DELETE FROM currant.dead_job d USING unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE d.queue_id = v.q AND d.id = v.i",
);

pub(super) const STATEMENTS: [Statement; 2] = [RETRY, FORGET_DEAD];

/// Makes those ready again that are dead or cancelled, whenever they were to start at the latest, and returns
/// them. `keys` sorted. The attempt stays:
/// the next one is numbered when it is taken.
pub async fn retry_jobs(client: &mut Client, keys: &[JobKey]) -> Result<Vec<Settled>, StoreError> {
    let failed = |error| StoreError::of(RETRY.name, error);
    let (queues, ids) = key_columns(keys);
    let transaction = client.transaction().await.map_err(failed)?;
    let rows = RETRY.query(&transaction, &[&queues, &ids]).await?;
    let retried: Vec<Settled> = rows.iter().map(settled).collect();
    if !retried.is_empty() {
        let queues = Column::new(&retried, |job| job.key.queue.0);
        let ids = Column::new(&retried, |job| job.key.id.0);
        // After the rows of the jobs were locked: it sees what their last settlement wrote.
        FORGET_DEAD.execute(&transaction, &[&queues, &ids]).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(retried)
}
