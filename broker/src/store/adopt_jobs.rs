use std::collections::HashMap;

use super::{
    Client, StoreError,
    locate_jobs::locate_jobs,
    statement::{Statement, job_by_key},
};
use crate::domain::{Attempt, JobId, QueueId};

const ADOPT: Statement = Statement::new(
    "adopt_jobs",
    concat!(
        "/* adopt_jobs */
UPDATE currant.job j SET owner = $1::int
FROM unnest($2::int[], $3::bigint[], $4::int[]) AS v (q, i, a)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.attempt = v.a AND j.phase = 2 AND j.outcome IS NULL
  AND j.owner <> $1::int
  AND EXISTS (SELECT FROM currant.broker WHERE id = $1::int AND dead_at IS NULL)
RETURNING j.id, j.attempt, j.queue_id"
    ),
);

const LOWER: Statement = Statement::new(
    "lower_watermark",
    "/* lower_watermark */
UPDATE currant.broker SET low_id = $2::bigint WHERE id = $1::int AND low_id > $2::bigint",
);

pub(super) const STATEMENTS: [Statement; 2] = [ADOPT, LOWER];

/// Takes over attempts that a worker holds and another broker, gone or not, delivered. Returns those
/// that are still current.
pub async fn adopt_jobs(
    client: &Client,
    owner: i32,
    attempts: &[Attempt],
) -> Result<Vec<(Attempt, QueueId)>, StoreError> {
    let presented: Vec<JobId> = attempts.iter().map(|attempt| attempt.id).collect();
    let located = locate_jobs(client, &presented).await?;
    let queue_of: HashMap<JobId, QueueId> =
        located.into_iter().map(|key| (key.id, key.queue)).collect();
    let (mut queues, mut ids, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in attempts {
        if let Some(queue) = queue_of.get(&attempt.id) {
            queues.push(queue.0);
            ids.push(attempt.id.0);
            numbers.push(attempt.number);
        }
    }
    // Before the take-over: a low_id too low harms nothing.
    if let Some(low) = ids.iter().min() {
        LOWER.execute(client, &[&owner, low]).await?;
    }
    let rows = ADOPT.query(client, &[&owner, &queues, &ids, &numbers]).await?;
    Ok(rows
        .iter()
        .map(|row| (Attempt { id: JobId(row.get(0)), number: row.get(1) }, QueueId(row.get(2))))
        .collect())
}
