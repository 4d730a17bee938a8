//! Counters of Postgres, and the rows of the job table for the check.
//!
//! The connection goes to the database `postgres` of the same server where it can, so that looking
//! isn't counted among the transactions of the database that is looked at.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio_postgres::{Client, Config, NoTls, types::ToSql};

use super::process;
use crate::verify::StoredJob;

/// A connection that looks at one database.
pub(crate) struct PostgresProbe {
    client: Client,
    target: Config,
    database: String,
    /// Known for a private server only: CPU time is None without it.
    postmaster_pid: Option<u32>,
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    pub(crate) wal_bytes: i64,
    /// Committed in the database. Backends report at the end of a transaction, at most once a
    /// second, when they have been idle for 10 s, and when they end.
    pub(crate) transactions: i64,
    /// All processes of the server.
    pub(crate) cpu: Option<Duration>,
}

/// Updates of the job table since the statistics began. They lag while backends stay connected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JobUpdates {
    pub(crate) all: i64,
    pub(crate) hot: i64,
}

/// `currant.job`: its sizes, and how many rows Postgres' statistics count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct JobTable {
    pub(crate) heap_bytes: i64,
    pub(crate) toast_bytes: i64,
    pub(crate) live_rows: i64,
    /// Versions that died and haven't been removed.
    pub(crate) dead_rows: i64,
    /// By the index' name.
    pub(crate) index_bytes: BTreeMap<String, i64>,
}

const COUNTERS: &str = "-- loadtest_counters
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, xact_commit
FROM pg_stat_database WHERE datname = $1";

const CONNECTIONS: &str = "-- loadtest_connections
SELECT count(*), count(*) FILTER (WHERE application_name NOT LIKE 'currant-loadtest%')
FROM pg_stat_activity
WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

const JOB_UPDATES: &str = "-- loadtest_job_updates
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
WHERE schemaname = 'currant' AND relname = 'job'";

const STORED_JOBS: &str = "-- loadtest_stored_jobs
SELECT j.id, j.outcome, j.claimed_at IS NOT NULL
FROM currant.job j JOIN currant.queue q ON q.id = j.queue_id
WHERE q.name = ANY($1::text[]) AND j.id >= $2::bigint";

const JOB_TABLE: &str = "-- loadtest_job_table
SELECT pg_relation_size(c.oid), coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
       s.n_live_tup, s.n_dead_tup
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.oid = 'currant.job'::regclass";

const JOB_INDEXES: &str = "-- loadtest_job_indexes
SELECT c.relname, pg_relation_size(c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'currant.job'::regclass";

const SERVER_SETTINGS: &str = "-- loadtest_settings
SELECT name, current_setting(name) FROM unnest(ARRAY['server_version', 'fsync',
    'synchronous_commit', 'shared_buffers', 'max_wal_size', 'full_page_writes', 'wal_level',
    'autovacuum']) AS name";

impl PostgresProbe {
    pub(crate) async fn connect(dsn: &str, postmaster_pid: Option<u32>) -> Result<PostgresProbe> {
        let target: Config = dsn.parse().context("the database's address can't be read")?;
        let database = target
            .get_dbname()
            .or(target.get_user())
            .context("the database's address names no database")?
            .to_owned();
        let mut beside = target.clone();
        beside.dbname("postgres");
        let client = match connect(&beside).await {
            Ok(client) => client,
            // A user without access to it: then the probe's few statements count too.
            Err(_) => connect(&target).await.context("can't connect to Postgres")?,
        };
        Ok(PostgresProbe { client, target, database, postmaster_pid })
    }

    pub(crate) async fn counters(&self) -> Result<Counters> {
        let cpu = self.postmaster_pid.and_then(process::cpu_with_children);
        let row = self.client.query_one(COUNTERS, &[&self.database]).await?;
        Ok(Counters { wal_bytes: row.get(0), transactions: row.get(1), cpu })
    }

    /// Client connections to the database, the load's own left out.
    pub(crate) async fn connections(&self) -> Result<u32> {
        let row = self.client.query_one(CONNECTIONS, &[&self.database]).await?;
        Ok(u32::try_from(row.get::<_, i64>(1)).unwrap_or(0))
    }

    /// Whether no client is connected to the database, not even the load.
    pub(crate) async fn is_alone(&self) -> Result<bool> {
        let row = self.client.query_one(CONNECTIONS, &[&self.database]).await?;
        Ok(row.get::<_, i64>(0) == 0)
    }

    /// Zero before the table exists.
    pub(crate) async fn job_updates(&self) -> Result<JobUpdates> {
        let client = connect(&self.target).await?;
        let row = client.query_opt(JOB_UPDATES, &[]).await?;
        Ok(row.map_or(JobUpdates::default(), |row| JobUpdates { all: row.get(0), hot: row.get(1) }))
    }

    /// Every job of these queues, from an id on, and how many of them a claim took from the backlog.
    pub(crate) async fn stored_jobs(
        &self,
        queues: &[String],
        first_id: i64,
    ) -> Result<(Vec<StoredJob>, u64)> {
        let client = connect(&self.target).await?;
        let (mut jobs, mut claimed) = (Vec::new(), 0);
        let values: [&(dyn ToSql + Sync); 2] = [&queues, &first_id];
        let mut rows = pin!(client.query_raw(STORED_JOBS, values).await?);
        while let Some(row) = rows.try_next().await? {
            jobs.push((row.get(0), row.get(1)));
            claimed += u64::from(row.get::<_, bool>(2));
        }
        Ok((jobs, claimed))
    }

    pub(crate) async fn job_table(&self) -> Result<JobTable> {
        let client = connect(&self.target).await?;
        let row = client.query_one(JOB_TABLE, &[]).await?;
        let indexes = client.query(JOB_INDEXES, &[]).await?;
        Ok(JobTable {
            heap_bytes: row.get(0),
            toast_bytes: row.get(1),
            live_rows: row.get(2),
            dead_rows: row.get(3),
            index_bytes: indexes.iter().map(|row| (row.get(0), row.get(1))).collect(),
        })
    }

    /// Version and durability, name and value.
    pub(crate) async fn settings(&self) -> Result<Vec<(String, String)>> {
        let rows = self.client.query(SERVER_SETTINGS, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// Connects without TLS and spawns what drives the connection.
pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let mut config = config.clone();
    config.application_name("currant-loadtest");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // A broken connection shows as an error of the next statement, which is handled there.
        let _ = connection.await;
    });
    Ok(client)
}

/// Leaves nothing for what follows to write out or clean, as where the jobs have stood for a while; and tells the
/// planner.
pub(crate) async fn settle(client: &Client) -> Result<()> {
    for statement in ["VACUUM (ANALYZE) currant.job", "CHECKPOINT"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
