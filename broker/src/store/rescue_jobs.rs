use super::{
    Client, StoreError,
    queues::queues_seen_by,
    row::job_key,
    statement::{Statement, job_by_key},
};
use crate::domain::{JobId, JobKey, QueueId};

/// A dead broker whose grace is over; locked, so that one broker rescues its jobs.
const NEXT: Statement = Statement::new(
    "next_dead_broker",
    "/* next_dead_broker */
SELECT id, low_id, name, rescued_at IS NOT NULL FROM currant.broker
WHERE dead_at < now() - $1::bigint * interval '1 millisecond'
  AND (rescued_at IS NULL OR dead_at < now() - $2::bigint * interval '1 millisecond')
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
);

/// By key range from the watermark: no index on running rows is needed. What was in a dead broker's
/// memory failed by no fault of its own.
const RANGE: Statement = Statement::new(
    "rescue_range",
    "/* rescue_range */
UPDATE currant.job SET phase = 1, owner = NULL
WHERE queue_id = $1::int AND id >= $2::bigint AND owner = $3::int AND phase = 2 AND outcome IS NULL",
);

const STRAGGLERS: Statement = Statement::new(
    "rescue_stragglers",
    concat!(
        "/* rescue_stragglers */
UPDATE currant.job j SET phase = 1, owner = NULL
FROM currant.straggler s
WHERE s.owner = $1::int AND ",
        job_by_key!("s.queue_id", "s.id"),
        "
  AND j.owner = $1::int AND j.phase = 2 AND j.outcome IS NULL
RETURNING j.queue_id"
    ),
);

const FORGET: Statement = Statement::new(
    "forget_broker",
    "/* forget_broker */
WITH gone AS (DELETE FROM currant.straggler WHERE owner = $1::int),
     unheard AS (DELETE FROM currant.cancel WHERE owner = $1::int),
     loads AS (DELETE FROM currant.queue_load WHERE owner = $1::int),
     queues AS (DELETE FROM currant.queue_owner WHERE owner = $1::int)
DELETE FROM currant.broker WHERE id = $1::int",
);

const NOTE: Statement = Statement::new(
    "note_rescue",
    "/* note_rescue */ UPDATE currant.broker SET rescued_at = now() WHERE id = $1::int",
);

const ORPHANS: Statement = Statement::new(
    "find_orphans",
    concat!(
        "/* find_orphans */
SELECT queue_id, id, attempt FROM currant.job
WHERE queue_id = $1::int
  AND id >= greatest($2::bigint, (SELECT low_id FROM currant.broker WHERE id = $3::int))
  AND owner = $3::int AND phase = 2 AND outcome IS NULL
UNION ALL
SELECT j.queue_id, j.id, j.attempt FROM currant.straggler s, currant.job j
WHERE s.owner = $3::int AND s.queue_id = $1::int AND s.id >= $2::bigint AND ",
        job_by_key!("s.queue_id", "s.id"),
        "
  AND j.owner = $3::int AND j.phase = 2 AND j.outcome IS NULL"
    ),
);

pub(super) const STATEMENTS: [Statement; 6] = [NEXT, RANGE, STRAGGLERS, FORGET, NOTE, ORPHANS];

/// For a look over all keys from a watermark on.
const MAY_BE_LONG: &str = "SET LOCAL statement_timeout = 0";

/// The jobs of one dead broker, made ready again.
#[derive(Clone, Debug)]
pub struct Rescued {
    pub broker: String,
    pub jobs: u64,
    pub queues: Vec<QueueId>,
}

/// Rescues the jobs of one broker that has been dead for the grace, if there is one. Once more, and for
/// the last time, when it has been dead for `forget_ms`: a write that was under way at the first time
/// has committed by then, or never will.
pub async fn rescue_jobs(
    client: &mut Client,
    grace_ms: i64,
    forget_ms: i64,
) -> Result<Option<Rescued>, StoreError> {
    let failed = |error| StoreError::of("rescue_jobs", error);
    let transaction = client.transaction().await.map_err(failed)?;
    let Some(row) = NEXT.query(&transaction, &[&grace_ms, &forget_ms]).await?.pop() else {
        return Ok(None);
    };
    let (id, low, broker): (i32, i64, String) = (row.get(0), row.get(1), row.get(2));
    // The range is only read where the owner isn't the dead broker.
    transaction.batch_execute(MAY_BE_LONG).await.map_err(failed)?;
    let mut rescued = Rescued { broker, jobs: 0, queues: Vec::new() };
    for queue in queues_seen_by(&transaction).await? {
        let jobs = RANGE.execute(&transaction, &[&queue.0, &low, &id]).await?;
        if jobs > 0 {
            rescued.jobs += jobs;
            rescued.queues.push(queue);
        }
    }
    for row in STRAGGLERS.query(&transaction, &[&id]).await? {
        rescued.jobs += 1;
        rescued.queues.push(QueueId(row.get(0)));
    }
    let end = if row.get(3) { FORGET } else { NOTE };
    end.execute(&transaction, &[&id]).await?;
    transaction.commit().await.map_err(failed)?;
    rescued.queues.sort_unstable();
    rescued.queues.dedup();
    Ok(Some(rescued))
}

/// Jobs of a queue, from `low` on, that the database says `owner` holds, by the owner's watermark and its
/// stragglers: to be compared with its memory after a write whose fate is unknown.
pub async fn held_jobs(
    client: &mut Client,
    owner: i32,
    queue: QueueId,
    low: JobId,
) -> Result<Vec<(JobKey, i32)>, StoreError> {
    let failed = |error| StoreError::of("find_orphans", error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(MAY_BE_LONG).await.map_err(failed)?;
    let rows = ORPHANS.query(&transaction, &[&queue.0, &low.0, &owner]).await?;
    transaction.commit().await.map_err(failed)?;
    let mut held: Vec<(JobKey, i32)> = rows.iter().map(|row| (job_key(row), row.get(2))).collect();
    // A straggler is in the range too, when a claim has lowered the watermark.
    held.sort_unstable();
    held.dedup();
    Ok(held)
}
