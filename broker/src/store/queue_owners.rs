use std::sync::Arc;

use tokio_postgres::Row;

use super::{Client, StoreError, statement::Statement};
use crate::domain::{Attempt, JobId, QueueId};

/// A queue that nobody owns, or a broker that is held for dead, gets a new owner; but only when every living
/// broker follows the change that limited it.
const OWN: Statement = Statement::new(
    "own_queues",
    "/* own_queues */
INSERT INTO currant.queue_owner (queue_id, owner, term)
SELECT q.id, $1::int, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM currant.queue q
WHERE q.id = ANY ($2::int[])
  AND EXISTS (SELECT FROM currant.broker WHERE id = $1::int AND dead_at IS NULL)
  AND NOT EXISTS (SELECT FROM currant.broker b WHERE b.dead_at IS NULL AND b.queue_version < q.version)
ORDER BY q.id
ON CONFLICT (queue_id) DO UPDATE
SET owner = excluded.owner, term = greatest(queue_owner.term + 1, excluded.term)
WHERE queue_owner.owner = excluded.owner
   OR NOT EXISTS (SELECT FROM currant.broker b WHERE b.id = queue_owner.owner AND b.dead_at IS NULL)
RETURNING queue_id, term",
);

const DISOWN: Statement = Statement::new(
    "disown_queues",
    "/* disown_queues */
DELETE FROM currant.queue_owner WHERE owner = $1::int AND queue_id = ANY ($2::int[])",
);

/// By key range from the watermark of all brokers, and the stragglers: as rescue finds them. One may come
/// twice.
const RUNNING: Statement = Statement::new(
    "running_attempts",
    "/* running_attempts */
SELECT id, attempt, key FROM currant.job
WHERE queue_id = $1::int AND id >= (SELECT min(low_id) FROM currant.broker)
  AND phase = 2 AND outcome IS NULL
UNION ALL
SELECT j.id, j.attempt, j.key FROM currant.straggler s
JOIN LATERAL (SELECT * FROM currant.job WHERE queue_id = s.queue_id AND id = s.id OFFSET 0) j ON true
WHERE s.queue_id = $1::int AND j.phase = 2 AND j.outcome IS NULL",
);

const OVER: Statement = Statement::new(
    "attempts_over",
    "/* attempts_over */
SELECT v.i, v.a FROM unnest($2::bigint[], $3::int[]) AS v (i, a)
LEFT JOIN LATERAL (SELECT * FROM currant.job WHERE queue_id = $1::int AND id = v.i OFFSET 0) j ON true
WHERE j.id IS NULL OR j.attempt <> v.a OR j.phase <> 2 OR j.outcome IS NOT NULL",
);

pub(super) const STATEMENTS: [Statement; 4] = [OWN, DISOWN, RUNNING, OVER];

/// Of these limited queues, those that the broker owns from now on, and for which term. Claims of keys under way
/// have ended by then, and later ones of other terms take nothing.
pub async fn own_queues(
    client: &Client,
    me: i32,
    queues: &[QueueId],
) -> Result<Vec<(QueueId, i64)>, StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    let rows = OWN.query(client, &[&me, &queues]).await?;
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), row.get(1))).collect())
}

/// Others may own them.
pub async fn disown_queues(client: &Client, me: i32, queues: &[QueueId]) -> Result<(), StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    DISOWN.execute(client, &[&me, &queues]).await?;
    Ok(())
}

/// The attempts of a queue that some broker holds, and those of a dead one that aren't rescued yet; each with
/// its key.
pub async fn running_attempts(
    client: &Client,
    queue: QueueId,
) -> Result<Vec<(Attempt, Option<Arc<str>>)>, StoreError> {
    let rows = RUNNING.query(client, &[&queue.0]).await?;
    let key = |row: &Row| row.get::<_, Option<&str>>(2).map(Arc::from);
    Ok(rows.iter().map(|row| (attempt(row), key(row))).collect())
}

/// Of these attempts of a queue, those that no broker holds any more.
pub async fn attempts_over(
    client: &Client,
    queue: QueueId,
    attempts: &[Attempt],
) -> Result<Vec<Attempt>, StoreError> {
    let ids: Vec<i64> = attempts.iter().map(|attempt| attempt.id.0).collect();
    let numbers: Vec<i32> = attempts.iter().map(|attempt| attempt.number).collect();
    let rows = OVER.query(client, &[&queue.0, &ids, &numbers]).await?;
    Ok(rows.iter().map(attempt).collect())
}

fn attempt(row: &Row) -> Attempt {
    Attempt { id: JobId(row.get(0)), number: row.get(1) }
}
