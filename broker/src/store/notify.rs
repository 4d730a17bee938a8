use super::{Client, StoreError, statement::Statement};
use crate::domain::ReadyIn;

/// The channel; a payload names a queue and who said so, and carries no state.
pub(super) const CHANNEL: &str = "currant_ready";

const NOTIFY: Statement = Statement::new(
    "notify_ready",
    "/* notify_ready */ 
SELECT pg_notify('currant_ready', q || CASE WHEN k THEN 'k/' ELSE '/' END || $2::int)
FROM unnest($1::int[], $3::boolean[]) AS v (q, k)",
);

pub(super) const STATEMENTS: [Statement; 1] = [NOTIFY];

/// Tells the other brokers where there are ready rows. One transaction for all: each commit
/// with a notification holds a lock of the whole cluster.
pub async fn notify_ready(client: &Client, me: i32, ready: &[ReadyIn]) -> Result<(), StoreError> {
    let queues: Vec<i32> = ready.iter().map(|ready| ready.queue.0).collect();
    let keyed: Vec<bool> = ready.iter().map(|ready| ready.keyed).collect();
    NOTIFY.execute(client, &[&queues, &me, &keyed]).await?;
    Ok(())
}
