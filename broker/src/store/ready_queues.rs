use super::{Client, StoreError, statement::Statement};
use crate::domain::QueueId;

const READY: Statement = Statement::new(
    "ready_queues",
    "/* ready_queues */
SELECT q FROM unnest($1::int[]) AS v (q)
WHERE (SELECT true FROM currant.job j WHERE j.queue_id = v.q AND j.phase = 1
       ORDER BY priority DESC, id LIMIT 1)",
);

pub(super) const STATEMENTS: [Statement; 1] = [READY];

/// Those of the queues that have ready rows: one statement, however many queues wait.
pub async fn ready_queues(client: &Client, queues: &[QueueId]) -> Result<Vec<QueueId>, StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    let rows = READY.query(client, &[&queues]).await?;
    Ok(rows.iter().map(|row| QueueId(row.get(0))).collect())
}
