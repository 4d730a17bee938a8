//! The yardstick: INSERT of a job that is taken already, INSERT of its completion, and no UPDATE at all.
//! A table that keeps its jobs can hardly be faster. Plain statements, each a transaction; rows are made
//! by Postgres itself (generate_series), so that nobody has to send them, ids by the client.

use anyhow::Result;
use tokio_postgres::{Client, Config, Statement};

use super::Options;
use crate::probe;

/// Without the fillfactor: nothing here updates a row.
const SCHEMA: &str = "-- limit_schema
CREATE SCHEMA limits;
CREATE TABLE limits.job (LIKE currant.job INCLUDING ALL) WITH (fillfactor = 100);
CREATE TABLE limits.completion (
    queue_id int NOT NULL, job_id bigint NOT NULL, finished_at timestamptz NOT NULL,
    attempt int NOT NULL, outcome smallint NOT NULL, result bytea,
    PRIMARY KEY (queue_id, job_id))";

const INSERT: &str = "-- limit_insert
INSERT INTO limits.job (queue_id, id, kind, priority, phase, owner, attempt, payload)
SELECT $1::int, $2::bigint + g, 'noop', 0, 2, 1, 1, $4::bytea FROM generate_series(0, $3::int - 1) g";

const FINISH: &str = "-- limit_append
INSERT INTO limits.completion (queue_id, job_id, finished_at, attempt, outcome)
SELECT $1::int, v.id, now(), 1, 1 FROM unnest($2::bigint[]) AS v (id)";

/// Makes its tables, beside the broker's.
pub(super) async fn set_up(client: &Client) -> Result<()> {
    Ok(client.batch_execute(SCHEMA).await?)
}

/// One client with its prepared statements.
pub(super) struct Connection {
    client: Client,
    insert: Statement,
    finish: Statement,
    queue: i32,
    next_id: i64,
    batch: i32,
    payload: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(config: &Config, queue: i32, options: &Options) -> Result<Connection> {
        let client = probe::postgres::connect(config).await?;
        Ok(Connection {
            insert: client.prepare(INSERT).await?,
            finish: client.prepare(FINISH).await?,
            client,
            queue,
            next_id: 1,
            batch: i32::try_from(options.batch)?,
            payload: options.payload().to_vec(),
        })
    }

    /// Takes a batch through its life. Returns how many jobs finished.
    pub(super) async fn batch(&mut self) -> Result<u64> {
        let Connection { client, queue, batch, payload, next_id: first, .. } = &*self;
        client.execute(&self.insert, &[queue, first, batch, payload]).await?;
        let next_id = first + i64::from(*batch);
        let ids: Vec<i64> = (*first..next_id).collect();
        let finished = client.execute(&self.finish, &[queue, &ids]).await?;
        self.next_id = next_id;
        Ok(finished)
    }
}
