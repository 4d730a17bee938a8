use super::{Client, StoreError, statement::Statement};
use crate::domain::QueueId;

/// The channel; a payload names a queue and who said so, and carries no state.
pub(super) const CHANNEL: &str = "currant_ready";

const NOTIFY: Statement = Statement::new(
    "notify_ready",
    "/* notify_ready */ 
SELECT pg_notify('currant_ready', q || '/' || $2::int) FROM unnest($1::int[]) AS v (q)",
);

pub(super) const STATEMENTS: [Statement; 1] = [NOTIFY];

/// Tells the other brokers that these queues have ready rows. One transaction for all: each commit
/// with a notification holds a lock of the whole cluster.
pub async fn notify_ready(client: &Client, me: i32, queues: &[QueueId]) -> Result<(), StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    NOTIFY.execute(client, &[&queues, &me]).await?;
    Ok(())
}
