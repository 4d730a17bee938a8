//! What the database says, by the checker's own statements.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::chaos::payload::Payload;

const ROWS: &str = "SELECT j.id, q.name, j.priority, j.phase, j.outcome, j.attempt, j.failures,
       coalesce(j.max_attempts, q.max_attempts), j.payload, j.result, j.error,
       (extract(epoch FROM j.finished_at) * 1000000)::bigint,
       (extract(epoch FROM j.claimed_at) * 1000000)::bigint, j.key,
       (j.options ->> 'expires_at')::bigint
FROM currant.job j JOIN currant.queue q ON q.id = j.queue_id ORDER BY j.id";

const OPEN: &str = "SELECT count(*) FROM currant.job WHERE outcome IS NULL";

pub(in crate::chaos) const READY: i16 = 1;
pub(in crate::chaos) const TAKEN: i16 = 2;
pub(in crate::chaos) const SUCCEEDED: i16 = 1;
pub(in crate::chaos) const DEAD: i16 = 2;
pub(in crate::chaos) const CANCELLED: i16 = 3;

/// A job as stored.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::chaos) struct Row {
    pub(super) id: i64,
    pub(super) queue: String,
    pub(super) priority: i16,
    pub(super) phase: i16,
    pub(super) outcome: Option<i16>,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    /// None: the brokers' default.
    pub(super) max_attempts: Option<u32>,
    pub(super) payload: Payload,
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
    /// Times are those of the database, in microseconds since 1970.
    pub(super) finished_at: Option<i64>,
    /// When it was last taken from the backlog.
    pub(super) claimed_at: Option<i64>,
    pub(super) key: Option<String>,
    pub(super) expires_at: Option<i64>,
}

impl Row {
    pub(in crate::chaos) fn id(&self) -> i64 {
        self.id
    }

    pub(in crate::chaos) fn queue(&self) -> &str {
        &self.queue
    }

    /// The time in its id, rounded down to a millisecond: it was stored after that.
    pub(super) fn created_at(&self) -> i64 {
        (self.id >> 22) * 1000
    }
}

pub(in crate::chaos) async fn read(client: &Client) -> Result<Vec<Row>> {
    let rows = client.query(ROWS, &[]).await.context("can't read the jobs")?;
    rows.iter().map(row).collect()
}

/// How many jobs aren't over.
pub(in crate::chaos) async fn open_jobs(client: &Client) -> Result<i64> {
    Ok(client.query_one(OPEN, &[]).await?.get(0))
}

fn row(row: &tokio_postgres::Row) -> Result<Row> {
    let id: i64 = row.get(0);
    let payload: &[u8] = row.get(8);
    let payload = serde_json::from_slice(payload);
    let result: Option<&[u8]> = row.get(9);
    Ok(Row {
        id,
        queue: row.get(1),
        priority: row.get(2),
        phase: row.get(3),
        outcome: row.get(4),
        attempt: row.get::<_, i32>(5).cast_unsigned(),
        failures: u32::from(row.get::<_, i16>(6).cast_unsigned()),
        max_attempts: row.get::<_, Option<i16>>(7).map(|max| u32::from(max.cast_unsigned())),
        payload: payload.with_context(|| format!("the payload of job {id}"))?,
        result: result.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        error: row.get(10),
        finished_at: row.get(11),
        claimed_at: row.get(12),
        key: row.get(13),
        expires_at: row.get(14),
    })
}
