use std::time::Duration;

use crate::causes::causes;
use crate::store::StoreError;

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PipelineError {
    /// Postgres can't be reached. A write may have been stored all the same.
    #[error("the database is unavailable")]
    DatabaseUnavailable,
    /// As much waits to be written as may wait. Nothing was stored.
    #[error("{what} is full: {limit}")]
    Full { what: &'static str, limit: String, retry_after: Duration },
    /// The broker is about to stop.
    #[error("the broker is draining")]
    Draining,
    /// Nothing was stored.
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    /// Another job is in the way of a unique one. Nothing was stored.
    #[error("{message}")]
    KeyTaken { message: String },
    /// Another transaction has had the key of a unique job for too long. Nothing was stored.
    #[error("another transaction holds the key {key:?} of the queue {queue}")]
    KeyHeld { queue: String, key: String },
    /// A queue can't be limited yet. Nothing was changed.
    #[error("not all brokers have heard that {queue} has no limits")]
    NotFollowed { queue: String },
    /// The database refused what this broker wrote: a defect, logged where it was met.
    #[error("the database refused the statement")]
    Internal,
}

impl From<&StoreError> for PipelineError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::DatabaseUnavailable,
            StoreError::HeldForDead { .. } => Self::Draining,
            StoreError::KeyTaken { message, .. } => Self::KeyTaken { message: message.clone() },
            StoreError::KeyHeld { queue, key, .. } => {
                Self::KeyHeld { queue: queue.clone(), key: key.clone() }
            }
            StoreError::Unique { .. } | StoreError::Refused { .. } | StoreError::Corrupt { .. } => {
                Self::Internal
            }
        }
    }
}

/// Logs a store's error once, where it is handled.
pub(super) fn log(error: &StoreError, what: &'static str) {
    if let StoreError::KeyTaken { .. } | StoreError::KeyHeld { .. } = error {
        // The caller is told.
    } else if error.is_passing() {
        tracing::warn!(error = %causes(error), "{what}");
    } else {
        tracing::error!(error = %causes(error), "{what}");
    }
}
