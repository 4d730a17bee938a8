//! What Postgres counts, read while nobody is connected: backends report the last of it when they end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use currant_broker::private_postgres::PrivatePostgres;
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use crate::probe::postgres::{PostgresProbe, connect};

/// Counters that only grow; of one measurement, by what they grew.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) transactions: i64,
    pub(super) wal_bytes: i64,
    pub(super) updates: i64,
    pub(super) hot_updates: i64,
    /// Of the broker's process.
    pub(super) allocations: u64,
    /// Executions, by the statement's name.
    pub(super) statements: BTreeMap<String, i64>,
}

const STATEMENTS: &str = "-- budget_statements
SELECT s.query, s.calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = $1";

/// Also forgets earlier brokers and the queue: each run begins alike.
const EMPTY: &str = "-- budget_empty
TRUNCATE currant.job, currant.queue, currant.broker, currant.straggler";

/// How long backends may take to end.
const END_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Looks from another database of the same server, so that looking isn't counted.
pub(super) struct CountersProbe {
    postgres: PostgresProbe,
    client: Client,
    target: Config,
    database: String,
}

impl CountersProbe {
    pub(super) async fn connect(postgres: &PrivatePostgres) -> Result<CountersProbe> {
        let target: Config = postgres.dsn().parse()?;
        let database = target.get_dbname().context("a private server has a database")?.to_owned();
        let client = connect(&postgres.dsn_for("postgres").parse()?).await?;
        client
            .batch_execute("CREATE EXTENSION pg_stat_statements")
            .await
            .context("statements are counted by pg_stat_statements, which this Postgres hasn't")?;
        let postgres = PostgresProbe::connect(&postgres.dsn(), None).await?;
        Ok(CountersProbe { postgres, client, target, database })
    }

    pub(super) async fn empty_tables(&self) -> Result<()> {
        let client = connect(&self.target).await?;
        Ok(client.batch_execute(EMPTY).await?)
    }

    /// Waits until nobody is connected.
    pub(super) async fn look(&self) -> Result<Counters> {
        self.wait_until_alone().await?;
        let postgres = self.postgres.counters().await?;
        let mut counters = Counters {
            wal_bytes: postgres.wal_bytes,
            transactions: postgres.transactions,
            ..Counters::default()
        };
        for row in self.client.query(STATEMENTS, &[&self.database]).await? {
            *counters.statements.entry(name(row.get(0))).or_default() += row.get::<_, i64>(1);
        }
        // Statistics of a table are seen in its own database only. The connection for it comes after
        // all that is counted, and has gone before the next look.
        let updates = self.postgres.job_updates().await?;
        (counters.updates, counters.hot_updates) = (updates.all, updates.hot);
        self.wait_until_alone().await?;
        Ok(counters)
    }

    async fn wait_until_alone(&self) -> Result<()> {
        let deadline = Instant::now() + END_MAX;
        loop {
            if self.postgres.is_alone().await? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "somebody stays connected to {}", self.database);
            sleep(POLL).await;
        }
    }
}

impl Counters {
    /// Growth since an earlier look, and the allocations of the broker that ran meanwhile.
    pub(super) fn since(mut self, before: &Counters, allocations: u64) -> Counters {
        for (name, calls) in &mut self.statements {
            *calls -= before.statements.get(name).copied().unwrap_or_default();
        }
        Counters {
            transactions: self.transactions - before.transactions,
            wal_bytes: self.wal_bytes - before.wal_bytes,
            updates: self.updates - before.updates,
            hot_updates: self.hot_updates - before.hot_updates,
            allocations,
            statements: self.statements,
        }
    }
}

/// `/* name */` at its beginning, else its first words.
fn name(query: &str) -> String {
    let named = query.strip_prefix("/* ").and_then(|rest| rest.split_once(" */"));
    match named {
        Some((name, _)) => name.to_owned(),
        None => query.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_called_by_its_name() {
        assert_eq!(name("/* copy_jobs */ COPY currant.job (queue_id) FROM STDIN"), "copy_jobs");
        assert_eq!(name("BEGIN"), "BEGIN");
        assert_eq!(name("SET statement_timeout = $1; SET jit = off"), "SET statement_timeout =");
    }
}
