use std::collections::HashMap;

use super::{
    Client, StoreError,
    row::{job_key, key_columns, options},
    statement::Statement,
};
use crate::domain::{JobId, JobKey, JobOptions, RetryPolicy};

pub const PHASE_SCHEDULED: i16 = 0;
pub const PHASE_READY: i16 = 1;
pub const PHASE_TAKEN: i16 = 2;

pub const OUTCOME_SUCCEEDED: i16 = 1;
pub const OUTCOME_DEAD: i16 = 2;
pub const OUTCOME_CANCELLED: i16 = 3;

/// What decides about an outcome.
#[derive(Clone, Debug)]
pub struct JobState {
    pub key: JobKey,
    pub attempt: i32,
    pub phase: i16,
    pub outcome: Option<i16>,
    pub failures: u16,
    pub max_attempts: Option<u16>,
    pub kind: String,
    /// The job's own.
    pub retry: Option<RetryPolicy>,
    /// No attempt begins after it; microseconds since 1970, as the next.
    pub expires_at: Option<i64>,
    pub finished_at: Option<i64>,
}

const STATES: Statement = Statement::new(
    "job_states",
    "/* job_states */
SELECT j.queue_id, j.id, j.attempt, j.phase, j.outcome, j.failures, j.max_attempts, j.options,
       j.finished_at, j.kind
FROM unnest($1::int[], $2::bigint[]) AS v (q, i),
     LATERAL (SELECT * FROM currant.job WHERE queue_id = v.q AND id = v.i OFFSET 0) j",
);

/// As they stand; jobs that aren't there are left out.
pub async fn job_states(client: &Client, keys: &[JobKey]) -> Result<Vec<JobState>, StoreError> {
    let (queues, ids) = key_columns(keys);
    let rows = STATES.query(client, &[&queues, &ids]).await?;
    let state = |row: &tokio_postgres::Row| {
        let JobOptions { retry, expires_at, .. } =
            options(row, 7).map(|it| *it).unwrap_or_default();
        JobState {
            key: job_key(row),
            attempt: row.get(2),
            phase: row.get(3),
            outcome: row.get(4),
            failures: row.get::<_, i16>(5).cast_unsigned(),
            max_attempts: row.get::<_, Option<i16>>(6).map(i16::cast_unsigned),
            retry,
            expires_at,
            finished_at: row
                .get::<_, Option<chrono::DateTime<chrono::Utc>>>(8)
                .map(|at| at.timestamp_micros()),
            kind: row.get(9),
        }
    };
    Ok(rows.iter().map(state).collect())
}

/// Among its last failed attempts.
const LOST: Statement = Statement::new(
    "lost_workers",
    "/* lost_workers */
SELECT v.q, v.i, (SELECT count(*) FROM (SELECT class FROM currant.failure f
                                        WHERE f.queue_id = v.q AND f.id = v.i
                                        ORDER BY attempt DESC LIMIT v.f) l
                  WHERE class = 'worker_lost')
FROM unnest($1::int[], $2::bigint[], $3::int[]) AS v (q, i, f)",
);

/// How many workers were lost with these jobs, among so many failed attempts of each.
pub async fn lost_workers(
    client: &Client,
    jobs: &[(JobKey, u16)],
) -> Result<HashMap<JobKey, u16>, StoreError> {
    let queues: Vec<i32> = jobs.iter().map(|(key, _)| key.queue.0).collect();
    let ids: Vec<i64> = jobs.iter().map(|(key, _)| key.id.0).collect();
    let failures: Vec<i32> = jobs.iter().map(|(_, failures)| i32::from(*failures)).collect();
    let rows = LOST.query(client, &[&queues, &ids, &failures]).await?;
    let count = |row: &tokio_postgres::Row| u16::try_from(row.get::<_, i64>(2)).unwrap_or(u16::MAX);
    Ok(rows.iter().map(|row| (job_key(row), count(row))).collect())
}

const LOCATE: Statement = Statement::new(
    "locate_jobs",
    "/* locate_jobs */
SELECT j.queue_id, j.id
FROM unnest($1::bigint[]) AS v (i), currant.queue q,
     LATERAL (SELECT * FROM currant.job WHERE queue_id = q.id AND id = v.i OFFSET 0) j",
);

pub(super) const STATEMENTS: [Statement; 3] = [STATES, LOST, LOCATE];

/// The queues of these jobs, by a look into each queue: for the rare call that can't know them.
/// Jobs that aren't there are left out.
pub async fn locate_jobs(client: &Client, ids: &[JobId]) -> Result<Vec<JobKey>, StoreError> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let rows = LOCATE.query(client, &[&ids]).await?;
    Ok(rows.iter().map(job_key).collect())
}
