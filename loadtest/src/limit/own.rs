//! The broker's own statements, called as it calls them, with nothing else of it around: COPY of the
//! rows, for the backlog a claim, one UPDATE by runs of ids. What they do here is what is left for a
//! broker to reach.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use chrono::Utc;
use currant_broker::{
    domain::{IdMaker, JobId, JobKey, QueueId, first_id_at_ms},
    store::{
        BrokerRow, COMPLETE_ROWS_MAX, Claim, InsertRow, PHASE_READY, PHASE_TAKEN, Settings, Store,
        Success, claim_cursor, insert_jobs, register_broker,
    },
};

use super::{Design, Options};
use crate::workers::KIND;

const PRIORITY: i16 = 0;
/// As the broker's defaults.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The broker's pool of connections, and a row that says that a broker lives: its statements ask for one.
#[derive(Clone)]
pub(super) struct OwnStore {
    store: Store,
    broker: BrokerRow,
}

impl OwnStore {
    /// Opens all connections, each with the broker's settings and prepared statements.
    pub(super) async fn open(url: &str, connections: u32) -> Result<OwnStore> {
        let store = Store::new(&Settings {
            address: url.into(),
            transaction_pooler: false,
            pool_size: connections as usize,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: STATEMENT_TIMEOUT,
            completion_synchronous_commit: true,
        })?;
        store.fill().await?;
        let client = store.client().await?;
        let low = first_id_at_ms(Utc::now().timestamp_millis());
        let broker = register_broker(&client, "limit", low).await?;
        drop(client);
        Ok(OwnStore { store, broker })
    }

    pub(super) fn ids(&self) -> IdMaker {
        IdMaker::new(self.broker.slot)
    }

    /// Stores jobs, ready or taken. One transaction on one of the connections.
    pub(super) async fn insert(
        &self,
        queue: QueueId,
        ids: &[JobId],
        payload: &Bytes,
        phase: i16,
    ) -> Result<()> {
        let row = |id: &JobId| InsertRow {
            key: JobKey { queue, id: *id },
            kind: KIND,
            payload,
            priority: PRIORITY,
            phase,
            run_at: None,
            max_attempts: None,
            options: None,
            idempotency_key: None,
            job_key: None,
        };
        let rows: Vec<InsertRow<'_>> = ids.iter().map(row).collect();
        insert_jobs(self.store.client().await?, self.broker.id, &rows).await?;
        Ok(())
    }
}

/// The next ids of one maker, made now.
pub(super) fn next_ids(ids: &mut IdMaker, count: usize) -> Vec<JobId> {
    let now_ms = Utc::now().timestamp_millis();
    (0..count).map(|_| ids.next(now_ms)).collect()
}

/// One of those that share the pool: a statement at a time, each a transaction.
pub(super) struct Connection {
    own: OwnStore,
    design: Design,
    queue: QueueId,
    ids: IdMaker,
    batch: usize,
    payload: Bytes,
}

impl Connection {
    /// `queue`: nobody else's.
    pub(super) fn new(own: OwnStore, design: Design, queue: i32, options: &Options) -> Connection {
        Connection {
            ids: own.ids(),
            own,
            design,
            queue: QueueId(queue),
            batch: options.batch as usize,
            payload: options.payload(),
        }
    }

    /// Takes a batch as far as the design says. Returns how many jobs got there.
    pub(super) async fn batch(&mut self) -> Result<u64> {
        let ids = next_ids(&mut self.ids, self.batch);
        let phase = if self.design == Design::Direct { PHASE_TAKEN } else { PHASE_READY };
        self.own.insert(self.queue, &ids, &self.payload, phase).await?;
        let attempts: Vec<(JobId, i32)> = match self.design {
            Design::Enqueue => return Ok(ids.len() as u64),
            Design::Backlog => self.claim(ids[0]).await?,
            _ => ids.into_iter().map(|id| (id, 1)).collect(),
        };
        self.complete(&attempts).await
    }

    /// Behind a cursor, as a broker that knows where its backlog begins.
    async fn claim(&self, first: JobId) -> Result<Vec<(JobId, i32)>> {
        let claim = Claim {
            queue: self.queue,
            owner: self.own.broker.id,
            claimed_at: Utc::now(),
            limit: self.batch,
        };
        let client = self.own.store.client().await?;
        let jobs = claim_cursor(&client, claim, PRIORITY, JobId(first.0 - 1)).await?;
        let mut attempts: Vec<_> = jobs.into_iter().map(|job| (job.id, job.attempt)).collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    async fn complete(&self, attempts: &[(JobId, i32)]) -> Result<u64> {
        let success = |&(id, attempt): &(JobId, i32)| Success {
            key: JobKey { queue: self.queue, id },
            attempt,
            result: &[],
        };
        let mut finished = 0;
        for attempts in attempts.chunks(COMPLETE_ROWS_MAX) {
            let rows: Vec<Success<'_>> = attempts.iter().map(success).collect();
            let client = self.own.store.client().await?;
            finished += self.own.store.complete_jobs(&client, Utc::now(), &rows).await?;
        }
        Ok(finished)
    }
}
