use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::Json;

use super::{StoreError, statement::Statement};
use crate::domain::{JobId, JobKey, JobOptions, QueueId};

/// A job to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct InsertRow<'a> {
    pub key: JobKey,
    pub kind: &'a str,
    pub payload: &'a Bytes,
    pub priority: i16,
    pub phase: i16,
    pub run_at: Option<DateTime<Utc>>,
    pub max_attempts: Option<u16>,
    pub options: Option<&'a JobOptions>,
    pub idempotency_key: Option<&'a str>,
}

impl InsertRow<'_> {
    fn is_plain(&self) -> bool {
        self.run_at.is_none()
            && self.max_attempts.is_none()
            && self.options.is_none()
            && self.idempotency_key.is_none()
    }
}

/// Most jobs have nothing but these: fewer columns to send and to write.
const PLAIN: Statement = Statement::new(
    "insert_jobs",
    "/* insert_jobs */
INSERT INTO currant.job (queue_id, id, kind, priority, phase, owner, attempt, payload)
SELECT q, i, k, p, h, CASE WHEN h = 2 THEN $7::int END, CASE WHEN h = 2 THEN 1 ELSE 0 END, b
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::smallint[], $5::smallint[], $6::bytea[])
    AS v (q, i, k, p, h, b)",
);

const FULL: Statement = Statement::new(
    "insert_jobs_full",
    "/* insert_jobs_full */
INSERT INTO currant.job (queue_id, id, kind, priority, phase, owner, attempt, payload,
                         run_at, max_attempts, options, idempotency_key)
SELECT q, i, k, p, h, CASE WHEN h = 2 THEN $7::int END, CASE WHEN h = 2 THEN 1 ELSE 0 END, b,
       r, m, o, y
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::smallint[], $5::smallint[], $6::bytea[],
            $8::timestamptz[], $9::smallint[], $10::jsonb[], $11::text[])
    AS v (q, i, k, p, h, b, r, m, o, y)",
);

const IDEMPOTENT: Statement = Statement::new(
    "find_idempotent",
    "/* find_idempotent */
SELECT j.queue_id, j.idempotency_key, j.id, (j.options ->> 'call_jobs')::int
FROM unnest($1::int[], $2::text[]) AS v (q, y)
JOIN currant.job j ON j.queue_id = v.q AND j.idempotency_key = v.y",
);

/// A call that is already stored.
#[derive(Clone, Debug)]
pub struct StoredCall {
    pub queue: QueueId,
    pub idempotency_key: String,
    pub first: JobId,
    pub jobs: usize,
}

/// Inserts all rows or none; those in phase 2 as taken by `owner`, first attempt.
pub async fn insert_jobs(
    client: &ClientWrapper,
    owner: i32,
    rows: &[InsertRow<'_>],
) -> Result<(), StoreError> {
    let queues: Vec<i32> = rows.iter().map(|row| row.key.queue.0).collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.key.id.0).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    let priorities: Vec<i16> = rows.iter().map(|row| row.priority).collect();
    let phases: Vec<i16> = rows.iter().map(|row| row.phase).collect();
    let payloads: Vec<&[u8]> = rows.iter().map(|row| row.payload.as_ref()).collect();
    if rows.iter().all(InsertRow::is_plain) {
        PLAIN
            .execute(client, &[&queues, &ids, &kinds, &priorities, &phases, &payloads, &owner])
            .await?;
        return Ok(());
    }
    let run_at: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.run_at).collect();
    let max_attempts: Vec<Option<i16>> =
        rows.iter().map(|row| row.max_attempts.map(u16::cast_signed)).collect();
    let options: Vec<Option<Json<&JobOptions>>> =
        rows.iter().map(|row| row.options.map(Json)).collect();
    let keys: Vec<Option<&str>> = rows.iter().map(|row| row.idempotency_key).collect();
    FULL.execute(
        client,
        &[
            &queues,
            &ids,
            &kinds,
            &priorities,
            &phases,
            &payloads,
            &owner,
            &run_at,
            &max_attempts,
            &options,
            &keys,
        ],
    )
    .await?;
    Ok(())
}

/// Those of the calls with these keys that are already stored.
pub async fn find_idempotent(
    client: &ClientWrapper,
    keys: &[(QueueId, &str)],
) -> Result<Vec<StoredCall>, StoreError> {
    let queues: Vec<i32> = keys.iter().map(|(queue, _)| queue.0).collect();
    let names: Vec<&str> = keys.iter().map(|(_, key)| *key).collect();
    let rows = IDEMPOTENT.query(client, &[&queues, &names]).await?;
    let call = |row: &tokio_postgres::Row| StoredCall {
        queue: QueueId(row.get(0)),
        idempotency_key: row.get(1),
        first: JobId(row.get(2)),
        jobs: row.get::<_, Option<i32>>(3).map_or(1, |jobs| jobs.unsigned_abs() as usize),
    };
    Ok(rows.iter().map(call).collect())
}
