/// What a call to cancel a job did, known after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelVerdict {
    /// It waited, or was cancelled before.
    Cancelled,
    /// A worker may have it, and is told to stop.
    Requested,
    /// It had succeeded or was dead.
    Finished,
    NotFound,
}

/// What a call to retry a job did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryVerdict {
    /// It was dead or cancelled.
    Ready,
    /// It waits or runs.
    Open,
    Succeeded,
    NotFound,
}

/// What a call to delete a job did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteVerdict {
    Deleted,
    /// A broker holds it.
    Running,
    NotFound,
}
