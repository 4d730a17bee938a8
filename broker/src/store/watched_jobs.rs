use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    row::{
        job_key, number_of, progress_columns, state_number, stored_job_with_progress, with_progress,
    },
    statement::Statement,
};
use crate::domain::{JobKey, State, StoredJob};

const WATCHED: Statement = Statement::new(
    "watched_jobs",
    concat!(
        "/* watched_jobs */
SELECT v.q, v.i, j.kind, ''::bytea, j.priority, j.phase, j.outcome, j.attempt, j.failures,
       j.max_attempts, j.run_at, j.claimed_at, j.finished_at, j.result, j.error, j.options, j.key,
       ",
        progress_columns!(),
        "
FROM unnest($1::int[], $2::bigint[], $3::smallint[], $4::int[], $5::timestamptz[])
         AS v (q, i, s, a, p)
LEFT JOIN LATERAL (SELECT * FROM currant.job WHERE queue_id = v.q AND id = v.i OFFSET 0) j ON true
",
        with_progress!(),
        "
WHERE j.id IS NULL OR j.attempt <> v.a OR p.reported_at IS DISTINCT FROM v.p OR ",
        state_number!("j"),
        " <> v.s
LIMIT $6::bigint"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [WATCHED];

/// A job that isn't as it was seen; `None`: it is gone.
pub type Changed = (JobKey, Option<StoredJob>);

/// How a job was seen: state, attempt, and when its progress was reported, in microseconds since 1970.
pub type Sight = (State, i32, Option<i64>);

/// Of jobs, each as it was seen, at most `limit` that have changed,
/// without their payloads.
pub async fn watched_jobs(
    client: &Client,
    seen: &[(JobKey, Sight)],
    limit: usize,
) -> Result<Vec<Changed>, StoreError> {
    let queues: Vec<i32> = seen.iter().map(|(key, ..)| key.queue.0).collect();
    let ids: Vec<i64> = seen.iter().map(|(key, ..)| key.id.0).collect();
    let states: Vec<i16> = seen.iter().map(|(_, (state, ..))| number_of(*state)).collect();
    let attempts: Vec<i32> = seen.iter().map(|(_, (_, attempt, _))| *attempt).collect();
    let reported: Vec<Option<DateTime<Utc>>> = seen
        .iter()
        .map(|(_, (.., at))| at.and_then(DateTime::<Utc>::from_timestamp_micros))
        .collect();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        WATCHED.query(client, &[&queues, &ids, &states, &attempts, &reported, &limit]).await?;
    let changed = |row: &tokio_postgres::Row| {
        let is_there = row.get::<_, Option<&str>>(2).is_some();
        (job_key(row), is_there.then(|| stored_job_with_progress(row)))
    };
    Ok(rows.iter().map(changed).collect())
}
