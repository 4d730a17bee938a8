use deadpool_postgres::GenericClient;

use super::{StoreError, statement::Statement};
use crate::domain::JobKey;

const FORGET: Statement = Statement::new(
    "forget_dead",
    "/* forget_dead */
DELETE FROM currant.dead_job d USING unnest($1::int[], $2::bigint[]) AS v (q, i)
WHERE d.queue_id = v.q AND d.id = v.i",
);

pub(super) const STATEMENTS: [Statement; 1] = [FORGET];

/// These aren't dead any more. In the transaction that changed them, and after that: with their rows
/// locked, it sees what the last settlement wrote.
pub(super) async fn forget_dead(
    client: &impl GenericClient,
    keys: &[JobKey],
) -> Result<(), StoreError> {
    let queues: Vec<i32> = keys.iter().map(|key| key.queue.0).collect();
    let ids: Vec<i64> = keys.iter().map(|key| key.id.0).collect();
    FORGET.execute(client, &[&queues, &ids]).await?;
    Ok(())
}
