use std::{collections::HashMap, time::Duration};

use tokio_postgres::Row;

use super::{
    Client, StoreError,
    locate_jobs::locate_jobs,
    row::options,
    statement::{Statement, job_by_key},
};
use crate::domain::{Adopted, Attempt, JobId, QueueId};

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
RETURNING j.id, j.attempt, j.queue_id, j.options"
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
) -> Result<Vec<Adopted>, StoreError> {
    let presented: Vec<JobId> = attempts.iter().map(|attempt| attempt.id).collect();
    let located = locate_jobs(client, &presented).await?;
    let queue_of: HashMap<JobId, QueueId> =
        located.into_iter().map(|key| (key.id, key.queue)).collect();
    let located = attempts.iter().filter_map(|attempt| Some((queue_of.get(&attempt.id)?, attempt)));
    // In the order of all that locks rows of jobs.
    let mut located: Vec<(&QueueId, &Attempt)> = located.collect();
    located.sort_unstable();
    let queues: Vec<i32> = located.iter().map(|(queue, _)| queue.0).collect();
    let ids: Vec<i64> = located.iter().map(|(_, attempt)| attempt.id.0).collect();
    let numbers: Vec<i32> = located.iter().map(|(_, attempt)| attempt.number).collect();
    // Before the take-over: a low_id too low harms nothing.
    if let Some(low) = ids.iter().min() {
        LOWER.execute(client, &[&owner, low]).await?;
    }
    let rows = ADOPT.query(client, &[&owner, &queues, &ids, &numbers]).await?;
    let adopted = |row: &Row| Adopted {
        attempt: Attempt { id: JobId(row.get(0)), number: row.get(1) },
        queue: QueueId(row.get(2)),
        timeout: options(row, 3).and_then(|options| options.timeout_ms).map(Duration::from_millis),
    };
    Ok(rows.iter().map(adopted).collect())
}
