use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Client, StoreError, statement::Statement};
use crate::domain::{BrokerState, JobId, JobKey};

/// A broker's identity: one row, one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerRow {
    pub id: i32,
    pub slot: i16,
}

/// What a heartbeat brings back.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// False: others hold this broker for dead, its jobs are theirs.
    pub alive: bool,
    pub database_time: DateTime<Utc>,
    /// Other brokers, living or dead with jobs to be rescued.
    pub others: i64,
    /// Whether there are cancelled attempts of which this broker may not have heard.
    pub cancels: bool,
    /// Of the last change of a queue.
    pub queue_version: i64,
    /// When a schedule fires next.
    pub next_fire: Option<DateTime<Utc>>,
}

const SUPERSEDE: Statement = Statement::new(
    "supersede_broker",
    "/* supersede_broker */
UPDATE currant.broker SET dead_at = now() WHERE name = $1::text AND dead_at IS NULL",
);

const REGISTER: Statement = Statement::new(
    "register_broker",
    "/* register_broker */
INSERT INTO currant.broker (slot, name, heartbeat_at, low_id)
SELECT s, $1::text, now(), $2::bigint FROM generate_series(0, 767) AS g (s)
WHERE NOT EXISTS (SELECT FROM currant.broker b WHERE b.slot = s)
ORDER BY s LIMIT 1
ON CONFLICT DO NOTHING
RETURNING id, slot",
);

const HEARTBEAT: Statement = Statement::new(
    "heartbeat_broker",
    "/* heartbeat_broker */
WITH beat AS (
    UPDATE currant.broker
    SET heartbeat_at = now(), low_id = CASE WHEN $2::bigint IS NULL THEN low_id ELSE $2::bigint END
    WHERE id = $1::int AND dead_at IS NULL RETURNING id
), gone AS (
    DELETE FROM currant.straggler s USING unnest($3::int[], $4::bigint[]) AS v (q, i)
    WHERE s.owner = $1::int AND s.queue_id = v.q AND s.id = v.i
), come AS (
    INSERT INTO currant.straggler (owner, queue_id, id)
    SELECT $1::int, q, i FROM unnest($5::int[], $6::bigint[]) AS v (q, i) ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM beat), clock_timestamp(),
       (SELECT count(*) FROM currant.broker WHERE id <> $1::int),
       EXISTS (SELECT FROM currant.cancel WHERE owner = $1::int),
       (SELECT version FROM currant.queue_change),
       (SELECT min(CASE WHEN waiting_at IS NULL THEN next_at ELSE now() END) FROM currant.schedule
        WHERE paused_at IS NULL)",
);

const RETIRE: Statement = Statement::new(
    "retire_broker",
    "/* retire_broker */ UPDATE currant.broker SET dead_at = now() WHERE id = $1::int AND dead_at IS NULL",
);

const BURY: Statement = Statement::new(
    "bury_brokers",
    "/* bury_brokers */
UPDATE currant.broker SET dead_at = now()
WHERE dead_at IS NULL AND heartbeat_at < now() - $1::bigint * interval '1 millisecond' AND id <> $2::int
RETURNING name",
);

const TIME: Statement =
    Statement::new("database_time", "/* database_time */ SELECT clock_timestamp()");

const LIST: Statement = Statement::new(
    "list_brokers",
    "/* list_brokers */
SELECT b.id, b.name, b.heartbeat_at, b.dead_at,
       (SELECT coalesce(sum(l.sessions), 0)::bigint FROM currant.queue_load l WHERE l.owner = b.id),
       (SELECT coalesce(sum(l.held), 0)::bigint FROM currant.queue_load l WHERE l.owner = b.id),
       ARRAY(SELECT q.name FROM currant.queue_owner o JOIN currant.queue q ON q.id = o.queue_id
             WHERE o.owner = b.id ORDER BY q.name)
FROM currant.broker b ORDER BY b.id",
);

pub(super) const STATEMENTS: [Statement; 7] =
    [SUPERSEDE, REGISTER, HEARTBEAT, RETIRE, BURY, TIME, LIST];

/// Brokers that run, and dead ones that aren't forgotten: one for each slot at most.
pub async fn list_brokers(client: &Client) -> Result<Vec<BrokerState>, StoreError> {
    let rows = LIST.query(client, &[]).await?;
    let micros = |at: DateTime<Utc>| at.timestamp_micros();
    let state = |row: &Row| BrokerState {
        id: row.get(0),
        name: row.get(1),
        heartbeat_at: micros(row.get(2)),
        dead_at: row.get::<_, Option<_>>(3).map(micros),
        sessions: row.get::<_, i64>(4).unsigned_abs(),
        held: row.get::<_, i64>(5).unsigned_abs(),
        owned_queues: row.get(6),
    };
    Ok(rows.iter().map(state).collect())
}

/// The database's clock.
pub async fn database_time(client: &Client) -> Result<DateTime<Utc>, StoreError> {
    let rows = TIME.query(client, &[]).await?;
    rows.first().map(|row| row.get(0)).ok_or_else(|| no_row("clock", "clock_timestamp"))
}

/// Registers a new incarnation; an older one of the same name is known to be dead from now on.
pub async fn register_broker(
    client: &Client,
    name: &str,
    low: JobId,
) -> Result<BrokerRow, StoreError> {
    SUPERSEDE.execute(client, &[&name]).await?;
    // Another broker may take the slot at the same moment.
    for _ in 0..10 {
        let rows = REGISTER.query(client, &[&name, &low.0]).await?;
        if let Some(row) = rows.first() {
            return Ok(BrokerRow { id: row.get(0), slot: row.get(1) });
        }
    }
    Err(no_row("broker", "slot"))
}

/// Shows life, raises the watermark unless `low` is `None`, and notes the stragglers that came and went.
pub async fn heartbeat_broker(
    client: &Client,
    id: i32,
    low: Option<JobId>,
    gone: &[JobKey],
    come: &[JobKey],
) -> Result<Heartbeat, StoreError> {
    let columns = |keys: &[JobKey]| -> (Vec<i32>, Vec<i64>) {
        keys.iter().map(|key| (key.queue.0, key.id.0)).unzip()
    };
    let (gone_queues, gone_ids) = columns(gone);
    let (come_queues, come_ids) = columns(come);
    let rows = HEARTBEAT
        .query(
            client,
            &[&id, &low.map(|low| low.0), &gone_queues, &gone_ids, &come_queues, &come_ids],
        )
        .await?;
    let row = rows.first().ok_or_else(|| no_row("broker", "id"))?;
    Ok(Heartbeat {
        alive: row.get(0),
        database_time: row.get(1),
        others: row.get(2),
        cancels: row.get(3),
        queue_version: row.get(4),
        next_fire: row.get(5),
    })
}

/// This incarnation ends: what it holds is rescued after the grace.
pub async fn retire_broker(client: &Client, id: i32) -> Result<(), StoreError> {
    RETIRE.execute(client, &[&id]).await?;
    Ok(())
}

/// Marks brokers dead that have shown no life for so long; returns their names.
pub async fn bury_brokers(
    client: &Client,
    dead_after_ms: i64,
    me: i32,
) -> Result<Vec<String>, StoreError> {
    let rows = BURY.query(client, &[&dead_after_ms, &me]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn no_row(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Corrupt {
        table,
        column,
        key: "any".to_owned(),
        problem: "no row came back".to_owned(),
    }
}
