use super::{Core, PipelineError};
use crate::{
    domain::{JobId, Listing, StoredJob},
    store::{self, StoreError},
};

/// Rows that one call looks at; who wants more asks again.
const LOOKED_AT_MAX: usize = 10_000;
/// Rows that one statement looks at.
const LOOK_MAX: usize = 2000;

/// A part of a listing.
#[derive(Debug)]
pub struct Page {
    pub jobs: Vec<StoredJob>,
    /// Where the next page begins: behind this job. `None`: there is no more.
    pub passed: Option<JobId>,
}

impl Core {
    /// The next jobs of a listing: at most `size`; fewer, or none at all, where many rows had to be
    /// looked at.
    pub async fn list(&self, listing: Listing, size: usize) -> Result<Page, PipelineError> {
        self.change("jobs could not be listed", self.try_list(listing, size)).await
    }

    async fn try_list(&self, mut listing: Listing, size: usize) -> Result<Page, StoreError> {
        let client = self.store.client().await?;
        let mut jobs = Vec::new();
        let (mut looked_at, mut rows) = (0, size);
        loop {
            let found = store::list_jobs(&client, &listing, rows).await?;
            jobs.extend(found.jobs);
            if jobs.len() > size {
                jobs.truncate(size);
                let passed = jobs.last().map(|job| job.key.id);
                return Ok(Page { jobs, passed });
            }
            looked_at += rows;
            let Some(reached) = found.reached else { return Ok(Page { jobs, passed: None }) };
            if jobs.len() == size || looked_at >= LOOKED_AT_MAX {
                return Ok(Page { jobs, passed: Some(reached) });
            }
            listing.pass(reached);
            rows = (2 * rows).min(LOOK_MAX).min(LOOKED_AT_MAX - looked_at);
        }
    }
}
