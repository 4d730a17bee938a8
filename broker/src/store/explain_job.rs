use chrono::{DateTime, Utc};

use super::{
    Client, StoreError,
    claim_keys::{lowest_held, lowest_ready},
    statement::Statement,
};
use crate::domain::{BrokerFacts, JobId, JobKey, QueueId, StoredJob};

/// Ready jobs that are counted one by one.
const AHEAD_MAX: i64 = 10_000;

/// Two ranges of the index of ready jobs: of higher priorities, and of the same one.
const AHEAD: Statement = Statement::new(
    "jobs_ahead",
    "/* jobs_ahead */
SELECT (SELECT count(*) FROM (SELECT FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key IS NULL
                              AND priority > $3::smallint LIMIT $4::bigint) h)
     + (SELECT count(*) FROM (SELECT FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key IS NULL
                              AND priority = $3::smallint AND id < $2::bigint LIMIT $4::bigint) s)",
);

/// The same among those of a key, which take turns with other keys.
const AHEAD_OF_KEY: Statement = Statement::new(
    "jobs_ahead_of_key",
    "/* jobs_ahead_of_key */
SELECT (SELECT count(*) FROM (SELECT FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key = $4::text
                              AND priority > $3::smallint LIMIT $5::bigint) h)
     + (SELECT count(*) FROM (SELECT FROM currant.job WHERE queue_id = $1::int AND phase = 1 AND key = $4::text
                              AND priority = $3::smallint AND id < $2::bigint LIMIT $5::bigint) s)",
);

const FIRST_OF_KEY: Statement = Statement::new(
    "first_of_key",
    concat!(
        "/* first_of_key */
SELECT least(",
        lowest_held!("$2::text"),
        ", ",
        lowest_ready!("$2::text"),
        ")"
    ),
);

const OWNER: Statement = Statement::new(
    "job_owner",
    "/* job_owner */
SELECT owner FROM currant.job WHERE queue_id = $1::int AND id = $2::bigint AND phase = 2",
);

const BROKERS: Statement = Statement::new(
    "brokers_of_queue",
    "/* brokers_of_queue */
SELECT b.id, b.name, b.heartbeat_at, b.dead_at IS NOT NULL, coalesce(l.sessions, 0), coalesce(l.held, 0),
       coalesce(l.free, 0), o.owner IS NOT NULL
FROM currant.broker b
LEFT JOIN currant.queue_load l ON l.owner = b.id AND l.queue_id = $1::int
LEFT JOIN currant.queue_owner o ON o.owner = b.id AND o.queue_id = $1::int
ORDER BY b.id",
);

pub(super) const STATEMENTS: [Statement; 5] = [AHEAD, AHEAD_OF_KEY, FIRST_OF_KEY, OWNER, BROKERS];

/// How many ready jobs come before this one, or before it among those of its key: not above 10,000 of higher priorities, and as many of its own.
pub async fn jobs_ahead(client: &Client, job: &StoredJob) -> Result<u64, StoreError> {
    let StoredJob { key: JobKey { queue, id }, priority, job_key, .. } = job;
    let rows = match job_key {
        None => AHEAD.query(client, &[&queue.0, &id.0, priority, &AHEAD_MAX]).await?,
        Some(name) => {
            AHEAD_OF_KEY.query(client, &[&queue.0, &id.0, priority, name, &AHEAD_MAX]).await?
        }
    };
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// The job of a key that comes first where its jobs run in order, among those that wait.
pub async fn first_of_key(
    client: &Client,
    queue: QueueId,
    key: &str,
) -> Result<Option<JobId>, StoreError> {
    let rows = FIRST_OF_KEY.query(client, &[&queue.0, &key]).await?;
    Ok(rows.first().and_then(|row| row.get::<_, Option<i64>>(0)).map(JobId))
}

/// The broker that has taken it, if one has.
pub async fn job_owner(client: &Client, key: JobKey) -> Result<Option<i32>, StoreError> {
    let rows = OWNER.query(client, &[&key.queue.0, &key.id.0]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// The brokers, and how the queue of this job stands at each, as they told last.
pub async fn brokers_of_queue(
    client: &Client,
    key: JobKey,
) -> Result<Vec<BrokerFacts>, StoreError> {
    let rows = BROKERS.query(client, &[&key.queue.0]).await?;
    let facts = |row: &tokio_postgres::Row| {
        let count = |column| u64::from(row.get::<_, i32>(column).unsigned_abs());
        BrokerFacts {
            id: row.get(0),
            name: row.get(1),
            heartbeat_at: row.get::<_, DateTime<Utc>>(2).timestamp_micros(),
            dead: row.get(3),
            sessions: count(4),
            held: count(5),
            free: count(6),
            owns: row.get(7),
        }
    };
    Ok(rows.iter().map(facts).collect())
}
