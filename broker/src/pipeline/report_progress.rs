//! Progress and checkpoints: everyone's reports of a moment in one statement. Jobs whose workers report
//! nothing have no part in any of it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    CoalescerLimits, Core, PipelineError,
    coalescer::{Permit, Request},
    error::log,
};
use crate::{
    domain::{Attempt, JobKey, ProgressReport},
    engine::{SessionId, UnknownSession},
    store::{self, StoreError},
};

pub(super) const LIMITS: CoalescerLimits = CoalescerLimits {
    rows_per_flush_max: 1000,
    bytes_per_flush_max: 1 << 20,
    flushes_in_flight_max: 1,
    pending_rows_max: 20_000,
    pending_bytes_max: 64 << 20,
};

type Written = Result<HashSet<(JobKey, i32)>, PipelineError>;

/// The reports of one call.
pub(super) struct ProgressCall {
    rows: Vec<(JobKey, i32, ProgressReport)>,
    bytes: usize,
    reply: oneshot::Sender<Written>,
    _permit: Permit,
}

impl Request for ProgressCall {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Core {
    /// Stores what a session says of attempts and returns after the commit: those that aren't its own any
    /// more. `None`: the session isn't known.
    pub async fn report_progress(
        &self,
        session: SessionId,
        reports: Vec<(Attempt, ProgressReport)>,
    ) -> Result<Option<Vec<Attempt>>, PipelineError> {
        let attempts: Vec<Attempt> = reports.iter().map(|(attempt, _)| *attempt).collect();
        let held = self.engine(|engine| engine.held_by(session, attempts.iter().copied()));
        let Ok(held) = held else { return Ok(None) };
        let rows: Vec<_> = reports
            .into_iter()
            .zip(&held)
            .filter_map(|((attempt, report), key)| Some(((*key)?, attempt.number, report)))
            .collect();
        let mut written = HashSet::new();
        if !rows.is_empty() {
            let bytes = rows.iter().map(|(.., report)| report.bytes()).sum();
            let permit = self.progress_budget.take(rows.len(), bytes)?;
            let (reply, answer) = oneshot::channel();
            let call = ProgressCall { rows, bytes, reply, _permit: permit };
            self.progress_inlet.send(call).map_err(|_| PipelineError::Draining)?;
            written = answer.await.map_err(|_| PipelineError::Internal)??;
        }
        let lost = attempts.into_iter().zip(held).filter(|(attempt, key)| {
            !key.is_some_and(|key| written.contains(&(key, attempt.number)))
        });
        Ok(Some(lost.map(|(attempt, _)| attempt).collect()))
    }

    /// The last checkpoint of a job that the session holds. The first `None`: it doesn't, or isn't known.
    pub async fn checkpoint(
        &self,
        session: SessionId,
        attempt: Attempt,
    ) -> Result<Option<Option<Bytes>>, PipelineError> {
        let held = self.engine(|engine| engine.held_by(session, [attempt]));
        let Ok([Some(key)]) = held.as_deref().map_err(|UnknownSession| ()) else { return Ok(None) };
        let look = async {
            let client = self.store.client().await?;
            store::get_checkpoint(&client, *key).await
        };
        let checkpoint = look.await.map_err(|error| {
            log(&error, "a checkpoint could not be read");
            PipelineError::from(&error)
        })?;
        Ok(Some(checkpoint.map(Bytes::from)))
    }

    pub(super) async fn flush_progress(self: Arc<Self>, calls: Vec<ProgressCall>) {
        // In the order of the keys, so that two brokers can't deadlock. What is said of one attempt by
        // several calls is one row; of two attempts of a job the later counts.
        let mut rows: BTreeMap<JobKey, (i32, ProgressReport)> = BTreeMap::new();
        for (key, attempt, report) in calls.iter().flat_map(|call| &call.rows) {
            let (number, merged) = rows.entry(*key).or_default();
            if *number == *attempt {
                merged.update(report.clone());
            } else if *number < *attempt {
                (*number, *merged) = (*attempt, report.clone());
            }
        }
        let rows: Vec<_> =
            rows.into_iter().map(|(key, (attempt, report))| (key, attempt, report)).collect();
        let written = self.write_progress(&rows).await;
        if let Err(error) = &written {
            log(error, "progress could not be stored");
        }
        let written = written.map_err(|error| PipelineError::from(&error));
        for call in calls {
            // Nobody waits any more: the client has gone.
            let _ = call.reply.send(written.clone());
        }
    }

    async fn write_progress(
        &self,
        rows: &[(JobKey, i32, ProgressReport)],
    ) -> Result<HashSet<(JobKey, i32)>, StoreError> {
        let client = self.store.client().await?;
        let now = self.clock.database_time();
        let keys: HashSet<JobKey> =
            store::report_progress(&client, now, rows).await?.into_iter().collect();
        drop(client);
        self.changed(keys.iter().copied());
        let written = rows.iter().filter(|(key, ..)| keys.contains(key));
        Ok(written.map(|(key, attempt, _)| (*key, *attempt)).collect())
    }
}
