use super::{Client, StoreError, statement::Statement};
use crate::domain::{QueueId, ReadyIn};

const READY: Statement = Statement::new(
    "ready_queues",
    "/* ready_queues */
SELECT q, keyed FROM unnest($1::int[], $2::boolean[]) AS v (q, keyed)
WHERE CASE WHEN keyed THEN
    (SELECT true FROM currant.job j WHERE j.queue_id = v.q AND j.phase = 1 AND j.key IS NOT NULL
     ORDER BY key LIMIT 1)
ELSE
    (SELECT true FROM currant.job j WHERE j.queue_id = v.q AND j.phase = 1 AND j.key IS NULL
     ORDER BY priority DESC, id LIMIT 1)
END",
);

pub(super) const STATEMENTS: [Statement; 1] = [READY];

/// In which of these places there are ready rows: one statement, however many queues wait.
pub async fn ready_queues(client: &Client, places: &[ReadyIn]) -> Result<Vec<ReadyIn>, StoreError> {
    let queues: Vec<i32> = places.iter().map(|place| place.queue.0).collect();
    let keyed: Vec<bool> = places.iter().map(|place| place.keyed).collect();
    let rows = READY.query(client, &[&queues, &keyed]).await?;
    Ok(rows.iter().map(|row| ReadyIn { queue: QueueId(row.get(0)), keyed: row.get(1) }).collect())
}
