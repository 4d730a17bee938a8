//! A transaction that somebody forgot: idle, with a snapshot and an id from before the load. While it is
//! open, no row version that died since can be removed.

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::probe;

const OPEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const TRANSACTION: &str = "-- loadtest_old_snapshot
SELECT txid_current()";

/// Open until it is closed or dropped.
pub(crate) struct OldSnapshot {
    client: Client,
    transaction: i64,
}

impl OldSnapshot {
    pub(crate) async fn open(database_url: &str) -> Result<OldSnapshot> {
        let config = database_url.parse().context("the database's address can't be read")?;
        let client = probe::postgres::connect(&config).await?;
        client.batch_execute(OPEN).await?;
        let transaction = client.query_one(TRANSACTION, &[]).await?.get(0);
        Ok(OldSnapshot { client, transaction })
    }

    /// Fails if it hasn't been open all the time: then the run says nothing about it.
    pub(crate) async fn close(self) -> Result<()> {
        let still = self.client.query_one(TRANSACTION, &[]).await;
        let now: i64 = still.context("the old snapshot was lost")?.get(0);
        ensure!(now == self.transaction, "the old snapshot's transaction ended during the run");
        Ok(self.client.batch_execute("ROLLBACK").await?)
    }
}
