use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    statement::{Statement, job_by_key},
};
use crate::domain::{JobId, JobKey, QueueId};

/// What becomes of a job whose attempt ended in anything but success. Fenced by the attempt.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub key: JobKey,
    pub attempt: i32,
    /// Only if this broker still holds it; `None`: whoever does.
    pub owner: Option<i32>,
    pub phase: i16,
    /// Null keeps what is there.
    pub run_at: Option<DateTime<Utc>>,
    pub failures: u16,
    pub outcome: Option<i16>,
    /// Null keeps what is there.
    pub error: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A settlement that was written.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub key: JobKey,
    pub priority: i16,
    pub phase: i16,
}

const SETTLE: Statement = Statement::new(
    "settle_jobs",
    concat!(
        "/* settle_jobs */
WITH settled AS (
UPDATE currant.job j
SET phase = v.h, owner = NULL, failures = v.f, outcome = v.o, finished_at = v.e,
    run_at = CASE WHEN v.r IS NULL THEN j.run_at ELSE v.r END,
    error = CASE WHEN v.x IS NULL THEN j.error ELSE v.x END
FROM unnest($1::int[], $2::bigint[], $3::int[], $4::int[], $5::smallint[], $6::timestamptz[],
            $7::smallint[], $8::smallint[], $9::text[], $10::timestamptz[])
    AS v (q, i, a, w, h, r, f, o, x, e)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.attempt = v.a AND j.phase = 2 AND j.outcome IS NULL
  AND (v.w IS NULL OR j.owner = v.w)
RETURNING j.queue_id, j.id, j.priority, j.phase, j.outcome
), died AS (
    INSERT INTO currant.dead_job (queue_id, id)
    SELECT queue_id, id FROM settled WHERE outcome = 2 ON CONFLICT DO NOTHING
)
SELECT queue_id, id, priority, phase FROM settled"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [SETTLE];

/// Writes those that are still current and returns them. `rows` sorted by key.
pub async fn settle_jobs(client: &Client, rows: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
    let queues: Vec<i32> = rows.iter().map(|row| row.key.queue.0).collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.key.id.0).collect();
    let attempts: Vec<i32> = rows.iter().map(|row| row.attempt).collect();
    let owners: Vec<Option<i32>> = rows.iter().map(|row| row.owner).collect();
    let phases: Vec<i16> = rows.iter().map(|row| row.phase).collect();
    let run_at: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.run_at).collect();
    let failures: Vec<i16> = rows.iter().map(|row| row.failures.cast_signed()).collect();
    let outcomes: Vec<Option<i16>> = rows.iter().map(|row| row.outcome).collect();
    let errors: Vec<Option<&str>> = rows.iter().map(|row| row.error.as_deref()).collect();
    let finished: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.finished_at).collect();
    let rows = SETTLE
        .query(
            client,
            &[
                &queues, &ids, &attempts, &owners, &phases, &run_at, &failures, &outcomes, &errors,
                &finished,
            ],
        )
        .await?;
    let settled = |row: &tokio_postgres::Row| Settled {
        key: JobKey { queue: QueueId(row.get(0)), id: JobId(row.get(1)) },
        priority: row.get(2),
        phase: row.get(3),
    };
    Ok(rows.iter().map(settled).collect())
}
