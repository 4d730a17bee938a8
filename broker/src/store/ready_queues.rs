use super::{Client, StoreError, statement::Statement};
use crate::domain::{QueueId, ReadyIn};

const READY: Statement = Statement::new(
    "ready_queues",
    "/* ready_queues */
SELECT q, (SELECT true FROM currant.job j WHERE j.queue_id = v.q AND j.phase = 1 AND j.key IS NULL
           ORDER BY priority DESC, id LIMIT 1),
       (SELECT true FROM currant.job j WHERE j.queue_id = v.q AND j.phase = 1 AND j.key IS NOT NULL
        ORDER BY key LIMIT 1)
FROM unnest($1::int[]) AS v (q)",
);

pub(super) const STATEMENTS: [Statement; 1] = [READY];

/// Where in the queues there are ready rows: one statement, however many queues wait.
pub async fn ready_queues(client: &Client, queues: &[QueueId]) -> Result<Vec<ReadyIn>, StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    let rows = READY.query(client, &[&queues]).await?;
    let mut found = Vec::new();
    for row in rows {
        let queue = QueueId(row.get(0));
        for (column, keyed) in [(1, false), (2, true)] {
            if row.get::<_, Option<bool>>(column).is_some() {
                found.push(ReadyIn { queue, keyed });
            }
        }
    }
    Ok(found)
}
