use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_postgres::types::{Json, ToSql, Type};

use super::{
    Client, PHASE_TAKEN, StoreError, column::Column, copy::CopyData, statement::Statement,
};
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
    pub job_key: Option<&'a str>,
}

// A broker that others hold for dead stores nothing: what it took would belong to nobody, since its
// jobs are rescued once.

/// Most jobs have nothing but these: fewer columns to send and to write.
macro_rules! plain_columns {
    () => {
        "queue_id, id, kind, priority, phase, owner, attempt, payload"
    };
}
macro_rules! all_columns {
    () => {
        concat!(plain_columns!(), ", run_at, max_attempts, options, idempotency_key, key")
    };
}

macro_rules! broker_lives {
    () => {
        "WHERE EXISTS (SELECT FROM currant.broker WHERE id = $14::int AND dead_at IS NULL)"
    };
}

macro_rules! jobs_to_insert {
    () => {
        concat!(
            "currant.job (",
            all_columns!(),
            ")
SELECT q, i, k, p, h, w, a, b, r, m, o, y, z
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::smallint[], $5::smallint[], $6::int[], $7::int[],
            $8::bytea[], $9::timestamptz[], $10::smallint[], $11::jsonb[], $12::text[], $13::text[])
    AS v (q, i, k, p, h, w, a, b, r, m, o, y, z)
",
            broker_lives!()
        )
    };
}

const INSERT: Statement =
    Statement::new("insert_jobs", concat!("/* insert_jobs */ INSERT INTO ", jobs_to_insert!()));

const INSERT_TAGGED: Statement = Statement::new(
    "insert_tagged_jobs",
    concat!(
        "/* insert_tagged_jobs */
WITH tagged AS (
    INSERT INTO currant.tag (queue_id, id, tag)
    SELECT q, i, t FROM unnest($15::int[], $16::bigint[], $17::text[]) AS v (q, i, t)
    ",
        broker_lives!(),
        " ON CONFLICT DO NOTHING
)
INSERT INTO ",
        jobs_to_insert!()
    ),
);

/// COPY writes a batch for two thirds of what INSERT costs Postgres, but takes no condition: it wants a
/// transaction with a look before it, and so a round trip more.
const COPY_PLAIN: Statement = Statement::new(
    "copy_jobs",
    concat!("/* copy_jobs */ COPY currant.job (", plain_columns!(), ") FROM STDIN (FORMAT binary)"),
);

const COPY_ALL: Statement = Statement::new(
    "copy_jobs_full",
    concat!(
        "/* copy_jobs_full */ COPY currant.job (",
        all_columns!(),
        ") FROM STDIN (FORMAT binary)"
    ),
);

const LIVES: Statement = Statement::new(
    "broker_lives",
    "/* broker_lives */ SELECT FROM currant.broker WHERE id = $1::int AND dead_at IS NULL",
);

/// Fewer rows are inserted, more are copied.
const COPY_ROWS_MIN: usize = 64;

const IDEMPOTENT: Statement = Statement::new(
    "find_idempotent",
    "/* find_idempotent */
SELECT j.queue_id, j.idempotency_key, j.id, (j.options ->> 'call_jobs')::int
FROM unnest($1::int[], $2::text[]) AS v (q, y),
     LATERAL (SELECT * FROM currant.job
              WHERE queue_id = ANY (ARRAY[v.q]) AND idempotency_key BETWEEN v.y AND v.y OFFSET 0) j",
);

pub(super) const STATEMENTS: [Statement; 6] =
    [INSERT, INSERT_TAGGED, COPY_PLAIN, COPY_ALL, LIVES, IDEMPOTENT];

/// A call that is already stored.
#[derive(Clone, Debug)]
pub struct StoredCall {
    pub queue: QueueId,
    pub idempotency_key: String,
    pub first: JobId,
    pub jobs: usize,
}

impl InsertRow<'_> {
    fn is_plain(&self) -> bool {
        self.run_at.is_none()
            && self.max_attempts.is_none()
            && self.options.is_none()
            && self.idempotency_key.is_none()
            && self.job_key.is_none()
    }

    /// Owner and attempt.
    fn taken(&self, by: i32) -> (Option<i32>, i32) {
        if self.phase == PHASE_TAKEN { (Some(by), 1) } else { (None, 0) }
    }
}

/// Stores all rows or none; those in phase 2 as taken by `owner`, first attempt. None either if
/// `owner` is held for dead.
pub async fn insert_jobs(
    client: Client,
    owner: i32,
    rows: &[InsertRow<'_>],
) -> Result<(), StoreError> {
    let plain = rows.iter().all(InsertRow::is_plain);
    let tags = if plain { Vec::new() } else { tags_of(rows) };
    // With tags both in one statement, and so both or none. A COPY would have to be prepared.
    if rows.len() < COPY_ROWS_MIN || !tags.is_empty() || client.is_pooled() {
        return insert(&client, owner, rows, &tags).await;
    }
    let statement = if plain { COPY_PLAIN } else { COPY_ALL };
    let copied =
        statement.copy_if(&client, (LIVES, &[&owner]), copy_data(owner, rows, plain)).await;
    match copied {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::HeldForDead { statement: statement.name }),
        // Refused at its end: the transaction is over, the connection in step.
        Err(error @ StoreError::Unique { .. }) => Err(error),
        Err(error) => {
            // A COPY that is refused before it began leaves the connection an answer out of step: it
            // mustn't be used again.
            client.discard();
            Err(error)
        }
    }
}

pub(super) fn copy_data(by: i32, rows: &[InsertRow<'_>], plain: bool) -> CopyData {
    let columns = if plain { 8 } else { 13 };
    let bytes = rows.iter().map(|row| row.payload.len() + row.kind.len() + 96).sum();
    let mut data = CopyData::new(bytes);
    for row in rows {
        let (owner, attempt) = row.taken(by);
        data.row(columns);
        data.field(&row.key.queue.0, &Type::INT4);
        data.field(&row.key.id.0, &Type::INT8);
        data.field(&row.kind, &Type::TEXT);
        data.field(&row.priority, &Type::INT2);
        data.field(&row.phase, &Type::INT2);
        data.field(&owner, &Type::INT4);
        data.field(&attempt, &Type::INT4);
        data.field(&row.payload.as_ref(), &Type::BYTEA);
        if !plain {
            data.field(&row.run_at, &Type::TIMESTAMPTZ);
            data.field(&row.max_attempts.map(u16::cast_signed), &Type::INT2);
            data.field(&row.options.map(Json), &Type::JSONB);
            data.field(&row.idempotency_key, &Type::TEXT);
            data.field(&row.job_key, &Type::TEXT);
        }
    }
    data
}

/// What the jobs are found by.
fn tags_of<'a>(rows: &[InsertRow<'a>]) -> Vec<(JobKey, Cow<'a, str>)> {
    let tagged = rows.iter().filter_map(|row| Some((row.key, row.options?)));
    tagged.flat_map(|(key, options)| options.searchable().map(move |tag| (key, tag))).collect()
}

async fn insert(
    client: &Client,
    owner: i32,
    rows: &[InsertRow<'_>],
    tags: &[(JobKey, Cow<'_, str>)],
) -> Result<(), StoreError> {
    let params: [&(dyn ToSql + Sync); 17] = [
        &Column::new(rows, |row| row.key.queue.0),
        &Column::new(rows, |row| row.key.id.0),
        &Column::new(rows, |row| row.kind),
        &Column::new(rows, |row| row.priority),
        &Column::new(rows, |row| row.phase),
        &Column::new(rows, |row| row.taken(owner).0),
        &Column::new(rows, |row| row.taken(owner).1),
        &Column::new(rows, |row| row.payload.as_ref()),
        &Column::new(rows, |row| row.run_at),
        &Column::new(rows, |row| row.max_attempts.map(u16::cast_signed)),
        &Column::new(rows, |row| row.options.map(Json)),
        &Column::new(rows, |row| row.idempotency_key),
        &Column::new(rows, |row| row.job_key),
        &owner,
        &Column::new(tags, |(key, _)| key.queue.0),
        &Column::new(tags, |(key, _)| key.id.0),
        &Column::new(tags, |(_, tag)| &**tag),
    ];
    let (statement, params) =
        if tags.is_empty() { (INSERT, &params[..14]) } else { (INSERT_TAGGED, &params[..]) };
    let written = statement.execute(client, params).await?;
    if written == rows.len() as u64 {
        Ok(())
    } else {
        Err(StoreError::HeldForDead { statement: statement.name })
    }
}

/// Those of the calls with these keys that are already stored.
pub async fn find_idempotent(
    client: &Client,
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
