use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    row::settled,
    statement::{Statement, job_by_key},
};
use crate::domain::{Failure, JobKey};

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
    /// `None` keeps what is there.
    pub failure: Option<Failure>,
    /// Who had the attempt, if that is known: the worker's name and its session.
    pub worker: Option<(Arc<str>, String)>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A settlement that was written.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub key: JobKey,
    pub priority: i16,
    pub phase: i16,
    /// Whether it has a key.
    pub keyed: bool,
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
            $7::smallint[], $8::smallint[], $9::text[], $10::timestamptz[], $12::text[], $13::text[],
            $14::text[], $15::text[])
    AS v (q, i, a, w, h, r, f, o, x, e, n, s, c, d)
WHERE ",
        job_by_key!("v.q", "v.i"),
        " AND j.attempt = v.a AND j.phase = 2 AND j.outcome IS NULL
  AND (v.w IS NULL OR j.owner = v.w)
RETURNING j.queue_id, j.id, j.priority, j.phase, j.key IS NOT NULL AS keyed, j.outcome, v.a, v.x, v.n, v.s, v.c, v.d
), died AS (
    INSERT INTO currant.dead_job (queue_id, id)
    SELECT queue_id, id FROM settled WHERE outcome = 2 ON CONFLICT DO NOTHING
), failed AS (
    INSERT INTO currant.failure (queue_id, id, slot, attempt, failed_at, worker, session, class, error,
                                 details)
    SELECT queue_id, id, a % 32, a, $11::timestamptz, n, s, c, left(x, 2000), d
    FROM settled WHERE x IS NOT NULL
    ON CONFLICT (queue_id, id, slot) DO UPDATE
    SET attempt = EXCLUDED.attempt, failed_at = EXCLUDED.failed_at, worker = EXCLUDED.worker,
        session = EXCLUDED.session, class = EXCLUDED.class, error = EXCLUDED.error,
        details = EXCLUDED.details
)
SELECT queue_id, id, priority, phase, keyed FROM settled"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [SETTLE];

/// Writes those that are still current and returns them. `rows` sorted by key.
/// What only few jobs have is written with it: that it is dead, that the attempt failed.
pub async fn settle_jobs(
    client: &Client,
    now: DateTime<Utc>,
    rows: &[Settlement],
) -> Result<Vec<Settled>, StoreError> {
    let queues: Vec<i32> = rows.iter().map(|row| row.key.queue.0).collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.key.id.0).collect();
    let attempts: Vec<i32> = rows.iter().map(|row| row.attempt).collect();
    let owners: Vec<Option<i32>> = rows.iter().map(|row| row.owner).collect();
    let phases: Vec<i16> = rows.iter().map(|row| row.phase).collect();
    let run_at: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.run_at).collect();
    let failures: Vec<i16> = rows.iter().map(|row| row.failures.cast_signed()).collect();
    let outcomes: Vec<Option<i16>> = rows.iter().map(|row| row.outcome).collect();
    let failure = |part: fn(&Failure) -> &str| -> Vec<Option<&str>> {
        rows.iter().map(|row| row.failure.as_ref().map(part)).collect()
    };
    let errors = failure(|failure| &failure.message);
    let classes = failure(|failure| &failure.class);
    let details = failure(|failure| &failure.details);
    let (workers, sessions): (Vec<Option<&str>>, Vec<Option<&str>>) = rows
        .iter()
        .map(|row| row.worker.as_ref().map(|(name, session)| (&**name, &**session)).unzip())
        .unzip();
    let finished: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.finished_at).collect();
    let rows = SETTLE
        .query(
            client,
            &[
                &queues, &ids, &attempts, &owners, &phases, &run_at, &failures, &outcomes, &errors,
                &finished, &now, &workers, &sessions, &classes, &details,
            ],
        )
        .await?;
    Ok(rows.iter().map(settled).collect())
}
