use chrono::{DateTime, Utc};

use super::{Client, StoreError, statement::Statement};
use crate::domain::{JobId, Pruned, QueueId, Slice};

macro_rules! finished_before {
    () => {
        "CASE outcome WHEN 1 THEN $5::timestamptz WHEN 2 THEN $6::timestamptz
                      WHEN 3 THEN $7::timestamptz END"
    };
}

/// What is deleted is looked for again by its key, not by its place: if somebody changes such a row
/// meanwhile, Postgres asks the whole condition once more of what it has become. What only few jobs have
/// goes with them.
const PRUNE: Statement = Statement::new(
    "prune_jobs",
    concat!(
        "/* prune_jobs */
WITH slice AS MATERIALIZED (
    SELECT id, outcome, finished_at - ",
        finished_before!(),
        " AS rest
    FROM currant.job
    WHERE queue_id = $1::int AND id > $2::bigint AND id < $3::bigint
    ORDER BY id LIMIT $4::bigint
), gone AS (
    DELETE FROM currant.job
    WHERE queue_id = $1::int AND id > $2::bigint AND id <= (SELECT max(id) FROM slice)
      AND finished_at < ",
        finished_before!(),
        "
    RETURNING id, outcome, error IS NOT NULL AS failed, options IS NOT NULL AS tagged
), dead AS (
    DELETE FROM currant.dead_job
    WHERE queue_id = $1::int AND id = ANY (ARRAY(SELECT id FROM gone WHERE outcome = 2))
), failures AS (
    DELETE FROM currant.failure
    WHERE queue_id = $1::int AND id = ANY (ARRAY(SELECT id FROM gone WHERE failed))
), keys AS (
    DELETE FROM currant.unique_key
    WHERE queue_id = $1::int AND id > $2::bigint AND id <= (SELECT max(id) FROM slice)
      AND (id IN (SELECT id FROM gone)) IS TRUE
), progress AS (
    DELETE FROM currant.progress
    WHERE queue_id = $1::int AND id > $2::bigint AND id <= (SELECT max(id) FROM slice)
      AND (id IN (SELECT id FROM gone)) IS TRUE
), tags AS (
    DELETE FROM currant.tag
    WHERE queue_id = $1::int AND id = ANY (ARRAY(SELECT id FROM gone WHERE tagged))
)
SELECT count(*), (SELECT count(*) FROM gone), max(id),
       min(id) FILTER (WHERE outcome IS NULL OR rest >= interval '0'),
       (extract(epoch FROM min(rest) FILTER (WHERE rest >= interval '0')) * 1000)::bigint,
       coalesce(bool_or(outcome IS NULL), false),
       (extract(epoch FROM min(rest)) * -1000)::bigint
FROM slice"
    ),
);

const NEXT: Statement = Statement::new(
    "next_jobs",
    "/* next_jobs */
SELECT v.q, j.id
FROM unnest($1::int[], $2::bigint[]) AS v (q, i),
     LATERAL (SELECT id FROM currant.job WHERE queue_id = v.q AND id > v.i ORDER BY id LIMIT 1) j",
);

pub(super) const STATEMENTS: [Statement; 2] = [PRUNE, NEXT];

/// Deletes the jobs of a slice that are over their retention.
pub async fn prune_jobs(client: &Client, slice: &Slice) -> Result<Pruned, StoreError> {
    let rows_max = i64::try_from(slice.rows_max).unwrap_or(i64::MAX);
    let time = |ms: Option<i64>| ms.and_then(DateTime::<Utc>::from_timestamp_millis);
    let (succeeded, cancelled, dead) = (
        time(slice.succeeded_before_ms),
        time(slice.cancelled_before_ms),
        time(slice.dead_before_ms),
    );
    let rows = PRUNE
        .query(
            client,
            &[
                &slice.queue.0,
                &slice.after.0,
                &slice.before.0,
                &rows_max,
                &succeeded,
                &dead,
                &cancelled,
            ],
        )
        .await?;
    let count = |row: &tokio_postgres::Row, column: usize| row.get::<_, i64>(column).unsigned_abs();
    Ok(rows.first().map_or_else(Pruned::default, |row| Pruned {
        rows: usize::try_from(count(row, 0)).unwrap_or(usize::MAX),
        jobs: count(row, 1),
        last: row.get::<_, Option<i64>>(2).map(JobId),
        kept: row.get::<_, Option<i64>>(3).map(JobId),
        kept_ms: row.get(4),
        open: row.get(5),
        overdue_ms: row.get::<_, Option<i64>>(6).filter(|ms| *ms > 0),
    }))
}

/// The first job of each queue behind the given one; queues without are left out.
pub async fn next_jobs(
    client: &Client,
    behind: &[(QueueId, JobId)],
) -> Result<Vec<(QueueId, JobId)>, StoreError> {
    let (queues, ids): (Vec<i32>, Vec<i64>) =
        behind.iter().map(|(queue, id)| (queue.0, id.0)).unzip();
    let rows = NEXT.query(client, &[&queues, &ids]).await?;
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), JobId(row.get(1)))).collect())
}
