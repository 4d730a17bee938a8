use std::collections::HashMap;

use super::{Client, StoreError, statement::Statement};
use crate::domain::QueueId;

/// A queue's load at one broker.
#[derive(Clone, Copy, Debug)]
pub struct LoadRow {
    pub queue: QueueId,
    pub sessions: i32,
    pub held: i32,
    /// How many more the sessions can take.
    pub free: i32,
    pub enqueued_per_s: f32,
    pub completed_per_s: f32,
}

/// A queue's load at all brokers that live.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub sessions: u64,
    pub held: u64,
    pub enqueued_per_s: f64,
    pub completed_per_s: f64,
}

const TELL: Statement = Statement::new(
    "tell_loads",
    "/* tell_loads */
INSERT INTO currant.queue_load (owner, queue_id, sessions, held, free, enqueued_per_s, completed_per_s)
SELECT b.id, v.q, v.s, v.h, v.f, v.e, v.c
FROM currant.broker b,
     unnest($2::int[], $3::int[], $4::int[], $5::int[], $6::real[], $7::real[]) AS v (q, s, h, f, e, c)
WHERE b.id = $1::int AND b.dead_at IS NULL
ON CONFLICT (owner, queue_id) DO UPDATE
SET sessions = EXCLUDED.sessions, held = EXCLUDED.held, free = EXCLUDED.free,
    enqueued_per_s = EXCLUDED.enqueued_per_s, completed_per_s = EXCLUDED.completed_per_s",
);

const FOLLOW: Statement = Statement::new(
    "follow_queues",
    "/* follow_queues */ UPDATE currant.broker SET queue_version = $2::bigint WHERE id = $1::int",
);

const SUM: Statement = Statement::new(
    "queue_loads",
    "/* queue_loads */
SELECT l.queue_id, sum(l.sessions)::bigint, sum(l.held)::bigint,
       sum(l.enqueued_per_s)::float8, sum(l.completed_per_s)::float8
FROM currant.broker b JOIN currant.queue_load l ON l.owner = b.id
WHERE b.dead_at IS NULL AND l.queue_id = ANY ($1::int[]) GROUP BY l.queue_id",
);

/// Until a dead broker is rescued, some of its jobs may be with workers.
const BEHIND: Statement = Statement::new(
    "brokers_behind",
    "/* brokers_behind */
SELECT count(*) FROM currant.broker
WHERE rescued_at IS NULL AND (dead_at IS NOT NULL OR queue_version < $1::bigint)",
);

pub(super) const STATEMENTS: [Statement; 4] = [TELL, FOLLOW, SUM, BEHIND];

/// Tells what has changed of a broker's load.
pub async fn tell_loads(client: &Client, owner: i32, loads: &[LoadRow]) -> Result<(), StoreError> {
    let queues: Vec<i32> = loads.iter().map(|load| load.queue.0).collect();
    let sessions: Vec<i32> = loads.iter().map(|load| load.sessions).collect();
    let held: Vec<i32> = loads.iter().map(|load| load.held).collect();
    let free: Vec<i32> = loads.iter().map(|load| load.free).collect();
    let (enqueued, completed): (Vec<f32>, Vec<f32>) =
        loads.iter().map(|load| (load.enqueued_per_s, load.completed_per_s)).unzip();
    TELL.execute(client, &[&owner, &queues, &sessions, &held, &free, &enqueued, &completed])
        .await?;
    Ok(())
}

/// A broker acts by all changes of queues up to this version, and has told the load that it had since.
pub async fn follow_queues(client: &Client, owner: i32, version: i64) -> Result<(), StoreError> {
    FOLLOW.execute(client, &[&owner, &version]).await?;
    Ok(())
}

/// The loads of queues at all brokers, of those that have some.
pub async fn queue_loads(
    client: &Client,
    queues: &[QueueId],
) -> Result<HashMap<QueueId, Load>, StoreError> {
    let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
    let rows = SUM.query(client, &[&queues]).await?;
    let load = |row: &tokio_postgres::Row| Load {
        sessions: row.get::<_, i64>(1).unsigned_abs(),
        held: row.get::<_, i64>(2).unsigned_abs(),
        enqueued_per_s: row.get(3),
        completed_per_s: row.get(4),
    };
    Ok(rows.iter().map(|row| (QueueId(row.get(0)), load(row))).collect())
}

/// How many brokers may not act by this version yet, or are dead with jobs that nobody has rescued.
pub async fn brokers_behind(client: &Client, version: i64) -> Result<u64, StoreError> {
    let rows = BEHIND.query(client, &[&version]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}
