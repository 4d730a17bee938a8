//! Changes all jobs that a listing finds: a slice at a time, each its own transaction, with a rest after it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Caller, Core, PipelineError};
use crate::{
    clock::Stopwatch,
    domain::{CancelVerdict, DeleteVerdict, JobId, JobKey, Listing, RetryVerdict},
    store::StoreError,
};

/// Calls that may be under way.
pub(super) const CHANGES_OF_ALL_MAX: usize = 4;
/// Jobs of one slice.
const SLICE: usize = 500;

/// What happens to each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Cancel,
    Retry,
    Delete,
}

impl Change {
    /// As records of what admins did have it.
    fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }
}

/// A call on its way.
pub struct ChangeAll {
    core: Arc<Core>,
    caller: Caller,
    listing: Listing,
    change: Change,
    progress: Progress,
    /// After the last slice.
    rest: Duration,
    done: bool,
    _permit: OwnedSemaphorePermit,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub found: u64,
    pub changed: u64,
    /// Where it goes on; `None`: that was all.
    pub passed: Option<JobId>,
}

impl Core {
    /// Begins to change all jobs of a listing, of a queue that is the caller's; `next` goes on.
    pub fn change_all(
        self: &Arc<Self>,
        caller: Caller,
        listing: Listing,
        change: Change,
    ) -> Result<ChangeAll, PipelineError> {
        let permit = Semaphore::try_acquire_owned(Arc::clone(&self.changes_of_all));
        let permit = permit.map_err(|_| PipelineError::Full {
            what: "the number of calls that change all jobs of a filter",
            limit: format!("at most {CHANGES_OF_ALL_MAX} at a time"),
            retry_after: Duration::from_secs(5),
        })?;
        Ok(ChangeAll {
            core: Arc::clone(self),
            caller,
            listing,
            change,
            progress: Progress::default(),
            rest: Duration::ZERO,
            done: false,
            _permit: permit,
        })
    }
}

impl ChangeAll {
    /// Changes the next jobs, and tells what has been done so far. `None`: it has told that all is done.
    pub async fn next(&mut self) -> Result<Option<Progress>, PipelineError> {
        if self.done {
            return Ok(None);
        }
        if self.core.is_draining() {
            return Err(PipelineError::Draining);
        }
        tokio::time::sleep(self.rest).await;
        let watch = Stopwatch::start();
        let page = self.core.list(self.listing.clone(), SLICE).await?;
        let mut keys: Vec<JobKey> = page.jobs.iter().map(|job| job.key).collect();
        keys.sort_unstable();
        self.progress.found += keys.len() as u64;
        if !keys.is_empty() {
            let ids: Vec<JobId> = keys.iter().map(|key| key.id).collect();
            self.core.note_action(&self.caller, self.change.name(), &ids).await?;
            let work = self.slice(keys);
            let changed = self.core.change("jobs could not be changed", work).await?;
            self.progress.changed += changed as u64;
        }
        self.progress.passed = page.passed;
        match page.passed {
            Some(passed) => self.listing.pass(passed),
            None => self.done = true,
        }
        self.rest = watch.elapsed();
        Ok(Some(self.progress))
    }

    /// Returns how many it changed.
    async fn slice(&self, keys: Vec<JobKey>) -> Result<usize, StoreError> {
        Ok(match self.change {
            Change::Cancel => {
                let verdicts = self.core.cancel_keys(keys).await?;
                let done = |verdict: &&CancelVerdict| {
                    matches!(verdict, CancelVerdict::Cancelled | CancelVerdict::Requested)
                };
                verdicts.values().filter(done).count()
            }
            Change::Retry => {
                let verdicts = self.core.retry_keys(keys).await?;
                verdicts.values().filter(|verdict| **verdict == RetryVerdict::Ready).count()
            }
            Change::Delete => {
                let verdicts = self.core.delete_keys(keys).await?;
                verdicts.values().filter(|verdict| **verdict == DeleteVerdict::Deleted).count()
            }
        })
    }
}
