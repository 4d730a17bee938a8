use deadpool_postgres::ClientWrapper;

use super::{Client, StoreError, statement::job_by_key};
use crate::domain::{JobId, JobKey, QueueId};

/// A dead broker whose grace is over; locked, so that one broker rescues its jobs.
const NEXT: &str = "/* next_dead_broker */
SELECT id, low_id, name FROM currant.broker
WHERE dead_at < now() - $1::bigint * interval '1 millisecond'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";

/// By key range from the watermark: no index on running rows is needed. What was in a dead broker's
/// memory failed by no fault of its own.
const RANGE: &str = "/* rescue_range */
UPDATE currant.job SET phase = 1, owner = NULL
WHERE queue_id = $1::int AND id >= $2::bigint AND owner = $3::int AND phase = 2 AND outcome IS NULL";

const STRAGGLERS: &str = concat!(
    "/* rescue_stragglers */
UPDATE currant.job j SET phase = 1, owner = NULL
FROM currant.straggler s
WHERE s.owner = $1::int AND ",
    job_by_key!("s.queue_id", "s.id"),
    "
  AND j.owner = $1::int AND j.phase = 2 AND j.outcome IS NULL
RETURNING j.queue_id"
);

const FORGET: &str = "/* forget_broker */
WITH gone AS (DELETE FROM currant.straggler WHERE owner = $1::int)
DELETE FROM currant.broker WHERE id = $1::int";

const ORPHANS: &str = "/* find_orphans */
SELECT queue_id, id, attempt FROM currant.job
WHERE queue_id = $1::int AND id >= $2::bigint AND owner = $3::int AND phase = 2 AND outcome IS NULL";

/// The jobs of one dead broker, made ready again.
#[derive(Clone, Debug)]
pub struct Rescued {
    pub broker: String,
    pub jobs: u64,
    pub queues: Vec<QueueId>,
}

/// Rescues the jobs of one broker that has been dead for the grace, if there is one.
pub async fn rescue_jobs(
    client: &mut Client,
    grace_ms: i64,
) -> Result<Option<Rescued>, StoreError> {
    let failed = |error| StoreError::of("rescue_jobs", error);
    let transaction = client.transaction().await.map_err(failed)?;
    let Some(row) = transaction.query_opt(NEXT, &[&grace_ms]).await.map_err(failed)? else {
        return Ok(None);
    };
    let (id, low, broker): (i32, i64, String) = (row.get(0), row.get(1), row.get(2));
    // The range may be long; it is only read where the owner isn't the dead broker.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    let queues = transaction
        .query("/* all_queues */ SELECT id FROM currant.queue ORDER BY id", &[])
        .await
        .map_err(failed)?;
    let mut rescued = Rescued { broker, jobs: 0, queues: Vec::new() };
    for row in queues {
        let queue: i32 = row.get(0);
        let jobs = transaction.execute(RANGE, &[&queue, &low, &id]).await.map_err(failed)?;
        if jobs > 0 {
            rescued.jobs += jobs;
            rescued.queues.push(QueueId(queue));
        }
    }
    for row in transaction.query(STRAGGLERS, &[&id]).await.map_err(failed)? {
        rescued.jobs += 1;
        rescued.queues.push(QueueId(row.get(0)));
    }
    transaction.execute(FORGET, &[&id]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    rescued.queues.sort_unstable();
    rescued.queues.dedup();
    Ok(Some(rescued))
}

/// Jobs of a queue that the database says `owner` holds: to be compared with its memory after a write
/// whose fate is unknown.
pub async fn held_jobs(
    client: &ClientWrapper,
    owner: i32,
    queue: QueueId,
    low: JobId,
) -> Result<Vec<(JobKey, i32)>, StoreError> {
    let rows = client
        .query(ORPHANS, &[&queue.0, &low.0, &owner])
        .await
        .map_err(|error| StoreError::of("find_orphans", error))?;
    Ok(rows
        .iter()
        .map(|row| (JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) }, row.get(2)))
        .collect())
}
