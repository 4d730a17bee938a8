use super::{Core, PipelineError, error::log};
use crate::store::StoreError;

/// Of the pool's connections: a flood of such calls is not to hold up what is stored and completed.
pub(super) const CHANGES_AT_A_TIME: usize = 2;

impl Core {
    /// Runs the work of a call that changes or lists jobs when its turn comes. How many wait is bounded
    /// by the number of requests that the broker admits.
    pub(super) async fn change<T>(
        &self,
        failure: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, PipelineError> {
        let _turn = self.changes.acquire().await.map_err(|_| PipelineError::Internal)?;
        work.await.map_err(|error| {
            log(&error, failure);
            PipelineError::from(&error)
        })
    }
}
